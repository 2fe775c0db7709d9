//! The two system calls that read into and write from guest memory at several places at once.
//!
//! `rustix` has them for `IoSliceMut` and `IoSlice` only, and those are references: to memory that the guest changes at the
//! same time there must be none.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// How many pieces one call takes at most: the kernel's `UIO_MAXIOV`.
pub(super) const PIECES_MAX: usize = 1024;

/// Reads from a file descriptor into the slices, in their order, and says how many bytes came.
pub(super) fn read_into<B: BitmapSlice>(
    from: BorrowedFd<'_>,
    slices: &[VolatileSlice<'_, B>],
) -> io::Result<usize> {
    let guards: Vec<_> = slices
        .iter()
        .take(PIECES_MAX)
        .map(VolatileSlice::ptr_guard_mut)
        .collect();
    let pieces: Vec<_> = guards
        .iter()
        .map(|guard| piece(guard.as_ptr(), guard.len()))
        .collect();
    // SAFETY: `readv` needs `pieces.len()` valid `iovec`s, and memory behind each that may be written to.
    // - The vector is alive for the call, and its length is at most PIECES_MAX, so it fits into a `c_int`.
    // - Each `iovec` is the whole of a `VolatileSlice`, whose constructor promises that its memory is there for as long as
    //   its lifetime, which is longer than this call; `guards` keep it mapped. Nobody holds a reference to it: that is what the type is for.
    let count = unsafe { libc::readv(from.as_raw_fd(), pieces.as_ptr(), count_of(&pieces)) };
    let read = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut left = read;
    for slice in slices {
        let here = left.min(slice.len());
        slice.bitmap().mark_dirty(0, here);
        left -= here;
    }
    Ok(read)
}

/// Writes the slices to a file descriptor, in their order, and says how many bytes it took.
pub(super) fn write_from<B: BitmapSlice>(
    to: BorrowedFd<'_>,
    slices: &[VolatileSlice<'_, B>],
) -> io::Result<usize> {
    let guards: Vec<_> = slices
        .iter()
        .take(PIECES_MAX)
        .map(VolatileSlice::ptr_guard)
        .collect();
    let pieces: Vec<_> = guards
        .iter()
        .map(|guard| piece(guard.as_ptr().cast_mut(), guard.len()))
        .collect();
    // SAFETY: `writev` needs `pieces.len()` valid `iovec`s, and memory behind each that may be read.
    // - The vector is alive for the call, and its length is at most PIECES_MAX, so it fits into a `c_int`.
    // - Each `iovec` is the whole of a `VolatileSlice`, whose constructor promises that its memory is there for as long as
    //   its lifetime, which is longer than this call; `guards` keep it mapped. The call does not write to it.
    let count = unsafe { libc::writev(to.as_raw_fd(), pieces.as_ptr(), count_of(&pieces)) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A stretch of memory, as the kernel wants it.
fn piece(start: *mut u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: start.cast(),
        iov_len: len,
    }
}

fn count_of(pieces: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(pieces.len()).expect("there are at most PIECES_MAX")
}
