# A script with mistakes. Each comment names the report that mypy must make of its line; with --strict mypy also reports a
# comment without its mistake. The script is never run.
from test_driver.script import *

server: QemuMachine

server.wait_for_port(80)  # type: ignore[attr-defined]
server.wait_for_open_port("80")  # type: ignore[arg-type]
server.succeed("true", time_out=3)  # type: ignore[call-arg]
server.sleep("3")  # type: ignore[arg-type]
number: int = server.succeed("true")  # type: ignore[assignment]
server.name = "other"  # type: ignore[misc]
server.run(["true"], text=False).stdout + "x"  # type: ignore[operator]
server.run(["true"], stdin=3)  # type: ignore[call-overload]
server.parallel().shutdown()  # type: ignore[attr-defined]
server.spawn("true").pid = 3  # type: ignore[misc]
vlans[0].impair(between=server)  # type: ignore[arg-type]
vlans[0].simulate(10, "loud")  # type: ignore[arg-type]
vlans[0].impair(delay="1ms", distribution="even")  # type: ignore[arg-type]
vlans[0].expect("arp")  # type: ignore[call-arg]
vlans[0].forbid("arp").frame  # type: ignore[attr-defined]
retry(lambda: True)  # type: ignore[misc, arg-type]
log.set_log_level("loud")  # type: ignore[arg-type]
