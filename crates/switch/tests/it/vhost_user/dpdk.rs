//! DPDK's `testpmd` with virtio-user, a driver and a front end that poll all the time.

use std::time::{Duration, Instant};

use super::listen;
use crate::local::recv;
use crate::support::{A, ALL, B, Lan, SOON, frame, have};
use hotbed_testing::Vmm;

const PROGRAM: &str = "dpdk-testpmd";

/// Frames on their way at most.
const WINDOW: u32 = 32;

/// How long a frame is waited for that may have come before the card was ready.
const AGAIN: Duration = Duration::from_millis(200);

#[test]
fn testpmd_forwards_between_two_switches() {
    if !have(PROGRAM, "--help") {
        return;
    }
    let (left, right) = (Lan::start(), Lan::start());
    let device = |lan: &Lan, number: u32| {
        let path = listen(lan, "testpmd");
        let path = path.display();
        format!("--vdev=net_virtio_user{number},path={path}")
    };
    let arguments = "--no-huge -m 256 --no-pci --no-telemetry --no-shconf --lcores=0@0,1@0";
    let options = "-- --forward-mode=io --auto-start --stats-period=1 --total-num-mbufs=4096";
    let mut words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    words.extend([device(&left, 0), device(&right, 1)]);
    words.extend(options.split(' ').map(str::to_owned));
    let testpmd = Vmm::start(PROGRAM, &words).unwrap();
    if let Err(why) = testpmd.wait_said("start packet forwarding") {
        return println!("SKIPPED: DPDK cannot run here: {why}");
    }
    left.await_ports(1);
    right.await_ports(1);
    let a = left.switch.add_local("a").unwrap();
    let b = right.switch.add_local("b").unwrap();

    // Its cards start one after the other.
    let deadline = Instant::now() + SOON;
    let hello = frame(ALL, B, b"hello");
    let mut buffer = [0; 2000];
    loop {
        assert!(Instant::now() < deadline, "nothing is forwarded");
        b.send(&hello).unwrap();
        if let Some(len) = a.recv_until(&mut buffer, Instant::now() + AGAIN).unwrap() {
            assert_eq!(buffer[..len], hello);
            break;
        }
    }
    while a
        .recv_until(&mut buffer, Instant::now() + AGAIN)
        .unwrap()
        .is_some()
    {}

    let (mut sent, count) = (0, 10_000_u32);
    for received in 0..count {
        while sent < count.min(received + WINDOW) {
            a.send(&frame(
                B,
                A,
                &sent.to_be_bytes().repeat(sent as usize % 350),
            ))
            .unwrap();
            sent += 1;
        }
        let expected = frame(
            B,
            A,
            &received.to_be_bytes().repeat(received as usize % 350),
        );
        assert_eq!(recv(&b), expected);
    }
    for lan in [&left, &right] {
        let counters = lan.counters("testpmd");
        let drops = counters.drops.total() - counters.drops.no_peer;
        assert_eq!(drops, 0, "but for those before it was there: {counters:?}");
        assert_eq!(lan.switch.lost_ports(), []);
    }
}
