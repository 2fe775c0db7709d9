//! Reaches a monitor that may not be there yet.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::Error;

/// How long to wait before the next attempt when nothing tells that it would succeed: between QEMU's `bind` and its
/// `listen` no event comes, nor for a folder that is not there yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Connects to the socket at `path`, as soon as somebody listens there.
pub(super) fn connect_when_there(path: &Path, until: Instant) -> Result<UnixStream, Error> {
    let failed = |source: io::Error| Error::Connect {
        path: path.to_owned(),
        source,
    };
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(|error| failed(error.into()))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut is_watching = false;
    loop {
        // Watching comes before trying: a socket made in between is then either found or announced.
        let news = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        is_watching = is_watching || inotify::add_watch(&watch, folder, news).is_ok();
        let error = match attempt(&address) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let now = Instant::now();
        if !matches!(error, Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) || now >= until {
            return Err(failed(error.into()));
        }
        let longest = if is_watching && error == Errno::NOENT {
            Duration::from_millis(100)
        } else {
            RETRY_INTERVAL
        };
        let timeout = Timespec::try_from(longest.min(until - now)).unwrap_or_default();
        match poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let mut news = [0; 4096];
        while rustix::io::read(&watch, &mut news).is_ok_and(|count| count > 0) {}
    }
}

fn attempt(address: &SocketAddrUnix) -> rustix::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, address)?;
    Ok(UnixStream::from(socket))
}
