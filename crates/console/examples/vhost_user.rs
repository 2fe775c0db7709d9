//! A back end that serves a console on a vhost-user socket, and brings it to this terminal.
//!
//! ```sh
//! cargo run -p hotbed-console --features vhost-user --example vhost_user -- console.sock
//! ```
//!
//! Then, with a QEMU of 10.2 or later (and `hvc0` is the guest's `console=`):
//!
//! ```sh
//! qemu-system-x86_64 -object memory-backend-memfd,id=ram,size=512M,share=on -machine q35,memory-backend=ram -m 512M \
//!     -chardev socket,id=console,path=console.sock \
//!     -device vhost-user-test-device-pci,virtio-id=3,num_vqs=4,config_size=12,chardev=console …
//! ```
//!
//! or with User-mode Linux: `linux.uml virtio_uml.device=console.sock:3 …`.

#![expect(clippy::disallowed_methods, reason = "examples are I/O shells")]

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hotbed_console::device::vhost_user::{Happened, Service};
use hotbed_console::device::{Config, Port};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: vhost_user SOCKET".into());
    };
    let console = Port {
        is_console: true,
        is_open: true,
        ..Port::default()
    };
    let config = Config {
        ports: vec![console],
        ..Config::default()
    };
    let mut service = Service::listen(&path, config)?;
    let mut stream = service.stream(0)?;
    let running = service.start()?;

    let mut input = stream.try_clone()?;
    std::thread::spawn(move || io::copy(&mut io::stdin(), &mut input));
    std::thread::spawn(move || io::copy(&mut stream, &mut io::stdout()));
    loop {
        let soon = Instant::now() + Duration::from_secs(3600);
        match running.poll(soon) {
            Some(Happened::Disconnected(None)) => return Ok(()), // `path` is removed now.
            Some(Happened::Disconnected(Some(error))) => return Err(error.into()),
            Some(happened) => eprintln!("{happened:?}"),
            None => {}
        }
    }
}
