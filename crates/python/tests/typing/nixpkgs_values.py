# A script as NixOS checks it by ty, to which names must have values. It must type-check. It is never run.
from typing import cast
from unittest import TestCase

from test_driver.debug import DebugAbstract, DebugNop
from test_driver.driver import Driver
from test_driver.logger import CompositeLogger
from test_driver.machine import NspawnMachine, QemuMachine
from test_driver.machine import retry as retry
from test_driver.polling_condition import PollingCondition
from test_driver.vlan import VLan


def create_fake_qemu_machine() -> QemuMachine:
    return cast(QemuMachine, None)


def create_fake_nspawn_machine() -> NspawnMachine:
    return cast(NspawnMachine, None)


def create_fake_vlan() -> VLan:
    return cast(VLan, None)


def create_fake_driver() -> Driver:
    return cast(Driver, None)


driver = create_fake_driver()
log: CompositeLogger = driver.logger
debug: DebugAbstract = DebugNop()
start_all, join_all, subtest, polling_condition = (
    driver.start_all,
    driver.join_all,
    driver.subtest,
    driver.polling_condition,
)
t = TestCase()
web = create_fake_qemu_machine()
box = create_fake_nspawn_machine()
vlan1 = create_fake_vlan()

start_all()
with subtest("the page"):
    status, page = web.execute("curl http://localhost", timeout=10)
    t.assertEqual(status, 0, page)


@polling_condition(seconds_interval=1)
def up() -> bool:
    return web.is_up() and box.is_up()


watched: PollingCondition = up
with watched:
    retry(lambda last: vlan1.nr == 1, timeout_seconds=3)
debug.breakpoint()
log.info(f"{driver.out_dir} {driver.keep_machine_state}")
join_all()
