//! Builds an image and prints the arguments of a QEMU that boots it as the machine `demo`.
//!
//! `cargo run -p hotbed-image --example build -- micro demo.initrd` or `… -- debian demo.initrd nginx-light curl`

use hotbed_image::{Cache, DebianSpec, Identity, Interface, LogConsole, Progress, Spec, build};

struct Lines;

impl Progress for Lines {
    fn step(&self, message: &str) {
        eprintln!("* {message}");
    }

    fn line(&self, text: &str) {
        eprintln!("  {text}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (kind, path) = (
        arguments.next().ok_or("which image?")?,
        arguments.next().ok_or("where to write its initrd?")?,
    );
    let spec = match kind.as_str() {
        "micro" => Spec::Micro,
        _ => Spec::Debian(DebianSpec {
            packages: arguments.collect(),
            ..DebianSpec::default()
        }),
    };
    let image = build(&Cache::open()?, &spec, &Lines)?;
    let eth1 = Interface {
        name: "eth1".to_owned(),
        mac: [0x52, 0x54, 0, 0x12, 1, 1],
        ipv4: ("192.168.1.1".parse()?, 24),
        ipv6: ("2001:db8:1::1".parse()?, 64),
    };
    let identity = Identity {
        hostname: "demo".to_owned(),
        interfaces: vec![eth1],
        hosts: Vec::new(),
    };
    image.write_initrd(&identity, path.as_ref())?;
    for argument in image.arguments(path.as_ref(), LogConsole::Virtio) {
        println!("{}", argument.display());
    }
    Ok(())
}
