"""The names that a test script finds defined.

For type checkers and editors, a script (or a module that it imports) can begin with

    from test_driver.script import *            # all but machines and VLANs
    from test_driver.script import server, vlan1
"""

import os as os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, overload
from unittest import TestCase

from test_driver.debug import DebugAbstract
from test_driver.driver import Driver
from test_driver.logger import Block, CompositeLogger
from test_driver.machine import BaseMachine as BaseMachine
from test_driver.machine import Machine as Machine
from test_driver.machine import NspawnMachine as NspawnMachine
from test_driver.machine import QemuMachine as QemuMachine
from test_driver.machine import retry as retry
from test_driver.polling_condition import PollingCondition
from test_driver.testbed import Testbed
from test_driver.vlan import VLan

driver: Driver
testbed: Testbed
log: CompositeLogger
machines: list[QemuMachine]
machines_qemu: list[QemuMachine]
machines_nspawn: list[NspawnMachine]
debug: DebugAbstract
vlans: list[VLan]
t: TestCase

def start_all() -> None: ...
def join_all() -> None: ...
def test_script() -> None: ...
def run_tests() -> None: ...
def create_machine(
    start_command: str, *, name: str | None = None, keep_machine_state: bool = False
) -> QemuMachine: ...
@overload
def polling_condition(
    fun: Callable[[], object],
    *,
    seconds_interval: timedelta | float | None = None,
    interval: timedelta | float | None = None,
    description: str | None = None,
) -> PollingCondition: ...
@overload
def polling_condition(
    fun: None = None,
    *,
    seconds_interval: timedelta | float | None = None,
    interval: timedelta | float | None = None,
    description: str | None = None,
) -> Callable[[Callable[[], object]], PollingCondition]: ...
def serial_stdout_on() -> None: ...
def serial_stdout_off() -> None: ...
def subtest(name: str) -> Block: ...

# Machines and VLANs have names that only the test knows.
def __getattr__(name: str) -> Any: ...
