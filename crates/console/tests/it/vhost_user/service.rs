//! What an embedder sees of a console: what is lent to him, and what becomes of VMMs and guests that break the rules.

use super::{config, uml};
use crate::guest::{PATIENCE, SOON};
use hotbed_console::device::vhost_user::{Happened, Service};
use hotbed_console::device::{PortEvent, Size, Stop};
use hotbed_console::{Command, Progress, Shell};
use hotbed_testing::Vmm;
use hotbed_vhost_user::virtio_queue::desc::RawDescriptor;
use hotbed_vhost_user::virtio_queue::desc::split::Descriptor;
use hotbed_vhost_user::virtio_queue::mock::MockSplitQueue;
use hotbed_vhost_user::vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

/// How long one side waits before the other has its turn: both are driven by one thread.
const TURN: Duration = Duration::from_millis(5);

/// Runs a command, and lets the console do its work and somebody look at what happens, until the command has ended.
fn run(
    service: &mut Service,
    shell: &mut Shell,
    script: &str,
    mut look: impl FnMut(&mut Service, &Happened),
) -> String {
    let until = Instant::now() + PATIENCE;
    shell.begin(&Command::new(script), Instant::now()).unwrap();
    let mut output = Vec::new();
    loop {
        assert!(Instant::now() < until, "{script} does not end");
        while let Some(happened) = service.poll(Instant::now() + TURN).unwrap() {
            look(service, &happened);
        }
        match shell.poll_output(Instant::now()).unwrap() {
            Progress::Output(piece) => output.extend(piece),
            Progress::Done(exit) => {
                let output = String::from_utf8(output).unwrap();
                assert_eq!(exit.status, 0, "{script}: {output}");
                return output;
            }
            Progress::Discard | Progress::Pending => {}
        }
    }
}

fn wait_ready(service: &mut Service, shell: &mut Shell, vmm: &Vmm) {
    let until = Instant::now() + PATIENCE;
    while shell.poll_ready(Instant::now()).unwrap().is_none() {
        assert!(Instant::now() < until, "no shell: {}", vmm.said());
        let _ = service.poll(Instant::now() + TURN).unwrap();
    }
}

#[test]
fn port_that_is_not_bridged_lends_what_the_guest_sent_and_takes_what_is_sent_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    let mut shell = Shell::new(service.stream(0).unwrap()).unwrap();
    service.set_open(1, true).unwrap();
    let Some(vmm) = uml::start_or_skip(folder.path(), &socket) else {
        return;
    };
    wait_ready(&mut service, &mut shell, &vmm);

    // The guest sends so much that it has to wait for us, and we send so much that we have to wait for it.
    let script = "exec 8<>/dev/vport*p1; seq 200000 >&8; head -c 8000000 <&8 | sha256sum";
    let answer = super::pattern(8_000_000);
    let (mut heard, mut rest, mut waits) = (Vec::new(), &answer[..], 0);
    let printed = run(&mut service, &mut shell, script, |service, happened| {
        while let Happened::Data(1) = happened {
            let borrowed = service.receive(1, |received| {
                let start = heard.len();
                heard.resize(start + received.len(), 0);
                received.copy_to(&mut heard[start..])
            });
            if borrowed.is_none() {
                break;
            }
        }
        let has_heard_all = heard.ends_with(b"\n200000\n");
        while has_heard_all && !rest.is_empty() {
            let sent = service.send(1, &mut rest).unwrap();
            if sent.stop == Stop::NoBuffers {
                waits += 1;
                break; // `Happened::Room` says when to go on.
            }
        }
    });
    let lines: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(heard == lines.as_bytes(), "what the guest sent came whole");
    assert!(rest.is_empty() && waits > 0, "room was waited for");
    let file = folder.path().join("answer");
    std::fs::write(&file, &answer).unwrap();
    let wanted = std::process::Command::new("sha256sum").arg(&file).output();
    let wanted = String::from_utf8(wanted.unwrap().stdout).unwrap();
    assert_eq!(printed.split(' ').next(), wanted.split(' ').next());

    let size = Size {
        columns: 120,
        rows: 40,
    };
    service.resize(0, size).unwrap();
    let printed = run(
        &mut service,
        &mut shell,
        "sleep 0.2; stty size </dev/hvc0",
        |_, _| {},
    );
    assert_eq!(printed, "40 120\n");
}

#[test]
fn stream_that_is_closed_closes_its_port_in_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    let mut shell = Shell::new(service.stream(0).unwrap()).unwrap();
    let mut one = service.stream(1).unwrap();
    let Some(vmm) = uml::start_or_skip(folder.path(), &socket) else {
        return;
    };
    wait_ready(&mut service, &mut shell, &vmm);
    one.write_all(b"the last words").unwrap();
    drop(one);
    let mut has_ended = false;
    let script = "cat /dev/vport*p1";
    let printed = run(&mut service, &mut shell, script, |_, happened| {
        has_ended |= matches!(happened, Happened::Unbridged(1));
    });
    assert_eq!(printed, "the last words", "and then there is an end");
    assert!(has_ended);
}

/// Waits until the VMM is gone, and gives the reason in words.
fn reason(service: &mut Service) -> String {
    let until = Instant::now() + SOON;
    loop {
        match service.poll(until).unwrap() {
            Some(Happened::Disconnected(Some(error))) => {
                let error: &dyn std::error::Error = &error;
                let causes = std::iter::successors(Some(error), |error| error.source());
                let causes: Vec<String> = causes.map(ToString::to_string).collect();
                return causes.join(": ");
            }
            Some(Happened::Connected | Happened::Port(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn console_without_a_guest_does_nothing_until_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::listen(&folder.path().join("console.sock"), config()).unwrap();
    let start = Instant::now();
    let until = start + Duration::from_millis(100);
    assert!(service.poll(until).unwrap().is_none());
    assert!((start.elapsed().as_millis()) < SOON.as_millis() && Instant::now() >= until);
    assert_eq!(
        service.send(1, &mut &b"hello"[..]).unwrap().stop,
        Stop::Closed
    );
    assert!(service.receive(1, |_| ()).is_none());
    assert!(service.set_open(4, true).is_err() && service.stream(4).is_err());
}

#[test]
fn vmm_that_sends_garbage_is_dropped_with_a_reason_and_the_next_one_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    for _ in 0..2 {
        let mut vmm = UnixStream::connect(&socket).unwrap();
        vmm.write_all(&[0xff; 100]).unwrap();
        let reason = reason(&mut service);
        assert!(reason.contains("no vhost-user message"), "{reason}");
    }
}

/// A driver that has its queues where this test wants them.
struct Driver {
    memory: GuestMemoryMmap,
    file: File,
    kick: EventFd,
}

const LEN: usize = 0x1_0000;

impl Driver {
    fn new() -> Driver {
        let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(file);
        file.set_len(LEN as u64).unwrap();
        let region = FileOffset::new(file.try_clone().unwrap(), 0);
        let ranges = [(GuestAddress(0), LEN, Some(region))];
        Driver {
            memory: GuestMemoryMmap::from_ranges_with_files(ranges).unwrap(),
            file,
            kick: EventFd::new(0).unwrap(),
        }
    }

    fn queue(&self, index: usize) -> MockSplitQueue<'_, GuestMemoryMmap> {
        MockSplitQueue::create(&self.memory, GuestAddress(index as u64 * 0x1000), 16)
    }

    /// Connects, and starts these queues.
    fn connect(&self, socket: &Path, queues: &[Prepared<'_>]) -> Frontend {
        let stream = UnixStream::connect(socket).unwrap();
        let mut frontend = Frontend::from_stream(stream, 16);
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        frontend.get_protocol_features().unwrap();
        frontend
            .set_protocol_features(VhostUserProtocolFeatures::CONFIG)
            .unwrap();
        let event_index = 1 << 29;
        frontend
            .set_features(features & !event_index & !(1 << 26))
            .unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: LEN as u64,
            userspace_addr: 0x7000_0000,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        };
        frontend.set_mem_table(&[region]).unwrap();
        for (index, queue) in queues {
            let config = VringConfigData {
                queue_max_size: 16,
                queue_size: 16,
                flags: 0,
                desc_table_addr: queue.desc_table_addr().0 + 0x7000_0000,
                used_ring_addr: queue.used_addr().0 + 0x7000_0000,
                avail_ring_addr: queue.avail_addr().0 + 0x7000_0000,
                log_addr: None,
            };
            frontend.set_vring_num(*index, 16).unwrap();
            frontend.set_vring_base(*index, 0).unwrap();
            frontend.set_vring_addr(*index, &config).unwrap();
            frontend.set_vring_kick(*index, &self.kick).unwrap();
            frontend.set_vring_enable(*index, true).unwrap();
        }
        frontend
    }
}

/// Lets a driver connect while the service is polled, and gives why it loses its VMM.
fn attack<'a>(
    service: &mut Service,
    driver: &'a Driver,
    socket: &Path,
    prepare: impl FnOnce() -> Vec<Prepared<'a>> + Send,
) -> String {
    std::thread::scope(|scope| {
        let vmm = scope.spawn(|| driver.connect(socket, &prepare()));
        let reason = reason(service);
        drop(vmm.join().unwrap());
        reason
    })
}

type Prepared<'a> = (usize, MockSplitQueue<'a, GuestMemoryMmap>);

/// The control queues, with a message from the driver that is in this buffer.
fn control<'a>(driver: &'a Driver, message: [u8; 8], buffer: Descriptor) -> Vec<Prepared<'a>> {
    let (receive, transmit) = (driver.queue(2), driver.queue(3));
    let address = GuestAddress(BUFFER);
    driver.memory.write_slice(&message, address).unwrap();
    let chain = [RawDescriptor::from(buffer)];
    transmit.add_desc_chains(&chain, 0).unwrap();
    vec![(2, receive), (3, transmit)]
}

const BUFFER: u64 = 0x8000;

#[test]
fn guest_that_breaks_the_rules_loses_its_connection_with_a_reason_and_the_next_one_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    let driver = Driver::new();
    let inside = Descriptor::new(BUFFER, 8, 0, 0);

    // A buffer that is not in the guest's memory.
    let why = attack(&mut service, &driver, &socket, || {
        control(&driver, [0; 8], Descriptor::new(LEN as u64 - 4, 8, 0, 0))
    });
    assert!(
        why.contains("the guest broke its console: queue 3"),
        "{why}"
    );

    // A message about a port that is not there, before the driver is ready.
    let why = attack(&mut service, &driver, &socket, || {
        control(&driver, [99, 0, 0, 0, 3, 0, 1, 0], inside)
    });
    assert!(
        why.contains("the guest broke its console: queue 3"),
        "{why}"
    );

    // A loop of descriptors, in what it sends by a port that somebody listens to.
    let stream = service.stream(0).unwrap();
    let why = attack(&mut service, &driver, &socket, || {
        let transmit = driver.queue(1);
        for (index, next) in [(0, 1), (1, 0)] {
            let looped = Descriptor::new(BUFFER, 8, 1, next);
            let table = transmit.desc_table();
            table.store(index, RawDescriptor::from(looped)).unwrap();
        }
        transmit.avail().ring().ref_at(0).unwrap().store(0);
        transmit.avail().idx().store(1);
        vec![(1, transmit)]
    });
    assert!(
        why.contains("the guest broke its console: queue 1"),
        "{why}"
    );
    drop(stream);

    // One that keeps to them.
    std::thread::scope(|scope| {
        let vmm = scope
            .spawn(|| driver.connect(&socket, &control(&driver, [0, 0, 0, 0, 0, 0, 1, 0], inside)));
        let until = Instant::now() + SOON;
        loop {
            match service.poll(until).unwrap() {
                Some(Happened::Port(PortEvent::DriverReady)) => break,
                Some(Happened::Connected | Happened::Unbridged(0)) => {}
                other => panic!("{other:?}"),
            }
        }
        drop(vmm.join().unwrap());
    });
}
