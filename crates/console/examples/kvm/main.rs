//! A VMM that links the console: a guest on KVM says hello on a port, and echoes what it hears.
//!
//! ```sh
//! cargo run -p hotbed-console --features device --example kvm
//! ```

#![expect(
    clippy::disallowed_types,
    reason = "an example reads and writes a socket"
)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hotbed_console::device::in_process::Streams;
use hotbed_console::device::{Config, Port};
use vm_memory::{Bytes, GuestAddress};

#[expect(dead_code, reason = "the tests use more of it")]
mod vmm;

use vmm::guest::{Script, WRITE};
use vmm::{Result, Vmm};

/// Where the guest's text is, and where it is to hear ours.
const TEXT: (u32, &str) = (0x20_0000, "hello from the guest");
const HEARD: u32 = 0x20_1000;

fn main() -> Result<()> {
    let (mut peer, ours) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut script = Script::default();
    let len = u32::try_from(TEXT.1.len())?;
    script.set_up(1 << 32, 4);
    script.offer(1, 0, (TEXT.0, len), 0);
    script.kick(1);
    script.wait_used(1, 1, 0, 0);
    script.offer(0, 0, (HEARD, 64), WRITE);
    script.kick(0);
    script.wait_used(0, 1, 0, 6);
    script.offer(1, 0, (HEARD, 6), 0);
    script.kick(1);
    script.wait_used(1, 1, 0, 0);
    script.end();

    let port = Port {
        is_console: true,
        is_open: true,
        ..Port::default()
    };
    let config = Config {
        ports: vec![port],
        ..Config::default()
    };
    let streams = Streams::new(vec![Some(ours.into())]);
    let vmm = Vmm::start(config, streams, &script, |memory| {
        let text = GuestAddress(TEXT.0.into());
        memory
            .write_slice(TEXT.1.as_bytes(), text)
            .expect("it is in memory");
    })?;
    let talked = talk(&mut peer);
    let report = vmm.wait(Duration::from_secs(10))?;
    talked?;
    println!("{} exits of the vCPU", report.exits);
    Ok(())
}

/// The host's part: hears what the guest has to say, and answers.
fn talk(peer: &mut UnixStream) -> Result<()> {
    let mut bytes = [0; 64];
    peer.set_read_timeout(Some(Duration::from_secs(10)))?;
    peer.read_exact(&mut bytes[..TEXT.1.len()])?;
    println!("{}", String::from_utf8_lossy(&bytes[..TEXT.1.len()]));
    peer.write_all(b"hello!")?;
    peer.read_exact(&mut bytes[..6])?;
    println!("{}", String::from_utf8_lossy(&bytes[..6]));
    Ok(())
}
