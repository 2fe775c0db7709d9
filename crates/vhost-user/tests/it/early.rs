//! What front ends send although they should not: `SET_VRING_ENABLE` before any feature is chosen (QEMU's virtio-net), and a
//! `SET_MEM_TABLE` with room for more regions than it has (User-mode Linux).

use std::fs::File;
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hotbed_vhost_user::Error;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::support::{Echo, GUEST, Guest, LEN, USER, serve};

pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const GET_VRING_BASE: u32 = 11;

pub(crate) const NEED_REPLY: u32 = 8;

/// A message with numbers in its body.
pub(crate) fn message(code: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).expect("a short body");
    let head = [code, 1 | flags, size];
    let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(body);
    bytes
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Sends a request and reads an answer with a body of 8 bytes.
pub(crate) fn ask(stream: &mut UnixStream, code: u32, flags: u32, body: &[u8]) -> u64 {
    stream
        .write_all(&message(code, flags, body))
        .expect("a request");
    answer(stream, code)
}

pub(crate) fn answer(stream: &mut UnixStream, code: u32) -> u64 {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[..4], code.to_ne_bytes());
    assert_eq!(answer[4..8], 5_u32.to_ne_bytes(), "version 1, an answer");
    u64::from_ne_bytes(answer[12..].try_into().expect("8 bytes"))
}

/// Negotiates as QEMU does before it resets the device: protocol features, but no features.
fn begin(stream: &mut UnixStream) {
    stream
        .write_all(&message(SET_OWNER, 0, &[]))
        .expect("a request");
    ask(stream, GET_FEATURES, 0, &[]);
    let (mq, reply_ack) = (1_u64, 8_u64);
    stream
        .write_all(&message(
            SET_PROTOCOL_FEATURES,
            0,
            &(mq | reply_ack).to_ne_bytes(),
        ))
        .expect("a request");
}

#[test]
fn early_enable_that_wants_an_answer_gets_one() {
    let (mut stream, back_end) = serve(Echo::default());
    begin(&mut stream);
    for on in [1, 0, 1] {
        let done = ask(&mut stream, SET_VRING_ENABLE, NEED_REPLY, &words(&[1, on]));
        assert_eq!(done, 0);
    }
    drop(stream);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn early_enable_that_wants_no_answer_gets_none() {
    let (mut stream, back_end) = serve(Echo::default());
    begin(&mut stream);
    let quiet = message(SET_VRING_ENABLE, 0, &words(&[0, 1]));
    stream.write_all(&quiet).expect("a request");
    assert_eq!(
        ask(&mut stream, GET_QUEUE_NUM, 0, &[]),
        2,
        "the next answer is to the next request"
    );
    drop(stream);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn early_enable_of_a_queue_that_is_not_there_ends_the_connection() {
    for index in [2, 255, u32::MAX] {
        let (mut stream, back_end) = serve(Echo::default());
        begin(&mut stream);
        let wrong = message(SET_VRING_ENABLE, NEED_REPLY, &words(&[index, 1]));
        stream.write_all(&wrong).expect("a request");
        let (_, outcome) = back_end.join().expect("no panic");
        let error = outcome.expect_err("there are two queues").to_string();
        assert!(error.contains("SET_VRING_ENABLE"), "{error}");
    }
}

/// A memory table of one region, with room for two.
fn padded_table(count: u32) -> Vec<u8> {
    let mut body = words(&[count, 0]);
    for number in [GUEST, LEN, USER, 0, 0, 0, 0, 0] {
        body.extend(number.to_ne_bytes());
    }
    message(5, NEED_REPLY, &body)
}

/// Sends a message, with descriptors of this file.
fn send(stream: &UnixStream, message: &[u8], files: &[&File]) {
    let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::NOSIGNAL;
    let sent = sendmsg(stream, &[IoSlice::new(message)], &mut control, flags);
    assert_eq!(sent.expect("a request"), message.len());
}

#[test]
fn memory_table_with_room_for_more_is_taken() {
    let guest = Guest::new();
    let (mut stream, back_end) = serve(Echo::default());
    begin(&mut stream);
    send(&stream, &padded_table(1), &[&guest.file]);
    assert_eq!(answer(&mut stream, 5), 0);
    // The queue lies in that memory: it would not start without.
    let mut body = words(&[0, 0]);
    for address in [USER, USER + 0x1000, USER + 0x2000, 0] {
        body.extend(address.to_ne_bytes());
    }
    assert_eq!(ask(&mut stream, 9, NEED_REPLY, &body), 0);
    drop(stream);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn memory_table_with_room_for_more_and_a_wrong_number_of_files_or_regions_is_refused() {
    let guest = Guest::new();
    let cases: [(u32, &[&File]); 3] = [(0, &[&guest.file]), (1, &[]), (1, &[&guest.file; 2])];
    for (count, files) in cases {
        let (mut stream, back_end) = serve(Echo::default());
        begin(&mut stream);
        send(&stream, &padded_table(count), files);
        drop(stream);
        let error = back_end.join().expect("no panic").1;
        assert!(matches!(error, Err(Error::Malformed(_))), "{error:?}");
    }
}
