# Two machines are broken in several ways, and are whole again after each.
#
# /// hotbed
# [machines.alice]
# [machines.bob]
# ///

start_all()
alice.succeed("ping -c 1 bob", "echo before > /tmp/state")

with subtest("all machines go back to a checkpoint"):
    testbed.checkpoint("ready")
    alice.succeed("echo after > /tmp/state")
    bob.succeed("touch /tmp/trace")
    testbed.rollback("ready")
    t.assertEqual(alice.succeed("cat /tmp/state"), "before\n")
    bob.fail("test -e /tmp/trace")
    alice.succeed("ping -c 1 bob")

with subtest("a block leaves nothing behind"):
    with testbed.fork():
        bob.succeed("ip link set eth1 down")
        alice.fail("ping -c 1 -W 1 bob")
    alice.succeed("ping -c 1 bob")
    t.assertEqual(testbed.checkpoints(), ["ready"])

with subtest("one machine goes back, the others go on"):
    alice.snapshot("mine")
    alice.succeed("rm /tmp/state")
    bob.succeed("touch /tmp/kept")
    alice.restore("mine")
    t.assertEqual(alice.succeed("cat /tmp/state"), "before\n")
    bob.succeed("test -e /tmp/kept")
    alice.succeed("ping -c 1 bob")
