//! Unix sockets by their paths.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that wait to be accepted at most.
const BACKLOG: i32 = 128;

/// What a socket file of ours may be used by: its owner.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Makes a socket that waits for connections at `path`.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket(SocketType::STREAM)?;
    bind(socket.as_fd(), path, SocketType::STREAM)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Makes a datagram socket that is not bound or connected yet.
pub(super) fn datagram() -> io::Result<OwnedFd> {
    unix_socket(SocketType::DGRAM)
}

/// Makes `remote` the only peer of a datagram socket.
pub(super) fn connect(socket: BorrowedFd<'_>, remote: &Path) -> io::Result<()> {
    Ok(rustix::net::connect(socket, &SocketAddrUnix::new(remote)?)?)
}

/// Binds a socket to `path`, in place of a socket file that nobody serves any more.
pub(super) fn bind(socket: BorrowedFd<'_>, path: &Path, kind: SocketType) -> io::Result<()> {
    let address = SocketAddrUnix::new(path)?;
    match rustix::net::bind(socket, &address) {
        Err(Errno::ADDRINUSE) => {
            let probe = unix_socket(kind)?;
            if rustix::net::connect(&probe, &address) != Err(Errno::CONNREFUSED) {
                return Err(Errno::ADDRINUSE.into());
            }
            fs::remove_file(path)?;
            rustix::net::bind(socket, &address)?;
        }
        other => other?,
    }
    rustix::fs::chmod(path, PRIVATE)?;
    Ok(())
}

/// Removes a socket file of ours. That it is gone already is fine, and nobody is left to tell if it cannot be removed.
pub(super) fn unlink(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Gives a name to a connection after the path that it came by: `server` for `/run/server.sock`.
pub(super) fn name_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(OsStr::new("stream"))
        .to_string_lossy()
        .into_owned()
}

fn unix_socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}
