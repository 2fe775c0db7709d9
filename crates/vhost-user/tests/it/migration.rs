//! Dirty pages, and the device's state.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use hotbed_vhost_user::virtio_queue::desc::RawDescriptor;
use hotbed_vhost_user::virtio_queue::desc::split::Descriptor;
use vhost::vhost_user::VhostUserFrontend as _;
use vhost::vhost_user::message::{VhostTransferStateDirection, VhostTransferStatePhase};
use vhost::{VhostBackend as _, VhostUserDirtyLogRegion};

use crate::support::{Echo, FEATURES, GUEST, Guest, LEN, PROTOCOL, connect, memory_file, serve};

const LOG_ALL: u64 = 1 << 26;

#[test]
fn pages_that_are_written_are_logged_and_no_others() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    let mut log = memory_file(4096);
    let region = VhostUserDirtyLogRegion {
        mmap_size: 4096,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    frontend.set_log_base(0, Some(region)).expect("a log");
    let features = FEATURES & !(1 << 29) | PROTOCOL;
    frontend.set_features(features | LOG_ALL).expect("features");
    guest.start(&frontend, 0, &queue);
    frontend.set_vring_enable(0, true).expect("enabled");
    let (text, room) = (GUEST + LEN / 4, GUEST + LEN / 4 + 0x5ffe);
    let chain = [
        RawDescriptor::from(Descriptor::new(text, 4, 1, 1)),
        RawDescriptor::from(Descriptor::new(room, 4, 2, 0)),
    ];
    queue.add_desc_chains(&chain, 0).expect("a chain");
    guest.kick.write(1).expect("a kick");
    guest.wait();

    let mut bits = [0; 4096];
    log.read_exact(&mut bits).expect("the log");
    let mut pages: Vec<u64> = (0..4096 * 8)
        .filter(|page: &usize| bits[page / 8] & (1 << (page % 8)) != 0)
        .map(|page| page as u64)
        .collect();
    pages.dedup();
    let used = queue.used_addr().0 / 4096;
    assert_eq!(pages, [used, room / 4096, room / 4096 + 1]);

    frontend
        .set_features(features)
        .expect("features without the log");
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn log_that_is_longer_than_its_file_is_refused() {
    let guest = Guest::new();
    let (stream, back_end) = serve(Echo::default());
    let frontend = connect(stream, &guest);
    let log = memory_file(4095);
    let region = VhostUserDirtyLogRegion {
        mmap_size: 4096,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    frontend
        .set_log_base(0, Some(region))
        .expect_err("no answer");
    back_end
        .join()
        .expect("no panic")
        .1
        .expect_err("a short file");
}

fn transfer(
    device: Echo,
    direction: VhostTransferStateDirection,
    state: &[u8],
) -> (Echo, Option<Vec<u8>>) {
    let guest = Guest::new();
    let (stream, back_end) = serve(device);
    let frontend = connect(stream, &guest);
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let saves = direction == VhostTransferStateDirection::SAVE;
    let (theirs, ours): (OwnedFd, OwnedFd) = if saves {
        (writer, reader)
    } else {
        (reader, writer)
    };
    let mut ours = std::fs::File::from(ours);
    let begun = frontend.set_device_state_fd(direction, VhostTransferStatePhase::STOPPED, theirs);
    let mut saved = Vec::new();
    if begun.is_ok() && saves {
        ours.read_to_end(&mut saved).expect("a state");
    } else {
        ours.write_all(state).expect("a state");
        drop(ours);
    }
    let ended = frontend.check_device_state();
    drop(frontend);
    let (device, outcome) = back_end.join().expect("no panic");
    outcome.expect("a clean end");
    (device, ended.ok().map(|()| saved))
}

#[test]
fn state_of_a_device_goes_to_another_one() {
    let full = Echo {
        state: Some(b"where it was".to_vec()),
        ..Echo::default()
    };
    let (_, saved) = transfer(full, VhostTransferStateDirection::SAVE, b"");
    let saved = saved.expect("a good end");
    let (device, loaded) = transfer(Echo::default(), VhostTransferStateDirection::LOAD, &saved);
    assert!(loaded.is_some());
    assert_eq!(device.state, Some(b"where it was".to_vec()));
}

#[test]
fn state_that_the_device_does_not_take_is_reported() {
    let (_, loaded) = transfer(Echo::default(), VhostTransferStateDirection::LOAD, b"bad");
    assert!(loaded.is_none());
}

#[test]
fn device_that_cannot_save_is_reported() {
    let (_, saved) = transfer(Echo::default(), VhostTransferStateDirection::SAVE, b"");
    assert!(saved.is_none());
}
