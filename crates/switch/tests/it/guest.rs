//! A guest that shares its memory: a network driver and a vhost-user front end, both small and by hand.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{
    Bytes as _, FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap,
    GuestMemoryRegion as _,
};
use vmm_sys_util::eventfd::EventFd;

use crate::sys;

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// Feature bits, as virtio has them.
pub(crate) const CSUM: u64 = 1 << 0;
pub(crate) const GUEST_CSUM: u64 = 1 << 1;
pub(crate) const GUEST_TSO4: u64 = 1 << 7;
pub(crate) const HOST_TSO4: u64 = 1 << 11;
pub(crate) const MRG_RXBUF: u64 = 1 << 15;
pub(crate) const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
/// What the connection adds.
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Where the guest's memory begins, and where the front end says that it has it.
const GUEST: u64 = 0x10_0000;
const USER: u64 = 0x7f00_0000_0000;

pub(crate) const HEADER_LEN: usize = 12;
/// A header with nothing left to do.
pub(crate) const PLAIN: [u8; HEADER_LEN] = [0; HEADER_LEN];

pub(crate) const RECEIVE: usize = 0;
pub(crate) const TRANSMIT: usize = 1;

/// What a guest is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) features: u64,
    pub(crate) ring: u16,
    pub(crate) receive_len: u32,
    pub(crate) transmit_len: u32,
    /// How many buffers there are for frames at first.
    pub(crate) posted: u16,
    /// The driver knows virtio 0.9 alone.
    pub(crate) is_old: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            features: CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4 | MRG_RXBUF | EVENT_IDX,
            ring: 64,
            receive_len: 2048,
            transmit_len: 66_000,
            posted: 64,
            is_old: false,
        }
    }
}

/// A guest. Dropping it hangs up.
pub(crate) struct Guest {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) frontend: Frontend,
    pub(crate) rings: [Ring; 2],
    has_event_index: bool,
    features: u64,
    _file: File,
}

/// A queue as its driver has it.
pub(crate) struct Ring {
    size: u16,
    base: u64,
    buffers: u64,
    buffer_len: u32,
    available: u16,
    used: u16,
    /// How much was available when the device was woken last, or need not have been.
    kicked: u16,
    /// Where the device begins.
    position: u16,
    kick: EventFd,
    call: EventFd,
    /// The same as `call`, to wait for.
    interrupt: OwnedFd,
}

impl Ring {
    fn new(size: u16, base: u64, buffer_len: u32) -> Ring {
        let interrupt = event();
        Ring {
            size,
            base,
            buffers: base + 0x1_0000,
            buffer_len,
            available: 0,
            used: 0,
            kicked: 0,
            position: 0,
            kick: sys::event(event()),
            call: sys::event(interrupt.try_clone().unwrap()),
            interrupt,
        }
    }

    fn len(size: u16, buffer_len: u32) -> u64 {
        0x1_0000 + (u64::from(size) * u64::from(buffer_len)).next_multiple_of(0x1000)
    }

    fn descriptor(&self, index: u16) -> GuestAddress {
        GuestAddress(self.base + 16 * u64::from(index))
    }

    fn avail(&self, offset: u64) -> GuestAddress {
        GuestAddress(self.base + 0x8000 + offset)
    }

    fn used_at(&self, offset: u64) -> GuestAddress {
        GuestAddress(self.base + 0xc000 + offset)
    }

    pub(crate) fn buffer(&self, index: u16) -> GuestAddress {
        GuestAddress(self.buffers + u64::from(index) * u64::from(self.buffer_len))
    }
}

impl Guest {
    /// Connects to the socket of a switch, and starts the card.
    pub(crate) fn connect(path: &std::path::Path, options: Options) -> Guest {
        Guest::new(
            UnixStream::connect(path).expect("the switch listens"),
            options,
        )
    }

    /// Talks to a switch, and starts the card.
    pub(crate) fn new(stream: UnixStream, options: Options) -> Guest {
        let lens = [options.receive_len, options.transmit_len];
        let [receive_len, transmit_len] = lens.map(|len| Ring::len(options.ring, len));
        let len = receive_len + transmit_len;
        let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.expect("a file in memory"));
        file.set_len(len).expect("a length");
        let range = (
            GuestAddress(GUEST),
            usize::try_from(len).unwrap(),
            Some(FileOffset::new(file.try_clone().unwrap(), 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).expect("a mapping");
        let rings = [
            Ring::new(options.ring, GUEST, options.receive_len),
            Ring::new(options.ring, GUEST + receive_len, options.transmit_len),
        ];
        let mut frontend = Frontend::from_stream(stream, 2);
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(protocol).unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::REPLY_ACK));
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let version = if options.is_old { 0 } else { VERSION_1 };
        let wanted = options.features | version | PROTOCOL_FEATURES;
        assert_eq!(wanted & !offered, 0, "the card has what is wanted of it");
        frontend.set_features(wanted).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: len,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        frontend.set_mem_table(&[region]).unwrap();
        let mut guest = Guest {
            memory,
            frontend,
            rings,
            has_event_index: options.features & EVENT_IDX != 0,
            features: wanted,
            _file: file,
        };
        for index in 0..options.posted.min(options.ring) {
            guest.post(index);
        }
        guest.start();
        guest
    }

    /// Starts both queues.
    pub(crate) fn start(&mut self) {
        for (index, ring) in self.rings.iter().enumerate() {
            let user = |address: GuestAddress| address.0 - GUEST + USER;
            let frontend = &mut self.frontend;
            frontend.set_vring_num(index, ring.size).unwrap();
            frontend.set_vring_base(index, ring.position).unwrap();
            let config = VringConfigData {
                queue_max_size: ring.size,
                queue_size: ring.size,
                flags: 0,
                desc_table_addr: user(ring.descriptor(0)),
                used_ring_addr: user(ring.used_at(0)),
                avail_ring_addr: user(ring.avail(0)),
                log_addr: None,
            };
            frontend.set_vring_addr(index, &config).unwrap();
            frontend.set_vring_call(index, &ring.call).unwrap();
            frontend.set_vring_kick(index, &ring.kick).unwrap();
            frontend.set_vring_enable(index, true).unwrap();
        }
    }

    /// Stops both queues.
    pub(crate) fn stop(&mut self) {
        for index in 0..self.rings.len() {
            self.frontend.set_vring_enable(index, false).unwrap();
            let position = self.frontend.get_vring_base(index).unwrap();
            self.rings[index].position = u16::try_from(position).unwrap();
        }
    }

    /// Chooses features beside those that it has.
    pub(crate) fn set_features_again(&mut self, more: u64) {
        self.frontend.set_features(self.features | more).unwrap();
    }

    /// Where the memory ends.
    pub(crate) fn end(&self) -> GuestAddress {
        let region = self.memory.iter().next().unwrap();
        GuestAddress(GUEST + region.len())
    }

    /// Where a queue's used ring is.
    pub(crate) fn used_ring(&self, ring: usize) -> GuestAddress {
        self.rings[ring].used_at(0)
    }

    /// How many chains a queue was given.
    pub(crate) fn available(&self, ring: usize) -> u16 {
        self.rings[ring].available
    }

    /// Says that a queue was given so many chains.
    pub(crate) fn set_available(&mut self, ring: usize, available: u16) {
        let ring = &mut self.rings[ring];
        ring.available = available;
        self.memory
            .store(available, ring.avail(2), Ordering::Release)
            .unwrap();
    }

    /// Puts a descriptor into a queue's table.
    pub(crate) fn describe(
        &self,
        ring: usize,
        index: u16,
        address: GuestAddress,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let at = self.rings[ring].descriptor(index);
        let words = u128::from(address.0)
            | u128::from(len) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        self.memory.write_obj(words, at).unwrap();
    }

    /// Gives the device a chain, which begins with this descriptor; without a kick.
    pub(crate) fn offer(&mut self, ring: usize, index: u16) {
        let ring = &mut self.rings[ring];
        let place = 4 + 2 * u64::from(ring.available % ring.size);
        self.memory.write_obj(index, ring.avail(place)).unwrap();
        ring.available = ring.available.wrapping_add(1);
        self.memory
            .store(ring.available, ring.avail(2), Ordering::Release)
            .unwrap();
    }

    /// Posts buffers for frames, and says so.
    pub(crate) fn post_more(&mut self, indices: std::ops::Range<u16>) {
        for index in indices {
            self.post(index);
        }
        self.kick(RECEIVE);
    }

    /// Posts a buffer for frames.
    fn post(&mut self, index: u16) {
        let ring = &self.rings[RECEIVE];
        self.describe(RECEIVE, index, ring.buffer(index), ring.buffer_len, 2, 0);
        self.offer(RECEIVE, index);
    }

    /// Wakes the device if it wants that, for what it was given since it was asked last.
    pub(crate) fn kick(&mut self, ring: usize) {
        fence(Ordering::SeqCst);
        let ring = &mut self.rings[ring];
        let old = std::mem::replace(&mut ring.kicked, ring.available);
        let wants = if self.has_event_index {
            let at = ring.used_at(4 + 8 * u64::from(ring.size));
            let event: u16 = self.memory.read_obj(at).unwrap();
            let (new, one) = (ring.available, 1_u16);
            new.wrapping_sub(event).wrapping_sub(one) < new.wrapping_sub(old)
        } else {
            self.memory.read_obj::<u16>(ring.used_at(0)).unwrap() & 1 == 0
        };
        if wants {
            ring.kick.write(1).unwrap();
        }
    }

    /// Waits until a buffer for a frame to send is free, if none is; then puts one there, without a kick.
    pub(crate) fn queue(&mut self, header: &[u8], frame: &[u8]) {
        while self.free(TRANSMIT) == 0 {
            self.wait(TRANSMIT, |guest| guest.free(TRANSMIT) > 0);
        }
        let ring = &self.rings[TRANSMIT];
        let index = ring.available % ring.size;
        let at = ring.buffer(index);
        self.memory.write_slice(header, at).unwrap();
        let behind = GuestAddress(at.0 + header.len() as u64);
        self.memory.write_slice(frame, behind).unwrap();
        let len = u32::try_from(header.len() + frame.len()).unwrap();
        assert!(len <= ring.buffer_len);
        self.describe(TRANSMIT, index, at, len, 0, 0);
        self.offer(TRANSMIT, index);
    }

    /// Sends a frame, with this header.
    pub(crate) fn send_with(&mut self, header: &[u8], frame: &[u8]) {
        self.queue(header, frame);
        self.kick(TRANSMIT);
    }

    /// Sends a frame with nothing left to do.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.send_with(&PLAIN, frame);
    }

    /// Takes a buffer that the device has filled; its index, and how much is in it.
    fn take_used(&mut self, ring: usize) -> Option<(u16, u32)> {
        let ring = &mut self.rings[ring];
        let used: u16 = self
            .memory
            .load(ring.used_at(2), Ordering::Acquire)
            .unwrap();
        if used == ring.used {
            return None;
        }
        let place = 4 + 8 * u64::from(ring.used % ring.size);
        let element: u64 = self.memory.read_obj(ring.used_at(place)).unwrap();
        ring.used = ring.used.wrapping_add(1);
        Some((element as u16, (element >> 32) as u32))
    }

    /// Takes a frame and its header, if there is one; the buffers are given back.
    pub(crate) fn poll(&mut self) -> Option<([u8; HEADER_LEN], Vec<u8>)> {
        let (first, len) = self.take_used(RECEIVE)?;
        let mut bytes = vec![0; len as usize];
        let at = self.rings[RECEIVE].buffer(first);
        self.memory.read_slice(&mut bytes, at).unwrap();
        let mut indices = vec![first];
        let count = u16::from_le_bytes([bytes[10], bytes[11]]);
        for _ in 1..count {
            let (index, len) = self.take_used(RECEIVE).expect("all buffers of a frame");
            let start = bytes.len();
            bytes.resize(start + len as usize, 0);
            let at = self.rings[RECEIVE].buffer(index);
            self.memory.read_slice(&mut bytes[start..], at).unwrap();
            indices.push(index);
        }
        for index in indices {
            self.post(index);
        }
        self.kick(RECEIVE);
        let frame = bytes.split_off(HEADER_LEN);
        Some((bytes.try_into().unwrap(), frame))
    }

    /// Takes what is in one buffer, header and all, if there is something; the buffer is not given back.
    pub(crate) fn poll_buffer(&mut self) -> Option<Vec<u8>> {
        let (index, len) = self.take_used(RECEIVE)?;
        let mut bytes = vec![0; len as usize];
        let at = self.rings[RECEIVE].buffer(index);
        self.memory.read_slice(&mut bytes, at).unwrap();
        Some(bytes)
    }

    /// Takes the frames that are there and looks at none; gives how many buffers they had. For a guest that only counts: all its buffers are
    /// posted, in order, and the device fills them so.
    pub(crate) fn swallow(&mut self) -> u64 {
        let ring = &mut self.rings[RECEIVE];
        let used: u16 = self
            .memory
            .load(ring.used_at(2), Ordering::Acquire)
            .unwrap();
        let count = used.wrapping_sub(ring.used);
        if count > 0 {
            let last = used.wrapping_sub(1) % ring.size;
            let element = ring.used_at(4 + 8 * u64::from(last));
            let element: u64 = self.memory.read_obj(element).unwrap();
            assert_eq!(element as u16, last, "buffers come back in order");
            ring.used = used;
            self.set_available(RECEIVE, self.available(RECEIVE).wrapping_add(count));
            self.kick(RECEIVE);
        }
        u64::from(count)
    }

    /// Waits for a frame.
    pub(crate) fn recv_with_header(&mut self) -> ([u8; HEADER_LEN], Vec<u8>) {
        loop {
            if let Some(frame) = self.poll() {
                return frame;
            }
            self.wait(RECEIVE, |guest| guest.has_used(RECEIVE));
        }
    }

    /// Waits for a frame, for as long as it takes.
    pub(crate) fn recv_patiently(&mut self) {
        while self.poll().is_none() {
            self.wait_until(RECEIVE, None, |guest| guest.has_used(RECEIVE));
        }
    }

    /// Waits for a frame with nothing left to do.
    pub(crate) fn recv(&mut self) -> Vec<u8> {
        let (header, frame) = self.recv_with_header();
        assert_eq!(header[..10], PLAIN[..10]);
        frame
    }

    /// Counts the chains that could be offered.
    fn free(&self, ring: usize) -> u16 {
        let ring = &self.rings[ring];
        let used: u16 = self
            .memory
            .load(ring.used_at(2), Ordering::Acquire)
            .unwrap();
        ring.size - ring.available.wrapping_sub(used)
    }

    fn has_used(&self, ring: usize) -> bool {
        let ring = &self.rings[ring];
        let used: u16 = self
            .memory
            .load(ring.used_at(2), Ordering::Acquire)
            .unwrap();
        used != ring.used
    }

    /// Asks for an interrupt, and waits for it, unless what it is for is so already.
    fn wait(&mut self, index: usize, is_so: impl Fn(&Guest) -> bool) {
        self.wait_until(index, Some(SOON), is_so);
    }

    fn wait_until(
        &mut self,
        index: usize,
        limit: Option<Duration>,
        is_so: impl Fn(&Guest) -> bool,
    ) {
        let ring = &self.rings[index];
        let used: u16 = self
            .memory
            .load(ring.used_at(2), Ordering::Acquire)
            .unwrap();
        let at = ring.avail(4 + 2 * u64::from(ring.size));
        self.memory.store(used, at, Ordering::SeqCst).unwrap();
        fence(Ordering::SeqCst);
        if is_so(self) {
            return;
        }
        let timeout = limit.map(|limit| Timespec::try_from(limit).unwrap());
        let mut fds = [PollFd::new(&self.rings[index].interrupt, PollFlags::IN)];
        let ready = loop {
            match poll(&mut fds, timeout.as_ref()) {
                Err(Errno::INTR) => {} // The process was stopped, and goes on.
                ready => break ready,
            }
        };
        assert_eq!(ready, Ok(1), "no interrupt came by queue {index}");
        self.rings[index].call.read().unwrap();
    }
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}
