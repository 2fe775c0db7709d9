"""Two machines that boot in seconds and ping each other by name, over IPv4 and IPv6."""
# /// hotbed
# [machines.alice]
#
# [machines.bob]
# ///

start_all()

with subtest("each machine knows its own name"):
    for machine in machines:
        t.assertEqual(machine.succeed("hostname").strip(), machine.name)

with subtest("alice and bob reach each other over IPv4"):
    alice.succeed("ping -4 -c 1 bob")
    bob.succeed("ping -4 -c 1 alice")

with subtest("alice and bob reach each other over IPv6"):
    alice.succeed("ping -6 -c 1 bob")
    bob.succeed("ping -6 -c 1 alice")

with subtest("a link that is down carries nothing"):
    bob.block()
    alice.fail("ping -4 -c 1 -W 1 bob")
    bob.unblock()
    alice.wait_until_succeeds("ping -4 -c 1 -W 1 bob", timeout=10)
