//! What no front end would send.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use hotbed_vhost_user::Error;
use vhost::vhost_user::VhostUserFrontend as _;
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo};

use crate::early::{GET_FEATURES, GET_VRING_BASE, SET_OWNER, answer, ask, message, words};
use crate::support::{
    Echo, FEATURES, GUEST, Guest, LEN, Outcome, PROTOCOL, USER, addresses, connect, memory_file,
    serve,
};
use crate::sys::event;

fn error_of(back_end: JoinHandle<Outcome>) -> Error {
    let (device, outcome) = back_end.join().expect("no panic");
    let running = device.changes.iter().filter(|(_, is_on)| *is_on).count();
    assert_eq!(running * 2, device.changes.len(), "every queue was stopped");
    outcome.expect_err("this cannot be accepted")
}

/// Sends bytes, and gives the error that ends the connection.
fn refuse(bytes: &[u8]) -> Error {
    let (mut stream, back_end) = serve(Echo::default());
    stream.write_all(bytes).expect("a request");
    error_of(back_end)
}

#[test]
fn message_that_comes_byte_by_byte_is_answered_when_it_is_whole() {
    let (mut stream, back_end) = serve(Echo::default());
    let request = message(GET_FEATURES, 0, &[]);
    for byte in &request {
        stream.write_all(&[*byte]).expect("a byte");
    }
    assert_eq!(answer(&mut stream, GET_FEATURES) & FEATURES, FEATURES);
    for byte in message(GET_VRING_BASE, 0, &words(&[1, 0])) {
        stream.write_all(&[byte]).expect("a byte");
    }
    assert_eq!(answer(&mut stream, GET_VRING_BASE), 1, "queue 1 is at 0");
    drop(stream);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn hang_up_in_the_middle_of_a_message_is_an_error() {
    let request = message(GET_VRING_BASE, 0, &words(&[1, 0]));
    for len in 1..request.len() {
        let (mut stream, back_end) = serve(Echo::default());
        stream.write_all(&request[..len]).expect("a part");
        drop(stream);
        let error = error_of(back_end);
        assert!(matches!(error, Error::HalfMessage), "{len}: {error}");
    }
}

#[test]
fn hang_up_between_messages_is_none() {
    let (mut stream, back_end) = serve(Echo::default());
    stream
        .write_all(&message(SET_OWNER, 0, &[]))
        .expect("a request");
    drop(stream);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn garbage_ends_the_connection() {
    let zeros = refuse(&[0; 64]);
    assert!(matches!(zeros, Error::Malformed(_)), "{zeros}");
    let mut long = message(SET_OWNER, 0, &[]);
    long[8..12].copy_from_slice(&0x1001_u32.to_ne_bytes());
    assert!(matches!(refuse(&long), Error::Malformed(_)));
    for code in [0, 7, 21, 99, u32::MAX] {
        refuse(&message(code, 0, &[0; 16]));
    }
}

#[test]
fn requests_that_are_too_short_or_too_long_end_the_connection() {
    for code in 1..=44 {
        if code == 43 {
            continue; // CHECK_DEVICE_STATE is answered whatever comes with it.
        }
        refuse(&message(code, 0, &[0xff; 3]));
        refuse(&message(code, 0, &[0xff; 4096]));
    }
}

#[test]
fn front_end_that_reads_no_answers_is_dropped() {
    let (mut stream, back_end) = serve(Echo::default());
    let many = message(GET_FEATURES, 0, &[]).repeat(1000);
    while stream.write_all(&many).is_ok() {}
    let error = error_of(back_end);
    assert!(matches!(error, Error::Unread), "{error}");
}

#[test]
fn queue_that_is_not_there_is_refused_in_every_request() {
    let guest = Guest::new();
    let requests: [&dyn Fn(&mut UnixStream); 5] = [
        &|stream| drop(stream.write_all(&message(8, 0, &words(&[2, 16])))),
        &|stream| drop(stream.write_all(&message(10, 0, &words(&[2, 0])))),
        &|stream| drop(stream.write_all(&message(11, 0, &words(&[2, 0])))),
        &|stream| drop(stream.write_all(&message(12, 0, &words(&[0x102, 0])))),
        &|stream| drop(stream.write_all(&message(13, 0, &words(&[0x1ff, 0])))),
    ];
    for request in requests {
        let (mut stream, back_end) = serve(Echo::default());
        ask(&mut stream, GET_FEATURES, 0, &[]);
        request(&mut stream);
        let error = error_of(back_end);
        assert!(matches!(error, Error::Request { .. }), "{error}");
    }
    drop(guest);
}

#[test]
fn size_of_a_queue_is_a_power_of_two_up_to_the_devices_limit() {
    for size in [0, 3, 65, 128, 0x1_0000] {
        let error = refuse(&message(8, 0, &words(&[0, size])));
        assert!(error.to_string().contains("SET_VRING_NUM"), "{error}");
    }
}

#[test]
fn position_of_a_queue_has_sixteen_bits() {
    refuse(&message(10, 0, &words(&[0, 0x1_0000])));
}

#[test]
fn queue_outside_of_the_memory_is_refused() {
    let guest = Guest::new();
    let good = addresses(&guest.queue(0));
    let mut all = [good; 5];
    all[0].desc_table_addr = USER - 16;
    all[1].used_ring_addr = USER + LEN;
    all[2].avail_ring_addr = u64::MAX - 1;
    all[3].desc_table_addr = USER + LEN - 16; // Begins inside, and ends outside.
    all[4].used_ring_addr = USER + LEN - 4;
    for addresses in all {
        let (stream, back_end) = serve(Echo::default());
        let frontend = connect(stream, &guest);
        let _ = frontend.set_vring_num(0, 16);
        let _ = frontend.set_vring_addr(0, &addresses);
        let _ = frontend.set_vring_kick(0, &guest.kick);
        drop(frontend);
        let error = error_of(back_end);
        assert!(matches!(error, Error::Request { .. }), "{error}");
    }
}

#[test]
fn memory_that_is_not_there_or_overlaps_is_refused() {
    let guest = Guest::new();
    let good = guest.region();
    let tables: [&[VhostUserMemoryRegionInfo]; 4] = [
        &[VhostUserMemoryRegionInfo {
            memory_size: LEN + 1,
            ..good
        }],
        &[VhostUserMemoryRegionInfo {
            mmap_offset: 4096,
            ..good
        }],
        &[VhostUserMemoryRegionInfo {
            guest_phys_addr: u64::MAX - 1,
            ..good
        }],
        &[
            good,
            VhostUserMemoryRegionInfo {
                guest_phys_addr: GUEST + 4096,
                ..good
            },
        ],
    ];
    for table in tables {
        let (stream, back_end) = serve(Echo::default());
        let frontend = connect(stream, &guest);
        let _ = frontend.set_mem_table(table);
        drop(frontend);
        let error = error_of(back_end);
        assert!(error.to_string().contains("SET_MEM_TABLE"), "{error}");
    }
}

#[test]
fn memory_that_moves_away_from_a_running_queue_is_refused() {
    let guest = Guest::new();
    let queue = guest.queue(1);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    guest.start(&frontend, 1, &queue);
    frontend.set_vring_enable(1, true).expect("enabled");
    let half = VhostUserMemoryRegionInfo {
        memory_size: LEN / 2,
        ..guest.region()
    };
    let _ = frontend.set_mem_table(&[half]);
    drop(frontend);
    error_of(back_end);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    refuse(&message(2, 0, &(1_u64 << 50).to_ne_bytes()));
    refuse(&message(16, 0, &(1_u64 << 12).to_ne_bytes()));
    refuse(&message(16, 0, &u64::MAX.to_ne_bytes()));
}

#[test]
fn descriptor_that_cannot_be_waited_for_is_refused_and_a_full_one_does_not_block() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let frontend = connect(stream, &guest);
    let file = memory_file(8);
    let not_pollable = event(file.into());
    let _ = frontend.set_vring_kick(0, &not_pollable);
    drop(frontend);
    error_of(back_end);

    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    let full = vmm_sys_util::eventfd::EventFd::new(0).expect("an eventfd that blocks");
    full.write(u64::MAX - 1).expect("all that it takes");
    guest.start(&frontend, 0, &queue);
    frontend.set_vring_call(0, &full).expect("a call");
    frontend
        .set_vring_enable(0, true)
        .expect("enabled, and the driver interrupted");
    frontend.get_vring_base(0).expect("an answer");
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn end_of_a_kick_pipe_is_not_waited_for() {
    let guest = Guest::new();
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    frontend.set_vring_kick(0, &event(reader)).expect("a kick");
    drop(writer);
    for _ in 0..100 {
        frontend.get_queue_num().expect("an answer");
    }
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn features_of_the_connection_may_be_chosen() {
    let (mut stream, back_end) = serve(Echo::default());
    let all = ask(&mut stream, GET_FEATURES, 0, &[]);
    assert_eq!(all, FEATURES | PROTOCOL | 1 << 26);
    stream
        .write_all(&message(2, 0, &all.to_ne_bytes()))
        .expect("a request");
    ask(&mut stream, GET_FEATURES, 0, &[]);
    drop(stream);
    back_end.join().expect("no panic").1.expect("a clean end");
}
