# A script that uses what scripts use: it must type-check. It is never run.
import subprocess
from datetime import timedelta

from test_driver.errors import MachineError, RequestedAssertionFailed
from test_driver.machine.qmp import QMPAPIError
from test_driver.script import *
from test_driver.script import vlan1

server: QemuMachine
client: QemuMachine


def ready(last_try: bool) -> bool:
    return not last_try


def two_machines(a: Machine, b: BaseMachine) -> str:
    return a.name + b.name


start_all()
server.wait_for_unit("nginx.service", timeout=timedelta(minutes=1))
server.wait_for_open_port(80, addr="localhost", timeout=5)
server.wait_for_open_unix_socket("/run/x", is_datagram=True)
server.wait_for_console_text("login:", timeout=2.5)

status, output = client.execute("true", check_return=True, timeout=None)
t.assertEqual(status + 1, 1)
page: str = client.succeed("curl http://server/", "true", timeout=10)
state: str = server.get_unit_info("nginx.service")["ActiveState"]
client.copy_from_host(server.shared_dir / "x", "/root/x")
client.copy_from_machine("/root/x", target_dir="results")

done = server.run(["ls", server.shared_dir], stdin="x", env={"A": "1", "B": None}, user="nobody", cwd="/", timeout=3)
line: str = done.stdout + done.stderr
raw: bytes = server.run("ls | wc", check=True, text=False).stdout
took: float = done.duration + done.returncode
done.check_returncode()
with open("x", "rb") as stdin:
    merged: str = server.run("cat", stdin=stdin, stderr=subprocess.STDOUT).stdout + server.run("cat", input=b"x").stdout
with server.spawn(["tail", "-f", "/x"], timeout=timedelta(minutes=1), stderr=subprocess.STDOUT) as tail:
    tail.stdin.write(b"x")
    tail.stdin.close()
    for said in tail.stdout:
        log.info(said.strip())
    tail.send_signal(1)
    code: int = tail.wait(timeout=timedelta(seconds=1)) + (tail.poll() or 0)
out, err = server.spawn("cat", text=False).communicate(b"x", timeout=1)
joined: bytes = out + err
server.write_text("/x", server.read_text("/y"), mode=0o600)
server.write_bytes("/x", server.read_bytes("/y"))
server.put(server.out_dir / "a", "/a")
server.get("/a", server.out_dir / "a")
with server.parallel() as p, client.parallel() as q:
    words = p.succeed("sleep 1", timeout=3)
    status_and_text = q.execute("true")
    p.run(["true"], check=True)
    p.wait_for_unit("x.service", state="failed")
both: str = words.result() + status_and_text.result()[1]
found: str = server.wait_for_journal("ready", unit="x.service")
server.wait_for_process("nginx", running=False)
server.shell_interact()

with subtest("blocked"), server.nested("cable", {"a": "b"}):
    server.block()

testbed.checkpoint("ready")
with testbed.fork():
    testbed.rollback(testbed.checkpoints()[0])
forgotten: bool = testbed.forget("ready") or server.forget_snapshot("x")
server.snapshot("x")
server.restore("x")

lan = vlans[0]
with lan.impair(between=(server, "probe"), delay="20ms", loss=0.01), lan.partition([server], [client]):
    lan.impair(source=server, rate="10Mbit", delay=timedelta(milliseconds=3)).undo()
with lan.gateway() as gateway, lan.simulate(1000, "quiet", network="10.9.0.0/16") as hosts:
    given: str | None = gateway.leases().get(hosts[-1].mac)
    lan.impair(between=(server, hosts.port), delay=len(hosts) / 1e6)
    addresses: list[str] = [hosts[0].ipv6, gateway.ipv4]
with lan.heal(), lan.capture("x.pcapng", "arp or icmp", ports=[client]) as capture:
    seen: int = capture.stop() + lan.ports()[0].drops["impaired"] + sum(link.lost for link in lan.links())
    where: str = lan.stations()[0].port + str(capture.path)

vlan1.forbid("tcp port 23", ports=[server]).lift()
with lan.expecting("tcp port 80 and syn", within=timedelta(seconds=5)) as expectation, lan.forbid("ip6"):
    which: str = lan.expect("arp", within=5, ports=["probe"]).port
when: float = expectation.frame.time + len(expectation.frame.data) + expectation.frame.is_outgoing

retry(ready, timeout=timedelta(seconds=3))
retry(ready, timeout_seconds=3)
log.info(f"{two_machines(server, client)} {driver.out_dir / 'x'} {vlan1.nr + 1} {os.getcwd()}")
for machine in machines:
    machine.qmp_client.send("query-status")["return"]
    machine.wait_for_qmp_event(lambda event: event["event"] == "STOP", timeout=3)

try:
    server.shutdown()
except (MachineError, RequestedAssertionFailed) as error:
    log.warning(str(error))
except QMPAPIError as error:
    log.warning(error.class_name)
join_all()
