//! Captures, read back by somebody else's reader.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use hotbed_switch::wire::filter::Filter;
use hotbed_switch::{Config, End, Error, Impairment, Loss, PortSettings, Selection, Way};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::support::{A, ALL, B, Lan, VdeClient, eventually, frame};

#[path = "../../examples/pcap_tap.rs"]
mod pcap_tap;

/// A frame in a capture: its interface, its time, its bytes.
type Captured = (u32, Duration, Vec<u8>);

/// Gives the interfaces' names, and the frames.
fn read(path: &std::path::Path) -> (Vec<String>, Vec<Captured>) {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let (mut names, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a whole block") {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption::IfName(name) => {
                        Some(name.to_string())
                    }
                    _ => None,
                });
                names.push(name.expect("a name"));
            }
            Block::EnhancedPacket(packet) => {
                assert_eq!(packet.original_len as usize, packet.data.len());
                frames.push((packet.interface_id, packet.timestamp, packet.data.to_vec()));
            }
            other => panic!("a block that we do not write: {other:?}"),
        }
    }
    (names, frames)
}

#[test]
fn a_capture_has_each_frame_once_with_the_port_it_came_by() {
    let lan = Lan::start();
    let (a, b) = (lan.client("alpha"), lan.client("beta"));
    a.send(&frame(ALL, A, b"before"));
    b.recv();
    let path = lan.path("vlan.pcapng");
    lan.switch.start_capture(&path).unwrap();
    assert!(matches!(
        lan.switch.start_capture(&path),
        Err(Error::CaptureRunning(_))
    ));
    let odd = [&frame(B, A, b"odd length")[..], b"..."].concat();
    a.send(&odd);
    b.recv();
    let late = lan.client("a late one");
    late.send(&frame(ALL, B, b"late"));
    a.recv();
    let summary = lan.switch.stop_capture().unwrap();
    assert_eq!(
        (summary.frames, summary.bytes, summary.frames_lost),
        (2, 63 + 60, 0)
    );
    a.send(&frame(ALL, A, b"after"));
    b.recv();
    let (names, frames) = read(&path);
    assert_eq!(names, ["alpha", "beta", "a late one"]);
    let seen: Vec<_> = frames
        .iter()
        .map(|(port, _, bytes)| (*port, &**bytes))
        .collect();
    assert_eq!(seen, [(0, &*odd), (2, &*frame(ALL, B, b"late"))]);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    for (_, time, _) in frames {
        assert!(
            time <= now && now - time < Duration::from_secs(60),
            "{time:?} is not just before {now:?}"
        );
    }
    assert!(matches!(lan.switch.stop_capture(), Err(Error::NoCapture)));
}

#[test]
fn a_capture_can_be_read_while_it_runs_and_is_whole_when_the_switch_stops() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    let path = lan.path("vlan.pcapng");
    lan.switch.start_capture(&path).unwrap();
    a.send(&frame(ALL, A, b"1"));
    b.recv();
    eventually("the first frame in the file", || {
        std::fs::metadata(&path).unwrap().len() > 200
    });
    for number in 0..1000_u32 {
        a.send(&frame(ALL, A, &number.to_be_bytes()));
        b.recv();
    }
    let Lan { switch, dir } = lan;
    drop((a, b));
    drop(switch);
    assert_eq!(read(&path).1.len(), 1001);
    drop(dir);
}

#[test]
fn a_capture_that_cannot_be_written_says_so_and_costs_no_frame() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    let missing = lan.path("no/such/folder");
    assert!(matches!(
        lan.switch.start_capture(&missing),
        Err(Error::Capture { .. })
    ));
    lan.switch
        .start_capture(std::path::Path::new("/dev/full"))
        .unwrap();
    exchange(&a, &b);
    let failed = lan.switch.stop_capture().unwrap_err();
    assert_eq!(failed.to_string(), "cannot capture to /dev/full");
    exchange(&a, &b);
}

#[test]
fn a_capture_to_a_pipe_that_nobody_reads_yet_delays_no_frame() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    let pipe = pipe(&lan);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| lan.switch.start_capture(&pipe));
        exchange(&a, &b); // While the pipe is being opened, which takes until somebody reads it.
        let reader = File::open(&pipe).unwrap();
        started.join().unwrap().unwrap();
        exchange(&a, &b);
        let counted = scope.spawn(move || count_frames(reader));
        assert_eq!(lan.switch.stop_capture().unwrap().frames, 100);
        assert_eq!(counted.join().unwrap(), 100);
    });
}

#[test]
fn a_disk_that_stands_still_costs_captured_frames_only() {
    let lan = Lan::start();
    let (a, b) = (lan.client("a"), lan.client("b"));
    let pipe = pipe(&lan);
    let mut reader = File::options().read(true).write(true).open(&pipe).unwrap();
    lan.switch.start_capture(&pipe).unwrap();
    let large = frame(ALL, A, &[0x5a; 60_000]);
    for _ in 0..200 {
        a.send(&large);
        assert_eq!(b.recv(), large);
    }
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| lan.switch.stop_capture().unwrap());
        let (mut file, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while !stopped.is_finished() || rustix::io::ioctl_fionread(&reader).unwrap() > 0 {
            // The pipe has a writer here too, so that reading it would never end.
            if rustix::io::ioctl_fionread(&reader).unwrap() > 0 {
                let len = reader.read(&mut buffer).unwrap();
                file.extend_from_slice(&buffer[..len]);
            }
        }
        let summary = stopped.join().unwrap();
        assert!(summary.frames_lost > 0, "{summary:?}");
        assert_eq!(summary.frames + summary.frames_lost, 200);
        assert_eq!(count_frames(&file[..]), summary.frames);
    });
}

fn count_frames(file: impl Read) -> u64 {
    let (mut reader, mut frames) = (PcapNgReader::new(file).unwrap(), 0);
    while let Some(block) = reader.next_block() {
        frames += u64::from(matches!(block.unwrap(), Block::EnhancedPacket(_)));
    }
    frames
}

fn pipe(lan: &Lan) -> PathBuf {
    let pipe = lan.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    pipe
}

fn exchange(a: &VdeClient, b: &VdeClient) {
    for _ in 0..100 {
        a.send(&frame(ALL, A, b""));
        assert_eq!(b.recv(), frame(ALL, A, b""));
    }
}

#[test]
fn a_port_is_captured_in_both_directions_and_by_a_filter_beside_the_whole() {
    let lan = Lan::start();
    let (a, b) = (lan.client("alpha"), lan.client("beta"));
    lan.await_ports(2);
    let (whole, part) = (lan.path("whole.pcapng"), lan.path("part.pcapng"));
    let options = Selection {
        ports: Some(vec![End::from("beta"), End::from("late")]),
        filter: Some(Filter::parse("not less 60").unwrap()),
    };
    lan.switch.start_capture(&whole).unwrap();
    lan.switch.start_capture_of(&part, &options).unwrap();
    let again = lan.switch.start_capture_of(&part, &options);
    assert!(matches!(again, Err(Error::CaptureRunning(_))));
    let late = lan.client("late");
    let long = |number| frame(ALL, A, &[number; 100]);
    a.send(&long(1));
    a.send(&frame(ALL, A, b"too short"));
    for client in [&b, &late] {
        client.recv();
        client.recv();
    }
    b.send(&long(2));
    assert_eq!(late.recv(), long(2));
    assert_eq!(a.recv(), long(2));
    let summary = lan.switch.stop_capture_of(&part).unwrap();
    assert_eq!((summary.frames, summary.frames_lost), (4, 0));
    let stopped = lan.switch.stop_capture_of(&part);
    assert!(matches!(stopped, Err(Error::NoCapture)));
    assert_eq!(lan.switch.stop_capture().unwrap().frames, 3);
    assert_eq!(read(&whole).0, ["alpha", "beta", "late"]);

    let (names, frames) = read(&part);
    assert_eq!(names, ["beta", "late"]);
    let frames = frames
        .into_iter()
        .map(|(interface, _, bytes)| (interface, bytes));
    let seen: Vec<_> = frames.zip(directions(&part)).collect();
    let (sent, came) = (Some(2), None);
    // The first frame goes out by both, in any order; then `beta`'s comes in, and goes out by `late`.
    for expected in [((0, long(1)), sent), ((1, long(1)), sent)] {
        assert!(seen[..2].contains(&expected));
    }
    assert_eq!(seen[2..], [((0, long(2)), came), ((1, long(2)), sent)]);
}

/// Gives the flags of each frame: 2 is outbound.
fn directions(path: &std::path::Path) -> Vec<Option<u32>> {
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut found = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            found.push(packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Flags(flags) => Some(*flags),
                _ => None,
            }));
        }
    }
    found
}

/// The comment of each frame that has one, behind the name of its interface.
fn comments(path: &std::path::Path) -> Vec<String> {
    let names = read(path).0;
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut found = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.unwrap() else {
            continue;
        };
        for option in &packet.options {
            if let EnhancedPacketOption::Comment(comment) = option {
                found.push(format!(
                    "{}: {comment}",
                    names[packet.interface_id as usize]
                ));
            }
        }
    }
    found
}

#[test]
fn the_example_records_what_passes_and_what_is_lost() {
    pcap_tap::main().unwrap();
}

#[test]
fn a_lost_frame_is_captured_with_why_it_is_lost() {
    let lan = Lan::start();
    let (alpha, beta) = (
        lan.switch.add_local("alpha").unwrap(),
        lan.switch.add_local("beta").unwrap(),
    );
    let (whole, part) = (lan.path("whole.pcapng"), lan.path("part.pcapng"));
    lan.switch.start_capture(&whole).unwrap();
    let selection = Selection {
        ports: Some(vec![End::from("alpha")]),
        filter: Some(Filter::parse("not less 60").unwrap()),
    };
    lan.switch.start_capture_of(&part, &selection).unwrap();
    let send = |len: usize| {
        alpha.send(&frame(ALL, A, &vec![0; len])).unwrap();
        lan.switch.settle().unwrap();
    };
    lan.switch.partition(&[vec![End::from("beta")]]).unwrap();
    send(100);
    send(0); // The filter of `part` does not mean it.
    lan.switch.heal().unwrap();
    let lossy = Impairment {
        loss: Loss::Uniform(1.0),
        ..Impairment::default()
    };
    for way in [Way::between("alpha", "beta"), Way::From(End::from("alpha"))] {
        lan.switch.impair(&way, &lossy).unwrap();
        send(100);
        lan.switch.unimpair(&way).unwrap();
    }
    let small = PortSettings {
        mtu: 500,
        ..PortSettings::default()
    };
    lan.switch
        .set_port(&End::from("beta"), Some(small))
        .unwrap();
    send(501);
    send(100);
    let summary = lan.switch.stop_capture().unwrap();
    assert_eq!((summary.frames, summary.drops), (6, 5));
    let summary = lan.switch.stop_capture_of(&part).unwrap();
    assert_eq!((summary.frames, summary.drops), (5, 4));
    assert_eq!(beta.recv(&mut [0; 1514]), Ok(Some(114)));
    let parted = "dropped: parted from alpha to beta";
    let rest = [
        "dropped: lost by an impairment from alpha to beta",
        "dropped: lost by an impairment from alpha",
        "dropped: longer than the port takes from alpha to beta",
    ];
    let places = ["beta", "alpha", "beta"];
    let rest_of = |places: [&str; 3]| {
        let pairs = places.into_iter().zip(rest);
        pairs
            .map(|(place, comment)| format!("{place}: {comment}"))
            .collect::<Vec<_>>()
    };
    let twice = vec![format!("beta: {parted}"); 2];
    assert_eq!(comments(&whole), [twice, rest_of(places)].concat());
    let once = vec![format!("alpha: {parted}")];
    assert_eq!(comments(&part), [once, rest_of(["alpha"; 3])].concat());
}

#[test]
fn a_frame_that_finds_a_queue_full_is_captured_with_that() {
    let lan = Lan::with(Config {
        queue_frames_max: 10,
        ..Config::default()
    });
    let alpha = lan.switch.add_local("alpha").unwrap();
    let path = lan.path("vlan.pcapng");
    let slow = lan.client("slow");
    let program = lan.switch.add_local("program").unwrap();
    lan.await_ports(3);
    lan.switch.start_capture(&path).unwrap();
    let lost = |name| lan.counters(name).drops.queue_full;
    while lost("slow") == 0 || lost("program") == 0 {
        alpha.send(&frame(ALL, A, b"")).unwrap();
        lan.switch.settle().unwrap();
    }
    let mut expected =
        vec!["program: dropped: the port's queue is full to program"; lost("program") as usize];
    expected.extend(vec![
        "slow: dropped: the port's queue is full to slow";
        lost("slow") as usize
    ]);
    lan.switch.stop_capture().unwrap();
    let mut found = comments(&path);
    found.sort();
    assert_eq!(found, expected);
    drop((slow, program));
}
