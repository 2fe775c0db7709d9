//! The switch: what a decision takes, and frames per second through real sockets beside `vde_switch`.
//!
//! `switch/decide/…` is the table alone. `switch/forward/<bytes>/<ports>/<who>` is one VDE client that sends to another
//! through the switch, at most [`WINDOW`] frames in flight, while the other ports are silent but drained. One thread
//! sends and receives, and it is the same for all: Hotbed, `vde_switch --hub` and `vde_switch` (learning; Debian's
//! vde2). Behind each result is the processor time that the switch itself took for a frame.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a bench reads the clock and starts what it measures"
)]

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hotbed_benches::sys::{BATCH, Buffer, recv_datagrams, send_datagrams};
use hotbed_switch::state::{Egress, Stations};
use hotbed_switch::wire::vde::{REPLY_LEN, Request, parse_reply};
use hotbed_switch::wire::{Frame, MacAddr};
use hotbed_switch::{Config, PortId, STATION_TTL, STATIONS_MAX, Switch};
use rustix::event::epoll;
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Frames on their way at most.
const WINDOW: u64 = BATCH as u64;

/// Ports of the switches that are compared.
const PORTS: [usize; 3] = [2, 16, 64];

/// Bytes of a frame, header included.
const FRAME_BYTES: [usize; 2] = [64, 1500];

/// How long a frame may take until it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);

criterion_group!(benches, decide, forward);
criterion_main!(benches);

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch/decide");
    group.throughput(Throughput::Elements(1)); // The payload is not touched: no bytes per second.
    for stations in [2, 64, 1024] {
        let now = Instant::now();
        let mut table = Stations::new(now, STATIONS_MAX, STATION_TTL, [0x1234_5678, 0x9abc_def1]);
        let frames: Vec<_> = (0..stations)
            .map(|from| header((from + 1) % stations, from))
            .collect();
        for (port, frame) in (1..).zip(&frames) {
            table.handle_frame(
                now,
                PortId::new(port, 0),
                Frame::parse(frame).expect("a header"),
            );
        }
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("known_station", stations), |b| {
            b.iter(|| {
                turn = (turn + 1) % frames.len();
                let frame = Frame::parse(black_box(&frames[turn])).expect("a whole header");
                let egress = table.handle_frame(now, PortId::new(turn as u16 + 1, 0), frame);
                let known = PortId::new((turn as u16 + 1) % stations + 1, 0);
                assert_eq!(
                    egress,
                    Egress::Unicast(known),
                    "a wrong decision is not worth timing"
                );
            });
        });
        let broadcast = [&[0xff; 6][..], &frames[0][6..]].concat();
        group.bench_function(BenchmarkId::new("broadcast", stations), |b| {
            let except = PortId::new(1, 0);
            b.iter(|| {
                let frame = Frame::parse(black_box(&broadcast)).expect("a whole header");
                let egress = table.handle_frame(now, except, frame);
                assert_eq!(
                    egress,
                    Egress::Flood { except },
                    "a wrong decision is not worth timing"
                );
            });
        });
    }
    let now = Instant::now();
    let mut table = Stations::new(now, STATIONS_MAX, STATION_TTL, [0x1234_5678, 0x9abc_def1]);
    let mut made_up = 0_u32;
    group.bench_function("made_up_sources", |b| {
        b.iter(|| {
            made_up = made_up.wrapping_add(1);
            let [a, b, c, d] = made_up.to_be_bytes();
            let frame = [0xff, 0, 0, 0, 0, 0, 0x02, 0, a, b, c, d, 0x88, 0xb5];
            let frame = Frame::parse(black_box(&frame)).expect("a whole header");
            table.handle_frame(now, PortId::new(1, 0), frame)
        });
    });
    group.finish();
}

fn header(target: u16, source: u16) -> Vec<u8> {
    [&station(target).0[..], &station(source).0, &[0x88, 0xb5]].concat()
}

fn station(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([0x02, 0, 0, 0, high, low])
}

fn forward(c: &mut Criterion) {
    for bytes in FRAME_BYTES {
        for ports in PORTS {
            let mut group = c.benchmark_group(format!("switch/forward/{bytes}/{ports}"));
            group.throughput(Throughput::Elements(1));
            group
                .sample_size(10)
                .warm_up_time(Duration::from_millis(500));
            group.measurement_time(Duration::from_secs(2));
            for who in [Who::Hotbed, Who::VdeHub, Who::VdeLearning] {
                let Some(subject) = Subject::start(who, ports) else {
                    println!("SKIPPED: `vde_switch` is not installed (Debian package vde2)");
                    continue;
                };
                let mut run = Run::start(&subject.dir, ports, bytes);
                let allowed = sched_getaffinity(None).expect("a set of processors");
                subject.part_from_caller();
                let cpu_before = subject.cpu_time();
                group.bench_function(who.name(), |b| {
                    b.iter_custom(|frames| run.push(frames));
                });
                sched_setaffinity(None, &allowed).expect("the processors that it had");
                run.report(who, ports, subject.cpu_time().saturating_sub(cpu_before));
            }
            group.finish();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Hotbed,
    VdeHub,
    VdeLearning,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Hotbed => "hotbed",
            Who::VdeHub => "vde_switch_hub",
            Who::VdeLearning => "vde_switch_learning",
        }
    }
}

/// A switch that is measured.
struct Subject {
    /// Where VDE clients connect.
    dir: PathBuf,
    /// `/proc/…/schedstat` of the only thread that forwards.
    schedstat: PathBuf,
    _running: Running,
    _root: tempfile::TempDir,
}

enum Running {
    Hotbed { _switch: Switch },
    Vde(Child),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Vde(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Subject {
    fn start(who: Who, ports: usize) -> Option<Subject> {
        let root = tempfile::tempdir().expect("a temporary folder");
        let dir = root.path().join("vde.ctl");
        let (running, schedstat) = if who == Who::Hotbed {
            let name = "measured".to_owned();
            let switch = Switch::start(Config {
                name,
                ..Config::default()
            })
            .expect("a switch");
            switch.listen_vde(&dir).expect("a socket");
            (
                Running::Hotbed { _switch: switch },
                thread_named("measured").join("schedstat"),
            )
        } else {
            let mut command = Command::new("vde_switch");
            command
                .arg("--sock")
                .arg(&dir)
                .args(["--numports", &(ports + 1).to_string()]);
            if who == Who::VdeHub {
                command.arg("--hub");
            }
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let child = command.spawn().ok()?;
            let schedstat = PathBuf::from(format!("/proc/{}/schedstat", child.id()));
            let child = Running::Vde(child);
            let deadline = Instant::now() + PATIENCE;
            while UnixStream::connect(dir.join("ctl")).is_err() {
                assert!(Instant::now() < deadline, "vde_switch did not come up");
                thread::yield_now();
            }
            (child, schedstat)
        };
        Some(Subject {
            dir,
            schedstat,
            _running: running,
            _root: root,
        })
    }

    /// Gives the switch and the caller a processor each, if there are two: the scheduler likes to put a thread beside
    /// the one that wakes it, and then the two take turns.
    fn part_from_caller(&self) {
        let thread = self
            .schedstat
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let thread = thread
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        let allowed = sched_getaffinity(None).expect("a set of processors");
        let mut processors = (0..CpuSet::MAX_CPU).filter(|&number| allowed.is_set(number));
        if let (Some(first), Some(second)) = (processors.next(), processors.next()) {
            for (thread, number) in [(None, first), (thread, second)] {
                let mut one = CpuSet::new();
                one.set(number);
                sched_setaffinity(thread, &one).expect("a processor that is allowed");
            }
        }
    }

    /// Gives the processor time that the switch has taken so far.
    fn cpu_time(&self) -> Duration {
        let text = fs::read_to_string(&self.schedstat).expect("the switch runs");
        let nanos = text
            .split(' ')
            .next()
            .expect("a first field")
            .parse()
            .expect("nanoseconds");
        Duration::from_nanos(nanos)
    }
}

/// Finds a thread of this process.
fn thread_named(name: &str) -> PathBuf {
    let tasks = fs::read_dir("/proc/self/task").expect("a list of threads");
    let mut paths = tasks.map(|task| task.expect("a thread").path());
    let is_it = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    paths
        .find(is_it)
        .expect("the switch's thread has the switch's name")
}

/// A sender, a receiver, and silent clients.
struct Run {
    sender: Client,
    receiver: Client,
    frames: [Buffer; BATCH],
    buffers: [Buffer; BATCH],
    /// Of each frame.
    bytes: usize,
    pushed: u64,
    drainer: Drainer,
}

impl Run {
    fn start(dir: &Path, ports: usize, bytes: usize) -> Run {
        let (sender, receiver) = (Client::connect(dir, 0), Client::connect(dir, 1));
        let silent: Vec<Client> = (2..ports)
            .map(|number| Client::connect(dir, number))
            .collect();
        let mut frame = [0x55; 2048];
        frame[..14].copy_from_slice(&header(1, 0));
        let (frames, buffers) = ([frame; BATCH], [[0; 2048]; BATCH]);
        let drainer = Drainer::start(silent);
        let mut run = Run {
            sender,
            receiver,
            frames,
            buffers,
            bytes,
            pushed: 0,
            drainer,
        };
        // The switch learns where both are.
        let mut hello = header(0, 1);
        hello.resize(64, 0);
        run.receiver.data.send(&hello).expect("a send");
        let len = run.sender.data.recv(&mut [0; 64]);
        assert_eq!(len.expect("the receiver's hello"), 64);
        run.push(1);
        run
    }

    /// Sends frames and receives each of them, in order.
    fn push(&mut self, frames: u64) -> Duration {
        let (mut sent, mut received) = (0, 0);
        let start = Instant::now();
        while received < frames {
            let count = (frames - sent).min(WINDOW - (sent - received));
            self.send(self.pushed + sent, count as usize);
            sent += count;
            let lens = recv_datagrams(self.receiver.data.as_fd(), &mut self.buffers);
            for (len, buffer) in lens.expect("a frame, soon").zip(&self.buffers) {
                assert_eq!(len, self.bytes, "a frame changed its length");
                let number = (self.pushed + received).to_be_bytes();
                assert_eq!(buffer[14..22], number, "a frame was lost or overtaken");
                received += 1;
            }
        }
        let elapsed = start.elapsed();
        self.pushed += frames;
        elapsed
    }

    /// Sends frames with the numbers from `first` on.
    fn send(&mut self, first: u64, count: usize) {
        let frames = &mut self.frames[..count];
        for (number, frame) in (first..).zip(frames.iter_mut()) {
            frame[14..22].copy_from_slice(&number.to_be_bytes());
        }
        let sent = send_datagrams(self.sender.data.as_fd(), frames, self.bytes);
        assert_eq!(sent.expect("a send"), count);
    }

    /// Checks that what should be unicast was, and says what the switch took for it.
    fn report(&self, who: Who, ports: usize, cpu: Duration) {
        let drained = self.drainer.drained.load(Ordering::Relaxed);
        if who == Who::Hotbed {
            assert!(
                drained <= self.drainer.clients,
                "the silent ports saw {drained} frames"
            );
        }
        if self.pushed < 10_000 {
            return; // With `--test`, or left out by the filter on the command line: nothing to divide by.
        }
        let micros = cpu.as_secs_f64() * 1e6 / self.pushed as f64;
        let (bytes, name) = (self.bytes, who.name());
        println!("switch/forward/{bytes}/{ports}/{name} cpu: {micros:.2} µs of the switch a frame");
    }
}

/// Reads and forgets what comes to the silent ports.
struct Drainer {
    drained: Arc<AtomicU64>,
    clients: u64,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drainer {
    fn start(clients: Vec<Client>) -> Drainer {
        let drained = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let count = clients.len() as u64;
        let watch = |fd: BorrowedFd<'_>, number| {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&poll, fd, data, epoll::EventFlags::IN).expect("an epoll");
        };
        for (number, client) in (0..).zip(&clients) {
            client.data.set_nonblocking(true).expect("a socket");
            watch(client.data.as_fd(), number);
        }
        watch(stop.as_fd(), u64::MAX);
        let counter = Arc::clone(&drained);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            let mut events = Vec::with_capacity(64);
            loop {
                events.clear();
                epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)
                    .expect("an epoll");
                for event in &events {
                    let number = event.data.u64();
                    let Some(client) = clients.get(number as usize) else {
                        return;
                    };
                    while client.data.recv(&mut buffer).is_ok() {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Drainer {
            drained,
            clients: count,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).expect("an eventfd");
        self.thread
            .take()
            .expect("only taken here")
            .join()
            .expect("the drainer did not panic");
    }
}

/// A VDE client.
struct Client {
    data: UnixDatagram,
    /// The port lives as long as this connection.
    _control: UnixStream,
}

impl Client {
    fn connect(dir: &Path, number: usize) -> Client {
        let dir = dir.canonicalize().expect("the switch's folder");
        let path = dir.join(format!(".{:05}-{number:05}", std::process::id()));
        let data = UnixDatagram::bind(&path).expect("a socket");
        data.set_read_timeout(Some(PATIENCE)).expect("a socket");
        data.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let mut control = UnixStream::connect(dir.join("ctl")).expect("a switch");
        let request = Request {
            port: None,
            path: &path,
            description: b"bench",
        };
        control.write_all(&request.to_bytes()).expect("a switch");
        let mut reply = [0; REPLY_LEN];
        control.read_exact(&mut reply).expect("a port");
        data.connect(parse_reply(&reply).expect("a path"))
            .expect("a port");
        Client {
            data,
            _control: control,
        }
    }
}
