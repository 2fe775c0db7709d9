//! The wrappers whose answers can be seen without a machine, and that they mean what they say.

use std::os::fd::AsFd;

use hotbed_qmp::blocking::Client;
use hotbed_qmp::commands::*;
use hotbed_qmp::{Error, ErrorClass};
use serde_json::{Map, Value, json};

use crate::support::{Qemu, late};

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

/// Runs a command that a QEMU without a machine refuses, but only after it understood every argument.
fn refused<C: Command>(client: &Client, command: &C) -> String {
    match client.call(command, late()) {
        Err(Error::Command {
            class: ErrorClass::GenericError | ErrorClass::DeviceNotFound,
            description,
            ..
        }) => {
            assert!(
                !description.contains("Parameter '"),
                "{}: {description}",
                C::NAME
            );
            description
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{} was not refused", C::NAME),
    }
}

#[test]
fn questions_are_answered_as_their_types_say() {
    let Some(qemu) = Qemu::start(&["-name", "web"]) else {
        return;
    };
    let client = qemu.connect();
    assert_eq!(
        client.call(&QueryStatus {}, late()).unwrap(),
        StatusInfo {
            running: true,
            status: "running".into()
        }
    );
    assert_eq!(
        client.call(&QueryName {}, late()).unwrap().name.as_deref(),
        Some("web")
    );
    assert!(!client.call(&QueryKvm {}, late()).unwrap().enabled);
    assert!(
        client
            .call(&QueryCommands {}, late())
            .unwrap()
            .iter()
            .any(|command| command.name == "stop")
    );
    assert_eq!(client.call(&QueryMigrate {}, late()).unwrap().status, None);
    assert!(
        !client
            .call(&QueryMigrateParameters {}, late())
            .unwrap()
            .is_empty()
    );
    let chardevs = client.call(&QueryChardev {}, late()).unwrap();
    assert!(
        chardevs
            .iter()
            .any(|chardev| chardev.label == "monitor" && chardev.frontend_open)
    );
    let version = client
        .call(
            &HumanMonitorCommand {
                command_line: "info version",
                cpu_index: None,
            },
            late(),
        )
        .unwrap();
    assert!(
        version.starts_with(&client.greeting().version.qemu.to_string()),
        "{version}"
    );
}

#[test]
fn processors_and_memory_are_listed() {
    let options = ["-M", "q35", "-accel", "tcg", "-smp", "2", "-m", "64", "-S"];
    let Some(qemu) = Qemu::start(&options) else {
        return;
    };
    let client = qemu.connect();
    let cpus = client.call(&QueryCpus {}, late()).unwrap();
    assert_eq!(
        cpus.iter().map(|cpu| cpu.cpu_index).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(cpus[0].thread_id > 0 && cpus[0].qom_path.starts_with("/machine"));
    assert_eq!(
        client.call(&QueryMemorySize {}, late()).unwrap().base,
        64 << 20
    );
    assert_eq!(
        client.call(&QueryStatus {}, late()).unwrap().status,
        "prelaunch"
    );

    client
        .call(
            &SendKey {
                keys: vec![Key::Qcode("ctrl".into()), Key::Number(28)],
                hold_time: Some(1),
            },
            late(),
        )
        .unwrap();
    client.call(&SystemReset {}, late()).unwrap();
    client.call(&SystemPowerdown {}, late()).unwrap();
    client.call(&InjectNmi {}, late()).unwrap();
    let pause = SetAction {
        shutdown: Some("pause"),
        panic: Some("none"),
        ..SetAction::default()
    };
    client.call(&pause, late()).unwrap();
    assert!(refused(&client, &SystemWakeup {}).contains("suspend"));
    let folder = tempfile::tempdir().unwrap();
    let filename = folder.path().join("screen.ppm");
    let screendump = Screendump {
        filename: filename.to_str().unwrap(),
        ..Screendump::default()
    };
    assert!(refused(&client, &screendump).contains("no console"));
}

#[test]
fn objects_come_and_go() {
    let options = ["-M", "q35", "-accel", "tcg", "-S"];
    let Some(qemu) = Qemu::start(&options) else {
        return;
    };
    let client = qemu.connect();
    let properties = map(json!({"size": 1 << 20}));
    client
        .call(
            &ObjectAdd {
                qom_type: "memory-backend-ram",
                id: "m",
                properties,
            },
            late(),
        )
        .unwrap();
    let size = client
        .call(
            &QomGet {
                path: "/objects/m",
                property: "size",
            },
            late(),
        )
        .unwrap();
    assert_eq!(size, 1 << 20);
    client
        .call(
            &QomSet {
                path: "/objects/m",
                property: "merge",
                value: json!(false),
            },
            late(),
        )
        .unwrap();
    let listed = client.call(&QomList { path: "/objects" }, late()).unwrap();
    assert!(
        listed
            .iter()
            .any(|property| property.name == "m" && property.kind == "child<memory-backend-ram>")
    );
    client.call(&ObjectDel { id: "m" }, late()).unwrap();
}

#[test]
fn back_ends_and_their_devices_come_and_go() {
    let root_port = "pcie-root-port,id=root-port,chassis=1";
    let options = ["-M", "q35", "-accel", "tcg", "-S", "-device", root_port];
    let Some(qemu) = Qemu::start(&options) else {
        return;
    };
    let client = qemu.connect();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let backend = json!({"type": "file", "data": {"out": out}});
    assert_eq!(
        client
            .call(&ChardevAdd { id: "c", backend }, late())
            .unwrap()
            .pty,
        None
    );
    client.call(&ChardevRemove { id: "c" }, late()).unwrap();

    let properties =
        map(json!({"server": true, "addr": {"type": "unix", "path": folder.path().join("net")}}));
    client
        .call(
            &NetdevAdd {
                kind: "stream",
                id: "n",
                properties,
            },
            late(),
        )
        .unwrap();
    client
        .call(
            &SetLink {
                name: "n",
                up: false,
            },
            late(),
        )
        .unwrap();
    let properties = map(json!({"netdev": "n", "mac": "52:54:00:12:01:01"}));
    let nic = DeviceAdd {
        driver: "virtio-net-pci",
        id: Some("d"),
        bus: Some("root-port"),
        properties,
    };
    client.call(&nic, late()).unwrap();
    client
        .call(
            &SetLink {
                name: "d",
                up: true,
            },
            late(),
        )
        .unwrap();
    assert!(refused(&client, &DeviceDel { id: "no" }).contains("no"));
    client.call(&DeviceDel { id: "d" }, late()).unwrap();
    assert!(refused(&client, &NetdevDel { id: "no" }).contains("no"));
}

#[test]
fn types_and_their_properties_are_listed() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    let backends = QomListTypes {
        implements: Some("memory-backend"),
        is_abstract: Some(false),
    };
    let types = client.call(&backends, late()).unwrap();
    let file = types
        .iter()
        .find(|kind| kind.name == "memory-backend-file")
        .unwrap();
    assert_eq!(
        (file.is_abstract, file.parent.as_deref()),
        (false, Some("memory-backend"))
    );
    let properties = client
        .call(
            &DeviceListProperties {
                typename: "virtio-net-pci",
            },
            late(),
        )
        .unwrap();
    assert!(
        properties
            .iter()
            .any(|property| property.name == "mac" && property.description.is_some())
    );
    assert!(
        properties
            .iter()
            .any(|property| property.default_value.is_some())
    );
}

#[test]
fn files_are_kept_in_sets_until_they_are_taken_out() {
    let Some(qemu) = Qemu::start(&[]) else { return };
    let client = qemu.connect();
    let file = tempfile::tempfile().unwrap();
    let add = AddFd {
        file: file.as_fd(),
        fdset_id: Some(7),
        opaque: Some("ram"),
    };
    let added = client.call(&add, late()).unwrap();
    assert_eq!(added.fdset_id, 7);
    client
        .call(
            &AddFd {
                opaque: None,
                ..add
            },
            late(),
        )
        .unwrap();
    let sets = client.call(&QueryFdSets {}, late()).unwrap();
    let mut words: Vec<_> = sets[0]
        .fds
        .iter()
        .map(|file| file.opaque.as_deref())
        .collect();
    words.sort_unstable();
    assert_eq!((sets[0].fdset_id, words), (7, vec![None, Some("ram")]));
    client
        .call(
            &RemoveFd {
                fdset_id: 7,
                fd: Some(added.fd),
            },
            late(),
        )
        .unwrap();
    assert_eq!(
        client.call(&QueryFdSets {}, late()).unwrap()[0].fds.len(),
        1
    );
    client
        .call(
            &RemoveFd {
                fdset_id: 7,
                fd: None,
            },
            late(),
        )
        .unwrap();
    assert!(client.call(&QueryFdSets {}, late()).unwrap().is_empty());
    assert!(refused(&client, &CloseFd { fdname: "no" }).contains("no"));
}

#[test]
fn migration_is_set_up_and_refused_where_it_must_be() {
    let Some(qemu) = Qemu::start(&["-incoming", "defer"]) else {
        return;
    };
    let client = qemu.connect();
    let limits = MigrateSetParameters {
        max_bandwidth: Some(0),
        downtime_limit: Some(250),
        multifd_channels: Some(3),
        parameters: map(json!({"announce-rounds": 2})),
    };
    client.call(&limits, late()).unwrap();
    let set = client.call(&QueryMigrateParameters {}, late()).unwrap();
    assert_eq!(
        (&set["downtime-limit"], &set["multifd-channels"]),
        (&json!(250), &json!(3))
    );
    assert_eq!(set["announce-rounds"], 2);
    let capabilities = vec![MigrationCapability {
        capability: "x-ignore-shared",
        state: true,
    }];
    client
        .call(&MigrateSetCapabilities { capabilities }, late())
        .unwrap();
    client.call(&MigrateCancel {}, late()).unwrap();
    assert!(
        refused(
            &client,
            &MigrateContinue {
                state: "pre-switchover"
            }
        )
        .contains("state")
    );
    let resume = Migrate {
        uri: "fd:no",
        resume: Some(true),
    };
    assert!(!refused(&client, &resume).is_empty());
    let incoming = format!("unix:{}", qemu.folder.path().join("incoming").display());
    client
        .call(&MigrateIncoming { uri: &incoming }, late())
        .unwrap();
    let twice = refused(&client, &MigrateIncoming { uri: &incoming });
    assert!(twice.contains("already"), "{twice}");
}
