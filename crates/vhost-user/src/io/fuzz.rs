//! The body of the fuzz target: a front end that sends any bytes.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::epoll;

use super::{Connection, Event, Poller};
use crate::Device;

/// More is not sent: it must fit into a socket, since nobody else empties it.
const LEN_MAX: usize = 65_536;

struct Plain;

impl Device for Plain {
    fn features(&self) -> u64 {
        1 << 32
    }
    fn queue_count(&self) -> usize {
        2
    }
    fn set_driver_features(&mut self, features: u64) {
        assert_eq!(features & !self.features(), 0, "only what was offered");
    }
    fn read_config(&self, _offset: u32, data: &mut [u8]) {
        data.fill(1);
    }
    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}
    fn reset(&mut self) {}
    fn has_state(&self) -> bool {
        true
    }
}

/// Lets a front end send any bytes and hang up. Nothing panics or waits, and it comes to an end.
///
/// # Panics
///
/// When the system gives no sockets, and when a connection goes on after its end.
pub fn fuzz(bytes: &[u8]) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let poller = Poller::new(Arc::new(epoll), 0);
    let mut connection = Connection::new(ours, Plain, poller).expect("a good device");
    let len = bytes.len().min(LEN_MAX);
    theirs.set_nonblocking(true).expect("a socket");
    let _ = theirs.write(&bytes[..len]);
    drop(theirs);
    // Each call takes a message at least, or is the last.
    for _ in 0..=len {
        match connection.handle(0) {
            Ok(Event::Closed) | Err(_) => return,
            Ok(_) => {}
        }
    }
    panic!("a front end that is gone is still served");
}
