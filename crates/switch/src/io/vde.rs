//! VDE clients: from a connection to a port.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketType};

use super::sockets;
use crate::state::PortId;
use crate::wire::vde::{self, Request};

/// Room that must be left in a socket path behind the directory: for `/1024.1048576`, and libvdeplug's own
/// `/.4194304-00000`.
const NAME_LEN_MAX: usize = 16;

/// Bytes of a client's description that become the name of its port.
const DESCRIPTION_MAX: usize = 128;

/// A directory that VDE clients connect to.
#[derive(Debug)]
pub(super) struct Directory {
    /// Without symbolic links: clients send absolute names, and get one back.
    pub(super) path: PathBuf,
    pub(super) listener: OwnedFd,
    /// Made by us, and removed by us if nobody else has put something there.
    is_ours: bool,
}

impl Directory {
    /// Makes the directory, if it is not there, and the socket in it.
    pub(super) fn listen(path: &Path) -> io::Result<Directory> {
        let is_ours = match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let path = fs::canonicalize(path)?;
        if path.as_os_str().len() + NAME_LEN_MAX > vde::SOCKET_PATH_LEN {
            return Err(Errno::NAMETOOLONG.into());
        }
        let listener = sockets::listen(&path.join("ctl"))?;
        Ok(Directory {
            path,
            listener,
            is_ours,
        })
    }

    /// Makes a port's socket, connected to the client's.
    pub(super) fn open_port(&self, id: PortId, client: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let socket = sockets::datagram()?;
        sockets::connect(socket.as_fd(), client)?;
        let path = self
            .path
            .join(format!("{:03}.{}", id.number(), socket.as_raw_fd()));
        sockets::bind(socket.as_fd(), &path, SocketType::DGRAM)?;
        Ok((socket, path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        sockets::unlink(&self.path.join("ctl"));
        if self.is_ours {
            let _ = fs::remove_dir(&self.path); // Not if a client's socket is still there.
        }
    }
}

/// Tells a client where its port receives. The connection is fresh, so that it has room for the few bytes.
pub(super) fn answer(control: &OwnedFd, path: &Path) -> io::Result<()> {
    let reply = vde::reply(path);
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = rustix::net::send(control, &reply, flags)?;
    if sent == reply.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Gives a port the name that the client gave itself, fit to print.
pub(super) fn name_of(request: &Request<'_>) -> String {
    let description = &request.description[..request.description.len().min(DESCRIPTION_MAX)];
    let name = String::from_utf8_lossy(description).replace(char::is_control, "?");
    match name.trim() {
        "" => "vde".to_owned(),
        name => name.to_owned(),
    }
}
