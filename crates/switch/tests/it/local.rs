//! In-process ports.

use std::time::Instant;

use hotbed_switch::wire::FRAME_MAX;
use hotbed_switch::{
    Config, End, LocalPort, Overflow, PortKind, PortSettings, RecvError, SendError,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{A, ALL, B, Lan, SOON, eventually, frame};

pub(crate) fn recv(port: &LocalPort) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_MAX];
    let len = port.recv_until(&mut buffer, Instant::now() + SOON).unwrap();
    buffer.truncate(len.expect("a frame, soon"));
    buffer
}

fn is_readable(port: &LocalPort) -> bool {
    let mut fds = [PollFd::new(port, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
}

#[test]
fn frames_go_from_the_program_to_vde_and_back() {
    let lan = Lan::start();
    let (port, b) = (lan.switch.add_local("inside").unwrap(), lan.client("b"));
    for number in 0..100 {
        port.send(&frame(ALL, A, &[number])).unwrap();
        assert_eq!(b.recv(), frame(ALL, A, &[number]));
        b.send(&frame(A, B, &[number]));
        assert_eq!(recv(&port), frame(A, B, &[number]));
    }
    let ports = lan.switch.ports();
    let info = ports.iter().find(|info| info.id == port.id()).unwrap();
    assert_eq!((info.kind, info.queued), (PortKind::Local, 0));
    assert_eq!(
        (info.counters.frames_in, info.counters.frames_out),
        (100, 100)
    );
    assert_eq!(info.counters.bytes_out, 6000);
}

#[test]
fn a_port_is_readable_as_long_as_frames_wait() {
    let lan = Lan::start();
    let (port, b) = (lan.switch.add_local("inside").unwrap(), lan.client("b"));
    assert!(!is_readable(&port));
    for turn in 0..3 {
        for _ in 0..2 {
            b.send(&frame(ALL, B, &[turn]));
        }
        eventually("two frames", || {
            lan.switch.ports().iter().any(|info| info.queued == 2)
        });
        for _ in 0..2 {
            assert!(is_readable(&port));
            let short = port.recv(&mut [0; 59]);
            assert_eq!(short, Err(RecvError::TooLong(60)), "it waits on");
            recv(&port);
        }
        assert!(!is_readable(&port));
        assert_eq!(port.recv(&mut [0; 60]), Ok(None));
    }
    let now = Instant::now();
    assert_eq!(port.recv_until(&mut [0; 60], now), Ok(None));
}

#[test]
fn a_program_that_does_not_look_loses_frames_by_count_and_delays_nobody() {
    let lan = Lan::with(Config {
        queue_frames_max: 10,
        ..Config::default()
    });
    let lazy = lan.switch.add_local("lazy").unwrap();
    let (a, b) = (lan.client("a"), lan.client("b"));
    for number in 0..100 {
        a.send(&frame(ALL, A, &[number]));
        assert_eq!(b.recv(), frame(ALL, A, &[number]));
    }
    eventually("the rest to be lost", || {
        lan.counters("lazy").drops.queue_full == 90
    });
    for number in 0..10 {
        assert_eq!(recv(&lazy), frame(ALL, A, &[number]), "the oldest are kept");
    }
    assert_eq!(lan.counters("lazy").frames_out, 10);
}

#[test]
fn a_port_can_be_told_to_lose_what_is_oldest() {
    let lan = Lan::with(Config {
        queue_frames_max: 10,
        ..Config::default()
    });
    let (lazy, slow) = (lan.switch.add_local("lazy").unwrap(), lan.client("slow"));
    for name in ["lazy", "slow"] {
        let settings = PortSettings {
            overflow: Overflow::DropOldest,
            ..PortSettings::default()
        };
        lan.switch
            .set_port(&End::from(name), Some(settings))
            .unwrap();
    }
    let (a, b) = (lan.client("a"), lan.client("b"));
    for number in 0..1000_u32 {
        a.send(&frame(ALL, A, &number.to_be_bytes()));
        b.recv();
    }
    eventually("the rest to be lost", || {
        lan.counters("lazy").drops.queue_full == 990
    });
    for number in 990..1000_u32 {
        assert_eq!(recv(&lazy), frame(ALL, A, &number.to_be_bytes()));
    }
    let mut last = Vec::new();
    while last != frame(ALL, A, &999_u32.to_be_bytes()) {
        last = slow.recv();
    }
    assert!(lan.counters("slow").drops.queue_full > 0);
}

#[test]
fn a_frame_that_is_too_long_or_too_much_is_refused() {
    let lan = Lan::with(Config {
        queue_frames_max: 4,
        ..Config::default()
    });
    let port = lan.switch.add_local("inside").unwrap();
    let too_long = vec![0; FRAME_MAX + 1];
    assert_eq!(port.send(&too_long), Err(SendError::TooLong(FRAME_MAX + 1)));
    assert_eq!(port.send(&too_long[1..]), Ok(()));
    let mut is_full = false;
    for _ in 0..1_000_000 {
        match port.send(&frame(ALL, A, b"more than the switch can take")) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SendError::Full);
                is_full = true;
                break;
            }
        }
    }
    assert!(is_full);
    eventually("room again", || port.send(&frame(ALL, A, b"again")).is_ok());
}

#[test]
fn a_dropped_port_goes_and_a_removed_one_says_so() {
    let lan = Lan::start();
    let (dropped, removed) = (
        lan.switch.add_local("dropped").unwrap(),
        lan.switch.add_local("removed").unwrap(),
    );
    drop(dropped);
    lan.await_ports(1);
    lan.switch.remove(removed.id()).unwrap();
    lan.await_ports(0);
    assert!(is_readable(&removed));
    assert_eq!(removed.recv(&mut [0; 60]), Err(RecvError::Closed));
    assert_eq!(removed.send(&frame(ALL, A, b"")), Err(SendError::Closed));
    // The descriptor of the removed port is still open: the switch must not see it any more.
    let before = lan.switch.totals();
    assert_eq!(lan.switch.totals(), before);
    let last = lan.switch.add_local("last").unwrap();
    drop(lan);
    assert_eq!(last.recv(&mut [0; 60]), Err(RecvError::Closed));
}
