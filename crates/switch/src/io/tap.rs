//! Taps: interfaces of the host's kernel, or of a network namespace.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::port::Port;
use crate::sys::{self, RecvBatch, VNET_HEADER_LEN};
use crate::wire::Span;

/// Header of a frame that needs no offload: it is whole.
const WHOLE: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

/// Makes the interface, or takes one that is there and that nobody has open. Gives its name, too.
pub(super) fn open(name: &str) -> std::io::Result<(OwnedFd, String)> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let name = sys::attach_tap(tun.as_fd(), name.as_bytes())?;
    Ok((tun, String::from_utf8_lossy(&name).into_owned()))
}

/// Takes the frames that the kernel has for us; gives how many, or `None` if the interface is gone.
pub(super) fn recv(tap: &OwnedFd, batch: &mut RecvBatch) -> Option<usize> {
    let mut is_gone = false;
    let count = batch.fill(|room| {
        let mut header = WHOLE;
        loop {
            let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(room)];
            match rustix::io::readv(tap, &mut pieces) {
                Ok(len) => {
                    // The kernel was told that we take whole frames alone, so the header says nothing.
                    return Some(len.saturating_sub(VNET_HEADER_LEN));
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    is_gone = errno != Errno::AGAIN;
                    return None;
                }
            }
        }
    });
    (count > 0 || !is_gone).then_some(count)
}

/// Gives frames to the kernel, which takes them or loses them: nothing waits.
pub(super) fn send(port: &mut Port, bytes: &[u8], frames: &[Span]) {
    for frame in frames {
        let pieces = [IoSlice::new(&WHOLE), IoSlice::new(frame.of(bytes))];
        let written = loop {
            match rustix::io::writev(&port.socket, &pieces) {
                Err(Errno::INTR) => {}
                written => break written,
            }
        };
        let counters = &mut port.counters;
        match written {
            Ok(_) => {
                counters.frames_out += 1;
                counters.bytes_out += frame.len() as u64;
            }
            Err(Errno::AGAIN | Errno::NOBUFS) => counters.drops.queue_full += 1,
            Err(Errno::IO) => counters.drops.no_peer += 1, // The interface is down.
            Err(Errno::INVAL | Errno::MSGSIZE) => counters.drops.oversized += 1,
            Err(_) => counters.drops.refused += 1,
        }
    }
}
