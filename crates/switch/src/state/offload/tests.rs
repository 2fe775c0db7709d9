use proptest::prelude::*;

use super::{BadSegments, SEGMENTS_MAX, Segments, complete};
use crate::wire::vnet::{Checksum, Segment, SegmentKind};

/// Adds up 16-bit words as RFC 1071 says, one by one.
fn ones_sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    words.fold(0, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    })
}

/// A TCP segment over IPv4 or IPv6, with a tag if asked for, and where TCP begins in it.
fn tcp(
    kind: SegmentKind,
    is_tagged: bool,
    options: usize,
    flags: u8,
    payload: &[u8],
) -> (Vec<u8>, usize) {
    let mut frame = vec![2; 12];
    if is_tagged {
        frame.extend([0x81, 0, 0, 5]);
    }
    let tcp_len = 20 + 4 * options;
    match kind {
        SegmentKind::Tcp4 => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        }
        SegmentKind::Tcp6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
            frame.extend([0xfd; 32]);
        }
    }
    let start = frame.len();
    frame.extend([0, 80, 0x80, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1]);
    frame.extend([(tcp_len as u8 / 4) << 4, flags, 1, 0, 0xab, 0xcd, 0, 0]);
    frame.extend(vec![1; tcp_len - 20]);
    frame.extend(payload);
    (frame, start)
}

fn cut(
    frame: &[u8],
    kind: SegmentKind,
    size: u16,
    start: usize,
) -> Result<Vec<Vec<u8>>, BadSegments> {
    let segment = Segment {
        kind,
        size,
        has_ecn: false,
        header_len: 0,
    };
    let checksum = Checksum {
        start: start as u16,
        offset: 16,
    };
    let segments = Segments::new(frame, segment, checksum)?;
    Ok((0..segments.count())
        .map(|number| {
            let mut piece = vec![0xee; 3];
            segments.append(number, &mut piece);
            piece.split_off(3)
        })
        .collect())
}

/// Checks the lengths and sums of a piece.
fn check(piece: &[u8], kind: SegmentKind, start: usize) {
    let pseudo = match kind {
        SegmentKind::Tcp4 => {
            let ip = &piece[start - 20..start];
            assert_eq!(
                usize::from(u16::from_be_bytes([ip[2], ip[3]])),
                piece.len() - (start - 20)
            );
            assert_eq!(ones_sum(ip), 0xffff, "the sum of a good header");
            ip[12..].to_vec()
        }
        SegmentKind::Tcp6 => {
            let ip = &piece[start - 40..start];
            assert_eq!(
                usize::from(u16::from_be_bytes([ip[4], ip[5]])),
                piece.len() - start
            );
            ip[8..].to_vec()
        }
    };
    let len = (piece.len() - start) as u32;
    let whole = [
        &pseudo[..],
        &len.to_be_bytes(),
        &[0, 0, 0, 6],
        &piece[start..],
    ]
    .concat();
    assert_eq!(ones_sum(&whole), 0xffff, "the sum of a good segment");
}

#[test]
fn flags_that_end_or_begin_something_are_in_one_piece() {
    const FIN_PSH_ACK_CWR: u8 = 0x01 | 0x08 | 0x10 | 0x80;
    let (frame, start) = tcp(SegmentKind::Tcp4, false, 0, FIN_PSH_ACK_CWR, &[7; 2500]);
    let pieces = cut(&frame, SegmentKind::Tcp4, 1000, start).unwrap();
    let flags: Vec<u8> = pieces.iter().map(|piece| piece[start + 13]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x19]);
    let identities: Vec<u8> = pieces.iter().map(|piece| piece[14 + 5]).collect();
    assert_eq!(identities, [0x34, 0x35, 0x36]);
}

#[test]
fn frame_that_is_not_what_it_is_said_to_be_is_not_cut() {
    let (frame, start) = tcp(SegmentKind::Tcp4, false, 0, 0x10, &[7; 2500]);
    let refused = Err(BadSegments::NotTcp);
    assert_eq!(cut(&frame, SegmentKind::Tcp6, 1000, start), refused);
    assert_eq!(cut(&frame, SegmentKind::Tcp4, 1000, start + 4), refused);
    assert_eq!(
        cut(&frame[..start + 19], SegmentKind::Tcp4, 1000, start),
        refused
    );
    let mut udp = frame.clone();
    udp[start - 11] = 17;
    assert_eq!(cut(&udp, SegmentKind::Tcp4, 1000, start), refused);
    let mut long = frame.clone();
    long[start + 12] = 0x40;
    assert_eq!(
        cut(&long, SegmentKind::Tcp4, 1000, start),
        refused,
        "a header too short"
    );
    let many = SEGMENTS_MAX + 1;
    let (frame, start) = tcp(SegmentKind::Tcp4, false, 0, 0x10, &vec![7; many]);
    assert_eq!(
        cut(&frame, SegmentKind::Tcp4, 1, start),
        Err(BadSegments::TooMany(many))
    );
}

proptest! {
    #[test]
    fn pieces_are_good_and_have_all_of_the_payload(
        is_six: bool, is_tagged: bool, options in 0..11_usize,
        payload in proptest::collection::vec(any::<u8>(), 0..9000), size in 100..3000_u16,
    ) {
        let kind = if is_six { SegmentKind::Tcp6 } else { SegmentKind::Tcp4 };
        let (frame, start) = tcp(kind, is_tagged, options, 0x18, &payload);
        let behind = start + 20 + 4 * options;
        let mut found: Vec<u8> = Vec::new();
        for piece in cut(&frame, kind, size, start).unwrap() {
            check(&piece, kind, start);
            let sequence = u32::from_be_bytes(piece[start + 4..start + 8].try_into().unwrap());
            prop_assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(found.len() as u32));
            prop_assert!(piece.len() - behind <= usize::from(size));
            found.extend(&piece[behind..]);
        }
        prop_assert_eq!(found, payload);
    }

    #[test]
    fn checksum_is_the_one_that_makes_the_sum_right(mut frame in proptest::collection::vec(any::<u8>(), 60..2000), pseudo: u16) {
        let checksum = Checksum { start: 34, offset: 6 };
        frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
        let before = ones_sum(&frame[34..]);
        complete(&mut frame, checksum);
        let found = u16::from_be_bytes([frame[40], frame[41]]);
        let expected = match !(before as u16) { 0 => 0xffff, sum => sum };
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn nothing_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), start: u16, offset: u16, size: u16, is_six: bool, ip in 0..2_u8) {
        let mut frame = bytes;
        if frame.len() > 60 && ip > 0 {
            frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
            frame[23] = 6;
        }
        let kind = if is_six { SegmentKind::Tcp6 } else { SegmentKind::Tcp4 };
        for start in [start, start % 300, 34] {
            complete(&mut frame, Checksum { start, offset });
            let _ = cut(&frame, kind, size, usize::from(start));
        }
    }
}
