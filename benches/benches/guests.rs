//! Guests that share their memory with the switch, beside guests on streams.
//!
//! `switch/guests/<bytes>/<ports>/<who>` is one guest that sends to another, at most [`WINDOW_OF_GUESTS`] frames on their way
//! ([`WINDOW`] by streams), while the other ports are silent; `switch/broadcast/…` is one that sends to all of them. The guests' driver is ours: one thread sends
//! and receives for all, and polls. Behind each result is the processor time that the switch took for a frame. 65,226 bytes are
//! what Linux leaves to a card that cuts it; a stream carries it too, if nobody there has a smaller MTU. `memcpy` is how long one
//! copy of as much takes here.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a bench reads the clock and starts what it measures"
)]

use std::fs;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hotbed_switch::{Config, Switch};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[expect(dead_code, reason = "a bench does not do all that a test does")]
#[path = "../../crates/switch/tests/it/guest.rs"]
mod guest;
#[expect(unsafe_code, reason = "see there")]
#[path = "../../crates/switch/tests/it/sys.rs"]
mod sys;

use guest::{Guest, Options, PLAIN};

/// Frames on their way at most.
const WINDOW: u64 = 32;

/// Frames on their way at most from a guest that only says that the frames in its buffers are to go again.
const WINDOW_OF_GUESTS: u64 = 128;

/// Entries of the queues of two guests.
const RING: u16 = 256;

/// Bytes of a frame, header included.
const FRAME_BYTES: [usize; 3] = [64, 1514, 65_226];

/// Ports, for frames of 64 bytes.
const PORTS: [usize; 3] = [64, 256, 1024];

/// Bytes of the largest buffer for frames.
const BUFFER_LEN: u32 = 66_000;

/// Open files for each guest, at both ends.
const DESCRIPTORS: u64 = 19;

/// How long a frame may take until it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

criterion_group!(benches, unicast, many_ports, broadcast, copy);
criterion_main!(benches);

/// The one limit: how long one copy takes.
fn copy(c: &mut Criterion) {
    for bytes in FRAME_BYTES {
        let mut group = c.benchmark_group(format!("switch/guests/{bytes}/2"));
        group.throughput(Throughput::Bytes(bytes as u64));
        // As many buffers as the guests have, so that the processor's caches help no more.
        let (from, mut to) = (vec![0x55_u8; bytes * 64], vec![0_u8; bytes * 64]);
        let mut turn = 0;
        group.bench_function("memcpy", |b| {
            b.iter(|| {
                turn = (turn + bytes) % from.len();
                to[turn..turn + bytes].copy_from_slice(black_box(&from[turn..turn + bytes]));
                black_box(&to);
            });
        });
        group.finish();
    }
}

fn unicast(c: &mut Criterion) {
    for bytes in FRAME_BYTES {
        let mut group = c.benchmark_group(format!("switch/guests/{bytes}/2"));
        group
            .throughput(Throughput::Bytes(bytes as u64))
            .sample_size(10);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        let mut lan = Lan::start(2);
        let cpu = lan.cpu_time();
        let mut pair = lan.pair(bytes);
        let mut pushed = 0;
        group.bench_function("vhost-user", |b| {
            b.iter_custom(|frames| {
                pushed += frames;
                pair.push(frames)
            });
        });
        report(
            &format!("switch/guests/{bytes}/2/vhost-user"),
            lan.cpu_time() - cpu,
            pushed,
        );
        drop(lan);

        let (switch, mut a, mut b) = streams();
        let schedstat = thread_named("measured").join("schedstat");
        let frame = frame_of(bytes);
        let (cpu, mut pushed) = (cpu_time(&schedstat), 0);
        group.bench_function("stream", |bencher| {
            bencher.iter_custom(|frames| {
                pushed += frames;
                push_streams(&mut a, &mut b, &frame, frames)
            });
        });
        let name = format!("switch/guests/{bytes}/2/stream");
        report(&name, cpu_time(&schedstat) - cpu, pushed);
        drop(switch);
        group.finish();
    }
}

fn many_ports(c: &mut Criterion) {
    for ports in PORTS {
        if !may_open(ports as u64 * DESCRIPTORS) {
            println!("SKIPPED: {ports} guests need more open files than this process may have");
            continue;
        }
        let mut group = c.benchmark_group(format!("switch/guests/64/{ports}"));
        group.throughput(Throughput::Elements(1)).sample_size(10);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        let mut lan = Lan::start(ports);
        let cpu = lan.cpu_time();
        let mut pair = lan.pair(64);
        let mut pushed = 0;
        group.bench_function("vhost-user", |b| {
            b.iter_custom(|frames| {
                pushed += frames;
                pair.push(frames)
            });
        });
        report(
            &format!("switch/guests/64/{ports}/vhost-user"),
            lan.cpu_time() - cpu,
            pushed,
        );
        group.finish();
    }
}

fn broadcast(c: &mut Criterion) {
    for ports in [2, 64, 256] {
        if !may_open(ports as u64 * DESCRIPTORS) {
            println!("SKIPPED: {ports} guests need more open files than this process may have");
            continue;
        }
        let mut group = c.benchmark_group(format!("switch/broadcast/64/{ports}"));
        // What is given out: a copy for each port but one.
        group
            .throughput(Throughput::Elements(ports as u64 - 1))
            .sample_size(10);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        let mut lan = Lan::start(ports);
        let mut frame = frame_of(64);
        frame[..6].fill(0xff);
        let (first, others) = lan.guests.split_at_mut(1);
        group.bench_function(BenchmarkId::from_parameter("vhost-user"), |b| {
            b.iter_custom(|frames| {
                let start = Instant::now();
                let (mut sent, mut received) = (0, vec![0; others.len()]);
                while received.iter().any(|count| *count < frames) {
                    let slowest = received.iter().copied().min().unwrap_or(0);
                    while sent < frames.min(slowest + WINDOW) {
                        first[0].send_with(&PLAIN, &frame);
                        sent += 1;
                    }
                    for (count, guest) in received.iter_mut().zip(others.iter_mut()) {
                        *count += guest.swallow();
                    }
                    std::thread::yield_now();
                    assert!(start.elapsed() < PATIENCE * 10, "a frame was lost");
                }
                start.elapsed()
            });
        });
        group.finish();
    }
}

/// A switch with guests that share their memory.
struct Lan {
    schedstat: PathBuf,
    guests: Vec<Guest>,
    _switch: Switch,
}

impl Lan {
    fn start(ports: usize) -> Lan {
        let switch = start_switch();
        let schedstat = thread_named("measured").join("schedstat");
        let guest = |number: usize| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            switch.add_vhost_user(theirs, &number.to_string()).unwrap();
            let long = if number < 2 && ports == 2 {
                BUFFER_LEN
            } else {
                2048
            };
            let options = Options {
                transmit_len: long,
                receive_len: 2048,
                ring: RING,
                posted: RING,
                ..Options::default()
            };
            Guest::new(ours, options)
        };
        let guests = (0..ports).map(guest).collect();
        Lan {
            schedstat,
            guests,
            _switch: switch,
        }
    }

    /// A sender and a receiver, which the switch knows.
    fn pair(&mut self, bytes: usize) -> Pair<'_> {
        let mut hello = frame_of(64);
        hello[..6].fill(0xff);
        hello[11] = 1;
        let [from, to, ..] = &mut self.guests[..] else {
            panic!("two guests")
        };
        to.send(&hello);
        assert_eq!(from.recv(), hello);
        let buffers = (bytes + PLAIN.len()).div_ceil(2048) as u64;
        Pair {
            from,
            to,
            frame: frame_of(bytes),
            buffers,
            written: 0,
        }
    }

    fn cpu_time(&self) -> Duration {
        cpu_time(&self.schedstat)
    }
}

struct Pair<'a> {
    from: &'a mut Guest,
    to: &'a mut Guest,
    frame: Vec<u8>,
    /// That a frame lies in when it has arrived.
    buffers: u64,
    /// Buffers of the sender in which the frame lies.
    written: u16,
}

impl Pair<'_> {
    /// Puts frames into the sender's queue: into its buffers first, and once it is in all of them, it need not be written again.
    fn queue(&mut self, frames: u64) {
        let mut left = frames;
        while left > 0 && self.written < RING {
            self.from.queue(&PLAIN, &self.frame);
            self.written += 1;
            left -= 1;
        }
        let available = self.from.available(guest::TRANSMIT);
        let again = u16::try_from(left).unwrap();
        self.from
            .set_available(guest::TRANSMIT, available.wrapping_add(again));
    }

    /// Sends frames, and counts the buffers that they arrive in.
    fn push(&mut self, frames: u64) -> Duration {
        let window = WINDOW_OF_GUESTS.min(200 / self.buffers);
        let (mut sent, mut received) = (0, 0);
        let start = Instant::now();
        while received < frames * self.buffers {
            let now = frames.min(received / self.buffers + window);
            if now > sent {
                self.queue(now - sent);
                self.from.kick(guest::TRANSMIT);
                sent = now;
            }
            match self.to.swallow() {
                // On a busy host, the switch may wait for this very processor.
                0 => std::thread::yield_now(),
                buffers => received += buffers,
            }
            assert!(start.elapsed() < PATIENCE * 10, "a frame was lost");
        }
        start.elapsed()
    }
}

fn streams() -> (Switch, UnixStream, UnixStream) {
    let switch = start_switch();
    let [a, b] = ["a", "b"].map(|name| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        switch.add_stream(theirs, name).unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    });
    (switch, a, b)
}

/// As many bytes as a socket takes are on their way, or some frames.
fn push_streams(a: &mut UnixStream, b: &mut UnixStream, frame: &[u8], frames: u64) -> Duration {
    let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
    let one = [&len[..], frame].concat();
    let window = (WINDOW as usize).min((100_000 / one.len()).max(1));
    let some = one.repeat(window);
    let mut buffer = vec![0; some.len()];
    // The switch learns both: the one that is sent to speaks first.
    let mut hello = [&64_u32.to_be_bytes()[..], &frame_of(64)].concat();
    hello[4..10].fill(0xff);
    hello[15] = 1;
    b.write_all(&hello).unwrap();
    a.read_exact(&mut buffer[..68]).unwrap();
    let start = Instant::now();
    let mut left = frames as usize;
    while left > 0 {
        let len = left.min(window) * one.len();
        a.write_all(&some[..len]).unwrap();
        b.read_exact(&mut buffer[..len]).unwrap();
        left -= len / one.len();
    }
    let elapsed = start.elapsed();
    assert_eq!(buffer[..one.len()], one, "a frame changed");
    elapsed
}

/// A frame from station 0 to station 1.
fn frame_of(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x55; bytes];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0x88, 0xb5]);
    frame
}

/// Whether so many files can be open at a time; more are asked for, if need be.
fn may_open(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit > count);
    is_enough(limit.current)
        || is_enough(wanted.current) && setrlimit(Resource::Nofile, wanted).is_ok()
}

fn start_switch() -> Switch {
    let config = Config {
        name: "measured".to_owned(),
        ..Config::default()
    };
    let switch = Switch::start(config).unwrap();
    switch.ports(); // When it answers, its thread has its name.
    switch
}

/// Gives the processor time that a thread has taken so far.
fn cpu_time(schedstat: &Path) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn report(name: &str, cpu: Duration, pushed: u64) {
    if pushed < 1000 {
        return; // With `--test`, or left out by the filter on the command line: nothing to divide by.
    }
    let micros = cpu.as_secs_f64() * 1e6 / pushed as f64;
    println!("{name} cpu: {micros:.2} µs of the switch a frame");
}

/// Finds a thread of this process.
fn thread_named(name: &str) -> PathBuf {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut paths = tasks.map(|task| task.unwrap().path());
    let is_it = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    paths.find(is_it).unwrap()
}
