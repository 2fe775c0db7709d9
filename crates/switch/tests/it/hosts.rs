//! Hosts in the program, with the host's kernel and its programs at the other end of a tap.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use hotbed_switch::hosts::gateway::{Gateway, GatewayConfig, Known};
use hotbed_switch::hosts::simulated::{Profile, Simulated};
use hotbed_switch::{MacAddr, PortKind, SendError};

use crate::namespace::{is_inside, run};
use crate::support::{Lan, SOON, eventually, have};

#[path = "../../examples/simulated_host.rs"]
mod simulated_host;

fn prefix(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last)
}

fn profile(count: u32) -> Profile {
    Profile {
        count,
        first: Ipv4Addr::new(10, 1, 0, 1),
        prefix: prefix(0),
        echo: true,
        http: true,
    }
}

fn simulated(count: u32) -> Simulated {
    Simulated::new(Instant::now(), 7, &profile(count)).unwrap()
}

/// A tap on the LAN with the station and the addresses of a machine.
fn plug_kernel(lan: &Lan) {
    lan.switch.add_tap("hb0").unwrap();
    run(
        "ip link set hb0 address 52:54:00:12:01:01 up && ip -6 addr add 2001:db8:1::1/64 dev hb0 nodad",
    );
}

fn connect(address: IpAddr, port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&(address, port).into(), SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn http(address: IpAddr) -> String {
    let mut stream = connect(address, 80);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_example_finds_a_host() {
    simulated_host::main().unwrap();
}

#[test]
fn the_kernel_talks_to_simulated_hosts_by_ping_echo_and_http() {
    if !is_inside("hosts::the_kernel_talks_to_simulated_hosts_by_ping_echo_and_http") {
        return;
    }
    let lan = Lan::start();
    let hosts = lan
        .switch
        .add_hosts(simulated(10_000), "simulated")
        .unwrap();
    plug_kernel(&lan);
    run("ip addr add 192.168.1.1/24 dev hb0 && ip route add 10.1.0.0/16 dev hb0");
    for index in [0, 254, 255, 9_999] {
        let host = profile(10_000).host(index).unwrap();
        for address in [IpAddr::from(host.ipv4), host.ipv6.into()] {
            let answer = http(address);
            assert!(
                answer.ends_with(&format!("\r\n\r\n{address}\n")),
                "{answer}"
            );
        }
    }
    // More than the buffers of both ends hold.
    let (mut stream, sent) = (
        connect(Ipv4Addr::new(10, 1, 39, 16).into(), 7),
        vec![0x5a; 300_000],
    );
    let mut writer = stream.try_clone().unwrap();
    let for_writer = sent.clone();
    let writer = std::thread::spawn(move || {
        writer.write_all(&for_writer).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} bytes came back", received.len());
    eventually("the connections to end", || {
        hosts.hosts().connections() == 0
    });
    let refused =
        TcpStream::connect_timeout(&("10.1.0.1".parse::<IpAddr>().unwrap(), 22).into(), SOON);
    assert_eq!(
        refused.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    if have("busybox", "true") {
        run("busybox ping -c 2 -W 20 10.1.39.16 && busybox ping -6 -c 2 -W 20 2001:db8:1::a01:1");
    }
    let ports = lan.switch.ports();
    let port = ports.iter().find(|port| port.id == hosts.id()).unwrap();
    assert_eq!(
        (port.name.as_str(), port.kind),
        ("simulated", PortKind::Local)
    );
    drop(hosts);
    lan.await_ports(1);
}

fn gateway() -> Gateway {
    let config = GatewayConfig {
        mac: MacAddr([0x52, 0x54, 0, 0x12, 1, 254]),
        ipv4: Ipv4Addr::new(192, 168, 1, 254),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        ipv6: prefix(0x254),
        machines: vec![Known {
            name: "alice".to_owned(),
            mac: MacAddr([0x52, 0x54, 0, 0x12, 1, 1]),
            ipv4: Ipv4Addr::new(192, 168, 1, 1),
            ipv6: prefix(1),
        }],
        pool: [100, 101].map(|last| Ipv4Addr::new(192, 168, 1, last)),
    };
    Gateway::new(Instant::now(), &config)
}

/// What `udhcpc` was told, one line for each.
fn lease(folder: &Path, arguments: &str) -> String {
    let (script, told) = (folder.join("script"), folder.join("told"));
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip $subnet $router $dns $serverid $lease $hostname\" >{}\nexit 0\n",
        told.display()
    );
    fs::write(&script, text).unwrap();
    run(&format!("chmod +x {}", script.display()));
    run(&format!(
        "busybox udhcpc -i hb0 -f -q -n -t 20 -T 1 {arguments} -s {}",
        script.display()
    ));
    fs::read_to_string(told).unwrap().trim().to_owned()
}

#[test]
fn the_kernel_and_busybox_get_addresses_and_names_from_a_gateway() {
    if !have("busybox", "true")
        || !is_inside("hosts::the_kernel_and_busybox_get_addresses_and_names_from_a_gateway")
    {
        return;
    }
    let lan = Lan::start();
    let gateway = lan.switch.add_hosts(gateway(), "gateway").unwrap();
    plug_kernel(&lan);
    let told = "192.168.1.254 192.168.1.254 192.168.1.254 3600";
    assert_eq!(
        lease(lan.dir.path(), ""),
        format!("192.168.1.1 255.255.255.0 {told} alice")
    );
    let leases = || {
        gateway
            .hosts()
            .leases()
            .at(Instant::now())
            .collect::<Vec<_>>()
    };
    assert_eq!(leases(), [], "of the pool");
    run("ip addr add 192.168.1.1/24 dev hb0");
    for (query, answer) in [
        ("alice 192.168.1.254", "192.168.1.1"),
        ("alice 192.168.1.254", "2001:db8:1::1"),
        ("192.168.1.1 192.168.1.254", "alice"),
        ("gateway 2001:db8:1::254", "192.168.1.254"),
    ] {
        let output = Command::new("busybox")
            .arg("nslookup")
            .args(query.split(' '))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains(answer),
            "{query}: {text}"
        );
    }
    let unknown = Command::new("busybox")
        .args(["nslookup", "bob", "192.168.1.254"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&unknown.stdout).contains("NXDOMAIN"));
    run("busybox ping -c 1 -W 20 192.168.1.254");
    // What the kernel makes of the prefix, and of the way to elsewhere.
    let addresses = || {
        Command::new("ip")
            .args(["-6", "addr", "show", "dev", "hb0"])
            .output()
            .unwrap()
            .stdout
    };
    eventually("an address of the prefix", || {
        String::from_utf8_lossy(&addresses()).contains("2001:db8:1:0:5054:ff:fe12:101/64")
    });
    run("ip route add default via 192.168.1.254");
    let elsewhere = TcpStream::connect_timeout(&"203.0.113.1:80".parse().unwrap(), SOON);
    assert_eq!(
        elsewhere.unwrap_err().kind(),
        std::io::ErrorKind::NetworkUnreachable
    );
    run("ip link set hb0 down && ip link set hb0 address 02:00:00:00:00:09 up");
    let stranger = lease(lan.dir.path(), "-R");
    assert!(stranger.starts_with("192.168.1.100 "), "{stranger}");
}

#[test]
fn hosts_end_with_their_switch_and_leave_it_with_their_handle() {
    let lan = Lan::start();
    let (first, second) = (
        lan.switch.add_hosts(simulated(1), "first").unwrap(),
        lan.switch.add_hosts(simulated(1), "second").unwrap(),
    );
    lan.await_ports(2);
    lan.switch.remove(first.id()).unwrap();
    lan.await_ports(1);
    drop(first);
    let probe = lan.switch.add_local("probe").unwrap();
    drop(lan);
    assert_eq!(probe.send(&[0; 60]), Err(SendError::Closed));
    drop(second);
}
