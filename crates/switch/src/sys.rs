//! `recvmmsg` and `sendmmsg`: many datagrams with one call; rustix has no `recvmmsg` yet. And the ioctls of a tap.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::slice;

use crate::wire::{FRAME_MAX, Span};

/// Datagrams taken or given with one call at most.
pub(crate) const BATCH: usize = 16;

/// Bytes of what is in front of each frame of a tap: `virtio_net_hdr`.
pub(crate) const VNET_HEADER_LEN: usize = 10;

/// Bytes from one receive buffer to the next. Not a multiple of a page, so that the first lines of all buffers do not
/// compete for the same places in the processor's cache.
const STRIDE: usize = FRAME_MAX + 192;

/// A datagram as it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Where it lies in [`RecvBatch::bytes`].
    pub(crate) span: Span,
    /// It was longer than [`FRAME_MAX`], and the rest of it is lost.
    pub(crate) truncated: bool,
}

/// Room for [`BATCH`] datagrams, with the headers that the kernel needs to fill it, made once.
///
/// The raw pointers keep it in the thread that made it.
pub(crate) struct RecvBatch {
    /// From `Box::into_raw`; only reached through this pointer, because the kernel writes through copies of it.
    buffer: *mut [u8],
    /// Pointed to by `headers`.
    _slices: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl RecvBatch {
    pub(crate) fn new() -> RecvBatch {
        let buffer = Box::into_raw(vec![0_u8; BATCH * STRIDE].into_boxed_slice());
        let base = buffer.cast::<u8>();
        let mut slices: Box<[libc::iovec]> = (0..BATCH)
            .map(|slot| libc::iovec {
                iov_base: base.wrapping_add(slot * STRIDE).cast(),
                iov_len: FRAME_MAX,
            })
            .collect();
        let first = slices.as_mut_ptr();
        let headers = (0..BATCH)
            .map(|slot| header(first.wrapping_add(slot), 1))
            .collect();
        RecvBatch {
            buffer,
            _slices: slices,
            headers,
        }
    }

    /// Takes the datagrams that are there, without waiting; gives how many.
    pub(crate) fn recv(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: `recvmmsg` needs headers that point to memory it may write.
        // - BATCH headers: `headers` was collected from BATCH items.
        // - Each points to one of BATCH iovecs, which live in a box that `self` owns and nobody else touches.
        // - Each iovec covers FRAME_MAX bytes of `buffer`, within it because STRIDE >= FRAME_MAX, and `&mut self`
        //   keeps `bytes` from being borrowed meanwhile.
        // - No name, no control data, no timeout: the null pointers are allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Takes frames one by one, from `read`, until it has no more; gives how many. `read` gives the number of bytes that it
    /// put in its room.
    pub(crate) fn fill(&mut self, mut read: impl FnMut(&mut [u8]) -> Option<usize>) -> usize {
        for slot in 0..BATCH {
            let room = self.buffer.cast::<u8>().wrapping_add(slot * STRIDE);
            // SAFETY: the slot is FRAME_MAX bytes of `buffer`, within it because STRIDE >= FRAME_MAX, and filled with zeros
            // or frames. `&mut self` keeps `bytes` from being borrowed, and slots do not overlap.
            let room = unsafe { slice::from_raw_parts_mut(room, FRAME_MAX) };
            let Some(len) = read(room) else {
                return slot;
            };
            let header = &mut self.headers[slot];
            header.msg_len = len.min(FRAME_MAX) as libc::c_uint;
            header.msg_hdr.msg_flags = 0;
        }
        BATCH
    }

    /// Gives the datagrams of the last [`RecvBatch::recv`], of which there were `count`.
    pub(crate) fn received(&self, count: usize) -> impl Iterator<Item = Received> {
        self.headers[..count.min(BATCH)]
            .iter()
            .enumerate()
            .map(|(slot, header)| Received {
                span: Span::new(slot * STRIDE, header.msg_len as usize),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            })
    }

    /// Gives the buffer that the spans are of.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `buffer` came from a box that is freed only in `drop`, was filled with zeros, and the kernel writes
        // to it only in `recv`, which takes `&mut self`.
        unsafe { &*self.buffer }
    }
}

impl Drop for RecvBatch {
    fn drop(&mut self) {
        // SAFETY: `buffer` came from `Box::into_raw`, and this is the only place that takes it back.
        drop(unsafe { Box::from_raw(self.buffer) });
    }
}

/// Sends datagrams until one cannot go, without waiting; gives how many went. Looks at [`BATCH`] at most.
///
/// An error is about the first datagram; none went then.
pub(crate) fn send_batch<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = [&'a [u8]; 2]>,
) -> io::Result<usize> {
    let mut slices = [const { MaybeUninit::<[libc::iovec; 2]>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut count = 0;
    for ((slices, slot), datagram) in slices.iter_mut().zip(&mut headers).zip(datagrams) {
        let pieces = if datagram[1].is_empty() { 1 } else { 2 };
        let slices = slices.write(datagram.map(|piece| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        }));
        slot.write(header(slices.as_mut_ptr(), pieces));
        count += 1;
    }
    // SAFETY: `sendmmsg` needs `count` headers that point to memory it may read; it writes only `msg_len` in them.
    // - The first `count` headers were written in the loop, and so were the iovecs that they point to; both arrays
    //   live until the end of this function and were not moved since.
    // - The iovecs cover slices that are borrowed for 'a, which outlives this call; the kernel does not write to them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Makes an open `/dev/net/tun` the interface `name`, without offloads; gives the name that the kernel gave it.
///
/// Each frame has a [`VNET_HEADER_LEN`] bytes long header, which is all zeros.
pub(crate) fn attach_tap(tun: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    // SAFETY: all-zero bytes are a valid `ifreq`: it has arrays, integers, and a null pointer.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if name.len() >= request.ifr_name.len() || name.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    let length = VNET_HEADER_LEN as libc::c_int;
    // SAFETY: TUNSETIFF reads and writes an `ifreq`, which `request` is, and which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: TUNSETVNETHDRSZ reads an `int`, which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) })?;
    // SAFETY: TUNSETOFFLOAD takes flags, not a pointer: none.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, 0) })?;
    let name = request.ifr_name.iter().map(|byte| *byte as u8);
    Ok(name.take_while(|byte| *byte != 0).collect())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn header(slices: *mut libc::iovec, count: usize) -> libc::mmsghdr {
    let mut header = MaybeUninit::<libc::mmsghdr>::zeroed();
    let message = header.as_mut_ptr();
    // SAFETY: `message` points to a whole, zeroed header of ours. (Other libcs have private padding in it, so it
    // cannot be built as a literal.)
    let fields = unsafe { &mut (*message).msg_hdr };
    fields.msg_iov = slices;
    fields.msg_iovlen = count as _;
    // SAFETY: all-zero bytes are a valid header: null pointers and zero lengths.
    unsafe { header.assume_init() }
}
