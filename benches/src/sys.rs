//! Many datagrams with one call, so that a load generator is not the slowest part of a measurement; and taps.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};

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

/// Puts the calling thread, and what it starts, into a network of its own, with nothing in it.
///
/// # Errors
///
/// When the user may not do that.
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: it takes flags, and no memory: sockets that are open stay where they are.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a tap in the calling thread's network; frames are as they are on a wire, and nobody waits for them.
///
/// # Errors
///
/// When there is no `/dev/net/tun`, or the name is too long or taken.
pub fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    // SAFETY: all-zero bytes are a valid `ifreq`: it has arrays, integers, and a null pointer.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an `ifreq`, which `request` is, and which outlives the call.
    match unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } {
        0 => Ok(tun),
        _ => Err(io::Error::last_os_error()),
    }
}

fn header_of(slice: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a valid header: null pointers and zero lengths.
    let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_hdr.msg_iov = slice;
    header.msg_hdr.msg_iovlen = 1;
    header
}
