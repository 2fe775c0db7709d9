use proptest::prelude::*;

use super::*;

fn frame(tags: &[[u8; 4]]) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    [&addresses[..], &tags.concat(), &[0x08, 0, 1, 2, 3]].concat()
}

fn tagged(segment: u16) -> Vec<u8> {
    frame(&[Tag::new(segment).to_bytes()])
}

/// Sends a frame in by a port and out by another.
fn pass(from: &Tags, to: &Tags, frame: &[u8]) -> Option<Vec<u8>> {
    let segment = from.segment_of(frame)?;
    let change = to.change_for(segment, frame)?;
    let mut room = [0; TAG_LEN];
    Some(change.pieces(frame, &mut room).concat())
}

fn trunk(segments: &[u16], native: Option<u16>) -> Tags {
    Tags::Trunk {
        segments: Segments::of(segments).unwrap(),
        native,
    }
}

#[test]
fn an_access_port_has_its_segment_without_tags() {
    let (ten, twenty) = (Tags::Access(10), Tags::Access(20));
    assert_eq!(pass(&ten, &ten, &frame(&[])), Some(frame(&[])));
    assert_eq!(pass(&ten, &twenty, &frame(&[])), None);
    assert_eq!(
        ten.segment_of(&tagged(10)),
        None,
        "machines there know no tags"
    );
}

#[test]
fn a_trunk_puts_tags_in_and_an_access_port_takes_them_off() {
    let (access, trunk) = (Tags::Access(10), trunk(&[10, 20], None));
    assert_eq!(pass(&access, &trunk, &frame(&[])), Some(tagged(10)));
    assert_eq!(pass(&trunk, &access, &tagged(10)), Some(frame(&[])));
    assert_eq!(pass(&trunk, &access, &tagged(20)), None);
    assert_eq!(pass(&trunk, &trunk, &tagged(20)), Some(tagged(20)));
    assert_eq!(trunk.segment_of(&tagged(30)), None);
    assert_eq!(trunk.segment_of(&frame(&[])), None, "no native segment");
}

#[test]
fn frames_of_the_native_segment_have_no_tag() {
    let (native, other) = (trunk(&[20], Some(10)), trunk(&[10, 20], Some(20)));
    assert_eq!(pass(&native, &other, &frame(&[])), Some(tagged(10)));
    assert_eq!(pass(&other, &native, &tagged(10)), Some(frame(&[])));
    assert_eq!(pass(&native, &native, &tagged(10)), Some(frame(&[])));
    assert_eq!(pass(&native, &other, &tagged(20)), Some(frame(&[])));
}

#[test]
fn transparent_ports_change_nothing_between_them_and_are_trunks_to_others() {
    let clear = Tags::Transparent;
    let twice = frame(&[Tag::new(5).to_bytes(), Tag::new(6).to_bytes()]);
    let provider = frame(&[[0x88, 0xa8, 0, 5]]);
    let priority = frame(&[[0x81, 0, 0xa0, 0]]);
    for frame in [frame(&[]), tagged(4095), twice, provider, priority] {
        assert_eq!(pass(&clear, &clear, &frame).as_ref(), Some(&frame));
    }
    assert_eq!(
        pass(&clear, &Tags::Access(10), &tagged(10)),
        Some(frame(&[]))
    );
    assert_eq!(pass(&clear, &Tags::Access(10), &frame(&[])), None);
    assert_eq!(
        pass(&Tags::Access(10), &clear, &frame(&[])),
        Some(tagged(10))
    );
}

#[test]
fn a_priority_is_kept_where_there_is_a_tag_for_it() {
    let priority = frame(&[[0x81, 0, 0xa0, 0]]);
    let out = pass(&Tags::Access(10), &trunk(&[10], None), &priority);
    assert_eq!(out, Some(frame(&[[0x81, 0, 0xa0, 10]])));
    let out = pass(&Tags::Access(10), &Tags::Access(10), &priority);
    assert_eq!(out, Some(frame(&[])));
}

#[test]
fn segments_go_from_1_to_4094() {
    assert_eq!(Segments::of(&[0]), Err(NoSegment(0)));
    assert_eq!(Tags::Access(4095).check(), Err(NoSegment(4095)));
    assert_eq!(trunk(&[1], Some(4094)).check(), Ok(()));
    let all = Segments::all();
    assert!(all.contains(1) && all.contains(4094) && !all.contains(0) && !all.contains(4095));
    assert_eq!(
        format!("{:?}", Segments::of(&[7, 4094]).unwrap()),
        "{7, 4094}"
    );
}

#[test]
fn payload_is_what_is_behind_header_and_tag() {
    assert_eq!((payload_len(&frame(&[])), payload_len(&tagged(1))), (3, 3));
    assert_eq!(payload_len(&[0; 13]), 0);
}

proptest! {
    #[test]
    fn frames_keep_their_payload(bytes in proptest::collection::vec(any::<u8>(), 0..64), tag in any::<bool>()) {
        let mut bytes = bytes;
        if tag && bytes.len() > 17 {
            bytes[15..17].copy_from_slice(&[0x81, 0]);
        }
        fuzz(&bytes);
    }
}
