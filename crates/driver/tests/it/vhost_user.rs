//! Guests of QEMU that share their memory with a switch: start scripts with `-netdev vhost-user`, and machines with
//! `net = "vhost-user"`.

use std::path::{Path, PathBuf};

use hotbed_driver::TestConfig;
use hotbed_driver::config::{MachineKind, network};
use hotbed_switch::{Config, PortKind, Switch};

use crate::guest::{SOON, one_at_a_time};
use crate::hot::{Cache as OwnCache, ask};
use crate::start_script::write_start_script;
use crate::support::{Bed, call, eventually, signal_group};

const HEAD: &str = "# /// hotbed\n# [machines.a]\n# [machines.b]\n# ///\n";

/// A card for which more is not cut is a card that cuts.
const FRAME_MAX: u64 = 1514;

/// Writes a start script with one card on a vhost-user socket.
///
/// QEMU 7.2 dies of MSI-X with vhost-user under TCG: hence `vectors=0`.
fn start_script(directory: &Path, name: &str, number: u8) -> PathBuf {
    let devices = format!(
        r"-machine q35,accel=tcg,memory-backend=ram -cpu max -m 192 \
    -object memory-backend-memfd,id=ram,size=192M,share=on \
    -nodefaults -nic none -chardev socket,id=vlan1,path={socket} -netdev vhost-user,id=vlan1,chardev=vlan1 \
    -device virtio-net-pci,netdev=vlan1,mac={mac},vectors=0,romfile=",
        socket = directory.join(format!("{name}.sock")).display(),
        mac = network::mac_text(network::mac(1, number)),
    );
    write_start_script(directory, name, number, Vec::new(), &devices)
}

#[test]
fn qemu_guests_ping_and_send_through_a_switch_that_shares_their_memory() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let switch = Switch::start(Config::default()).unwrap();
    let mut config = TestConfig::from_python_file(Path::new("it.py"), HEAD).unwrap();
    for (number, machine) in (1..).zip(&mut config.machines) {
        let socket = directory.path().join(format!("{}.sock", machine.name));
        switch.listen_vhost_user(&socket).unwrap();
        let script = start_script(directory.path(), &machine.name, number);
        machine.kind = MachineKind::StartScript(script.display().to_string());
    }
    let bed = Bed::new(config);
    let [a, b] = bed.testbed.machines() else {
        panic!("two machines")
    };
    bed.testbed.start_all(&call()).unwrap();
    let succeed = |machine: &hotbed_driver::Machine, command: &str| {
        machine.succeed(&[command], Some(SOON), &call()).unwrap()
    };
    for machine in [a, b] {
        machine.connect(&call()).unwrap();
    }
    succeed(a, &format!("ping -c 3 -W 10 {}", network::ipv4(1, 2)));
    succeed(b, &format!("ping -c 3 -W 10 {}", network::ipv4(1, 1)));
    // A file goes from the file system to the card without a stop, in frames as long as may be.
    let bulk = "head -c 4000000 /dev/urandom >/tmp/bulk; httpd -p 80 -h /tmp; md5sum </tmp/bulk";
    let sum = succeed(a, bulk);
    let get = format!("wget -q -O - http://{}/bulk | md5sum", network::ipv4(1, 1));
    assert_eq!(succeed(b, &get), sum);

    let ports = switch.ports();
    assert!(ports.iter().all(|port| port.kind == PortKind::VhostUser));
    let to_b = ports.iter().find(|port| port.name == "b").unwrap().counters;
    assert!(
        to_b.bytes_out / to_b.frames_out > FRAME_MAX,
        "uncut: {to_b:?}"
    );
    assert_eq!(switch.lost_ports(), []);
}

const SHARING: &str =
    "[machines.a]\nnet = \"vhost-user\"\n[machines.b]\nnet = \"vhost-user\"\n[machines.c]\n";

/// How many bytes the switch has put into the memory of `b`, and in how many frames.
fn to_b(bed: &Bed) -> (u64, u64) {
    let ports = bed.testbed.vlans()[0].ports();
    let b = ports.iter().rfind(|port| port.name == "b").unwrap();
    assert_eq!(b.kind, PortKind::VhostUser);
    (b.counters.bytes_out, b.counters.frames_out)
}

/// Has `b` take a file from `a`; frames are as long as may be.
fn send_bulk(bed: &Bed) {
    let [a, b, _] = bed.testbed.machines() else {
        panic!("three machines")
    };
    let make = "head -c 4000000 /dev/urandom >/tmp/bulk; md5sum </tmp/bulk";
    let sum = ask(a, make);
    let before = to_b(bed);
    assert_eq!(ask(b, "wget -q -O - http://a/bulk | md5sum"), sum);
    let after = to_b(bed);
    let (bytes, frames) = (after.0 - before.0, after.1 - before.1);
    assert!(bytes / frames > FRAME_MAX, "{bytes} in {frames}: uncut");
}

#[test]
fn machines_that_share_their_memory_are_saved_and_go_back_and_outlive_each_other() {
    let _turn = one_at_a_time();
    let cache = OwnCache::new();
    for log in [
        "saved as a snapshot and restored",
        "restored from a snapshot",
    ] {
        let bed = cache.bed(SHARING);
        bed.testbed.start_all(&call()).unwrap();
        let [a, b, c] = bed.testbed.machines() else {
            panic!("three machines")
        };
        for machine in [a, b, c] {
            machine.connect(&call()).unwrap();
            let said = format!("{}: {log}", machine.name());
            assert!(bed.log().contains(&said), "{}", bed.log());
        }
        ask(a, "ping -4 -c 2 -W 10 b && ping -6 -c 2 -W 10 c");
        ask(a, "httpd -p 80 -h /tmp");
        send_bulk(&bed);
        // A transfer is under way; it goes on from there, twice.
        ask(a, "touch /tmp/before");
        ask(
            b,
            "(wget -q -O /tmp/got http://a/bulk; touch /tmp/done) >/dev/null 2>&1 &",
        );
        bed.testbed.checkpoint("one", &call()).unwrap();
        for _ in 0..2 {
            ask(a, "rm /tmp/before");
            bed.testbed.rollback("one", &call()).unwrap();
            ask(a, "test -e /tmp/before");
            let is_done = || {
                b.succeed(&["test -e /tmp/done"], Some(SOON), &call())
                    .is_ok()
            };
            assert!(eventually(SOON, is_done));
            assert_eq!(ask(b, "md5sum </tmp/got"), ask(a, "md5sum </tmp/bulk"));
            send_bulk(&bed);
        }
        // One whose guest takes nothing delays nobody.
        let pid = b.pid().unwrap();
        signal_group(pid, "STOP");
        ask(a, "ping -4 -c 3 -i 0.2 -W 1 b || ping -4 -c 2 -W 10 c");
        signal_group(pid, "CONT");
        send_bulk(&bed);
        a.crash(&call()).unwrap();
        ask(b, "ping -4 -c 2 -W 10 c");
        a.connect(&call()).unwrap();
        ask(b, "ping -4 -c 2 -W 10 a");
    }
}
