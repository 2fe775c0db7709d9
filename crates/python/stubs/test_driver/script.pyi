"""The names that a test script finds defined.

For type checkers and editors, a script (or a module that it imports) can begin with

    from test_driver.script import *            # all but machines and VLANs
    from test_driver.script import server, vlan1
"""

import os as os
from collections.abc import Callable
from typing import Any
from unittest import TestCase

from test_driver.driver import Driver
from test_driver.logger import Block, CompositeLogger
from test_driver.machine import BaseMachine as BaseMachine
from test_driver.machine import Machine as Machine
from test_driver.machine import QemuMachine as QemuMachine
from test_driver.machine import retry as retry
from test_driver.testbed import Testbed
from test_driver.vlan import VLan

driver: Driver
testbed: Testbed
log: CompositeLogger
machines: list[QemuMachine]
machines_qemu: list[QemuMachine]
vlans: list[VLan]
t: TestCase

def start_all() -> None: ...
def join_all() -> None: ...
def serial_stdout_on() -> None: ...
def serial_stdout_off() -> None: ...
def subtest(name: str) -> Block: ...

# Machines and VLANs have names that only the test knows.
def __getattr__(name: str) -> Any: ...
