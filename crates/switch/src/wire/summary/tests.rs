use super::*;
use crate::wire::filter::tests::{arp, frame, ipv4, ipv6, tagged};

fn said(frame: &[u8]) -> String {
    Summary(frame).to_string()
}

#[test]
fn a_frame_is_said_in_a_line() {
    let syn = ipv4(TCP, FLAG_SYN | FLAG_ACK, 0);
    let ping = {
        let mut ping = ipv4(ICMP, 0, 0);
        ping[34] = 8;
        ping
    };
    let mut reply = arp();
    reply[21] = 2;
    for (frame, expected) in [
        (syn.clone(), "TCP 10.0.0.1:1000 > 10.0.0.2:80 SYN ACK"),
        (ipv4(UDP, 0, 0), "UDP 10.0.0.1:1000 > 10.0.0.2:80"),
        (ipv6(), "UDP [fd00::1]:1000 > [fd00::2]:53"),
        (ping, "ICMP 10.0.0.1 > 10.0.0.2 echo request"),
        (ipv4(ICMP6, 0, 0), "ICMPv6 10.0.0.1 > 10.0.0.2 type 3"),
        (ipv4(47, 0, 0), "IP protocol 47 10.0.0.1 > 10.0.0.2"),
        (arp(), "ARP who-has 10.0.0.2 tell 10.0.0.1"),
        (reply, "ARP 10.0.0.1 is-at 02:00:00:00:00:0a"),
        (
            tagged(7, &frame(0x88b5, b"")),
            "02:00:00:00:00:0a > 02:00:00:00:00:0b type 0x88b5, vlan 7",
        ),
        (
            syn[..33].to_vec(),
            "02:00:00:00:00:0a > 02:00:00:00:00:0b type 0x0800",
        ),
        (syn[..34].to_vec(), "TCP 10.0.0.1 > 10.0.0.2"),
        (syn[..13].to_vec(), "less than a header"),
    ] {
        assert_eq!(said(&frame), expected);
    }
}
