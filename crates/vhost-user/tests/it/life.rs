//! From the first request to the last one.

use hotbed_vhost_user::virtio_queue::desc::RawDescriptor;
use hotbed_vhost_user::virtio_queue::desc::split::Descriptor;
use hotbed_vhost_user::virtio_queue::mock::MockSplitQueue;
use hotbed_vhost_user::vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use vhost::VhostBackend as _;
use vhost::vhost_user::VhostUserFrontend as _;
use vhost::vhost_user::message::VhostUserConfigFlags;

use crate::support::{Echo, FEATURES, GUEST, Guest, LEN, PROTOCOL, connect, serve};

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Puts a chain into a queue: bytes to echo and room for as many.
fn offer(guest: &Guest, queue: &MockSplitQueue<'_, GuestMemoryMmap>, bytes: &[u8]) -> GuestAddress {
    let (text, room) = (
        GuestAddress(GUEST + LEN / 4),
        GuestAddress(GUEST + LEN / 4 + 0x1000),
    );
    guest.memory.write_slice(bytes, text).expect("memory");
    let len = u32::try_from(bytes.len()).expect("few bytes");
    let chain = [
        RawDescriptor::from(Descriptor::new(text.0, len, NEXT, 1)),
        RawDescriptor::from(Descriptor::new(room.0, len, WRITE, 0)),
    ];
    queue.add_desc_chains(&chain, 0).expect("a chain");
    room
}

fn read(guest: &Guest, from: GuestAddress, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    guest.memory.read_slice(&mut bytes, from).expect("memory");
    bytes
}

#[test]
fn queue_moves_data_after_the_handshake_and_stops_where_it_was() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    assert_eq!(frontend.get_queue_num().expect("a number"), 2);
    guest.start(&frontend, 0, &queue);
    frontend.set_vring_enable(0, true).expect("enabled");

    let room = offer(&guest, &queue, b"to the device and back");
    guest.kick.write(1).expect("a kick");
    guest.wait();
    assert_eq!(read(&guest, room, 22), b"to the device and back");
    assert_eq!(queue.used().idx().load(), 1);

    assert_eq!(frontend.get_vring_base(0).expect("a position"), 1);
    drop(frontend);
    let (device, outcome) = back_end.join().expect("no panic");
    outcome.expect("a clean end");
    assert_eq!(device.changes, [(0, true), (0, false)]);
    assert_eq!(device.features, FEATURES & !(1 << 29));
}

#[test]
fn buffers_that_are_there_before_the_kick_are_found() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    let room = offer(&guest, &queue, b"early");
    guest.start(&frontend, 0, &queue);
    frontend.set_vring_enable(0, true).expect("enabled");
    guest.wait();
    assert_eq!(read(&guest, room, 5), b"early");
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn disabled_queue_is_left_alone_until_it_is_enabled() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    guest.start(&frontend, 0, &queue);
    offer(&guest, &queue, b"later");
    guest.kick.write(1).expect("a kick");
    frontend
        .get_vring_base(1)
        .expect("an answer, so that the kick was seen");
    assert_eq!(queue.used().idx().load(), 0);
    frontend.set_vring_enable(0, true).expect("enabled");
    guest.wait();
    assert_eq!(queue.used().idx().load(), 1);
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn next_front_end_goes_on_where_the_last_one_was() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    guest.start(&frontend, 0, &queue);
    frontend.set_vring_enable(0, true).expect("enabled");
    offer(&guest, &queue, b"one");
    guest.kick.write(1).expect("a kick");
    guest.wait();
    drop(frontend); // Without a word, as one that was killed.
    let (device, outcome) = back_end.join().expect("no panic");
    outcome.expect("a hang-up is no error");
    assert_eq!(device.changes, [(0, true), (0, false)]);

    let (stream, back_end) = serve(device);
    let mut frontend = connect(stream, &guest);
    let addresses = crate::support::addresses(&queue);
    frontend.set_vring_num(0, 16).expect("a size");
    frontend.set_vring_base(0, 1).expect("a position");
    frontend.set_vring_addr(0, &addresses).expect("addresses");
    frontend.set_vring_call(0, &guest.call).expect("a call");
    frontend.set_vring_kick(0, &guest.kick).expect("a kick");
    frontend.set_vring_enable(0, true).expect("enabled");
    let chain = [RawDescriptor::from(Descriptor::new(
        GUEST + LEN / 4,
        3,
        WRITE,
        0,
    ))];
    queue.add_desc_chains(&chain, 4).expect("a chain");
    guest.kick.write(1).expect("a kick");
    guest.wait();
    assert_eq!(queue.used().idx().load(), 2, "the used ring goes on, too");
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn configuration_space_is_read_and_written() {
    let guest = Guest::new();
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    let flags = VhostUserConfigFlags::WRITABLE;
    let (_, data) = frontend
        .get_config(4, 3, flags, &[0; 3])
        .expect("a part of it");
    assert_eq!(data, [4, 5, 6]);
    frontend.set_config(8, flags, b"!").expect("written");
    frontend.get_queue_num().expect("an answer");
    drop(frontend);
    let (device, outcome) = back_end.join().expect("no panic");
    outcome.expect("a clean end");
    assert_eq!(device.config, b"\x08!");
}

#[test]
fn reset_stops_everything_and_keeps_the_connection() {
    let guest = Guest::new();
    let queue = guest.queue(1);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    guest.start(&frontend, 1, &queue);
    frontend.set_vring_enable(1, true).expect("enabled");
    frontend.reset_device().expect("a reset");
    frontend
        .set_features(FEATURES | PROTOCOL)
        .expect("features again");
    drop(frontend);
    let (device, outcome) = back_end.join().expect("no panic");
    outcome.expect("a clean end");
    assert_eq!(
        (device.resets, device.changes),
        (1, vec![(1, true), (1, false)])
    );
}

#[test]
fn memory_is_replaced_under_a_running_queue() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let mut frontend = connect(stream, &guest);
    guest.start(&frontend, 0, &queue);
    frontend.set_vring_enable(0, true).expect("enabled");
    frontend
        .set_mem_table(&[guest.region()])
        .expect("memory again");
    let room = offer(&guest, &queue, b"still there");
    guest.kick.write(1).expect("a kick");
    guest.wait();
    assert_eq!(read(&guest, room, 11), b"still there");
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}

#[test]
fn front_end_without_protocol_features_has_its_queues_enabled() {
    let guest = Guest::new();
    let queue = guest.queue(0);
    let (stream, back_end) = serve(Echo::default());
    let frontend = vhost::vhost_user::Frontend::from_stream(stream, 2);
    frontend.set_owner().expect("an owner");
    frontend.get_features().expect("features");
    frontend
        .set_features(FEATURES & !(1 << 29))
        .expect("features");
    frontend.set_mem_table(&[guest.region()]).expect("memory");
    let room = offer(&guest, &queue, b"old");
    guest.start(&frontend, 0, &queue);
    guest.wait();
    assert_eq!(read(&guest, room, 3), b"old");
    drop(frontend);
    back_end.join().expect("no panic").1.expect("a clean end");
}
