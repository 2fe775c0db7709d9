//! A service with eventfds that the test signals as KVM would.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use vm_memory::GuestMemoryMmap;

use super::*;
use crate::device::tests::guest::{END, Guest, SEAM, WRITE, memory};
use crate::device::{Config, Port, PortEvent, wire};

type Memory = Arc<GuestMemoryMmap<()>>;

const DATA: u64 = 0x10_0000;
const PATIENCE: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn signal(event: &OwnedFd) {
    rustix::io::write(event, &1_u64.to_ne_bytes()).unwrap();
}

/// Waits for an eventfd, and says whether it came.
fn is_signalled(event: &OwnedFd, patience: &Timespec) -> bool {
    let mut poll_event = [PollFd::new(event, PollFlags::IN)];
    poll(&mut poll_event, Some(patience)).unwrap();
    rustix::io::read(event, &mut [0; 8]).is_ok()
}

/// A service with one port, the guest's ends of all, and the other end of the port's stream.
struct Bench<'m> {
    service: Service<Memory, Streams>,
    receive: Guest<'m, GuestMemoryMmap>,
    transmit: Guest<'m, GuestMemoryMmap>,
    kicks: Vec<OwnedFd>,
    interrupt: OwnedFd,
    peer: UnixStream,
}

impl<'m> Bench<'m> {
    fn new(memory: &'m Memory) -> Bench<'m> {
        let port = Port {
            is_console: true,
            is_open: true,
            ..Port::default()
        };
        let mut console = Console::new(Config {
            ports: vec![port],
            ..Config::default()
        })
        .unwrap();
        // Without F_MULTIPORT, and without event index: the guest here does not ask for interrupts.
        console.set_driver_features(wire::F_SIZE);
        let (receive, receive_queue) = Guest::new(&**memory, 0, 64);
        let (transmit, transmit_queue) = Guest::new(&**memory, 0x4000, 64);
        let kicks: Vec<_> = (0..4).map(|_| event()).collect();
        let unused = || Queue::new(64).unwrap();
        let queues = [receive_queue, transmit_queue, unused(), unused()];
        let queues = queues.into_iter().zip(&kicks).map(|(queue, kick)| Kicked {
            queue,
            kick: kick.try_clone().unwrap(),
        });
        let (peer, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let interrupt = event();
        let service = Service::new(
            console,
            Arc::clone(memory),
            queues.collect(),
            Interrupt::line(interrupt.try_clone().unwrap()),
            Streams::new(vec![Some(ours.into())]),
        );
        Bench {
            service: service.unwrap(),
            receive,
            transmit,
            kicks,
            interrupt,
            peer,
        }
    }

    /// Calls the service until it has nothing to do.
    fn settle(&mut self) -> Result<(), Error> {
        for _ in 0..10_000 {
            self.service.handle_ready()?;
            let mut ready = [PollFd::new(&self.service, PollFlags::IN)];
            let none = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let is_busy = self.service.states.iter().any(PortState::is_busy);
            if poll(&mut ready, Some(&none)).unwrap() == 0 && !is_busy {
                return Ok(());
            }
        }
        panic!("the service always finds something to do");
    }
}

#[test]
fn guest_and_stream_hear_each_other() {
    let memory: Memory = Arc::new(memory());
    let mut bench = Bench::new(&memory);
    bench.settle().unwrap();
    bench.transmit.write(DATA, b"ping");
    bench.transmit.offer(0, &[(DATA, 4)], 0);
    signal(&bench.kicks[1]);
    bench.settle().unwrap();
    let mut bytes = [0; 4];
    bench.peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    assert_eq!(bench.transmit.all_used(), [(0, 0)]);

    bench.peer.write_all(b"pong").unwrap();
    bench.settle().unwrap();
    assert_eq!(bench.receive.all_used(), [], "there is no buffer");
    bench.receive.offer(0, &[(DATA, 64)], WRITE);
    signal(&bench.kicks[0]);
    bench.settle().unwrap();
    assert_eq!(bench.receive.all_used(), [(0, 4)]);
    assert_eq!(bench.receive.read(DATA, 4), b"pong");
    let status = bench.service.interrupt.status();
    assert_eq!(
        status.load(std::sync::atomic::Ordering::SeqCst),
        STATUS_USED
    );
}

#[test]
fn stream_that_is_full_or_silent_costs_nothing() {
    let memory: Memory = Arc::new(memory());
    let mut bench = Bench::new(&memory);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 3) as u8).collect();
    bench.transmit.write(DATA, &bytes);
    bench.transmit.offer(0, &[(DATA, 1_000_000)], 0);
    bench.receive.offer(0, &[(END - 64, 64)], WRITE);
    signal(&bench.kicks[1]);
    bench.settle().unwrap(); // It ends although the stream is full: it waits for room.
    assert_eq!(bench.transmit.all_used(), []);
    let mut heard = vec![0; bytes.len()];
    let mut filled = 0;
    while filled < heard.len() {
        filled += bench.peer.read(&mut heard[filled..]).unwrap();
        bench.settle().unwrap();
    }
    assert!(heard == bytes);
    assert_eq!(bench.transmit.all_used(), [(0, 0)]);
}

#[test]
fn stream_with_no_more_to_say_still_hears_the_guest() {
    let memory: Memory = Arc::new(memory());
    let mut bench = Bench::new(&memory);
    bench.receive.offer(0, &[(DATA, 64)], WRITE);
    bench.peer.write_all(b"last").unwrap();
    bench.peer.shutdown(Shutdown::Write).unwrap();
    bench.settle().unwrap();
    assert_eq!(bench.receive.all_used(), [(0, 4)]);
    bench.receive.offer(0, &[(DATA, 64)], WRITE);
    signal(&bench.kicks[0]);
    bench.settle().unwrap();
    bench.transmit.write(DATA + 64, b"heard");
    bench.transmit.offer(0, &[(DATA + 64, 5)], 0);
    signal(&bench.kicks[1]);
    bench.settle().unwrap();
    let mut bytes = [0; 5];
    bench.peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"heard");

    let Bench { peer, .. } = &mut bench;
    peer.shutdown(Shutdown::Both).unwrap();
    bench.transmit.offer(0, &[(DATA + 64, 5)], 0);
    signal(&bench.kicks[1]);
    bench.settle().unwrap();
    assert!(bench.service.ports.descriptor(0).is_none(), "it is gone");
    bench.transmit.offer(1, &[(DATA + 64, 5)], 0);
    signal(&bench.kicks[1]);
    bench.settle().unwrap();
    assert_eq!(bench.transmit.all_used(), [(0, 0), (0, 0), (1, 0)]);
}

/// Stops a service also when the test fails, which would wait for its thread for ever.
struct Stopping<'a>(&'a OwnedFd);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        signal(self.0);
    }
}

#[test]
fn service_runs_on_a_thread_until_it_is_stopped() {
    let memory: Memory = Arc::new(memory());
    let Bench {
        mut service,
        mut receive,
        mut transmit,
        kicks,
        interrupt,
        mut peer,
    } = Bench::new(&memory);
    let stop = event();
    thread::scope(|scope| {
        let served = scope.spawn(|| service.run(stop.as_fd()));
        let stopping = Stopping(&stop);
        for round in 0..100_u8 {
            transmit.write(DATA, &[round; 100]);
            transmit.offer(0, &[(DATA, 100)], 0);
            signal(&kicks[1]);
            let mut bytes = [0; 100];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [round; 100]);
            receive.offer(0, &[(SEAM - 30, 60)], WRITE);
            signal(&kicks[0]);
            peer.write_all(&bytes[..60]).unwrap();
            let mut got = 0;
            while got < 60 {
                assert!(is_signalled(&interrupt, &PATIENCE), "round {round}");
                for (_, len) in receive.all_used() {
                    got += len;
                    if got < 60 {
                        receive.offer(0, &[(SEAM - 30 + u64::from(got), 60 - got)], WRITE);
                        signal(&kicks[0]);
                    }
                }
            }
            assert_eq!(receive.read(SEAM - 30, 60), [round; 60]);
        }
        drop(stopping);
        served.join().unwrap().unwrap();
    });
    let (console, queues, _) = service.into_parts();
    assert!(!console.is_broken());
    assert_eq!(queues.len(), 4);
}

#[test]
fn guest_that_breaks_the_rules_ends_the_service() {
    let memory: Memory = Arc::new(memory());
    let mut bench = Bench::new(&memory);
    bench.transmit.offer(0, &[(END, 1)], 0);
    signal(&bench.kicks[1]);
    let stop = event();
    let error = bench.service.run(stop.as_fd()).unwrap_err();
    assert!(matches!(error, Error::Guest { queue: 1, .. }), "{error}");
}

#[test]
fn new_size_is_an_interrupt_for_the_configuration() {
    let memory: Memory = Arc::new(memory());
    let mut bench = Bench::new(&memory);
    bench.settle().unwrap();
    let size = Size {
        columns: 132,
        rows: 43,
    };
    bench.service.resize(0, size).unwrap();
    assert!(is_signalled(&bench.interrupt, &PATIENCE));
    let status = bench.service.interrupt.status();
    assert_eq!(
        status.load(std::sync::atomic::Ordering::SeqCst),
        STATUS_CONFIG
    );
    let mut space = [0; 4];
    bench.service.console_mut().read_config(0, &mut space);
    assert_eq!(space, [132, 0, 43, 0]);
}

#[test]
fn ports_without_a_descriptor_are_served_when_told() {
    /// Says one thing when asked, and remembers what it heard.
    #[derive(Default)]
    struct Mailbox {
        letter: Option<&'static [u8]>,
        heard: Vec<u8>,
        emergency: Vec<u8>,
        events: Vec<PortEvent>,
    }
    impl Ports for Mailbox {
        fn handle_received<M: GuestMemory>(
            &mut self,
            _: u32,
            received: &mut crate::device::Received<'_, M, Queue>,
        ) {
            let start = self.heard.len();
            self.heard.resize(start + received.len(), 0);
            received.copy_to(&mut self.heard[start..]);
        }

        fn poll_source<B: vm_memory::bitmap::BitmapSlice>(
            &mut self,
            _: u32,
            buffers: &[vm_memory::VolatileSlice<'_, B>],
        ) -> io::Result<usize> {
            let mut letter = self.letter.take().unwrap_or_default();
            crate::device::Source::fill(&mut letter, buffers)
        }

        fn descriptor(&self, _: u32) -> Option<BorrowedFd<'_>> {
            None
        }

        fn handle_emergency(&mut self, bytes: &[u8], _: u64) {
            self.emergency.extend(bytes);
        }

        fn handle_event(&mut self, event: PortEvent) {
            self.events.push(event);
        }
    }
    let memory: Memory = Arc::new(memory());
    let Bench {
        service,
        mut receive,
        mut transmit,
        interrupt,
        ..
    } = Bench::new(&memory);
    let (console, queues, _) = service.into_parts();
    let interrupt_line = Interrupt::line(interrupt.try_clone().unwrap());
    let ports = Mailbox::default();
    let memory = Arc::clone(&memory);
    let mut service = Service::new(console, memory, queues, interrupt_line, ports).unwrap();
    receive.offer(0, &[(DATA, 64)], WRITE);
    transmit.write(DATA + 64, b"to you");
    transmit.offer(0, &[(DATA + 64, 6)], 0);
    service.console_mut().write_config(8, b"!");
    service.handle_ready().unwrap();
    assert_eq!(service.ports_mut().heard, b"to you");
    assert_eq!(service.ports_mut().emergency, b"!");
    assert_eq!(receive.all_used(), []);
    service.ports_mut().letter = Some(b"to me");
    service.handle_change().unwrap();
    assert_eq!(receive.all_used(), [(0, 5)]);
    assert_eq!(service.ports_mut().events, []);
}
