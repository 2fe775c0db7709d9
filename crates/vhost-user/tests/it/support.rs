//! A device that echoes, a back end on a thread, and a guest's memory with queues in it.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use hotbed_vhost_user::virtio_queue::QueueT as _;
use hotbed_vhost_user::virtio_queue::mock::MockSplitQueue;
use hotbed_vhost_user::vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
};
use hotbed_vhost_user::{Connection, Device, Error, Event, Memory, Poller};
use rustix::event::epoll;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use crate::sys::event;

/// How long a test waits for something that will happen.
const PATIENCE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// `VIRTIO_F_VERSION_1` and `VIRTIO_RING_F_EVENT_IDX`.
pub(crate) const FEATURES: u64 = 1 << 32 | 1 << 29;

/// The feature that the connection adds.
pub(crate) const PROTOCOL: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Where the guest's memory begins, and where the front end says that it has it.
pub(crate) const GUEST: u64 = 0x10_0000;
pub(crate) const USER: u64 = 0x7f00_0000_0000;
pub(crate) const LEN: u64 = 0x10_0000;

/// A device that gives back what it is sent, in the same chain.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) features: u64,
    pub(crate) config: Vec<u8>,
    pub(crate) changes: Vec<(usize, bool)>,
    pub(crate) resets: u32,
    pub(crate) state: Option<Vec<u8>>,
}

impl Device for Echo {
    fn features(&self) -> u64 {
        FEATURES
    }
    fn queue_count(&self) -> usize {
        2
    }
    fn queue_size_max(&self) -> u16 {
        64
    }
    fn set_driver_features(&mut self, features: u64) {
        self.features = features;
    }
    fn read_config(&self, offset: u32, data: &mut [u8]) {
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = u8::try_from((offset as usize + index) % 256).expect("a byte");
        }
    }
    fn write_config(&mut self, offset: u32, data: &[u8]) {
        self.config
            .push(u8::try_from(offset).expect("a small offset"));
        self.config.extend(data);
    }
    fn queue_changed(&mut self, queue: usize, is_running: bool) {
        self.changes.push((queue, is_running));
    }
    fn reset(&mut self) {
        self.resets += 1;
    }
    fn has_state(&self) -> bool {
        true
    }
    fn save(&mut self) -> io::Result<Vec<u8>> {
        self.state.clone().ok_or(io::ErrorKind::NotFound.into())
    }
    fn load(&mut self, state: &[u8]) -> io::Result<()> {
        if state == b"bad" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.state = Some(state.to_vec());
        Ok(())
    }
}

/// What became of a back end, and its device.
pub(crate) type Outcome = (Echo, Result<(), Error>);

/// Serves the other end of the returned stream on a thread, until that ends.
pub(crate) fn serve(device: Echo) -> (UnixStream, JoinHandle<Outcome>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let thread = std::thread::spawn(move || {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
        let epoll = Arc::new(epoll);
        let poller = Poller::new(Arc::clone(&epoll), 100);
        let mut connection = Connection::new(ours, device, poller).expect("a connection");
        let outcome = run(&mut connection, &epoll);
        (connection.into_device(), outcome)
    });
    (theirs, thread)
}

fn run(connection: &mut Connection<Echo>, epoll: &OwnedFd) -> Result<(), Error> {
    loop {
        let mut events = [MaybeUninit::uninit(); 8];
        let (events, _) = epoll::wait(epoll, &mut events, Some(&PATIENCE)).expect("epoll");
        assert!(!events.is_empty(), "nothing happens");
        for event in events {
            match connection.handle(event.data.u64())? {
                Event::Closed => return Ok(()),
                Event::Nothing => {}
                Event::Changed | Event::Kick(_) => echo(connection),
            }
        }
    }
}

/// Gives every chain back with its own bytes in its writable part.
fn echo(connection: &mut Connection<Echo>) {
    let parts = connection.parts();
    let memory: &Memory = parts.memory;
    for ring in parts.rings.iter_mut().filter(|ring| ring.is_running()) {
        let mut has_used = false;
        while let Some(chain) = ring.queue().pop_descriptor_chain(memory) {
            let head = chain.head_index();
            let mut reader = chain.clone().reader(memory).expect("readable buffers");
            let mut writer = chain.writer(memory).expect("writable buffers");
            let len = io::copy(&mut reader, &mut writer).expect("as many bytes");
            let len = u32::try_from(len).expect("few bytes");
            ring.queue().add_used(memory, head, len).expect("a ring");
            has_used = true;
        }
        if has_used {
            ring.notify(memory).expect("a ring");
        }
    }
}

/// A guest with memory in a file, as a VMM has it.
pub(crate) struct Guest {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) file: File,
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    /// The same as `call`, to wait for.
    interrupt: OwnedFd,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let file = memory_file(LEN);
        let range = (
            GuestAddress(GUEST),
            usize::try_from(LEN).expect("a length"),
            Some(FileOffset::new(file.try_clone().expect("a file"), 0)),
        );
        let interrupt = new_event();
        Self {
            memory: GuestMemoryMmap::from_ranges_with_files([range]).expect("a mapping"),
            file,
            kick: event(new_event()),
            call: event(interrupt.try_clone().expect("a descriptor")),
            interrupt,
        }
    }

    /// Makes an empty queue: 0 lies at the beginning, 1 in the middle.
    pub(crate) fn queue(&self, index: usize) -> MockSplitQueue<'_, GuestMemoryMmap> {
        let start = GUEST + index as u64 * LEN / 2;
        MockSplitQueue::create(&self.memory, GuestAddress(start), 16)
    }

    pub(crate) fn region(&self) -> VhostUserMemoryRegionInfo {
        let region = self.memory.iter().next().expect("a region");
        VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: region.len(),
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    /// What a front end does to start a queue, but for enabling it.
    pub(crate) fn start(
        &self,
        frontend: &Frontend,
        index: usize,
        queue: &MockSplitQueue<'_, GuestMemoryMmap>,
    ) {
        frontend.set_vring_num(index, 16).expect("a size");
        frontend.set_vring_base(index, 0).expect("a position");
        frontend
            .set_vring_addr(index, &addresses(queue))
            .expect("addresses");
        frontend.set_vring_call(index, &self.call).expect("a call");
        frontend.set_vring_kick(index, &self.kick).expect("a kick");
    }

    /// Waits for an interrupt.
    pub(crate) fn wait(&self) {
        let mut call = [PollFd::new(&self.interrupt, PollFlags::IN)];
        let ready = poll(&mut call, Some(&PATIENCE)).expect("poll");
        assert_eq!(ready, 1, "no interrupt came");
        rustix::io::read(&self.interrupt, &mut [0_u8; 8]).expect("an interrupt");
    }
}

pub(crate) fn addresses(queue: &MockSplitQueue<'_, GuestMemoryMmap>) -> VringConfigData {
    VringConfigData {
        queue_max_size: 16,
        queue_size: 16,
        flags: 0,
        desc_table_addr: queue.desc_table_addr().0 - GUEST + USER,
        used_ring_addr: queue.used_addr().0 - GUEST + USER,
        avail_ring_addr: queue.avail_addr().0 - GUEST + USER,
        log_addr: None,
    }
}

/// A front end that has negotiated everything that is offered, and sent its memory.
pub(crate) fn connect(stream: UnixStream, guest: &Guest) -> Frontend {
    let mut frontend = Frontend::from_stream(stream, 2);
    frontend.set_owner().expect("an owner");
    let features = frontend.get_features().expect("features");
    let protocol = frontend.get_protocol_features().expect("protocol features");
    assert!(protocol.contains(VhostUserProtocolFeatures::REPLY_ACK));
    frontend
        .set_protocol_features(protocol)
        .expect("protocol features");
    frontend.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
    let features = features & !VhostUserVirtioFeatures::LOG_ALL.bits() & !(1 << 29);
    frontend.set_features(features).expect("features");
    frontend.set_mem_table(&[guest.region()]).expect("memory");
    frontend
}

/// A file in memory that is so long.
pub(crate) fn memory_file(len: u64) -> File {
    let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC);
    let file = File::from(file.expect("a file in memory"));
    file.set_len(len).expect("a length");
    file
}

fn new_event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd")
}
