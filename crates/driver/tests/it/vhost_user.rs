//! Guests of QEMU that share their memory with a switch: start scripts with `-netdev vhost-user`.

use std::path::{Path, PathBuf};

use hotbed_driver::TestConfig;
use hotbed_driver::config::{MachineKind, network};
use hotbed_switch::{Config, PortKind, Switch};

use crate::guest::{SOON, one_at_a_time};
use crate::start_script::write_start_script;
use crate::support::{Bed, call};

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
