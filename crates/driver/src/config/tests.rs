//! What heads and JSON files are taken, and what is said of those that are not.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{
    Error, Hot, ImageKind, ImageMachine, LogConsole, MachineKind, Net, TestConfig, duration, names,
    network,
};

const FILE: &str = "tests/it.py";

/// A test file whose head holds `toml`; its first line is line 3 of the file.
fn test_file(toml: &str) -> String {
    let head: String = toml
        .lines()
        .map(|line| {
            if line.is_empty() {
                "#\n".to_owned()
            } else {
                format!("# {line}\n")
            }
        })
        .collect();
    format!("\"\"\"A test.\"\"\"\n# /// hotbed\n{head}# ///\nstart_all()\n")
}

fn head(toml: &str) -> Result<TestConfig, Error> {
    TestConfig::from_python_file(Path::new(FILE), &test_file(toml))
}

fn image(config: &TestConfig, name: &str) -> ImageMachine {
    let machine = config
        .machines
        .iter()
        .find(|machine| machine.name == name)
        .unwrap();
    match &machine.kind {
        MachineKind::Image(image) => image.as_ref().clone(),
        MachineKind::StartScript(_) => panic!("an image was asked for"),
    }
}

/// The error's whole text.
fn refused(toml: &str) -> String {
    head(toml).unwrap_err().to_string()
}

#[test]
fn head_without_keys_gives_a_micro_machine_on_vlan_1() {
    let config = head("[machines.machine]").unwrap();
    let machine = &config.machines[0];
    assert_eq!(
        (
            machine.name.as_str(),
            machine.number,
            machine.vlans.as_slice()
        ),
        ("machine", 1, &[1][..])
    );
    let image = image(&config, "machine");
    assert_eq!(
        (image.image, image.memory, image.cpus, image.log),
        (ImageKind::Micro, None, 1, LogConsole::Virtio)
    );
    assert_eq!(config.vlans, [1]);
    assert_eq!(
        (config.global_timeout, config.boot_timeout),
        (Some(Duration::from_secs(3600)), Duration::from_secs(300))
    );
    assert_eq!(config.name(), "it");
}

#[test]
fn every_key_of_the_head_arrives() {
    let config = head(
        r#"timeout = 60
boot_timeout = "PT2M"

[machines.server]
image = "debian"
packages = ["nginx-light"]
run = ["true", "systemctl enable x"]
memory = "2G"
cpus = 2
vlans = [2, 1]
kernel = "kernels/vmlinux"
qemu_args = ["-device", "x"]
log = "uart"
files."/etc/motd" = "hi"
[machines.server.files."/usr/bin/x"]
content = '''
#!/bin/sh
'''
mode = "0755"
"#,
    )
    .unwrap();
    let server = image(&config, "server");
    assert_eq!(
        (config.global_timeout, config.boot_timeout),
        (Some(Duration::from_secs(60)), Duration::from_secs(120))
    );
    assert_eq!(
        (server.image, server.memory, server.cpus, server.log),
        (ImageKind::Debian, Some(2048), 2, LogConsole::Uart)
    );
    assert_eq!(
        (server.packages, server.run),
        (
            vec!["nginx-light".to_owned()],
            vec!["true".to_owned(), "systemctl enable x".to_owned()]
        )
    );
    assert_eq!(
        server.kernel.as_deref(),
        Some(Path::new("tests/kernels/vmlinux"))
    );
    assert_eq!(server.qemu_args, ["-device", "x"]);
    assert_eq!(
        (
            server.files["/etc/motd"].content.as_str(),
            server.files["/etc/motd"].mode
        ),
        ("hi", 0o644)
    );
    assert_eq!(
        (
            server.files["/usr/bin/x"].content.as_str(),
            server.files["/usr/bin/x"].mode
        ),
        ("#!/bin/sh\n", 0o755)
    );
    assert_eq!(
        config.machines[0].vlans,
        [2, 1],
        "the order is that of eth1, eth2"
    );
    assert_eq!(config.vlans, [1, 2]);
}

#[test]
fn machines_are_numbered_by_sorted_name() {
    let config = head("[machines.b]\n[machines.a-2]\n[machines.a]\nvlans = []").unwrap();
    let numbered: Vec<_> = config
        .machines
        .iter()
        .map(|machine| (machine.name.as_str(), machine.number))
        .collect();
    assert_eq!(numbered, [("a", 1), ("a-2", 2), ("b", 3)]);
}

#[test]
fn a_machine_with_a_count_becomes_clones_in_the_order_of_their_numbers() {
    let config =
        head("[machines.z]\n[machines.worker]\ncount = 11\nmemory = 64\n[machines.a]").unwrap();
    let names: Vec<_> = config
        .machines
        .iter()
        .map(|machine| machine.name.as_str())
        .collect();
    assert_eq!(names[..4], ["a", "worker1", "worker2", "worker3"]);
    assert_eq!(names[9..], ["worker9", "worker10", "worker11", "z"]);
    let last = &config.machines[11];
    assert_eq!((last.number, last.identifier().as_str()), (12, "worker11"));
    assert_eq!(last.clone_of.as_deref(), Some("worker"));
    assert_eq!(image(&config, "worker11").memory, Some(64));
    assert_eq!(config.machines[0].clone_of, None);
}

#[test]
fn a_machine_begins_hot_at_its_shell_or_at_a_unit() {
    let of = |line: &str| {
        let config = head(&format!("[machines.m]\nimage = \"debian\"\n{line}")).unwrap();
        image(&config, "m").hot
    };
    assert_eq!(of(""), None);
    assert_eq!(of("hot = false"), Some(Hot::Never));
    assert_eq!(of("hot = true"), Some(Hot::Booted));
    let unit = Some(Hot::Unit("getty@tty1.service".to_owned()));
    assert_eq!(of("hot = \"unit:getty@tty1.service\""), unit);
}

#[test]
fn a_machine_shares_its_memory_with_the_switch_where_it_says_so() {
    let of = |line: &str| Ok(image(&head(&format!("[machines.m]\n{line}"))?, "m").net);
    assert_eq!(of(""), Ok(Net::Stream));
    assert_eq!(of("net = \"stream\""), Ok(Net::Stream));
    assert_eq!(of("net = \"vhost-user\""), Ok(Net::VhostUser));
    let refused: Result<Net, Error> = of("net = \"tap\"");
    assert!(refused.unwrap_err().to_string().contains("`net` must be"));
}

#[test]
fn a_file_without_a_head_is_told_how_to_write_one() {
    let error = TestConfig::from_python_file(Path::new(FILE), "start_all()\n").unwrap_err();
    assert!(
        error.to_string().starts_with("tests/it.py: no head:"),
        "{error}"
    );
}

#[test]
fn errors_of_the_heads_frame_name_the_line() {
    let parse = |text: &str| {
        TestConfig::from_python_file(Path::new(FILE), text)
            .unwrap_err()
            .to_string()
    };
    for (text, expected) in [
        ("\n#///hotbed\n# ///\n", "it.py:2: this looks like a head"),
        (
            "# /// hotbed\n# [machines.a]\n",
            "it.py:1: the head is not closed",
        ),
        (
            "# /// hotbed\n# [machines.a]\nimport os\n",
            "it.py:3: the head that begins on line 1 is not closed",
        ),
        (
            "# /// hotbed\n#[machines.a]\n# ///\n",
            "it.py:2: a line of the head begins with `# `",
        ),
        (
            "# /// hotbed\n# [machines.a]\n# ///\n# /// hotbed\n# ///\n",
            "it.py:4: a second head",
        ),
        (
            "# /// hotbed\n# ///\n",
            "it.py:1: the head names no machine",
        ),
    ] {
        assert!(parse(text).contains(expected), "{text:?}: {}", parse(text));
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_taken() {
    let text = format!(
        "\u{feff}{}",
        test_file("[machines.a]").replace('\n', "\r\n")
    );
    assert_eq!(
        TestConfig::from_python_file(Path::new(FILE), &text)
            .unwrap()
            .machines
            .len(),
        1
    );
}

/// Heads, and a part of what is said of them.
const REFUSED: &[(&str, &str)] = &[
    (
        "[machines.a]\nimage = \"debain\"",
        "it.py:4: machines.a: unknown image `debain`: did you mean `debian`?",
    ),
    (
        "[machines.a]\nimage = \"fedora\"",
        "it.py:4: machines.a: unknown image `fedora`: there are `micro`, `debian`",
    ),
    (
        "[machines.a]\nimage = 3",
        "it.py:4: machines.a: `image` must be a string, not 3",
    ),
    (
        "[machines.a]\nimage = \"debian\"\npakages = []",
        "it.py:5: machines.a: unknown key `pakages`: did you mean `packages`?",
    ),
    (
        "[machines.a]\nnumber = 3",
        "unknown key `number`: known are `image`, `packages`",
    ),
    (
        "[machines.a]\ncount = 0",
        "it.py:4: machines.a: `count` must be a whole number from 1 to 254, not 0",
    ),
    (
        "[machines.a1]\n[machines.a]\ncount = 2",
        "machines `a1` and `a1` would both be `a1` in the script: rename one",
    ),
    (
        "[machines.a]\ncount = 2\n[machines.b]\ncount = 2\n[machines.b1]\n[machines.b2]\n[machines.a1]\ncount = 2",
        "machine `a1` has the name of the clones `a11`",
    ),
    (
        "[machines.vlan]\ncount = 2",
        "invalid machine name \"vlan1\"",
    ),
    (
        "[machines.a]\ncount = 200\n[machines.b]\ncount = 200\n[machines.c]\ncount = 200",
        "400 machines or more are too many",
    ),
    (
        "[machines.a]\nimage = \"debian\"\nhot = \"nginx.service\"",
        "it.py:5: machines.a: `hot` must be true, false or a unit such as \"unit:nginx.service\", not \"nginx.service\"",
    ),
    (
        "[machines.a]\nimage = \"debian\"\nhot = \"unit:a b\"",
        "`hot` must be true, false or a unit",
    ),
    (
        "[machines.a]\nhot = \"unit:nginx.service\"",
        "it.py:4: machines.a: there is no systemd that could start `nginx.service`: add `image = \"debian\"`",
    ),
    (
        "timout = 3\n[machines.a]",
        "it.py:3: unknown key `timout`: did you mean `timeout`?",
    ),
    (
        "[machine.a]",
        "it.py:3: unknown key `machine`: did you mean `machines`?",
    ),
    ("[machines.a]\n[machines.a]", "it.py:4: duplicate key"),
    ("[machines.a]\nmemory = ", "it.py:4:"),
    (
        "[machines.1a]",
        "it.py:3: machines: invalid machine name \"1a\"",
    ),
    ("[machines.\"a b\"]", "invalid machine name \"a b\""),
    ("[machines.a-]", "invalid machine name \"a-\""),
    ("[machines.class]", "`class` means something else"),
    ("[machines.vlan7]", "`vlan7` means something else"),
    (
        "[machines.a-b]\n[machines.a_b]",
        "would both be `a_b` in the script",
    ),
    (
        "[machines.ab]\n[machines.a_b]",
        "it.py:3: machines `a_b` and `ab` would both have the host name `ab`",
    ),
    (
        "[machines.a]\nvlans = [0]",
        "it.py:4: machines.a: VLAN 0 is not from 1 to 255",
    ),
    (
        "[machines.a]\nvlans = [1,\n 256]",
        "it.py:5: machines.a: VLAN 256 is not from 1 to 255",
    ),
    ("[machines.a]\nvlans = [1, 1]", "VLAN 1 is there twice"),
    (
        "[machines.a]\nvlans = \"1\"",
        "`vlans` must be a list of VLAN numbers from 1 to 255, such as [1], not \"1\"",
    ),
    (
        "[machines.a]\nmemory = \"1T\"",
        "`memory` must be MiB (such as 512) or a size (such as \"1G\")",
    ),
    ("[machines.a]\nmemory = 1", "`memory` must be MiB"),
    (
        "[machines.a]\ncpus = 0",
        "`cpus` must be a whole number from 1 to 255, not 0",
    ),
    (
        "[machines.a]\nlog = \"tty\"",
        "`log` must be \"virtio\" or \"uart\", not \"tty\"",
    ),
    (
        "[machines.a]\npackages = [\"x\"]",
        "it.py:4: machines.a: `packages` needs an image to build into: add `image = \"debian\"`",
    ),
    (
        "[machines.a]\nimage = \"debian\"\nfiles.\"etc/x\" = \"\"",
        "`etc/x` is not the absolute path of a file",
    ),
    (
        "[machines.a]\nimage = \"debian\"\nfiles.\"/x\" = {mode = \"0755\"}",
        "`content` is missing",
    ),
    (
        "[machines.a]\nimage = \"debian\"\nfiles.\"/x\" = {content = \"\", mode = 755}",
        "`mode` must be an octal mode such as \"0755\", not 755",
    ),
    (
        "timeout = 0\n[machines.a]",
        "it.py:3: `timeout` must be a number of seconds above 0",
    ),
    (
        "timeout = \"soon\"\n[machines.a]",
        "`timeout` must be a number of seconds above 0",
    ),
    ("machines = 3", "`machines` must be a table, not 3"),
    (
        "[machines]\na = 3",
        "`a` must be a table: write `# [machines.a]`",
    ),
];

#[test]
fn errors_in_the_head_name_the_line_and_what_to_do() {
    for (toml, expected) in REFUSED {
        assert!(
            refused(toml).contains(expected),
            "{toml}\n  gives: {}\n  not:   {expected}",
            refused(toml)
        );
    }
}

#[test]
fn a_test_takes_254_machines_and_no_more() {
    let machines = |count: usize| {
        (0..count)
            .map(|i| format!("[machines.m{i}]\n"))
            .collect::<String>()
    };
    let config = head(&machines(254)).unwrap();
    assert_eq!(config.machines.last().unwrap().number, 254);
    assert!(refused(&machines(255)).contains("255 machines or more are too many"));
}

#[test]
fn durations_come_as_seconds_clock_or_iso_8601() {
    for (text, seconds) in [
        ("PT5M", 300.0),
        ("P1DT1S", 86_401.0),
        ("PT0.5S", 0.5),
        ("P1W", 604_800.0),
        ("01:00:01.5", 3601.5),
        ("42", 42.0),
    ] {
        assert_eq!(
            duration::from_text(text),
            Some(Duration::from_secs_f64(seconds)),
            "{text}"
        );
    }
    for text in [
        "",
        "P",
        "PT",
        "P1S",
        "PT1D",
        "-5",
        "PT-5S",
        "1e9",
        "inf",
        "NaN",
        "PT1S2",
        "1:99:00",
        "P1Y",
        "99999999999999999999",
    ] {
        assert_eq!(duration::from_text(text), None, "{text}");
    }
}

const JSON: &str = r#"{
  "vms": { "web-1": { "name": "x", "start_script": "/nix/store/a b/bin/run-x-vm", "extra": 1 }, "1st": { "name": "1st", "start_script": "/run" } },
  "containers": {}, "vlans": [2, 1, 2], "global_timeout": 3600, "enable_ssh_backdoor": false, "test_script": "/script", "new": {}
}"#;

fn json(text: &str) -> Result<TestConfig, Error> {
    TestConfig::from_json_file(Path::new("config.json"), text)
}

#[test]
fn json_of_the_nixos_framework_is_taken() {
    let config = json(JSON).unwrap();
    let machines: Vec<_> = config
        .machines
        .iter()
        .map(|m| (m.name.as_str(), m.number, m.identifier()))
        .collect();
    assert_eq!(
        machines,
        [
            ("1st", 1, "_st".to_owned()),
            ("web-1", 2, "web_1".to_owned())
        ]
    );
    assert_eq!(
        config.machines[1].kind,
        MachineKind::StartScript("'/nix/store/a b/bin/run-x-vm'".to_owned())
    );
    assert_eq!(
        (config.vlans.as_slice(), config.global_timeout),
        (&[1, 2][..], Some(Duration::from_secs(3600)))
    );
    assert_eq!(config.script, Path::new("/script"));
    let iso = json(&JSON.replace("3600", "\"PT1H\"")).unwrap();
    assert_eq!(iso, config);
}

#[test]
fn errors_in_json_name_the_field() {
    for (from, to, expected) in [
        (
            "\"vlans\": [2, 1, 2], ",
            "",
            "config.json: vlans: is missing",
        ),
        (
            "\"start_script\": \"/run\"",
            "\"start_script\": 3",
            "config.json: vms.1st.start_script: must be a text, not 3",
        ),
        (
            ", \"start_script\": \"/run\"",
            "",
            "config.json: vms.1st.start_script: is missing",
        ),
        ("\"/run\"", "\"\"", "vms.1st.start_script: must be the path"),
        (
            "[2, 1, 2]",
            "[2, 0]",
            "config.json: vlans[1]: must be a VLAN number from 1 to 255, not 0",
        ),
        (
            "3600",
            "\"P\"",
            "config.json: global_timeout: must be a number of seconds",
        ),
        (
            "3600",
            "true",
            "config.json: global_timeout: must be a number of seconds",
        ),
        (
            "false",
            "0",
            "config.json: enable_ssh_backdoor: must be true or false, not 0",
        ),
        (
            "\"containers\": {}",
            "\"containers\": {\"c\": {}}",
            "config.json: containers: containers are not supported yet",
        ),
        (
            "\"containers\": {}",
            "\"containers\": []",
            "config.json: containers: must be an object, not a list",
        ),
        (
            "\"1st\": {",
            "\"a/b\": {",
            "config.json: vms.a/b: this cannot be the name of a machine",
        ),
        (
            "\"containers\": {},",
            "\"containers\": {}",
            "config.json:3: not JSON: expected `,` or `}`",
        ),
    ] {
        let text = JSON.replace(from, to);
        assert_ne!(text, JSON, "{from}");
        let error = json(&text).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{to}\n  gives: {error}\n  not:   {expected}"
        );
    }
    assert_eq!(
        json("[]").unwrap_err().to_string(),
        "config.json: must be an object, not a list"
    );
}

#[test]
fn names_become_identifiers_and_host_names() {
    for (name, identifier, host) in [
        ("web-1", "web_1", "web-1"),
        ("1st", "_st", "1st"),
        ("a_b", "a_b", "ab"),
        ("é.x", "__x", "é.x"),
    ] {
        assert_eq!(
            (
                names::python_identifier(name).as_str(),
                names::host_name(name).as_str()
            ),
            (identifier, host)
        );
    }
}

#[test]
fn addresses_hold_the_vlan_and_the_number() {
    assert_eq!(network::mac_text(network::mac(1, 2)), "52:54:00:12:01:02");
    assert_eq!(
        network::mac_text(network::mac(255, 254)),
        "52:54:00:12:FF:FE"
    );
    assert_eq!(network::ipv4(1, 2).to_string(), "192.168.1.2");
    assert_eq!(network::ipv6(255, 254).to_string(), "2001:db8:255::254");
}

proptest! {
    #[test]
    fn no_text_makes_a_head_panic(toml in "\\PC*") {
        drop(head(&toml));
    }

    #[test]
    fn no_values_make_a_machine_panic(key in "(image|packages|files|run|memory|cpus|vlans|kernel|qemu_args|log)", value in "[\\[\\]{}\"'0-9a-zG=.,:-]{0,12}") {
        drop(head(&format!("[machines.a]\n{key} = {value}")));
    }

    #[test]
    fn no_text_makes_json_panic(text in "\\PC*") {
        drop(json(&text));
    }

    #[test]
    fn every_identifier_is_one(name in "\\PC+") {
        let identifier = names::python_identifier(&name);
        let first = identifier.chars().next().unwrap();
        prop_assert!(first == '_' || first.is_ascii_alphabetic());
        prop_assert!(identifier.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()));
    }
}
