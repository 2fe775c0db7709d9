//! A machine that is stopped in the middle of everything.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hotbed_switch::PortKind;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{A, ALL, B, Lan, Running, VdeClient, eventually, frame};

/// Says to a client of this program where to connect: `stream:/path` or `vde:/path`.
const CLIENT: &str = "HOTBED_TEST_CLIENT";

/// How many frames may be on their way between the two that run.
const WINDOW: u32 = 8;

/// Connects, and reads until it is killed.
fn be_client(address: &str) {
    if let Some(path) = address.strip_prefix("stream:") {
        let mut stream = UnixStream::connect(path).unwrap();
        let mut buffer = vec![0; 1 << 16];
        while stream.read(&mut buffer).unwrap() > 0 {}
    } else if let Some(dir) = address.strip_prefix("vde:") {
        let client = VdeClient::connect(Path::new(dir), "stopped", None).unwrap();
        client.data.set_read_timeout(None).unwrap();
        loop {
            client.recv();
        }
    }
    #[cfg(feature = "vhost-user")]
    if let Some(path) = address.strip_prefix("vhost-user:") {
        use crate::guest::{Guest, Options};
        let mut guest = Guest::connect(Path::new(path), Options::default());
        guest.send(&frame(ALL, B, b"ready"));
        loop {
            guest.recv_patiently();
        }
    }
}

/// Starts a client, stops it, and has two others run at full rate; then has it go on.
fn others_run_while_one_is_stopped(test: &str, address: impl Fn(&Lan) -> String) {
    if let Ok(address) = std::env::var(CLIENT) {
        return be_client(&address);
    }
    let lan = Lan::start();
    lan.switch.listen_stream(&lan.path("stopped.sock")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env(CLIENT, address(&lan));
    let client = Running::start(command.stdout(Stdio::null()));
    let pid = Pid::from_child(&client.0);
    lan.await_ports(1);
    eventually("the client to be ready", || is_ready(&lan));
    let (a, b) = (lan.client("a"), lan.client("b"));
    kill_process(pid, Signal::STOP).unwrap();
    let (mut slowest, mut sent) = (Duration::ZERO, 0);
    for received in 0..20_000_u32 {
        while sent < received + WINDOW {
            a.send(&frame(ALL, A, &sent.to_be_bytes()));
            sent += 1;
        }
        let start = Instant::now();
        assert_eq!(b.recv(), frame(ALL, A, &received.to_be_bytes()));
        slowest = slowest.max(start.elapsed());
    }
    // Had the switch waited for the stopped one, it would have been for ever.
    println!("slowest frame: {slowest:?}");
    eventually("each frame to be accounted for", || {
        let stopped = lan.counters("stopped");
        let lost = stopped.drops.queue_full;
        lost > 10_000 && stopped.frames_out + lost + queued(&lan) == u64::from(sent)
    });
    assert_eq!(lan.counters("b").drops.total(), 0);
    kill_process(pid, Signal::CONT).unwrap();
    eventually("the queue to be drained", || queued(&lan) == 0);
    b.send(&frame(A, B, b"still here"));
    let mut left = sent - 20_000;
    while left > 0 {
        b.recv();
        left -= 1;
    }
    assert_eq!(a.recv(), frame(A, B, b"still here"));
    let after = lan.counters("stopped");
    assert_eq!(after.frames_out + after.drops.queue_full, u64::from(sent));
}

/// A guest that shares its memory has a port before it has a card, and says when that runs.
fn is_ready(lan: &Lan) -> bool {
    let ports = lan.switch.ports();
    let stopped = ports.iter().find(|port| port.name == "stopped");
    stopped.is_some_and(|port| port.kind != PortKind::VhostUser || port.counters.frames_in > 0)
}

fn queued(lan: &Lan) -> u64 {
    let ports = lan.switch.ports();
    let stopped = ports.iter().find(|port| port.name == "stopped");
    stopped.expect("the port is there").queued as u64
}

#[test]
fn a_stopped_stream_client_delays_nobody_and_goes_on_later() {
    others_run_while_one_is_stopped(
        "stopped::a_stopped_stream_client_delays_nobody_and_goes_on_later",
        |lan| format!("stream:{}", lan.path("stopped.sock").display()),
    );
}

#[test]
fn a_stopped_vde_client_delays_nobody_and_goes_on_later() {
    others_run_while_one_is_stopped(
        "stopped::a_stopped_vde_client_delays_nobody_and_goes_on_later",
        |lan| format!("vde:{}", lan.vde_dir().display()),
    );
}

#[test]
#[cfg(feature = "vhost-user")]
fn a_stopped_guest_that_shares_its_memory_delays_nobody_and_goes_on_later() {
    others_run_while_one_is_stopped(
        "stopped::a_stopped_guest_that_shares_its_memory_delays_nobody_and_goes_on_later",
        |lan| {
            let path = lan.path("stopped.vhost-user");
            lan.switch.listen_vhost_user(&path).unwrap();
            format!("vhost-user:{}", path.display())
        },
    );
}

#[test]
#[cfg(feature = "vhost-user")]
fn a_stopped_client_does_not_delay_guests_that_share_their_memory() {
    use crate::guest::{Guest, Options};
    use crate::support::C;
    const TEST: &str = "stopped::a_stopped_client_does_not_delay_guests_that_share_their_memory";
    if let Ok(address) = std::env::var(CLIENT) {
        return be_client(&address);
    }
    let lan = Lan::start();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let vde = format!("vde:{}", lan.vde_dir().display());
    command.args(["--exact", TEST]).env(CLIENT, vde);
    let client = Running::start(command.stdout(Stdio::null()));
    lan.await_ports(1);
    kill_process(Pid::from_child(&client.0), Signal::STOP).unwrap();
    let guest = |name: &str| {
        let path = lan.path(name);
        lan.switch.listen_vhost_user(&path).unwrap();
        Guest::connect(&path, Options::default())
    };
    let (mut a, mut b) = (guest("a"), guest("b"));
    b.send(&frame(ALL, B, b"hello"));
    a.recv();
    for number in 0..5000_u32 {
        // What is for all fills the stopped one's socket and then its queue; what is for one does not see that.
        a.send(&frame(ALL, A, &number.to_be_bytes()));
        a.send(&frame(B, A, &number.to_le_bytes()));
        assert_eq!(b.recv(), frame(ALL, A, &number.to_be_bytes()));
        assert_eq!(b.recv(), frame(B, A, &number.to_le_bytes()));
    }
    a.send(&frame(C, A, b"for nobody that is known"));
    b.recv();
    eventually("each frame to be accounted for", || {
        let stopped = lan.counters("stopped");
        let lost = stopped.drops.queue_full;
        lost > 1000 && stopped.frames_out + lost + queued(&lan) == 5002
    });
    assert_eq!(lan.counters("b").frames_out, 10_001);
    assert_eq!(
        lan.switch.totals().counters.drops.queue_full,
        lan.counters("stopped").drops.queue_full
    );
}
