//! Much output in little memory.

use crate::support::{Guest, script, soon, start};
use hotbed_console::agent::Progress;
use std::time::Duration;

/// The most memory that a process had, in kilobytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_gigabyte_of_output_takes_little_memory_on_both_sides() {
    const TOTAL: usize = 1 << 30;
    let (guest, agent) = start();
    let own = peak(std::process::id());
    let text = "head -c 1073741824 /dev/zero";
    let begun = std::time::Instant::now();
    let running = agent.start(&script(text), text.as_bytes()).unwrap();
    let mut total = 0;
    loop {
        match running.poll_output(soon()).unwrap() {
            Progress::Output(_, bytes) => total += bytes.len(),
            Progress::Exited(_) => break,
            other => panic!("{other:?}"),
        }
    }
    eprintln!("1 GiB in {:?}", begun.elapsed());
    assert_eq!(total, TOTAL);
    let guest_peak = peak(guest.process.id());
    let own_more = peak(std::process::id()) - own;
    eprintln!("agent: {guest_peak} kB at most; host: {own_more} kB more");
    assert!(guest_peak < 16 << 10, "{guest_peak} kB in the guest");
    // Other tests have their share of it.
    assert!(own_more < 256 << 10, "{own_more} kB on the host");
}

#[test]
fn output_that_nobody_takes_is_not_read() {
    let guest = Guest::start(&[]);
    let agent = guest.connect();
    let all: Vec<_> = (0..8)
        .map(|_| agent.start(&script("yes"), b"yes").unwrap())
        .collect();
    // By then each has filled its window.
    let until = std::time::Instant::now() + Duration::from_secs(1);
    while std::time::Instant::now() < until {
        agent.ping(soon()).unwrap().unwrap();
    }
    assert!(peak(guest.process.id()) < 16 << 10);
    drop(all);
    agent.ping(soon()).unwrap().unwrap();
}
