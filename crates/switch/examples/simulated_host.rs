//! A switch with a thousand hosts on one port, and a port of the program's own that finds one of them.
//!
//! `cargo run -p hotbed-switch --features hosts --example simulated_host`; with `listen_stream` or `add_tap` in place of
//! `add_local`, it is a QEMU or the kernel that finds them.

#![expect(clippy::disallowed_methods, reason = "an example has a clock")]

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hotbed_switch::hosts::simulated::{Profile, Simulated};
use hotbed_switch::{Config, MacAddr, Switch};

const PROBE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let switch = Switch::start(Config::default())?;
    let profile = Profile {
        count: 1000,
        first: Ipv4Addr::new(10, 1, 0, 1),
        prefix: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0),
        echo: true,
        http: true,
    };
    let hosts = Simulated::new(Instant::now(), 7, &profile).ok_or("hosts that cannot be")?;
    let hosts = switch.add_hosts(hosts, "simulated")?;

    let probe = switch.add_local("probe")?;
    let host = profile.host(999).ok_or("a host that there is not")?;
    probe.send(&arp_request(Ipv4Addr::new(10, 1, 255, 254), host.ipv4))?;
    let mut frame = [0; 1514];
    let until = Instant::now() + Duration::from_secs(20);
    let len = probe.recv_until(&mut frame, until)?.ok_or("no answer")?;
    assert_eq!(frame[..len][22..28], host.mac.0, "the sender's station");
    println!("{} is at {}", host.ipv4, host.mac);
    drop(hosts); // Takes them off the switch.
    Ok(())
}

/// Asks all for the station of an address.
fn arp_request(own: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &PROBE.0, &[8, 6]].concat();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1];
    [
        &ethernet[..],
        &arp,
        &PROBE.0,
        &own.octets(),
        &[0; 6],
        &wanted.octets(),
    ]
    .concat()
}
