use tempfile::TempDir;

use super::*;
use crate::config::MachineKind;
use crate::{Log, MachineConfig};

/// VLAN 7 with machines of these numbers.
fn vlan(numbers: &[u8]) -> (Vlan, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let machine = |number: &u8| MachineConfig {
        name: format!("machine{number}"),
        number: *number,
        vlans: vec![7],
        kind: MachineKind::StartScript("/bin/true".into()),
        agent: false,
        clone_of: None,
    };
    let machines: Vec<_> = numbers.iter().map(machine).collect();
    let machines: Vec<_> = machines.iter().collect();
    let log = Log::to(Box::new(std::io::sink()), false);
    let vlan = Vlan::start(7, &machines, folder.path(), &log).unwrap();
    (vlan, folder)
}

fn network(text: &str) -> Option<Network> {
    Some(Network::parse(text).unwrap())
}

fn ports(vlan: &Vlan) -> Vec<String> {
    vlan.ports().into_iter().map(|port| port.name).collect()
}

/// What is said of hosts that cannot be.
fn refused(vlan: &Vlan, count: u32, text: &str) -> String {
    vlan.simulate(count, Services::Server, network(text))
        .unwrap_err()
        .to_string()
}

#[test]
fn simulated_hosts_have_addresses_of_their_own() {
    let (vlan, _folder) = vlan(&[1, 2]);
    let simulation = vlan.simulate(10_000, Services::Server, None).unwrap();
    let last = simulation.host(9_999).unwrap();
    assert_eq!(
        (last.ipv4.to_string(), last.ipv6.to_string()),
        ("10.7.39.16".to_owned(), "2001:db8:7::a07:2710".to_owned())
    );
    assert_eq!(
        (simulation.host(10_000), simulation.port()),
        (None, "simulated1")
    );
    let quiet = vlan
        .simulate(50, Services::Quiet, network("192.168.7.192/26"))
        .unwrap();
    assert_eq!(ports(&vlan), ["simulated1", "simulated2"]);
    assert_eq!(
        refused(&vlan, 1, "10.7.0.0/24"),
        "VLAN 7: simulated hosts: 10.7.0.1 to 10.7.0.1 is not free: simulated1 has 10.7.0.1 to 10.7.39.16"
    );
    assert!(
        refused(&vlan, 2, "192.168.7.0/24").ends_with("machine1 has 192.168.7.1 to 192.168.7.1")
    );
    assert!(refused(&vlan, 0, "10.8.0.0/24").ends_with("from 1 to 254 can be there"));
    assert!(refused(&vlan, 255, "10.8.0.0/24").ends_with("from 1 to 254 can be there"));
    assert!(refused(&vlan, 1, "224.0.0.0/24").contains("no addresses of hosts"));
    vlan.stop_simulation(&simulation);
    vlan.stop_simulation(&simulation);
    vlan.stop_simulation(&quiet);
    assert_eq!(
        vlan.simulate(1, Services::Server, None).unwrap().port(),
        "simulated3"
    );
}

#[test]
fn a_network_is_one_only_as_it_is_written_everywhere() {
    assert_eq!(
        network("10.1.0.0/16"),
        Some(Network {
            address: Ipv4Addr::new(10, 1, 0, 0),
            prefix_len: 16
        })
    );
    for wrong in [
        "10.1.0.0",
        "10.1.0.1/16",
        "10.1.0.0/33",
        "10.1.0.0/-1",
        "10.0.0.0/7",
        "ten/8",
        "10.1.0.0/31",
        "2001:db8::/64",
    ] {
        assert!(Network::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_vlan_has_one_gateway_and_only_where_its_addresses_are_free() {
    let (vlan, _folder) = vlan(&[1, 150]);
    let first = vlan.start_gateway().unwrap();
    assert_eq!(vlan.gateway_addresses().0, Ipv4Addr::new(192, 168, 7, 254));
    assert_eq!(
        vlan.gateway_config()
            .pool
            .map(|address| address.octets()[3]),
        [151, 253]
    );
    assert!(
        vlan.start_gateway()
            .unwrap_err()
            .to_string()
            .contains("has a gateway")
    );
    assert!(refused(&vlan, 10, "192.168.7.192/26").contains("the gateway's pool"));
    vlan.stop_gateway(first);
    let second = vlan.start_gateway().unwrap();
    vlan.stop_gateway(first);
    assert!(vlan.start_gateway().is_err(), "the second one runs on");
    vlan.stop_gateway(second);
    vlan.simulate(10, Services::Quiet, network("192.168.7.192/26"))
        .unwrap();
    assert!(
        vlan.start_gateway()
            .unwrap_err()
            .to_string()
            .contains("simulated1")
    );
    let (full, _folder) = self::vlan(&[GATEWAY_NUMBER]);
    assert!(
        full.start_gateway()
            .unwrap_err()
            .to_string()
            .contains("machine254")
    );
}

/// A request for an address that its client had before.
fn dhcp_request(client: MacAddr, wanted: Ipv4Addr) -> Vec<u8> {
    let mut dhcp = vec![0; 300];
    dhcp[..4].copy_from_slice(&[1, 1, 6, 0]);
    dhcp[28..34].copy_from_slice(&client.0);
    let options = [
        &[0x63, 0x82, 0x53, 0x63, 53, 1, 3, 50, 4][..],
        &wanted.octets(),
        &[255],
    ]
    .concat();
    dhcp[236..][..options.len()].copy_from_slice(&options);
    let udp = [0, 68, 0, 67, 1, 52, 0, 0];
    // From nobody to all, with the checksum of this very header.
    let ip = [
        0x45, 0, 1, 72, 0, 0, 0, 0, 64, 17, 0x79, 0xa6, 0, 0, 0, 0, 255, 255, 255, 255,
    ];
    [&[0xff; 6][..], &client.0, &[8, 0], &ip, &udp, &dhcp].concat()
}

#[test]
fn what_a_gateway_has_given_away_goes_back_with_its_vlan() {
    let (vlan, _folder) = vlan(&[1]);
    vlan.start_gateway().unwrap();
    let port = vlan
        .with_switch(|switch| switch.add_local("client"))
        .unwrap();
    let ask = |last: u8| {
        let (client, wanted) = (
            MacAddr([2, 0, 0, 0, 0, last]),
            Ipv4Addr::new(192, 168, 7, last),
        );
        port.send(&dhcp_request(client, wanted)).unwrap();
        let until = Instant::now() + std::time::Duration::from_secs(20);
        while vlan.gateway_leases().last() != Some(&(wanted, client)) {
            port.recv_until(&mut [0; 1514], until)
                .unwrap()
                .expect("an answer");
        }
    };
    ask(120);
    let before = vlan.gateway_leases();
    vlan.set_paused(true).unwrap();
    let frozen = vlan.freeze().unwrap();
    vlan.set_paused(false).unwrap();
    ask(121);
    assert_eq!(vlan.gateway_leases().len(), 2);
    vlan.set_paused(true).unwrap();
    vlan.thaw(&frozen).unwrap();
    assert_eq!(vlan.gateway_leases(), before);
}
