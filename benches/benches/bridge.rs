//! A Linux bridge with two taps, in a network namespace of its own, beside a switch with two datagram ports.
//!
//! `switch/bridge/<bytes>/2/<who>` does what two QEMUs do: a frame is a call to send, and a call to receive, in one thread; at most
//! [`WINDOW`] frames are on their way. A bridge needs a user who may make interfaces; behind each result is the processor time of all of it,
//! since the bridge works in the sender's.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a bench reads the clock and starts what it measures"
)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hotbed_benches::sys::{enter_new_network, open_tap};
use hotbed_switch::{Config, Switch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Frames on their way at most.
const WINDOW: u64 = 32;
/// Bytes of a frame, header included.
const FRAME_BYTES: [usize; 2] = [64, 1514];
/// How long a frame may take until it is taken for lost.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
/// What makes the bridge.
const BRIDGE: &str = "ip link add br0 type bridge && ip link set br0 up && \
    for tap in t0 t1; do ip link set $tap addrgenmode none && ip link set $tap master br0 up || exit 1; done";

criterion_group!(benches, bridge);
criterion_main!(benches);

fn bridge(c: &mut Criterion) {
    for bytes in FRAME_BYTES {
        let mut group = c.benchmark_group(format!("switch/bridge/{bytes}/2"));
        group.throughput(Throughput::Elements(1)).sample_size(10);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        let (_switch, _root, sockets) = datagram_ports();
        let taps = std::thread::spawn(taps).join().unwrap();
        if let Err(error) = &taps {
            println!("SKIPPED: no bridge with taps can be made here: {error}");
        }
        let subjects = [("hotbed", Some(sockets)), ("linux", taps.ok())];
        for (who, ends) in subjects {
            let Some(mut ends) = ends else { continue };
            let (before, mut pushed) = (processor_time(), 0);
            group.bench_function(who, |b| {
                b.iter_custom(|frames| {
                    pushed += frames;
                    push(&mut ends, bytes, frames)
                });
            });
            if pushed > 1000 {
                let micros = (processor_time() - before).as_secs_f64() * 1e6 / pushed as f64;
                println!("switch/bridge/{bytes}/2/{who} cpu: {micros:.2} µs of all a frame");
            }
        }
        group.finish();
    }
}

/// Two taps on a bridge; the calling thread is in another network after that.
fn taps() -> io::Result<[File; 2]> {
    enter_new_network()?;
    let taps = [open_tap("t0")?, open_tap("t1")?];
    let made = Command::new("sh").args(["-c", BRIDGE]).output()?;
    match made.status.success() {
        true => Ok(taps.map(File::from)),
        false => Err(io::Error::other(String::from_utf8_lossy(&made.stderr))),
    }
}

/// The ends of two ports of a switch.
fn datagram_ports() -> (Switch, tempfile::TempDir, [File; 2]) {
    let root = tempfile::tempdir().unwrap();
    let switch = Switch::start(Config::default()).unwrap();
    let ends = ["a", "b"].map(|name| {
        let [theirs, ours] = ["port", "end"].map(|end| root.path().join(format!("{name}-{end}")));
        let socket = UnixDatagram::bind(&ours).unwrap();
        switch.add_dgram(&theirs, &ours, name).unwrap();
        socket.connect(&theirs).unwrap();
        socket.set_nonblocking(true).unwrap();
        File::from(OwnedFd::from(socket))
    });
    (switch, root, ends)
}

/// Sends frames by one end and takes them at the other.
fn push(ends: &mut [File; 2], bytes: usize, frames: u64) -> Duration {
    let [from, to] = ends;
    let mut buffer = [0; 2048];
    let mut frame = vec![0x55; bytes];
    // Whoever is between them learns where the receiver is.
    frame[..14].copy_from_slice(&[
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5,
    ]);
    assert_eq!(to.write(&frame).unwrap(), bytes);
    while take(from, bytes, &mut buffer) == 0 {}
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    let (mut sent, mut received) = (0, 0);
    let start = Instant::now();
    while received < frames {
        while sent < frames.min(received + WINDOW) {
            match from.write(&frame) {
                Ok(_) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        received += take(to, bytes, &mut buffer);
    }
    start.elapsed()
}

/// Waits for frames, and takes those that are there; gives how many were ours: the kernel has some of its own.
fn take(end: &mut File, bytes: usize, buffer: &mut [u8]) -> u64 {
    let waited = poll(
        &mut [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)],
        Some(&PATIENCE),
    );
    assert_eq!(waited, Ok(1), "a frame was lost");
    let mut count = 0;
    loop {
        match end.read(buffer) {
            Ok(len) => count += u64::from(len == bytes && buffer[12..14] == [0x88, 0xb5]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The processor time that this process has taken.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}
