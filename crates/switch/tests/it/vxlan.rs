//! Taps and VXLAN, with the host's kernel at the other end.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use hotbed_switch::{Error, PortKind, Vxlan};

use crate::local::recv;
use crate::namespace::{Other, is_inside, run};
use crate::support::{A, ALL, B, Lan, SOON, eventually, frame};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Gives a UDP port of 127.0.0.1 that was free just now.
fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

fn network(local: SocketAddr, remotes: &[SocketAddr], network: u32) -> Vxlan {
    let remotes = remotes.to_vec();
    Vxlan {
        local,
        remotes,
        network,
    }
}

#[test]
fn the_kernel_and_the_switch_speak_through_a_tap_and_over_vxlan() {
    if !is_inside("vxlan::the_kernel_and_the_switch_speak_through_a_tap_and_over_vxlan") {
        return;
    }
    let other = Other::make();
    run(&format!(
        "ip link add near type veth peer name far netns {0} && ip addr add 10.8.0.1/24 dev near && ip link set near up",
        other.pid()
    ));
    other.run("ip addr add 10.8.0.2/24 dev far && ip link set far up");
    other
        .run("ip link add vx type vxlan id 42 dstport 4789 remote 10.8.0.1 local 10.8.0.2 dev far");
    other.run("ip addr add 10.9.0.2/24 dev vx && ip link set vx up");
    let lan = Lan::start();
    lan.switch.add_tap("hb%d").unwrap();
    run("ip addr add 10.9.0.1/24 dev hb0 && ip link set hb0 up");
    let config = network(
        "10.8.0.1:4789".parse().unwrap(),
        &["10.8.0.2:4789".parse().unwrap()],
        42,
    );
    lan.switch.add_vxlan(&config, "far").unwrap();
    let kinds: Vec<_> = lan.switch.ports().iter().map(|port| port.kind).collect();
    assert_eq!(kinds, [PortKind::Tap, PortKind::Vxlan]);

    // From the far kernel over VXLAN, the switch and the tap to this one, and back. In datagrams that do not fit into a
    // frame: a veth pair leaves other checksums in a tunnel to a network card that never sees them.
    let socket = UdpSocket::bind("10.9.0.1:7").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 4000];
        for _ in 0..50 {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    other.run(
        "exec 3<>/dev/udp/10.9.0.1/7
        for turn in {1..50}; do
            printf -v line %02000d $turn
            echo $line >&3
            test $(timeout 10 head --lines=1 <&3) = $line || exit 1
        done",
    );
    echo.join().unwrap();
    let (tap, far) = (lan.counters("hb0"), lan.counters("far"));
    assert!(tap.frames_in >= 100 && tap.frames_out >= 100, "{tap:?}");
    assert!(far.frames_in >= 100 && far.frames_out >= 100, "{far:?}");
    assert_eq!(far.drops.total(), 0, "{far:?}");

    // An interface that is gone takes its port along.
    run("ip link del hb0");
    lan.await_ports(1);
}

#[test]
fn a_tap_has_what_its_kernel_sends_with_whole_checksums() {
    if !is_inside("vxlan::a_tap_has_what_its_kernel_sends_with_whole_checksums") {
        return;
    }
    let lan = Lan::start();
    lan.switch.add_tap("hb7").unwrap();
    let port = lan.switch.add_local("inside").unwrap();
    run("ip addr add 10.9.0.1/24 dev hb7 && ip link set hb7 address 02:00:00:00:00:0a up");
    run("ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:0b dev hb7");
    let socket = UdpSocket::bind("10.9.0.1:7").unwrap();
    // Longer than any header says that a segment may be: the kernel must cut it.
    socket.send_to(&[0x5a; 4000], "10.9.0.2:9").unwrap();
    let mut payload = 0;
    while payload < 4008 {
        let frame = recv(&port);
        if frame[..6] != B.0 || frame[12..14] != [8, 0] {
            continue; // What a kernel says when an interface comes up.
        }
        assert!(frame.len() <= 1514);
        assert_eq!(sum(&frame[14..34]), 0xffff, "the checksum of the header");
        payload += frame.len() - 34;
    }
    let hello = udp([10, 9, 0, 2], [10, 9, 0, 1], b"hello");
    port.send(
        &frame(A, B, &[])[..12]
            .iter()
            .chain(&[8, 0])
            .chain(&hello)
            .copied()
            .collect::<Vec<_>>(),
    )
    .unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 100];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..len], from),
        (&b"hello"[..], "10.9.0.2:9".parse().unwrap())
    );
    assert!(matches!(
        lan.switch.add_tap("a name that is too long"),
        Err(Error::Port { .. })
    ));
}

/// An IPv4 packet with a UDP datagram from port 9 to port 7.
fn udp(from: [u8; 4], to: [u8; 4], text: &[u8]) -> Vec<u8> {
    let len = 28 + text.len() as u8;
    let mut header = vec![0x45, 0, 0, len, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend([from, to].concat());
    let [high, low] = (!sum(&header)).to_be_bytes();
    header[10..12].copy_from_slice(&[high, low]);
    let udp = [0, 9, 0, 7, 0, len - 20, 0, 0];
    [&header[..], &udp, text].concat()
}

/// The Internet's sum of 16-bit words.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    (sum & 0xffff) as u16 + (sum >> 16) as u16
}

#[test]
fn switches_on_several_hosts_are_one_lan() {
    let addresses = [free_address(), free_address(), free_address()];
    // All on one machine here: told apart by 127.0.0.x.
    let addresses: Vec<SocketAddr> = addresses
        .iter()
        .zip(1..)
        .map(|(address, number)| (Ipv4Addr::new(127, 0, 0, number), address.port()).into())
        .collect();
    let lans: Vec<_> = (0..3).map(|_| Lan::start()).collect();
    let mut hosts = Vec::new();
    for (lan, local) in lans.iter().zip(&addresses) {
        let others = addresses.iter().filter(|address| *address != local);
        let others: Vec<_> = others.copied().collect();
        lan.switch
            .add_vxlan(&network(*local, &others, 7), "others")
            .unwrap();
        hosts.push(lan.switch.add_local("host").unwrap());
    }
    hosts[0].send(&frame(ALL, A, b"to all")).unwrap();
    assert_eq!(recv(&hosts[1]), frame(ALL, A, b"to all"));
    assert_eq!(recv(&hosts[2]), frame(ALL, A, b"to all"));
    hosts[1].send(&frame(A, B, b"to one")).unwrap();
    assert_eq!(recv(&hosts[0]), frame(A, B, b"to one"));
    hosts[0].send(&frame(B, A, b"back")).unwrap();
    assert_eq!(recv(&hosts[1]), frame(B, A, b"back"));
    assert_eq!(
        lans[2].counters("others").frames_in,
        1,
        "the rest was not for it"
    );
}

#[test]
fn what_is_not_of_the_network_is_dropped() {
    let (local, remote) = (free_address(), free_address());
    let lan = Lan::start();
    let port = lan.switch.add_local("host").unwrap();
    lan.switch
        .add_vxlan(&network(local, &[remote], 7), "far")
        .unwrap();
    let stranger = UdpSocket::bind("127.0.0.9:0").unwrap();
    let friend = UdpSocket::bind(remote).unwrap();
    let datagram = |network: u8| {
        let header = [8, 0, 0, 0, 0, 0, network, 0];
        [&header[..], &frame(ALL, A, &[network])].concat()
    };
    stranger.send_to(&datagram(7), local).unwrap();
    friend.send_to(&datagram(8), local).unwrap();
    friend.send_to(b"short", local).unwrap();
    friend.send_to(&datagram(7), local).unwrap();
    assert_eq!(recv(&port), frame(ALL, A, &[7]));
    eventually("three drops", || lan.counters("far").drops.foreign == 3);
    let bad = network(free_address(), &[], 1 << 24);
    assert!(lan.switch.add_vxlan(&bad, "bad").is_err());
    // A far end that is down for a while costs what is sent meanwhile.
    drop(friend);
    for _ in 0..3 {
        port.send(&frame(ALL, B, b"nobody hears")).unwrap();
    }
    eventually("it to be sent", || lan.counters("host").frames_in == 3);
    let friend = UdpSocket::bind(remote).unwrap();
    friend.set_read_timeout(Some(SOON)).unwrap();
    let hello = frame(ALL, B, b"hello again");
    port.send(&hello).unwrap();
    let mut buffer = [0; 2000];
    loop {
        let len = friend.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..8], [8, 0, 0, 0, 0, 0, 7, 0]);
        if buffer[8..len] == hello {
            break;
        }
    }
}
