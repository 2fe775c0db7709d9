use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::vde::{BadRequest, Request};
use super::*;

#[test]
fn a_frame_needs_a_whole_header() {
    let bytes: Vec<u8> = (0..20).collect();
    assert_eq!(Frame::parse(&bytes[..13]), None);
    let frame = Frame::parse(&bytes[..14]).unwrap();
    assert_eq!(frame.target(), MacAddr([0, 1, 2, 3, 4, 5]));
    assert_eq!(frame.source(), MacAddr([6, 7, 8, 9, 10, 11]));
}

#[test]
fn addresses_print_as_people_write_them() {
    assert_eq!(
        MacAddr([0x52, 0x54, 0, 0x12, 1, 0xff]).to_string(),
        "52:54:00:12:01:ff"
    );
    assert!(MacAddr([0xff; 6]).is_group() && MacAddr([1, 0, 0x5e, 0, 0, 1]).is_group());
    assert!(!MacAddr([0x52, 0xff, 0xff, 0xff, 0xff, 0xff]).is_group());
}

#[test]
fn a_span_of_another_buffer_is_empty() {
    assert_eq!(Span::new(1, 2).of(&[7, 8, 9]), [8, 9]);
    assert_eq!(Span::new(2, 2).of(&[7, 8, 9]), [0_u8; 0]);
}

/// The packed structure of libvdeplug, as a little-endian machine sends it.
fn request_v3(kind: u8, port: u8, path: &str, description: &str) -> Vec<u8> {
    let mut bytes = 0xfeed_face_u32.to_ne_bytes().to_vec();
    bytes.extend(3_u32.to_ne_bytes());
    bytes.extend((u32::from(port) << 8 | u32::from(kind)).to_ne_bytes());
    bytes.extend(1_u16.to_ne_bytes());
    bytes.extend(path.as_bytes());
    bytes.resize(122, 0);
    bytes.extend(description.as_bytes());
    bytes
}

#[test]
fn a_request_says_where_the_client_receives() {
    let bytes = request_v3(
        0,
        0,
        "/run/vde.ctl/.01234-00000",
        "QEMU user=alice PID=1234",
    );
    let path = Path::new("/run/vde.ctl/.01234-00000");
    let expected = Request {
        port: None,
        path,
        description: b"QEMU user=alice PID=1234",
    };
    assert_eq!(Request::parse(&bytes), Ok(expected));
    assert_eq!(expected.to_bytes(), bytes);
    assert_eq!(
        Request::parse(&request_v3(0, 9, "/s", "")).unwrap().port,
        Some(9)
    );
}

#[test]
fn a_request_of_version_1_has_an_address_in_the_place_of_the_version() {
    let mut bytes = 0xfeed_face_u32.to_ne_bytes().to_vec();
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([0; 6]);
    bytes.extend(&request_v3(0, 0, "/run/old", "old")[12..]);
    let request = Request::parse(&bytes).unwrap();
    assert_eq!(
        (request.path, request.description),
        (Path::new("/run/old"), &b"old"[..])
    );
}

#[test]
fn requests_that_are_not_for_us_say_why() {
    let good = request_v3(0, 0, "/s", "d");
    for len in 0..122 {
        assert_eq!(
            Request::parse(&good[..len]),
            Err(BadRequest::Short),
            "{len} bytes"
        );
    }
    assert_eq!(Request::parse(&[1; 122]), Err(BadRequest::Magic));
    assert_eq!(
        Request::parse(&request_v3(1, 0, "/s", "")),
        Err(BadRequest::Type(1))
    );
    assert_eq!(
        Request::parse(&request_v3(0, 0, "s", "")),
        Err(BadRequest::Path)
    );
    assert_eq!(
        Request::parse(&request_v3(0, 0, "", "")),
        Err(BadRequest::Path)
    );
    let with = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    let version = usize::from(cfg!(target_endian = "big")) * 3 + 4;
    for unknown in [2, 4, 255] {
        let refused = Err(BadRequest::Version(unknown.into()));
        assert_eq!(Request::parse(&with(version, unknown)), refused);
    }
    let family = usize::from(cfg!(target_endian = "big")) + 12;
    assert_eq!(Request::parse(&with(family, 2)), Err(BadRequest::Path));
}

#[test]
fn an_answer_names_a_path() {
    let reply = vde::reply(Path::new("/run/vde.ctl/001.7"));
    assert_eq!(
        vde::parse_reply(&reply),
        Some(Path::new("/run/vde.ctl/001.7"))
    );
    assert_eq!(vde::parse_reply(&[0; vde::REPLY_LEN]), None);
}

/// Runs a fuzz body on each file of its corpus.
fn run_corpus(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        body(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn the_corpus_of_vde_requests_is_digested() {
    run_corpus("vde_request", vde::fuzz);
}

#[test]
fn the_corpora_of_tags_filters_offloads_and_vxlan_are_digested() {
    run_corpus("port_tags", crate::state::tags::fuzz);
    run_corpus("frame_filter", filter::fuzz);
    run_corpus("frame_offloads", crate::state::offload::fuzz);
    run_corpus("switch_state", crate::state::frozen::fuzz);
    run_corpus("vxlan_header", vxlan::fuzz);
}

#[cfg(feature = "hosts")]
#[test]
fn the_corpora_of_hosts_in_the_program_are_digested() {
    run_corpus("dhcp_requests", crate::hosts::gateway::dhcp::fuzz);
    run_corpus("dns_queries", crate::hosts::gateway::dns::fuzz);
    run_corpus("host_frames", crate::hosts::fuzz);
}

#[test]
fn the_corpus_of_streams_is_digested() {
    run_corpus("frame_stream", stream::fuzz);
}

#[test]
fn a_stream_loses_step_at_a_length_that_no_frame_has() {
    let mut deframer = stream::Deframer::default();
    let too_long = u32::try_from(FRAME_MAX + 1).unwrap();
    let bytes = [&[0, 0, 0, 1, 7][..], &too_long.to_be_bytes()].concat();
    deframer.space()[..bytes.len()].copy_from_slice(&bytes);
    deframer.handle_read(bytes.len());
    let first = deframer.poll_frame().unwrap().unwrap();
    assert_eq!(first.of(deframer.bytes()), [7]);
    assert_eq!(deframer.poll_frame(), Err(stream::TooLong(too_long)));
}

fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let len = prop_oneof![4 => 0..100_usize, 1 => Just(1514), 1 => FRAME_MAX - 1..=FRAME_MAX];
    proptest::collection::vec(
        (len, any::<u8>()).prop_map(|(len, fill)| vec![fill; len]),
        0..20,
    )
}

proptest! {
    #[test]
    fn frames_come_out_of_a_stream_as_they_went_in(sent in frames(), pieces in proptest::collection::vec(1..70_000_usize, 1..5)) {
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| [&stream::prefix(frame.len())[..], frame].concat()).collect();
        let (mut deframer, mut received, mut rest) = (stream::Deframer::default(), Vec::new(), &bytes[..]);
        for piece in pieces.iter().cycle() {
            let space = deframer.space();
            let len = rest.len().min(space.len()).min(*piece);
            space[..len].copy_from_slice(&rest[..len]);
            deframer.handle_read(len);
            rest = &rest[len..];
            while let Some(span) = deframer.poll_frame().unwrap() {
                received.push(span.of(deframer.bytes()).to_vec());
            }
            if rest.is_empty() {
                break;
            }
        }
        let whole: Vec<_> = sent.into_iter().filter(|frame| !frame.is_empty()).collect();
        prop_assert!(received == whole, "{} frames became {}", whole.len(), received.len());
    }

    #[test]
    fn the_fuzz_bodies_stand_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        stream::fuzz(&bytes);
        vde::fuzz(&bytes);
        let mut request = request_v3(0, 0, "/", "");
        for (place, byte) in bytes.iter().take(8).enumerate() {
            let at = usize::from(*byte) % request.len();
            request[at] = bytes[bytes.len() - 1 - place];
        }
        vde::fuzz(&request);
    }
}

#[test]
fn a_vxlan_header_is_that_of_the_rfc() {
    let header = vxlan::header(0x12_3456);
    assert_eq!(header, [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
    assert_eq!(vxlan::network_of(&header), Some(0x12_3456));
    assert_eq!(vxlan::network_of(&header[..7]), None);
    assert_eq!(vxlan::network_of(&[0; 8]), None, "no network");
}

#[test]
fn a_tag_is_read_only_where_a_whole_header_is_behind_it() {
    let tag = tag::Tag::new(0xfff1);
    assert_eq!(
        (tag.segment(), tag.to_bytes()),
        (0xff1, [0x81, 0, 0x0f, 0xf1])
    );
    let frame = [&[0; 12][..], &tag.to_bytes(), &[8, 0]].concat();
    assert_eq!(tag::read(&frame), Some(tag));
    assert_eq!(tag::read(&frame[..17]), None);
    assert_eq!(tag::read(&[0; 60]), None);
}

proptest! {
    #[test]
    fn a_vxlan_header_survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        vxlan::fuzz(&bytes);
    }
}
