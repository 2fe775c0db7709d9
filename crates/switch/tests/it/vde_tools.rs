//! Debian's own VDE tools on the switch.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use crate::support::{A, ALL, B, Lan, Running, frame, have};

/// `vde_plug`: frames on its standard input and output, each behind two bytes of length.
struct Plug {
    running: Running,
    frames: BufReader<ChildStdout>,
}

impl Plug {
    fn start(dir: &Path) -> Plug {
        let mut command = Command::new("vde_plug");
        command
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        let frames = BufReader::new(running.0.stdout.take().unwrap());
        Plug { running, frames }
    }

    fn send(&mut self, frame: &[u8]) {
        let len = u16::try_from(frame.len()).unwrap().to_be_bytes();
        self.running
            .0
            .stdin
            .as_mut()
            .unwrap()
            .write_all(&[&len, frame].concat())
            .unwrap();
    }

    fn recv(&mut self) -> Vec<u8> {
        let mut len = [0; 2];
        self.frames.read_exact(&mut len).expect("a frame");
        let mut frame = vec![0; usize::from(u16::from_be_bytes(len))];
        self.frames.read_exact(&mut frame).unwrap();
        frame
    }
}

#[test]
fn frames_pass_both_ways_between_vde_plugs() {
    if !have("vde_plug", "--help") {
        return;
    }
    let lan = Lan::start();
    let (mut a, mut b) = (Plug::start(&lan.vde_dir()), Plug::start(&lan.vde_dir()));
    lan.await_ports(2);
    a.send(&frame(ALL, A, b"hello"));
    assert_eq!(b.recv(), frame(ALL, A, b"hello"));
    b.send(&frame(A, B, &[7; 1486]));
    assert_eq!(a.recv(), frame(A, B, &[7; 1486]));
    let ports = lan.switch.ports();
    assert!(
        ports.iter().all(|port| port.name.contains("user=")),
        "{ports:?}"
    );
    drop(a);
    lan.await_ports(1);
}

/// A network namespace with a tap device that `vde_plug2tap` joins to the switch.
///
/// It says `ready` when the device is up; then it runs the lines that it gets.
const NAMESPACE: &str = r#"
set -e
vde_plug2tap -s "$1" tap0 &
plug=$!
trap 'kill $plug' EXIT
until ip link show tap0 >&2; do kill -0 $plug; done
ip link set tap0 up
ip addr add "$2/24" dev tap0
echo ready
while read -r line; do eval "$line"; done
"#;

struct Namespace {
    running: Running,
    lines: BufReader<ChildStdout>,
}

impl Namespace {
    fn start(dir: &Path, address: &str) -> Namespace {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-c", NAMESPACE, "sh"])
            .arg(dir)
            .arg(address);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command);
        let lines = BufReader::new(running.0.stdout.take().unwrap());
        let mut namespace = Namespace { running, lines };
        assert_eq!(namespace.line(), "ready", "the tap device did not come up");
        namespace
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn run(&mut self, command: &str) -> String {
        writeln!(self.running.0.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.line()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.running.0.stdin.take()); // The shell ends, and takes its plug with it.
        let _ = self.running.0.wait();
    }
}

#[test]
fn two_kernels_ping_each_other_through_vde_plug2tap() {
    if !have("vde_plug2tap", "--help")
        || !have("busybox", "--help")
        || !have("ip", "-V")
        || !can_make_taps()
    {
        return;
    }
    let lan = Lan::start();
    let mut left = Namespace::start(&lan.vde_dir(), "10.99.0.1");
    let _right = Namespace::start(&lan.vde_dir(), "10.99.0.2");
    let said = left
        .run("if busybox ping -c 3 -i 0.1 -W 5 10.99.0.2 >&2; then echo pong; else echo lost; fi");
    assert_eq!(said, "pong");
    let totals = lan.switch.totals();
    assert!(
        totals.unicast >= 6,
        "three pings and three answers, each to one port: {totals:?}"
    );
}

fn can_make_taps() -> bool {
    let able = rustix::process::geteuid().is_root()
        && Path::new("/dev/net/tun").exists()
        && Command::new("unshare")
            .args(["--net", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !able {
        println!("SKIPPED: network namespaces and tap devices need root and /dev/net/tun");
    }
    able
}
