//! Linux guests whose consoles are ours, over vhost-user: with front ends that others wrote.

mod qemu;
mod service;
mod uml;

use crate::guest::PATIENCE;
use hotbed_console::device::vhost_user::{Happened, Running};
use hotbed_console::device::{Config, Port, PortEvent, Size};
use hotbed_console::{Command, Progress, Shell};
use hotbed_testing::Vmm;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The ports of every guest here: the shell's console, two for data, and a second console.
const PORTS: [(&str, bool); 4] = [("shell", true), ("one", false), ("two", false), ("", true)];

/// How much is carried in bulk.
const BULK: usize = 16 << 20;

fn config() -> Config {
    let port = |(name, is_console): (&str, bool)| Port {
        name: name.to_owned(),
        is_console,
        is_open: false,
    };
    Config {
        ports: PORTS.into_iter().map(port).collect(),
        size: Size {
            columns: 97,
            rows: 31,
        },
        ..Config::default()
    }
}

/// Loads the modules by their numbers, and becomes the shell when there is a console for it.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin HOME=/tmp
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done
until [ -c /dev/hvc0 ]; do usleep 1000; done
exec </dev/hvc0 >/dev/hvc0 2>/dev/console
stty raw -echo
echo 'Spawning backdoor root shell...'
PS1= exec bash --norc /dev/hvc0
"#;

/// What that shell is.
const BASH: (&str, &str) = ("bash", "/bin/bash-static");

/// How often it is asked whether the VMM is still there.
const SLICE: Duration = Duration::from_millis(100);

/// Waits until the guest's shell is there.
fn wait_ready(vmm: &Vmm, shell: &mut Shell) {
    let until = Instant::now() + PATIENCE;
    while shell.poll_ready(Instant::now() + SLICE).unwrap().is_none() {
        let has_time = Instant::now() < until && !vmm.has_ended();
        assert!(has_time, "the guest's shell is not there");
    }
}

/// Runs a command in a guest's shell and gives what it printed; it must succeed.
fn run(shell: &mut Shell, script: &str) -> String {
    let until = Instant::now() + PATIENCE;
    shell.begin(&Command::new(script), until).unwrap();
    let mut output = Vec::new();
    loop {
        match shell.poll_output(until).unwrap() {
            Progress::Output(piece) => output.extend(piece),
            Progress::Discard => output.clear(),
            Progress::Pending => panic!("{script}: no answer after {output:?}"),
            Progress::Done(exit) => {
                let output = String::from_utf8(output).unwrap();
                assert_eq!(exit.status, 0, "{script}: {output}");
                return output.trim_end().to_owned();
            }
        }
    }
}

/// Waits until this happens; with the same VMM, whose end would be a failure.
fn wait_for(running: &Running, wanted: impl Fn(&Happened) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        match running.poll(until) {
            Some(happened) if wanted(&happened) => return,
            Some(Happened::Disconnected(why)) => panic!("the VMM is gone: {why:?}"),
            Some(_) => {}
            None => panic!("it does not happen"),
        }
    }
}

fn is_opened(port: u32) -> impl Fn(&Happened) -> bool {
    move |happened| matches!(happened, Happened::Port(PortEvent::Opened(opened)) if *opened == port)
}

/// Bytes that are not the same anywhere, so that one that is lost or moved is found.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What must work with every guest: commands, ports with names and sizes, and bulk both ways.
fn check_guest(shell: &mut Shell, one: &mut UnixStream, two: &mut UnixStream, running: &Running) {
    assert_eq!(run(shell, "echo $((6 * 7))"), "42");
    let lines = run(shell, "seq 100000");
    assert_eq!(lines.lines().count(), 100_000);
    assert_eq!(lines.lines().last(), Some("100000"));
    let names = run(shell, "cat /sys/class/virtio-ports/vport*p[12]/name");
    assert_eq!(names, "one\ntwo");
    assert_eq!(run(shell, "stty size < /dev/hvc0"), "31 97");

    // Both ways at once over one port, while another one is open, too.
    let sent = pattern(BULK);
    let script = format!(
        "exec 7<>/dev/vport*p2; exec 8<>/dev/vport*p1; head -c {BULK} <&8 >/tmp/bulk; cat /tmp/bulk >&8; echo two >&7; \
         head -c 5 <&7"
    );
    let until = Instant::now() + PATIENCE;
    shell.begin(&Command::new(&script), until).unwrap();
    wait_for(running, is_opened(1));
    let mut writer = one.try_clone().unwrap();
    let source = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&source).unwrap());
    let mut received = vec![0; BULK];
    one.set_read_timeout(Some(PATIENCE)).unwrap();
    one.read_exact(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "the bulk came back as it went");

    let mut line = [0; 4];
    two.set_read_timeout(Some(PATIENCE)).unwrap();
    two.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"two\n");
    two.write_all(b"reply").unwrap();
    let mut output = Vec::new();
    loop {
        match shell.poll_output(until).unwrap() {
            Progress::Output(piece) => output.extend(piece),
            Progress::Done(exit) => break assert_eq!(exit.status, 0),
            Progress::Discard => {}
            Progress::Pending => panic!("the guest does not come to the end"),
        }
    }
    assert_eq!(output, b"reply");
}
