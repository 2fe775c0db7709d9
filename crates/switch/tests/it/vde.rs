//! VDE ports, with clients of our own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hotbed_switch::wire::{FRAME_MAX, MacAddr};
use hotbed_switch::{Config, Error, PortKind, Switch};

use crate::support::{A, ALL, B, C, Lan, SOON, VdeClient, eventually, frame};

#[test]
fn frames_for_a_known_station_go_to_its_port_alone() {
    let lan = Lan::start();
    let (a, b, c) = (lan.client("a"), lan.client("b"), lan.client("c"));
    b.send(&frame(ALL, B, b"here is b"));
    assert_eq!(a.recv(), frame(ALL, B, b"here is b"));
    assert_eq!(c.recv(), frame(ALL, B, b"here is b"));
    a.send(&frame(B, A, b"for b"));
    a.send(&frame(ALL, A, b"for all"));
    assert_eq!(b.recv(), frame(B, A, b"for b"));
    assert_eq!(b.recv(), frame(ALL, A, b"for all"));
    assert_eq!(
        c.recv(),
        frame(ALL, A, b"for all"),
        "c must not see what was for b"
    );
    let totals = lan.switch.totals();
    assert_eq!((totals.unicast, totals.flooded, totals.learned), (1, 2, 2));
}

#[test]
fn a_tagged_frame_goes_through_untouched_and_is_learned_by_its_address() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    let mut tagged = frame(B, A, b"");
    tagged.splice(12..12, [0x81, 0x00, 0x60, 0x2a]);
    a.send(&tagged);
    assert_eq!(b.recv(), tagged);
    let known: Vec<MacAddr> = lan
        .switch
        .stations()
        .iter()
        .map(|known| known.address)
        .collect();
    assert_eq!(known, [A]);
}

#[test]
fn frames_of_64_kib_go_through() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    let large = frame(ALL, A, &vec![0x5a; 64 * 1024]);
    a.send(&large);
    assert_eq!(b.recv(), large);
}

#[test]
fn frames_that_are_too_short_or_too_long_are_dropped_and_counted() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    a.send(&[0xff; 13]);
    a.send(&[0xff; FRAME_MAX + 1]);
    a.send(&[]);
    a.send(&frame(ALL, A, b"good"));
    assert_eq!(b.recv(), frame(ALL, A, b"good"));
    let counters = lan.counters("a");
    assert_eq!(
        (
            counters.drops.runt,
            counters.drops.oversized,
            counters.frames_in
        ),
        (1, 1, 1)
    );
    assert_eq!(
        counters.drops.total(),
        2,
        "an empty datagram is not a frame"
    );
}

#[test]
fn a_slow_port_loses_frames_by_count_and_delays_nobody() {
    let lan = Lan::with(Config {
        queue_frames_max: 100,
        ..Config::default()
    });
    let (a, b, slow) = (lan.client("a"), lan.client("b"), lan.client("slow"));
    for number in 0..5000_u32 {
        a.send(&frame(ALL, A, &number.to_be_bytes()));
        assert_eq!(
            b.recv(),
            frame(ALL, A, &number.to_be_bytes()),
            "the quick port gets all"
        );
    }
    let full = lan.counters("slow");
    assert!(full.drops.queue_full > 0);
    assert_eq!(
        full.frames_out + 100 + full.drops.queue_full,
        5000,
        "each frame is accounted for"
    );
    // What was kept comes in order and without a gap. Room for one frame does not let a new one overtake.
    for number in 0..50_u32 {
        assert_eq!(slow.recv(), frame(ALL, A, &number.to_be_bytes()));
        a.send(&frame(ALL, A, b"new"));
        b.recv();
    }
    for number in 50..(full.frames_out + 100) as u32 {
        assert_eq!(slow.recv(), frame(ALL, A, &number.to_be_bytes()));
    }
    // After it the port is as good as new.
    slow.data.set_nonblocking(true).unwrap();
    eventually("the queue to be empty", || {
        while slow.data.recv(&mut [0; 100]).is_ok() {}
        lan.switch.ports().iter().all(|port| port.queued == 0)
    });
    while slow.data.recv(&mut [0; 100]).is_ok() {}
    slow.data.set_nonblocking(false).unwrap();
    let full = lan.counters("slow");
    a.send(&frame(ALL, A, b"again"));
    assert_eq!(slow.recv(), frame(ALL, A, b"again"));
    assert_eq!(lan.counters("slow").drops.queue_full, full.drops.queue_full);
}

#[test]
fn a_port_goes_with_its_client_and_its_stations_are_forgotten() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    b.send(&frame(ALL, B, b""));
    a.recv();
    assert!(b.port_path.exists());
    let gone = b.port_path.clone();
    drop(b);
    lan.await_ports(1);
    assert!(!gone.exists());
    assert!(lan.switch.stations().is_empty());
    assert_eq!(
        lan.switch.totals().counters.frames_in,
        1,
        "the totals keep what went through it"
    );
    let b = lan.client("b again");
    a.send(&frame(B, A, b"flooded"));
    assert_eq!(b.recv(), frame(B, A, b"flooded"));
}

#[test]
fn a_client_whose_socket_is_gone_costs_only_its_own_frames() {
    let lan = Lan::start();
    let (a, b, deaf) = (lan.client("a"), lan.client("b"), lan.client("deaf"));
    let VdeClient { control, data, .. } = &deaf;
    let (_control, _data) = (control.try_clone().unwrap(), data.try_clone().unwrap());
    data.shutdown(std::net::Shutdown::Read).unwrap();
    a.send(&frame(ALL, A, b"1"));
    assert_eq!(b.recv(), frame(ALL, A, b"1"));
    eventually("the drop", || lan.counters("deaf").drops.no_peer == 1);
}

#[test]
fn a_client_gets_the_port_it_asks_for_if_it_is_free() {
    let lan = Lan::start();
    let dir = lan.vde_dir();
    let seventh = VdeClient::connect(&dir, "seven", Some(7)).unwrap();
    let name = seventh
        .port_path
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(name.starts_with("007."), "{name}");
    assert!(
        VdeClient::connect(&dir, "seven too", Some(7)).is_err(),
        "it is taken"
    );
    assert!(
        VdeClient::connect(&dir, "far out", Some(2000)).is_err(),
        "there is no such port"
    );
    let first = VdeClient::connect(&dir, "any", None).unwrap();
    assert!(
        first
            .port_path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("001.")
    );
    let ports = lan.switch.ports();
    let listed: Vec<_> = ports
        .iter()
        .map(|port| (port.id.number(), &*port.name, port.kind))
        .collect();
    assert_eq!(
        listed,
        [(1, "any", PortKind::Vde), (7, "seven", PortKind::Vde)]
    );
    assert_eq!(lan.switch.totals().turned_away, 2);
}

#[test]
fn a_full_switch_turns_clients_away_until_a_port_is_free() {
    let lan = Lan::with(Config {
        ports_max: 2,
        ..Config::default()
    });
    let (_a, b) = (lan.client("a"), lan.client("b"));
    assert!(VdeClient::connect(&lan.vde_dir(), "c", None).is_err());
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(matches!(
        lan.switch.add_stream(ours, "d"),
        Err(Error::Full(2))
    ));
    let local = lan.path("local");
    let refused = lan.switch.add_dgram(&local, &lan.path("remote"), "e");
    assert!(matches!(refused, Err(Error::Full(2))) && !local.exists());
    drop(b);
    lan.await_ports(1);
    let c = lan.client("c");
    c.send(&frame(ALL, C, b""));
}

#[test]
fn requests_that_make_no_sense_are_turned_away_and_cost_nobody_anything() {
    let lan = Lan::start();
    let connect = || UnixStream::connect(lan.vde_dir().join("ctl")).unwrap();
    let silent: Vec<UnixStream> = (0..100).map(|_| connect()).collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 300],
        &[0xff; 122],
        b"\xce\xfa\xed\xfe\x02\0\0\0",
    ] {
        let mut client = connect();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(garbage).unwrap();
        // The rest of what was sent is lost with the connection: a reset is as good as an end.
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    let (a, b) = (lan.client("a"), lan.client("b"));
    a.send(&frame(ALL, A, b"well"));
    assert_eq!(b.recv(), frame(ALL, A, b"well"));
    let turned_away = lan.switch.totals().turned_away;
    assert!(
        (40..104).contains(&turned_away),
        "{turned_away}: the oldest had to go for new ones"
    );
    drop(silent);
    eventually("all to be turned away", || {
        lan.switch.totals().turned_away == 104
    });
}

#[test]
fn a_request_in_pieces_is_put_together() {
    let lan = Lan::start();
    let path = lan.vde_dir().join(".pieces");
    let data = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let request = hotbed_switch::wire::vde::Request {
        port: None,
        path: &path,
        description: b"p",
    }
    .to_bytes();
    let mut control = UnixStream::connect(lan.vde_dir().join("ctl")).unwrap();
    control.set_read_timeout(Some(SOON)).unwrap();
    let (head, tail) = request.split_at(50);
    control.write_all(head).unwrap();
    for _ in 0..10 {
        lan.switch.ports(); // Round trips, in which the first piece is read.
    }
    control.write_all(tail).unwrap();
    control.read_exact(&mut [0; 110]).unwrap();
    drop(data);
}

#[test]
fn a_removed_port_hangs_up_on_its_client() {
    let lan = Lan::start();
    let mut a = lan.client("a");
    let id = lan.switch.ports()[0].id;
    lan.switch.remove(id).unwrap();
    assert_eq!(a.control.read(&mut [0; 1]).unwrap(), 0);
    assert!(matches!(lan.switch.remove(id), Err(Error::NoPort(port)) if port == id));
    let _b = lan.client("b");
    assert!(
        matches!(lan.switch.remove(id), Err(Error::NoPort(_))),
        "the number has a new owner"
    );
}

#[test]
fn a_silent_station_is_forgotten() {
    let lan = Lan::with(Config {
        station_ttl: Duration::ZERO,
        ..Config::default()
    });
    let (_a, b) = (lan.client("a"), lan.client("b"));
    b.send(&frame(ALL, B, b""));
    eventually("the frame", || lan.counters("b").frames_in == 1);
    eventually("the station to age", || lan.switch.stations().is_empty());
}

#[test]
fn a_dropped_switch_leaves_nothing_behind() {
    let lan = Lan::start();
    lan.switch.listen_stream(&lan.path("stream")).unwrap();
    lan.switch
        .add_dgram(&lan.path("local"), &lan.path("remote"), "d")
        .unwrap();
    let client = lan.client("a");
    let Lan { switch, dir } = lan;
    drop(switch);
    assert!(!client.port_path.exists());
    drop(client);
    let left: Vec<_> = walk(dir.path());
    assert_eq!(
        left,
        ["vde.ctl"],
        "a client's socket was in the folder when the switch stopped"
    );
    let switch = Switch::start(Config::default()).unwrap();
    switch.listen_vde(&dir.path().join("other.ctl")).unwrap();
    drop(switch);
    assert_eq!(walk(dir.path()), ["vde.ctl"]);
}

#[test]
fn a_socket_that_nobody_serves_is_replaced_and_one_that_is_served_is_not() {
    let lan = Lan::start();
    let other = Switch::start(Config::default()).unwrap();
    let refused = other.listen_vde(&lan.vde_dir());
    assert!(matches!(refused, Err(Error::Listen { .. })), "{refused:?}");
    let _a = lan.client("the first switch still serves it");
    let stale = lan.path("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    other.listen_stream(&stale).unwrap();
}

#[test]
fn a_folder_with_too_long_a_name_is_refused() {
    let lan = Lan::start();
    let refused = lan
        .switch
        .listen_vde(&lan.path(&"x".repeat(90)))
        .unwrap_err();
    assert!(
        refused.to_string().starts_with("cannot listen at /"),
        "{refused}"
    );
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(walk(&entry.path()));
        }
        names.push(entry.file_name().to_str().unwrap().to_owned());
    }
    names
}
