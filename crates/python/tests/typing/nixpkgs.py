# A script as NixOS checks it by mypy: what the driver defines is declared in front of it, then its machines and VLANs.
# It must type-check. It is never run.
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from typing_extensions import Protocol

from unittest import TestCase

from test_driver.debug import DebugAbstract, DebugNop
from test_driver.driver import Driver
from test_driver.logger import AbstractLogger, CompositeLogger
from test_driver.machine import BaseMachine, Machine, NspawnMachine, QemuMachine
from test_driver.vlan import VLan


class RetryProtocol(Protocol):
    def __call__(self, fn: Callable[[bool], bool], timeout_seconds: int = 900) -> None: ...


class PollingConditionProtocol(Protocol):
    def __call__(
        self, fun: Callable[[], bool] | None = None, *, seconds_interval: float = 2.0, description: str | None = None
    ) -> Any: ...


class CreateMachineProtocol(Protocol):
    def __call__(self, start_command: str, *, name: str | None = None, keep_machine_state: bool = False) -> QemuMachine: ...


start_all: Callable[[], None]
subtest: Callable[[str], AbstractContextManager[None]]
retry: RetryProtocol
test_script: Callable[[], None]
machines: list[QemuMachine]
machines_qemu: list[QemuMachine]
machines_nspawn: list[NspawnMachine]
vlans: list[VLan]
driver: Driver
log: AbstractLogger
create_machine: CreateMachineProtocol
run_tests: Callable[[], None]
join_all: Callable[[], None]
serial_stdout_off: Callable[[], None]
serial_stdout_on: Callable[[], None]
polling_condition: PollingConditionProtocol
debug: DebugAbstract
t: TestCase
server: QemuMachine
old: Machine
box: NspawnMachine
vlan1: VLan

start_all()
server.wait_for_unit("multi-user.target")
old.wait_for_unit("multi-user.target")
box.succeed("true")
with subtest("the screen"):
    server.wait_for_text("login:")
    server.send_chars("root\n")
    server.screenshot("root")
    server.wait_until_tty_matches("1", r"root@.*#", timeout=30)
server.forward_port(8080, 80)
everybody: list[BaseMachine] = [*machines_qemu, *machines_nspawn]


@polling_condition
def serves() -> bool:
    return server.execute("curl http://localhost")[0] == 0


with serves:
    create_machine("qemu-kvm", name="installer").start(allow_reboot=True)
retry(lambda last_try: bool(everybody), 10)
isinstance(log, CompositeLogger) and isinstance(debug, DebugNop)
t.assertEqual(driver.machines, machines)
