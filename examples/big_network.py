# One machine in a network of ten thousand hosts that answer, and with a gateway that gives addresses and knows names.
#
# /// hotbed
# [machines.alice]
# ///

lan = vlans[0]
alice.start()

with subtest("ten thousand hosts answer"), lan.simulate(10_000) as hosts:
    alice.succeed("ip route add 10.1.0.0/16 dev eth1")
    for host in [hosts[0], hosts[-1]]:
        alice.succeed(f"ping -c 1 {host.ipv4}", f"ping -c 1 {host.ipv6}")
        t.assertEqual(alice.succeed(f"wget -q -O - http://{host.ipv4}/"), f"{host.ipv4}\n")
    t.assertEqual(alice.succeed(f"echo hello | nc {hosts[5].ipv4} 7"), "hello\n")
    t.assertIn(hosts[5].mac, {station.address for station in lan.stations()})
    with lan.impair(between=(alice, hosts.port), loss=1.0):
        alice.fail(f"ping -c 1 -W 1 {hosts[0].ipv4}")
alice.fail(f"ping -c 1 -W 1 {hosts[1].ipv4}")

with subtest("a gateway gives addresses and knows names"), lan.gateway() as gateway:
    alice.succeed(
        "ip addr flush dev eth1",
        "printf '#!/bin/sh\\n[ $1 != bound ] || ip addr add $ip/24 dev eth1\\n' > /tmp/bound && chmod +x /tmp/bound",
        "udhcpc -i eth1 -f -q -n -s /tmp/bound",
    )
    t.assertIn("192.168.1.1/24", alice.succeed("ip addr show dev eth1"))
    t.assertIn("192.168.1.1", alice.succeed(f"nslookup alice {gateway.ipv4}"))
    alice.fail(f"nslookup example.org {gateway.ipv4}")
    alice.succeed("ip link set eth1 down", "ip link set eth1 address 02:00:00:00:00:09 up", "ip addr flush dev eth1")
    alice.succeed("udhcpc -i eth1 -f -q -n -s /tmp/bound")
    t.assertEqual(gateway.leases(), {"02:00:00:00:00:09": "192.168.1.100"})
