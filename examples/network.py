# A network that misbehaves on command: slow, lossy and cut in two, with demands on what passes, and a recording of it.
#
# /// hotbed
# [machines.alice]
# [machines.bob]
# [machines.carol]
# ///

import re


def round_trip(output: str) -> float:
    """The shortest round trip that ping has seen, in milliseconds."""
    found = re.search(r"min/avg/max = ([0-9.]+)/", output)
    assert found, output
    return float(found[1])


lan = vlans[0]
start_all()
for name in ["bob", "carol"]:
    alice.succeed(f"ping -c 1 {name}")
t.assertEqual({station.port for station in lan.stations()}, {"alice", "bob", "carol"})

with subtest("frames between two machines take longer, there and back"):
    with lan.impair(between=(alice, bob), delay="50ms"):
        t.assertGreaterEqual(round_trip(alice.succeed("ping -c 2 bob")), 100)

with subtest("half of what alice sends to bob is lost"):
    with lan.impair(source=alice, target=bob, loss=0.5, seed=7):
        alice.execute("ping -c 20 -i 0.1 -W 1 bob")
        (link,) = lan.links()
        t.assertEqual((link.source, link.target), ("alice", "bob"))
        t.assertTrue(0 < link.lost < link.frames, link)
    t.assertEqual(lan.links(), [])

with subtest("the network is cut in two"):
    with lan.partition([alice, bob], [carol]):
        alice.succeed("ping -c 1 bob")
        alice.fail("ping -c 1 -W 1 carol")
        with lan.heal():
            alice.succeed("ping -c 1 carol")
        alice.fail("ping -c 1 -W 1 carol")
    alice.succeed("ping -c 1 carol")

with subtest("some frames must pass, others must not"):
    with lan.expecting("icmp and src host 192.168.1.1", within=10, ports=[bob]) as ping, lan.forbid("tcp port 23"):
        alice.succeed("ping -c 1 bob")
    t.assertEqual((ping.frame.port, ping.frame.is_outgoing), ("bob", True))

with subtest("what went over the wire is kept for Wireshark"):
    with lan.capture(alice.tmp_dir / "ping.pcapng", "icmp and host 192.168.1.2") as capture:
        alice.succeed("ping -c 3 bob", "ping -c 1 carol")
    t.assertEqual(capture.stop(), 6)

for port in lan.ports():
    log.info(f"{port.name}: {port.frames_in} frames in, {port.frames_out} out, lost: {sum(port.drops.values())}")
