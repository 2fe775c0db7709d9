# Machines that are alike: one boots, all begin from its snapshot, each with a name and addresses of its own.
#
# /// hotbed
# [machines.worker]
# count = 4
# ///

start_all()

with subtest("each has its own name and its own chance"):
    names = [worker.succeed("hostname").strip() for worker in workers]
    t.assertEqual(names, ["worker1", "worker2", "worker3", "worker4"])
    t.assertEqual(len({worker.succeed("cat /proc/sys/kernel/random/uuid") for worker in workers}), 4)

with subtest("each reaches the others by name"):
    with worker1.parallel() as p:
        for worker in workers:
            p.succeed(f"ping -c 1 {worker.name}")

with subtest("the network knows them apart"):
    t.assertEqual(sorted(port.name for port in vlans[0].ports()), names)
