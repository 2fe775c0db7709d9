use proptest::prelude::*;

use super::*;

const HEADER: [u8; 12] = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa];

pub(in crate::wire) fn frame(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&HEADER[..], &kind.to_be_bytes(), packet].concat()
}

/// From 10.0.0.1 to 10.0.0.2, from port 1000 to port 80.
pub(in crate::wire) fn ipv4(protocol: u8, flags: u8, fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend([0x03, 0xe8, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags]);
    frame(0x0800, &packet)
}

/// From fd00::1 to fd00::2, from port 1000 to port 53, behind hop-by-hop options.
pub(in crate::wire) fn ipv6() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
    for last in [1, 2] {
        let mut address = [0; 16];
        (address[0], address[15]) = (0xfd, last);
        packet.extend(address);
    }
    packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend([0x03, 0xe8, 0, 53, 0, 8, 0, 0]);
    frame(0x86dd, &packet)
}

pub(in crate::wire) fn arp() -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1];
    packet.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    let mut frame = frame(0x0806, &packet);
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame
}

pub(in crate::wire) fn tagged(number: u16, frame: &[u8]) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat()
}

fn meant(text: &str, frame: &[u8]) -> bool {
    Filter::parse(text)
        .unwrap_or_else(|error| panic!("`{text}`: {error}"))
        .matches(frame)
}

#[test]
fn each_test_means_what_it_says() {
    let (syn, udp, ipv6, arp) = (ipv4(6, 0x02, 0), ipv4(17, 0, 0), ipv6(), arp());
    let all = [&syn, &udp, &ipv6, &arp];
    for (text, expected) in [
        ("", [true, true, true, true]),
        ("ip", [true, true, false, false]),
        ("ip6", [false, false, true, false]),
        ("arp", [false, false, false, true]),
        ("tcp", [true, false, false, false]),
        ("udp", [false, true, true, false]),
        ("icmp or icmp6", [false; 4]),
        ("host 10.0.0.2", [true, true, false, true]),
        ("src host 10.0.0.2", [false; 4]),
        ("dst host fd00::2", [false, false, true, false]),
        ("net 10.0.0.0/30", [true, true, false, true]),
        ("net 10.0.0.4/30", [false; 4]),
        ("net 0.0.0.0/0", [true, true, false, true]),
        ("src net fd00::/8", [false, false, true, false]),
        ("port 53", [false, false, true, false]),
        ("src port 1000", [true, true, true, false]),
        ("dst port 1000", [false; 4]),
        ("src 10.0.0.1", [true, true, false, true]),
        ("ip src host 10.0.0.1", [true, true, false, false]),
        ("arp host 10.0.0.1", [false, false, false, true]),
        ("ip6 net fd00::/8", [false, false, true, false]),
        ("tcp port 80", [true, false, false, false]),
        (
            "udp dst port 80 or udp src port 53",
            [false, true, false, false],
        ),
        ("portrange 53-79", [false, false, true, false]),
        ("tcp dst portrange 80-80", [true, false, false, false]),
        (
            "ether proto 0x806 or ether proto 34525",
            [false, false, true, true],
        ),
        (
            "ether broadcast && ether multicast",
            [false, false, false, true],
        ),
        ("syn", [true, false, false, false]),
        ("ack", [false; 4]),
        ("broadcast", [false, false, false, true]),
        ("multicast", [false, false, false, true]),
        ("ether host 02:00:00:00:00:0a", [true; 4]),
        ("ether dst 2:0:0:0:0:B", [true, true, true, false]),
        ("ether src host 02:00:00:00:00:0b", [false; 4]),
        ("vlan", [false; 4]),
        ("less 47", [false, false, false, true]),
        ("greater 48", [true, true, true, false]),
    ] {
        let found = all.map(|frame| meant(text, frame));
        assert_eq!(found, expected, "`{text}`");
    }
}

#[test]
fn words_bind_as_they_do_in_tcpdump() {
    let syn = ipv4(6, 0x02, 0);
    for (text, expected) in [
        ("not udp and tcp", true),
        ("not (udp or tcp)", false),
        ("tcp or udp and arp", true),
        ("(tcp or udp)and arp", false),
        ("not not tcp", true),
        ("not udp port 80", true),
        ("not tcp port 80", false),
        ("! udp && arp || tcp", true),
        ("!(arp || ip6)", true),
        (
            "arp or ip6 or (tcp and (port 80 or port 443) and not ack)",
            true,
        ),
    ] {
        assert_eq!(meant(text, &syn), expected, "`{text}`");
    }
}

#[test]
fn tags_are_looked_behind() {
    let frame = tagged(10, &tagged(20, &ipv4(6, 0x02, 0)));
    assert!(meant("vlan and tcp and port 80", &frame));
    assert!(meant("vlan 10 and not vlan 20", &frame));
}

#[test]
fn a_later_fragment_has_no_ports_and_a_cut_frame_no_more_than_is_there() {
    let later = ipv4(6, 0x02, 100);
    assert!(meant("tcp and not port 80 and not syn", &later));
    let whole = ipv4(6, 0x02, 0);
    for len in 0..whole.len() {
        meant("port 80 or host 1.2.3.4 or syn or vlan 7", &whole[..len]);
    }
    assert!(meant("ip and not host 10.0.0.1", &whole[..20]));
    assert!(!meant("ip", &whole[..13]));
}

#[test]
fn an_expression_that_says_nothing_is_refused_with_the_word() {
    let refused = |text: &str| Filter::parse(text).unwrap_err();
    for (text, word, at) in [
        ("frobnicate", "frobnicate", 0),
        ("tcp udp", "udp", 4),
        ("src arp", "arp", 4),
        ("tcp )", ")", 4),
        ("tcp host 10.0.0.1", "host", 4),
        ("ip port 80", "port", 3),
        ("tcp src 10.0.0.1", "10.0.0.1", 8),
        ("icmp port 80", "port", 5),
        ("host 10.0.0.1 or 10.0.0.2", "10.0.0.2", 17),
        ("(ether  frob)", "frob", 8),
        ("ip or \u{e4}\u{f6} tcp[tcpflags]", "\u{e4}\u{f6}", 6),
        ("ip or tcp[tcpflags]", "tcp[tcpflags]", 6),
    ] {
        let word = word.to_owned();
        assert_eq!(
            refused(text),
            BadFilter::Unexpected { word, at },
            "`{text}`"
        );
    }
    for text in ["(tcp", "tcp and", "tcp port", "!", "ether"] {
        assert_eq!(refused(text), BadFilter::Unfinished, "`{text}`");
    }
    for (text, word, at, what) in [
        ("port 65536", "65536", 5, "a port"),
        ("host example.org", "example.org", 5, "an IP address"),
        (
            "net 10.0.0.0/33",
            "10.0.0.0/33",
            4,
            "a network, as 10.0.0.0/8",
        ),
        ("portrange 9-8", "9-8", 10, "a range of ports, as 1-1023"),
        (
            "ether proto lldp",
            "lldp",
            12,
            "a type of frames, as 0x88cc",
        ),
    ] {
        let word = word.to_owned();
        assert_eq!(
            refused(text),
            BadFilter::Value { word, at, what },
            "`{text}`"
        );
    }
    let message = "`arq` at character 5 is not expected there";
    assert_eq!(refused("not arq").to_string(), message);
    assert!(matches!(
        refused("ether host 02:00"),
        BadFilter::Value { .. }
    ));
    assert_eq!(refused(&"not ".repeat(1000)), BadFilter::TooLong);
    assert_eq!(refused(&vec!["tcp"; 65].join(" or ")), BadFilter::TooLong);
    assert_eq!(refused(&" ".repeat(4097)), BadFilter::TooLong);
    assert!(Filter::parse(&vec!["tcp"; 64].join(" or ")).is_ok());
}

proptest! {
    #[test]
    fn no_expression_and_no_frame_panics(
        words in proptest::collection::vec(0..23_usize, 0..20),
        frame in proptest::collection::vec(any::<u8>(), 0..100),
        kind in 0..4_usize,
    ) {
        const WORDS: [&str; 23] = [
            "(", ")", "not", "and", "or", "tcp", "vlan", "7", "host", "10.0.0.1", "net", "fd00::/8", "port", "src",
            "dst", "ether", "02:00:00:00:00:0a", "syn", "less", "multicast", "!", "portrange", "1-9",
        ];
        let text: Vec<_> = words.into_iter().map(|word| WORDS[word]).collect();
        let mut frame = frame;
        if frame.len() > 14 {
            frame[12..14].copy_from_slice(&[[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]][kind]);
        }
        fuzz(&[text.join(" ").as_bytes(), b"\n", &frame].concat());
    }
}
