//! A real QEMU on each kind of port. No guest is booted: the boot ROM of its network card asks for an address, and
//! gets one from the test, by way of the switch.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hotbed_switch::wire::MacAddr;
use hotbed_switch::{PortInfo, PortKind};

use crate::support::{ALL, Lan, Running, VdeClient, have};

#[path = "../../examples/two_qemus.rs"]
mod two_qemus;

const QEMU: &str = "qemu-system-x86_64";
const GUEST: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x61]);
const SERVER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
const SERVER_IP: [u8; 4] = [10, 0, 2, 1];
const GUEST_IP: [u8; 4] = [10, 0, 2, 97];

/// How long firmware may take under emulation on a busy host.
const BOOT: Duration = Duration::from_secs(120);

#[test]
fn a_guest_on_netdev_vde_gets_an_address_through_the_switch() {
    let lan = Lan::start();
    let netdev = format!("vde,id=n0,sock={}", lan.vde_dir().display());
    let port = guest_gets_an_address(&lan, &netdev, |kind| kind == PortKind::Vde);
    if let Some(port) = port {
        assert!(port.name.contains("QEMU"), "{}", port.name);
    }
}

#[test]
fn a_guest_on_netdev_stream_gets_an_address_through_the_switch() {
    let lan = Lan::start();
    let path = lan.path("guest.sock");
    lan.switch.listen_stream(&path).unwrap();
    let netdev = format!(
        "stream,id=n0,server=off,addr.type=unix,addr.path={}",
        path.display()
    );
    guest_gets_an_address(&lan, &netdev, |kind| kind == PortKind::Stream);
}

#[test]
fn a_guest_on_netdev_dgram_gets_an_address_through_the_switch() {
    let lan = Lan::start();
    let (ours, theirs) = (lan.path("ours"), lan.path("theirs"));
    lan.switch.add_dgram(&ours, &theirs, "guest").unwrap();
    let side = |name: &str, path: &Path| format!("{name}.type=unix,{name}.path={}", path.display());
    let netdev = format!(
        "dgram,id=n0,{},{}",
        side("local", &theirs),
        side("remote", &ours)
    );
    guest_gets_an_address(&lan, &netdev, |kind| kind == PortKind::Dgram);
}

#[test]
fn two_guests_of_the_example_hear_each_other() {
    if have(QEMU, "--version") {
        two_qemus::main().unwrap();
    }
}

/// Starts QEMU, answers its DHCPDISCOVER, and waits for the DHCPREQUEST that shows that the answer arrived.
fn guest_gets_an_address(
    lan: &Lan,
    netdev: &str,
    is_guest: impl Fn(PortKind) -> bool,
) -> Option<PortInfo> {
    if !have(QEMU, "--version") {
        return None;
    }
    let server = lan.client("server");
    let qemu = Running::start(
        Command::new(QEMU)
            .args([
                "-M",
                "q35",
                "-accel",
                "tcg",
                "-m",
                "32",
                "-nodefaults",
                "-display",
                "none",
            ])
            .args(["-boot", "n", "-netdev", netdev, "-device"])
            .arg(format!("virtio-net-pci,netdev=n0,mac={GUEST}"))
            .stdin(Stdio::null()),
    );
    let discover = await_dhcp(&server, 1);
    assert_eq!(
        (&discover[0..6], &discover[6..12]),
        (&ALL.0[..], &GUEST.0[..])
    );
    server.send(&offer(&discover));
    let request = await_dhcp(&server, 3);
    assert_eq!(
        dhcp_option(&request, 50),
        Some(&GUEST_IP[..]),
        "it takes what it was offered"
    );
    let totals = lan.switch.totals();
    assert!(
        totals.unicast >= 1,
        "the offer went to the guest's port alone: {totals:?}"
    );
    let ports = lan.switch.ports();
    let port = ports
        .into_iter()
        .find(|port| is_guest(port.kind) && port.name != "server")
        .unwrap();
    assert!(
        port.counters.frames_in >= 2 && port.counters.frames_out >= 1,
        "{port:?}"
    );
    assert_eq!(port.counters.drops.total(), 0, "{port:?}");
    drop(qemu);
    if port.kind != PortKind::Dgram {
        lan.await_ports(1); // A datagram port has no way to tell, and stays for the next QEMU.
    }
    Some(port)
}

/// Waits for a DHCP message of the guest.
fn await_dhcp(server: &VdeClient, kind: u8) -> Vec<u8> {
    let deadline = Instant::now() + BOOT;
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        server.data.set_read_timeout(Some(left)).unwrap();
        let frame = server.recv();
        if dhcp_option(&frame, 53) == Some(&[kind]) {
            return frame;
        }
    }
}

/// Where things are in a frame with Ethernet, IPv4 and UDP headers of the usual length.
const IP: usize = 14;
const UDP: usize = IP + 20;
const BOOTP: usize = UDP + 8;
const OPTIONS: usize = BOOTP + 240;

fn dhcp_option(frame: &[u8], wanted: u8) -> Option<&[u8]> {
    let is_dhcp = frame.get(12..14)? == [0x08, 0x00] && frame.get(IP + 9)? == &17;
    let mut options = frame.get(OPTIONS..).filter(|_| is_dhcp)?;
    loop {
        let (&code, &len) = (options.first()?, options.get(1)?);
        let value = options.get(2..2 + usize::from(len))?;
        if code == wanted {
            return Some(value);
        }
        options = &options[2 + value.len()..];
    }
}

fn offer(discover: &[u8]) -> Vec<u8> {
    let mut bootp = discover[BOOTP..OPTIONS].to_vec();
    bootp[0] = 2; // A reply,
    bootp[16..20].copy_from_slice(&GUEST_IP); // your address,
    bootp[20..24].copy_from_slice(&SERVER_IP); // and mine.
    bootp.extend([53, 1, 2, 54, 4]);
    bootp.extend(SERVER_IP);
    bootp.extend([51, 4, 0, 0, 0x0e, 0x10, 1, 4, 255, 255, 255, 0, 255]);
    let udp_len = u16::try_from(8 + bootp.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_len).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend([SERVER_IP, [255; 4]].concat());
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let udp = [
        &67_u16.to_be_bytes()[..],
        &68_u16.to_be_bytes(),
        &udp_len.to_be_bytes(),
        &[0, 0],
    ]
    .concat();
    [&GUEST.0[..], &SERVER.0, &[0x08, 0x00], &ip, &udp, &bootp].concat()
}
