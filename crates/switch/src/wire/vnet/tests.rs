use proptest::prelude::*;

use super::{BadOffload, Checksum, Offload, SHORT_HEADER_LEN, Segment, SegmentKind};

fn parse(header: [u8; SHORT_HEADER_LEN]) -> Result<Offload, BadOffload> {
    Offload::parse(&header, 100)
}

#[test]
fn header_of_zeros_leaves_nothing_to_do() {
    assert_eq!(parse([0; 10]), Ok(Offload::default()));
    assert_eq!(
        Offload::default().to_bytes(3),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]
    );
}

#[test]
fn checksum_must_lie_in_the_frame() {
    let checksum = |start, offset| parse([1, 0, 0, 0, 0, 0, start, 0, offset, 0]);
    let offload = checksum(82, 16).unwrap();
    let expected = Checksum {
        start: 82,
        offset: 16,
    };
    assert_eq!(offload.checksum, Some(expected));
    assert_eq!(checksum(83, 16), Err(BadOffload::Checksum));
    assert_eq!(
        parse([1, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
        Err(BadOffload::Checksum)
    );
}

#[test]
fn frame_is_cut_in_offered_ways_only() {
    let cut = |flags, kind, size| parse([flags, kind, 54, 0, size, 0, 34, 0, 16, 0]);
    let segment = cut(1, 0x81, 200).unwrap().segment.unwrap();
    assert_eq!((segment.kind, segment.size), (SegmentKind::Tcp4, 200));
    assert!(segment.has_ecn);
    assert_eq!(
        cut(1, 4, 200).unwrap().segment.unwrap().kind,
        SegmentKind::Tcp6
    );
    assert_eq!(cut(1, 3, 200), Err(BadOffload::Kind(3)), "UFO");
    assert_eq!(cut(1, 5, 200), Err(BadOffload::Kind(5)), "UDP");
    assert_eq!(cut(1, 1, 0), Err(BadOffload::Size));
    assert_eq!(cut(0, 1, 200), Err(BadOffload::NoChecksum));
}

proptest! {
    #[test]
    fn what_was_read_is_written_the_same(header: [u8; SHORT_HEADER_LEN], len in 0..70_000_usize) {
        if let Ok(offload) = Offload::parse(&header, len) {
            let bytes = offload.to_bytes(1);
            let again = Offload::parse(bytes.first_chunk().unwrap(), len);
            prop_assert_eq!(again, Ok(offload));
        }
    }

    #[test]
    fn what_is_written_is_read_the_same(start in 0..1000_u16, offset in 0..100_u16, size in 1..u16::MAX, has_ecn: bool, header_len: u16) {
        let segment = Segment { kind: SegmentKind::Tcp6, size, has_ecn, header_len };
        let offload = Offload { checksum: Some(Checksum { start, offset }), segment: Some(segment) };
        prop_assert_eq!(Offload::parse(offload.to_bytes(7).first_chunk().unwrap(), 2000), Ok(offload));
    }
}
