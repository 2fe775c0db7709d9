//! Reaches a monitor that may not be there yet.

use std::io;
use std::os::fd::OwnedFd;
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

/// How long to wait at most for news of a folder: some file systems have none.
const NEWS_INTERVAL: Duration = Duration::from_millis(100);

/// Connects to the socket at `path`, as soon as somebody listens there.
pub(super) fn connect_when_there(path: &Path, until: Instant) -> Result<UnixStream, Error> {
    let failed = |source: io::Error| Error::Connect {
        path: path.to_owned(),
        source,
    };
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    let mut watch = None;
    loop {
        let error = match attempt(&address) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let now = Instant::now();
        if !matches!(error, Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) || now >= until {
            return Err(failed(error.into()));
        }
        if watch.is_none() {
            watch = watch_folder_of(path);
            if watch.is_some() {
                // A socket made before the watch is not announced, but found.
                continue;
            }
        }
        let longest = if watch.is_some() && error == Errno::NOENT {
            NEWS_INTERVAL
        } else {
            RETRY_INTERVAL
        };
        wait_for_news(watch.as_ref(), longest.min(until - now)).map_err(failed)?;
    }
}

/// Watches for files that come to be; none if the folder is not there, or the host has no more watches.
fn watch_folder_of(path: &Path) -> Option<OwnedFd> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let watch =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
    let news = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, folder, news).ok()?;
    Some(watch)
}

fn wait_for_news(watch: Option<&OwnedFd>, longest: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(longest).unwrap_or_default();
    let mut polled: Vec<_> = watch
        .map(|watch| PollFd::new(watch, PollFlags::IN))
        .into_iter()
        .collect();
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut news = [0; 4096];
    while watch.is_some_and(|watch| rustix::io::read(watch, &mut news).is_ok_and(|count| count > 0))
    {
    }
    Ok(())
}

fn attempt(address: &SocketAddrUnix) -> rustix::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, address)?;
    Ok(UnixStream::from(socket))
}
