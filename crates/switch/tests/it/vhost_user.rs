//! Guests that share their memory, by themselves and beside ports of other kinds.

use std::path::PathBuf;

use hotbed_switch::wire::filter::Filter;
use hotbed_switch::{Impairment, Loss, PortKind, PortSettings, Selection, Tags, Way};
use vm_memory::GuestAddress;

use crate::guest::{
    CSUM, GUEST_CSUM, GUEST_TSO4, Guest, HEADER_LEN, HOST_TSO4, MRG_RXBUF, Options, PLAIN,
};
use crate::support::{A, ALL, B, C, Lan, eventually, frame};

fn listen(lan: &Lan, name: &str) -> PathBuf {
    let path = lan.path(&format!("{name}.sock"));
    lan.switch.listen_vhost_user(&path).unwrap();
    path
}

/// A guest on a port of its own.
pub(crate) fn guest(lan: &Lan, name: &str, options: Options) -> Guest {
    Guest::connect(&listen(lan, name), options)
}

/// A TCP segment over IPv4 from A to B, and the header that leaves its checksum, or cutting it, to the card.
fn tcp(payload: &[u8], size: Option<u16>) -> ([u8; HEADER_LEN], Vec<u8>) {
    let mut ip = vec![0x45, 0];
    ip.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    ip.extend([0, 9, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let mut tcp = vec![0, 80, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0];
    tcp.extend([0, 0, 0, 0]);
    let pseudo = sum(&ip[12..]) + 6 + u32::try_from(20 + payload.len()).unwrap();
    tcp[16..18].copy_from_slice(&fold(pseudo).to_be_bytes());
    let ip_sum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&ip_sum.to_be_bytes());
    let frame = [&B.0[..], &A.0, &[0x08, 0x00], &ip, &tcp, payload].concat();
    let [s0, s1] = size.unwrap_or(0).to_le_bytes();
    let kind = u8::from(size.is_some());
    ([1, kind, 54, 0, s0, s1, 34, 0, 16, 0, 0, 0], frame)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Checks the sums of a whole TCP segment, and gives its payload.
fn payload_of(frame: &[u8]) -> &[u8] {
    assert_eq!(
        fold(sum(&frame[14..34])),
        0xffff,
        "the sum of a good header"
    );
    let len = u32::try_from(frame.len() - 34).unwrap();
    let pseudo = sum(&frame[26..34]) + 6 + len;
    assert_eq!(
        fold(pseudo + sum(&frame[34..])),
        0xffff,
        "of a good segment"
    );
    &frame[54..]
}

fn numbers(len: usize) -> Vec<u8> {
    (0..len).map(|number| (number / 7) as u8).collect()
}

/// Has the switch learn where these are, and everybody hear of it.
fn introduce(from: &mut Guest, source: hotbed_switch::MacAddr) {
    from.send(&frame(ALL, source, b"hello"));
}

#[test]
fn guests_that_share_their_memory_talk_to_each_other() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    let kinds = lan.switch.ports().into_iter().map(|port| port.kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [PortKind::VhostUser; 2]);
    introduce(&mut a, A);
    assert_eq!(b.recv(), frame(ALL, A, b"hello"));
    for number in 0..1000_u32 {
        let to_a = frame(A, B, &number.to_be_bytes().repeat(number as usize % 350));
        b.send(&to_a);
        assert_eq!(a.recv(), to_a);
        let to_b = frame(B, A, &number.to_le_bytes());
        a.send(&to_b);
        assert_eq!(b.recv(), to_b);
    }
    eventually("all frames to be counted", || {
        let (a, b) = (lan.counters("a"), lan.counters("b"));
        (a.frames_in, a.frames_out) == (1001, 1000) && (b.frames_in, b.frames_out) == (1000, 1001)
    });
    assert_eq!(lan.switch.totals().counters.drops.total(), 0);
    assert_eq!(lan.switch.totals().unicast, 2000);
    drop(a);
    lan.await_ports(1);
    assert_eq!(lan.switch.ports()[0].name, "b");
    assert_eq!(lan.switch.lost_ports(), [], "it did nothing wrong");
}

#[test]
fn guest_talks_to_clients_of_other_kinds() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let b = lan.client("b");
    a.send(&frame(ALL, A, b"hello"));
    assert_eq!(b.recv(), frame(ALL, A, b"hello"));
    b.send(&frame(A, B, b"hello yourself"));
    assert_eq!(a.recv(), frame(A, B, b"hello yourself"));
    let mut c = guest(&lan, "c", Options::default());
    c.send(&frame(ALL, C, b"and me"));
    assert_eq!(a.recv(), frame(ALL, C, b"and me"));
    assert_eq!(b.recv(), frame(ALL, C, b"and me"));
}

#[test]
fn frames_of_a_guest_keep_their_order_whichever_way_they_go() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    introduce(&mut b, B);
    a.recv();
    for round in 0..200_u32 {
        // Of three, the first is for all, and goes by way of a copy.
        for (number, target) in [ALL, B, B].into_iter().enumerate() {
            let payload = [round.to_be_bytes(), (number as u32).to_be_bytes()].concat();
            a.queue(&PLAIN, &frame(target, A, &payload));
        }
        a.send(&frame(B, A, b"end"));
        for (number, target) in [ALL, B, B].into_iter().enumerate() {
            let payload = [round.to_be_bytes(), (number as u32).to_be_bytes()].concat();
            assert_eq!(b.recv(), frame(target, A, &payload));
        }
        assert_eq!(b.recv(), frame(B, A, b"end"));
    }
}

#[test]
fn frames_of_any_length_come_whole_and_all_of_them() {
    let lan = Lan::start();
    let long = Options {
        transmit_len: 70_000,
        ..Options::default()
    };
    let mut a = guest(&lan, "a", long);
    let mut b = guest(&lan, "b", Options::default());
    let c = lan.client("c");
    introduce(&mut b, B);
    a.recv();
    c.recv();
    // Jumbo frames, as long as IP can be, and as long as may be at all: straight to a guest, and by way of a copy.
    for len in [1501, 9000, 65_535, 69_618] {
        for target in [B, ALL] {
            let sent = frame(target, A, &numbers(len));
            a.send(&sent);
            assert!(b.recv() == sent, "{len} bytes to {target}");
        }
        assert!(c.recv() == frame(ALL, A, &numbers(len)), "{len} bytes");
        c.send(&frame(B, C, &numbers(len)));
        assert!(b.recv() == frame(B, C, &numbers(len)), "{len} bytes from c");
    }
    let (mut sent, mut received) = (0, 0);
    while received < 10_000 {
        while sent < 10_000.min(received + 32) {
            a.send(&frame(B, A, b"one of many"));
            sent += 1;
        }
        received += b.swallow();
    }
    assert_eq!(
        (received, lan.switch.totals().counters.drops.total()),
        (10_000, 0)
    );
}

/// A VXLAN datagram from A to B, as a guest makes it that has a tunnel of its own: the inner frame's checksum is there, the outer
/// one's is left to the card, or it is left out.
#[test]
fn tunnel_of_a_guest_passes() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    let c = lan.client("c");
    introduce(&mut b, B);
    a.recv();
    c.recv();
    let inner = frame(C, A, &numbers(1400));
    let mut ip = vec![0x45, 0];
    ip.extend(
        u16::try_from(20 + 8 + 8 + inner.len())
            .unwrap()
            .to_be_bytes(),
    );
    ip.extend([0, 9, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let len = u16::try_from(8 + 8 + inner.len()).unwrap().to_be_bytes();
    let pseudo = fold(sum(&ip[12..]) + 17 + u32::from(u16::from_be_bytes(len)));
    let ip_sum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&ip_sum.to_be_bytes());
    let udp = [&[0xc0, 0, 0x12, 0xb5], &len[..], &pseudo.to_be_bytes()].concat();
    let vxlan = [8, 0, 0, 0, 0, 0, 42, 0];
    let outer = [&B.0[..], &A.0, &[0x08, 0x00], &ip, &udp, &vxlan, &inner].concat();
    let header = [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
    a.send_with(&header, &outer);
    let (found, whole) = b.recv_with_header();
    assert!(found[..10] == header[..10] && whole == outer, "as it was");
    let mut to_all = outer.clone();
    to_all[..6].copy_from_slice(&ALL.0);
    a.send_with(&header, &to_all);
    for got in [b.recv(), c.recv()] {
        let len = u32::try_from(got.len() - 34).unwrap();
        let pseudo = sum(&got[26..34]) + 17 + len;
        assert_eq!(fold(pseudo + sum(&got[34..])), 0xffff, "a good checksum");
        assert!(got[50..] == inner, "what is in the tunnel");
    }
}

#[test]
fn what_is_left_to_do_goes_to_a_guest_that_does_it() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    introduce(&mut b, B);
    a.recv();
    let payload = numbers(60_000);
    let (header, whole) = tcp(&payload, Some(1448));
    a.send_with(&header, &whole);
    let (found, frame) = b.recv_with_header();
    assert!(frame == whole, "the frame is as it was");
    assert_eq!(found[..10], header[..10]);
    let buffers = (whole.len() + HEADER_LEN).div_ceil(2048);
    assert_eq!(
        usize::from(u16::from_le_bytes([found[10], found[11]])),
        buffers
    );
    assert_eq!(lan.counters("b").frames_out, 1);
}

#[test]
fn frame_is_cut_for_whoever_takes_no_long_ones() {
    let lan = Lan::start();
    let plain = Options {
        features: CSUM | GUEST_CSUM | MRG_RXBUF,
        ..Options::default()
    };
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", plain);
    introduce(&mut b, B);
    a.recv();
    let payload = numbers(40_000);
    let (header, whole) = tcp(&payload, Some(1448));
    a.send_with(&header, &whole);
    let mut found: Vec<u8> = Vec::new();
    while found.len() < payload.len() {
        found.extend(payload_of(&b.recv()));
    }
    assert!(found == payload);
    assert_eq!(lan.counters("b").frames_out, 28);
    assert_eq!(
        lan.counters("a").frames_in,
        28,
        "as they would be on a wire"
    );

    let c = lan.client("c");
    c.send(&frame(A, B, b"it has moved"));
    a.recv();
    let (header, whole) = tcp(&payload[..2000], Some(1000));
    a.send_with(&header, &whole);
    assert_eq!(payload_of(&c.recv()), &payload[..1000]);
    assert_eq!(payload_of(&c.recv()), &payload[1000..2000]);
}

#[test]
fn checksum_is_put_in_for_whoever_wants_it() {
    let lan = Lan::start();
    let plain = Options {
        features: 0,
        ..Options::default()
    };
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", plain);
    let c = lan.client("c");
    introduce(&mut b, B);
    a.recv();
    c.recv();
    let (header, whole) = tcp(b"some payload", None);
    a.send_with(&header, &whole);
    assert_eq!(payload_of(&b.recv()), b"some payload");
    let mut to_all = whole.clone();
    to_all[..6].copy_from_slice(&ALL.0);
    a.send_with(&header, &to_all);
    assert_eq!(payload_of(&c.recv()), b"some payload");
    assert_eq!(payload_of(&b.recv()), b"some payload");
}

#[test]
fn frame_that_no_buffer_can_hold_is_lost() {
    let lan = Lan::start();
    let small = Options {
        features: GUEST_CSUM,
        receive_len: 1526,
        ..Options::default()
    };
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", small);
    introduce(&mut b, B);
    a.recv();
    a.send(&frame(B, A, &[1; 1501]));
    a.send(&frame(B, A, &[2; 1500]));
    assert_eq!(b.recv(), frame(B, A, &[2; 1500]));
    let counters = lan.counters("b");
    assert_eq!((counters.drops.oversized, counters.drops.total()), (1, 1));

    let tiny = Options {
        ring: 8,
        posted: 8,
        receive_len: 100,
        ..Options::default()
    };
    let mut c = guest(&lan, "c", tiny);
    introduce(&mut c, C);
    a.recv();
    a.send(&frame(C, A, &[1; 800]));
    a.send(&frame(C, A, &[2; 700]));
    assert_eq!(c.recv(), frame(C, A, &[2; 700]));
    assert_eq!(
        lan.counters("c").drops.oversized,
        1,
        "more than all buffers"
    );
}

#[test]
fn frames_wait_for_buffers_up_to_a_bound() {
    let lan = Lan::start();
    for features in [MRG_RXBUF, MRG_RXBUF | crate::guest::EVENT_IDX] {
        let name = format!("b{features}");
        let slow = Options {
            features,
            posted: 2,
            ..Options::default()
        };
        let mut a = guest(&lan, &format!("a{features}"), Options::default());
        let mut b = guest(&lan, &name, slow);
        introduce(&mut b, B);
        a.recv();
        let sent = 2000_u32;
        for number in 0..sent {
            // Each needs two buffers, of which one is there at last.
            a.send(&frame(B, A, &number.to_be_bytes().repeat(600)));
        }
        eventually("each frame to be accounted for", || {
            let counters = lan.counters(&name);
            let queued = lan
                .switch
                .ports()
                .into_iter()
                .find(|port| port.name == name);
            let queued = queued.unwrap().queued as u64;
            let all = counters.frames_out + queued + counters.drops.queue_full;
            all == u64::from(sent) && counters.frames_out == 1 && queued > 100
        });
        let lost = u32::try_from(lan.counters(&name).drops.queue_full).unwrap();
        assert!(lost > 100);
        b.post_more(2..3);
        for number in 0..sent - lost {
            let (_, found) = b.recv_with_header();
            assert_eq!(found, frame(B, A, &number.to_be_bytes().repeat(600)));
            b.post_more(2..2);
        }
        drop((a, b));
        lan.await_ports(0);
    }
}

#[test]
fn driver_that_knows_virtio_0_9_alone_is_served() {
    let lan = Lan::start();
    let old = Options {
        features: CSUM,
        is_old: true,
        ..Options::default()
    };
    let mut a = guest(&lan, "a", old);
    let b = lan.client("b");
    a.send_with(&[0; 10], &frame(ALL, A, b"hello"));
    assert_eq!(b.recv(), frame(ALL, A, b"hello"));
    b.send(&frame(A, B, b"hello"));
    let mut found = None;
    eventually("a frame", || {
        found = found.take().or_else(|| a.poll_buffer());
        found.is_some()
    });
    assert_eq!(
        found.unwrap(),
        [&[0; 10][..], &frame(A, B, b"hello")].concat()
    );
}

#[test]
fn frames_lie_in_a_migrating_guest_s_log_when_they_come() {
    use std::os::fd::AsRawFd as _;
    use vhost::VhostUserDirtyLogRegion;
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    introduce(&mut b, B);
    a.recv();
    let log = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let log = std::fs::File::from(log);
    log.set_len(4096).unwrap();
    let region = VhostUserDirtyLogRegion {
        mmap_size: 4096,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    use vhost::VhostBackend as _;
    b.frontend.set_log_base(0, Some(region)).unwrap();
    b.set_features_again(1 << 26);
    a.send(&frame(B, A, &[7; 1000]));
    assert_eq!(b.recv(), frame(B, A, &[7; 1000]));
    let mut bits = vec![0; 4096];
    std::os::unix::fs::FileExt::read_exact_at(&log, &mut bits, 0).unwrap();
    let is_marked = |address: GuestAddress| {
        let page = usize::try_from(address.0 / 4096).unwrap();
        bits[page / 8] & 1 << (page % 8) != 0
    };
    assert!(is_marked(b.rings[0].buffer(0)), "the frame");
    assert!(is_marked(b.used_ring(0)), "and that it is there");
    assert!(
        !is_marked(b.rings[0].buffer(63)),
        "but not what was left alone"
    );
}

#[test]
fn card_goes_on_where_it_was_stopped() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    introduce(&mut b, B);
    a.recv();
    b.stop();
    a.send(&frame(B, A, b"lost"));
    eventually("a frame to be lost", || {
        lan.counters("b").drops.no_peer == 1
    });
    b.start();
    for _ in 0..100 {
        a.send(&frame(B, A, b"hello"));
        assert_eq!(b.recv(), frame(B, A, b"hello"));
        b.send(&frame(A, B, b"hello"));
        assert_eq!(a.recv(), frame(A, B, b"hello"));
    }
}

#[test]
fn impairments_tags_and_captures_are_for_guests_too() {
    let lan = Lan::start();
    let mut a = guest(&lan, "a", Options::default());
    let mut b = guest(&lan, "b", Options::default());
    introduce(&mut b, B);
    a.recv();
    let path = lan.path("b.pcapng");
    let options = Selection {
        ports: Some(vec!["b".into()]),
        filter: Some(Filter::parse("tcp").unwrap()),
    };
    lan.switch.start_capture_of(&path, &options).unwrap();
    let (header, whole) = tcp(&numbers(4000), Some(1000));
    a.send_with(&header, &whole);
    for _ in 0..4 {
        payload_of(&b.recv());
    }
    let summary = lan.switch.stop_capture_of(&path).unwrap();
    assert_eq!((summary.frames, summary.bytes), (4, 4 * 1054));

    let way = Way::To("b".into());
    let all_lost = Impairment {
        loss: Loss::Uniform(1.0),
        ..Impairment::default()
    };
    lan.switch.impair(&way, &all_lost).unwrap();
    a.send(&frame(B, A, b"lost"));
    eventually("a lost frame", || lan.counters("b").drops.impaired == 1);
    lan.switch.impair(&way, &Impairment::default()).unwrap();
    a.send(&frame(B, A, b"not lost"));
    assert_eq!(b.recv(), frame(B, A, b"not lost"));

    for (name, segment) in [("a", 5), ("b", 6)] {
        let settings = PortSettings {
            tags: Tags::Access(segment),
            ..PortSettings::default()
        };
        lan.switch.set_port(&name.into(), Some(settings)).unwrap();
    }
    a.send(&frame(ALL, A, b"elsewhere"));
    eventually("the frame", || lan.switch.totals().flooded == 2);
    assert!(b.poll().is_none());
    let _ = (GUEST_TSO4, HOST_TSO4);
}

mod dpdk;
mod hostile;
mod uml;
