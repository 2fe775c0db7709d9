//! A switch between two QEMUs. No guest is booted: the boot ROMs of their network cards ask all for an address, and so each
//! hears the other.
//!
//! `cargo run -p hotbed-switch --example two_qemus`

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an example has a clock, and starts processes"
)]

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hotbed_switch::wire::filter::Filter;
use hotbed_switch::wire::pcapng::Direction;
use hotbed_switch::{Config, End, Selection, Switch};

/// How long firmware may take under emulation on a busy host.
const BOOT: Duration = Duration::from_secs(240);

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let switch = Switch::start(Config::default())?;
    let names = ["alice", "bob"];
    let requests = Selection {
        ports: Some(names.map(End::from).to_vec()),
        filter: Some(Filter::parse("udp dst port 67")?),
    };
    let watch = switch.watch(&requests)?;
    let mut guests = Vec::new();
    for (name, number) in names.into_iter().zip(1..) {
        let socket = dir.path().join(name); // The port is named after it.
        switch.listen_stream(&socket)?;
        guests.push(Guest::start(&socket, number)?);
    }
    let (until, mut waiting) = (Instant::now() + BOOT, names.to_vec());
    while !waiting.is_empty() {
        let seen = watch.poll(until)?.ok_or("nobody asked for an address")?;
        println!("{seen}");
        if seen.direction == Direction::Out {
            waiting.retain(|name| **name != *seen.port_name);
        }
    }
    Ok(())
}

/// A QEMU that ends with the example.
struct Guest(Child);

impl Guest {
    fn start(socket: &Path, number: u8) -> io::Result<Guest> {
        let netdev = "stream,id=n0,server=off,addr.type=unix,addr.path=";
        let child = Command::new("qemu-system-x86_64")
            .args(["-M", "q35", "-accel", "tcg", "-m", "32", "-nodefaults"])
            .args(["-display", "none", "-boot", "n,reboot-timeout=0"])
            .arg("-netdev")
            .arg(format!("{netdev}{}", socket.display()))
            .arg("-device")
            .arg(format!(
                "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:{number:02x}"
            ))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Guest(child))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
