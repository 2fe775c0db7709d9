//! VDE on a VLAN: a start script shaped as nixpkgs makes them, a machine of ours, and `vde_plug` beside them.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hotbed_driver::TestConfig;
use hotbed_driver::config::{MachineKind, network};

use crate::guest::{SOON, one_at_a_time};
use crate::start_script::write_start_script;
use crate::support::{Bed, call};

const HEAD: &str = "# /// hotbed\n# [machines.ours]\n# [machines.script]\n# ///\n";
const OURS: u8 = 1;
const SCRIPT: u8 = 2;

/// Writes `run-script-vm`, with a user network and one card on VDE.
fn start_script(directory: &Path) -> PathBuf {
    let devices = format!(
        r#"-machine q35,accel=tcg -cpu max -m 256 \
    -net nic,netdev=user.0,model=virtio -netdev user,id=user.0,restrict=on,"$QEMU_NET_OPTS" \
    -device virtio-net-pci,netdev=vlan1,mac={mac} \
    -netdev vde,id=vlan1,sock="$QEMU_VDE_SOCKET_1""#,
        mac = network::mac_text(network::mac(1, SCRIPT)),
    );
    let hosts = vec![(network::ipv4(1, OURS).into(), vec!["ours".to_owned()])];
    write_start_script(directory, "script", SCRIPT, hosts, &devices)
}

#[test]
fn qemu_on_vde_and_vde_plug_reach_machines_of_ours() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let mut config = TestConfig::from_python_file(Path::new("it.py"), HEAD).unwrap();
    let script = start_script(directory.path());
    config.machines[usize::from(SCRIPT) - 1].kind =
        MachineKind::StartScript(script.display().to_string());
    let bed = Bed::new(config);
    let [ours, script] = bed.testbed.machines() else {
        panic!("two machines")
    };
    bed.testbed.start_all(&call()).unwrap();
    for machine in [ours, script] {
        machine.connect(&call()).unwrap();
    }
    let ping = |from: &hotbed_driver::Machine, to: u8| {
        let command = format!("ping -c 1 -W 10 {}", network::ipv4(1, to));
        from.succeed(&[&command], Some(SOON), &call()).unwrap();
    };
    ping(ours, SCRIPT);
    ping(script, OURS);
    script
        .succeed(&["ping -c 1 ours"], Some(SOON), &call())
        .unwrap();

    // The first card of a start script is the user network's: the link that goes down is the VLAN's.
    script.block(&call()).unwrap();
    ours.fail(
        &["ping -c 1 -W 1 192.168.1.2"],
        Some(Duration::from_secs(20)),
        &call(),
    )
    .unwrap();
    script.unblock(&call()).unwrap();
    ours.wait_until_succeeds("ping -c 1 -W 1 192.168.1.2", SOON, &call())
        .unwrap();

    for (machine, number) in [("ours", OURS), ("script", SCRIPT)] {
        let reply = ask_by_vde_plug(bed.testbed.vlans()[0].socket_dir(), number);
        assert_eq!(reply, network::mac(1, number), "{machine} answers");
    }
}

/// Asks for a machine's MAC address over `vde_plug`: an ARP request (RFC 826) goes in, the reply comes out.
fn ask_by_vde_plug(vlan: &Path, number: u8) -> [u8; 6] {
    let asker = [0x52, 0x54, 0x00, 0x99, 0x00, 0x01];
    let mut plug = Command::new("vde_plug")
        .arg(vlan)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("vde_plug of Debian's vde2");
    let mut input = plug.stdin.take().unwrap();
    let mut output = plug.stdout.take().unwrap();
    let request = arp_request(asker, network::ipv4(1, 200), network::ipv4(1, number));
    let (sender, replies) = mpsc::channel();
    std::thread::spawn(move || {
        // Frames stand behind two bytes of length.
        let mut len = [0; 2];
        while output.read_exact(&mut len).is_ok() {
            let mut frame = vec![0; usize::from(u16::from_be_bytes(len))];
            let whole = output.read_exact(&mut frame).is_ok();
            if whole && frame.starts_with(&asker) && frame.get(12..14) == Some(&[0x08, 0x06]) {
                let _ = sender.send(<[u8; 6]>::try_from(&frame[22..28]).unwrap());
            }
        }
    });
    let len = u16::try_from(request.len()).unwrap().to_be_bytes();
    input.write_all(&[&len, &request[..]].concat()).unwrap();
    input.flush().unwrap();
    let reply = replies.recv_timeout(SOON);
    plug.kill().unwrap();
    plug.wait().unwrap();
    reply.expect("an ARP reply")
}

fn arp_request(asker: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &asker, &[0x08, 0x06]].concat();
    let fixed = [0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x01];
    let mut frame = [
        &ethernet[..],
        &fixed,
        &asker,
        &from.octets(),
        &[0; 6],
        &to.octets(),
    ]
    .concat();
    frame.resize(60, 0);
    frame
}
