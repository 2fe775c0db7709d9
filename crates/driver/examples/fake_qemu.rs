//! Stands in for QEMU and its guest in tests: connects to the driver's sockets as QEMU does, and gives a bash of the host as the
//! guest's root shell. So what goes wrong around a machine can be tried in milliseconds.
//!
//! The first argument says how it behaves (below); the rest is what the driver appends to a start script.
//!
//! - `guest`: as a guest that boots at once. `poweroff` in its shell ends it, the key ctrl-alt-delete boots it again.
//! - `die`: says something and exits with status 3.
//! - `die-booting`: connects everywhere, says something and exits with status 4.
//! - `silent`: connects everywhere; the shell never comes. `deaf`: does not even connect.
//! - `flood`: as `guest`, but says 60 MB on its console first.
//! - `agent`: as `guest`, with an agent.
//! - `children`: as `guest`, with a child in its process group and one in a session of its own.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a program that does nothing but I/O"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use hotbed_driver::AgentProgram;

/// What is between the driver and the guest's shell.
struct Guest {
    shell: UnixStream,
    bash: Mutex<Child>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let behaviour = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let place = |before: &str| {
        let argument = arguments
            .iter()
            .find_map(|argument| argument.strip_prefix(before));
        let path = argument.and_then(|path| path.split(',').next());
        path.expect("the driver says where it listens").to_owned()
    };
    let no_reboot = arguments.iter().any(|argument| argument == "-no-reboot");
    match behaviour.as_str() {
        "die" => end("fake-qemu: cannot find a machine to fake", 3),
        "deaf" => wait_forever(),
        "children" => start_children(),
        _ => {}
    }
    let qmp = place("unix:");
    let monitor = arguments
        .iter()
        .position(|argument| argument == "-monitor")
        .and_then(|at| arguments.get(at + 1));
    let monitor = monitor
        .and_then(|argument| argument.strip_prefix("unix:"))
        .expect("a monitor");
    serve_qmp(UnixListener::bind(qmp).expect("QMP socket"));
    let monitor = UnixStream::connect(monitor).expect("monitor");
    let shell = UnixStream::connect(place("socket,id=shell,path=")).expect("shell");
    println!("fake-qemu: [    0.000000] hello from the console");
    match behaviour.as_str() {
        "die-booting" => {
            serve_prompt(&monitor);
            std::thread::sleep(std::time::Duration::from_millis(300));
            end("fake-qemu: the guest broke", 4)
        }
        "silent" => {
            serve_prompt(&monitor);
            wait_forever()
        }
        _ => {}
    }
    if behaviour == "agent" {
        start_agent(&place("socket,id=agent,path="));
    }
    let guest = Arc::new(Guest {
        bash: Mutex::new(start_shell(&shell)),
        shell,
    });
    echo_console();
    if behaviour == "flood" {
        std::thread::spawn(flood);
    }
    serve_monitor(monitor, &guest, no_reboot);
}

fn end(words: &str, status: i32) -> ! {
    eprintln!("{words}");
    std::process::exit(status)
}

fn wait_forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Starts the agent that would go into a guest; the driver's socket is its port.
#[expect(clippy::zombie_processes, reason = "it ends with the process group")]
fn start_agent(socket: &str) {
    let Ok(AgentProgram::Found(agent)) = AgentProgram::find(None) else {
        end("fake-qemu: there is no agent", 5)
    };
    Command::new(agent.path())
        .args(["--no-cgroups", "--port", socket])
        .env("PATH", path())
        .stdin(Stdio::null())
        .spawn()
        .expect("the agent");
}

/// Where the guest's programs are: first of all a `poweroff` that ends us.
fn path() -> String {
    let power = Path::new(&std::env::var_os("TMPDIR").expect("a state directory")).join("bin");
    std::fs::create_dir_all(&power).expect("a directory");
    let poweroff = power.join("poweroff");
    std::fs::write(
        &poweroff,
        format!("#!/bin/sh\nkill {}\n", std::process::id()),
    )
    .expect("a script");
    Command::new("chmod")
        .arg("755")
        .arg(&poweroff)
        .status()
        .expect("chmod");
    format!(
        "{}:{}",
        power.display(),
        std::env::var("PATH").unwrap_or_default()
    )
}

/// Announces a root shell and starts it: a bash of this host.
fn start_shell(socket: &UnixStream) -> Child {
    let mut announce = socket.try_clone().expect("a descriptor");
    announce
        .write_all(b"Spawning backdoor root shell...\n")
        .expect("the driver listens");
    let descriptor = || Stdio::from(OwnedFd::from(socket.try_clone().expect("a descriptor")));
    let mut bash = Command::new("bash");
    bash.arg("--norc")
        .env("PATH", path())
        .env("PS1", "")
        .stdin(descriptor())
        .stdout(descriptor())
        .spawn()
        .expect("bash")
}

/// What is written to the console comes back, as from a terminal.
fn echo_console() {
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines() {
            println!("console got: {}", line.unwrap_or_default());
        }
    });
}

fn flood() {
    let line = format!("{}\n", "flood ".repeat(100));
    let mut out = std::io::stdout().lock();
    for _ in 0..100_000 {
        out.write_all(line.as_bytes())
            .expect("somebody reads the console");
    }
    writeln!(out, "the flood is over").expect("somebody reads the console");
}

#[expect(clippy::zombie_processes, reason = "they are there to be left over")]
fn start_children() {
    Command::new("sleep").arg("1000").spawn().expect("sleep");
    Command::new("setsid")
        .args(["sleep", "1001"])
        .spawn()
        .expect("setsid");
}

/// The human monitor: a prompt, an echo, and the commands that tests use.
fn serve_monitor(mut stream: UnixStream, guest: &Guest, no_reboot: bool) {
    serve_prompt(&stream);
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
        let command = line.trim().to_owned();
        line.clear();
        write!(stream, "{command}\r\n").expect("the driver listens");
        match command.as_str() {
            "quit" => std::process::exit(0),
            "sendkey ctrl-alt-delete" if no_reboot => std::process::exit(0),
            "sendkey ctrl-alt-delete" => {
                let mut bash = guest.bash.lock().expect("nobody panics");
                bash.kill().expect("bash runs");
                bash.wait().expect("bash ends");
                *bash = start_shell(&guest.shell);
            }
            "hang" => wait_forever(),
            other if other.starts_with("sendkey no") => {
                write!(stream, "unknown key: {other}\r\n").expect("the driver listens")
            }
            _ => {}
        }
        serve_prompt(&stream);
    }
    std::process::exit(0);
}

fn serve_prompt(mut stream: &UnixStream) {
    stream.write_all(b"(qemu) ").expect("the driver listens");
}

/// QMP: greets, agrees to everything but `unknown`, and sends an event with each answer to `stop`.
fn serve_qmp(listener: UnixListener) {
    let serve = move |mut stream: UnixStream| {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}"#;
        let _ = writeln!(stream, "{greeting}");
        let mut requests =
            serde_json::Deserializer::from_reader(stream.try_clone().expect("a descriptor"))
                .into_iter();
        while let Some(Ok(request)) = requests.next() {
            let request: serde_json::Value = request;
            let id = &request["id"];
            if request["execute"] == "unknown" {
                let _ = writeln!(
                    stream,
                    r#"{{"id": {id}, "error": {{"class": "CommandNotFound", "desc": "The command unknown has not been found"}}}}"#
                );
                continue;
            }
            if request["execute"] == "stop" {
                let _ = writeln!(
                    stream,
                    r#"{{"event": "STOP", "timestamp": {{"seconds": 1, "microseconds": 2}}}}"#
                );
            }
            let _ = writeln!(stream, r#"{{"id": {id}, "return": {{}}}}"#);
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
}
