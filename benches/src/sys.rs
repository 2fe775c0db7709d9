//! Many datagrams with one call, so that a load generator is not the slowest part of a measurement.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Datagrams that one call takes or gives at most.
pub const BATCH: usize = 32;

/// A datagram, or room for one.
pub type Buffer = [u8; 2048];

/// Sends the first `len` bytes of each buffer, and waits until all have gone; gives how many went before an error.
///
/// # Errors
///
/// What the socket says to the first one.
pub fn send_datagrams(socket: BorrowedFd<'_>, buffers: &[Buffer], len: usize) -> io::Result<usize> {
    let mut slices = [const { MaybeUninit::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::uninit() }; BATCH];
    let mut count = 0;
    for ((slice, header), buffer) in slices.iter_mut().zip(&mut headers).zip(buffers) {
        let start = buffer.as_ptr().cast_mut().cast();
        let slice = slice.write(libc::iovec {
            iov_base: start,
            iov_len: len.min(buffer.len()),
        });
        header.write(header_of(slice));
        count += 1;
    }
    // SAFETY: `sendmmsg` needs `count` headers that point to memory it may read: the loop wrote so many, each points
    // to an iovec that it wrote, and that to a borrowed buffer, of which it covers no more than there is.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr().cast(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Waits for a datagram, then takes what else is there; gives the length of each. A longer one than a buffer is cut.
///
/// # Errors
///
/// What the socket says; with a receive timeout, [`io::ErrorKind::WouldBlock`].
pub fn recv_datagrams(
    socket: BorrowedFd<'_>,
    buffers: &mut [Buffer; BATCH],
) -> io::Result<impl Iterator<Item = usize> + use<>> {
    let mut slices = buffers.each_mut().map(|buffer| libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    });
    let mut headers = slices.each_mut().map(header_of);
    // SAFETY: `recvmmsg` needs BATCH headers that point to memory it may write.
    // - Each header points to one of `slices`, and that to one of `buffers`, which is borrowed mutably; none of them
    //   was moved since.
    // - No name, no control data, no timeout: the null pointers are allowed.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            BATCH as libc::c_uint,
            libc::MSG_WAITFORONE,
            ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    Ok(headers
        .map(|header| header.msg_len as usize)
        .into_iter()
        .take(count))
}

fn header_of(slice: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid header: null pointers and zero lengths.
    let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_hdr.msg_iov = slice;
    header.msg_hdr.msg_iovlen = 1;
    header
}
