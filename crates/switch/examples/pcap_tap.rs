//! A switch that records what passes, for Wireshark, and tells the program about some of it.
//!
//! `cargo run -p hotbed-switch --example pcap_tap`; with `listen_stream` in place of `add_local`, it is QEMUs that are looked at.

#![expect(clippy::disallowed_methods, reason = "an example has a clock")]

use std::error::Error;
use std::time::{Duration, Instant};

use hotbed_switch::wire::filter::Filter;
use hotbed_switch::{Config, End, Selection, Switch};

/// From 02:…:01 and 10.0.0.1, port 4096, to all and 10.0.0.2, port 80: the SYN of a connection.
const SYN: [u8; 54] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    16, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, // TCP
];

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // Another place, if the files are to stay.
    let (all, web) = (dir.path().join("all.pcapng"), dir.path().join("web.pcapng"));
    let switch = Switch::start(Config::default())?;
    let client = switch.add_local("client")?;
    let server = switch.add_local("server")?;

    // Each frame as it comes in; and what goes through one port, in tcpdump's words.
    switch.start_capture(&all)?;
    let of_server = Selection {
        ports: Some(vec![End::from("server")]),
        filter: Some(Filter::parse("tcp port 80")?),
    };
    switch.start_capture_of(&web, &of_server)?;
    let begins = Selection {
        filter: Some(Filter::parse("tcp and syn and not ack")?),
        ..Selection::default()
    };
    let watch = switch.watch(&begins)?;

    client.send(&SYN)?;
    let until = Instant::now() + Duration::from_secs(20);
    let seen = watch.poll(until)?.ok_or("no frame")?;
    println!("{seen}"); // from client: TCP 10.0.0.1:4096 > 10.0.0.2:80 SYN, 54 bytes
    server
        .recv_until(&mut [0; 1514], until)?
        .ok_or("no frame")?;

    // What is lost is in both files, with the comment "dropped: parted from client to server".
    switch.partition(&[vec![End::from("client")], vec![End::from("server")]])?;
    client.send(&SYN)?;
    switch.settle()?;
    let (all, web) = (switch.stop_capture()?, switch.stop_capture_of(&web)?);
    assert_eq!((all.frames, all.drops), (2, 1));
    assert_eq!((web.frames, web.drops), (1, 1));
    Ok(())
}
