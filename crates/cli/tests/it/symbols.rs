//! The names that a script finds defined are those of the stub, and methods take what their signatures say.

use crate::support::{Place, repository};

#[test]
fn a_script_has_the_names_of_the_stub_and_its_machines() {
    let place = Place::new();
    let stub = repository("crates/python/stubs/test_driver/script.pyi");
    let ended = place.run_script(&format!(
        "before = {{n for n in globals() if not n.startswith('_')}}\n\
         import ast\n\
         stub = set()\n\
         for node in ast.parse(open({stub:?}).read()).body:\n    \
             if isinstance(node, ast.FunctionDef): stub.add(node.name)\n    \
             if isinstance(node, ast.AnnAssign): stub.add(node.target.id)\n    \
             if isinstance(node, ast.ImportFrom): stub |= {{a.asname for a in node.names if a.asname}}\n    \
             if isinstance(node, ast.Import): stub |= {{a.asname for a in node.names if a.asname}}\n\
         stub = {{n for n in stub if not n.startswith('_')}}\n\
         t.assertEqual(before - stub, {{'alice', 'machine', 'vlan1'}})\n\
         t.assertEqual(stub - before, set())\n\
         assert machine is alice and machines == [alice] and driver.machines is machines\n\
         assert vlans == [vlan1] and vlan1.nr == 1 and repr(vlan1) == '<Vlan Nr. 1>'\n\
         assert repr(alice) == \"<QemuMachine 'alice'>\"\n\
         assert t.failureException.__name__ == 'RequestedAssertionFailed'\n\
         assert not alice.is_up() and not alice.booted and not alice.connected and alice.pid is None\n\
         assert alice.state_dir.name == 'vm-state-alice' and alice.state_dir.parent == alice.tmp_dir\n\
         assert alice.shared_dir.name == 'shared-xchg' and driver.out_dir.samefile('.')\n"
    ));
    ended.expect(0, &["passed in"]);
}

#[test]
fn two_machines_have_no_alias() {
    let place = Place::new();
    place.write(
        "test.py",
        "# /// hotbed\n# [machines.web-1]\n# [machines.b]\n# vlans = [3]\n# ///\n\
         assert 'machine' not in globals()\n\
         assert [m.name for m in machines] == ['b', 'web-1'] and machines[1] is web_1\n\
         assert [v.nr for v in vlans] == [1, 3] and vlan3.socket_dir.is_dir()\n\
         assert os.environ['QEMU_VDE_SOCKET_3'] == str(vlan3.socket_dir)\n",
    );
    place.run(&["run", "test.py"]).expect(0, &["passed in"]);
}

#[test]
fn clones_have_names_and_a_list() {
    let place = Place::new();
    place.write(
        "test.py",
        "# /// hotbed\n# [machines.worker]\n# count = 11\n# [machines.machine]\n# count = 2\n# [machines.log]\n# count = 1\n# ///\n\
         t.assertEqual([m.name for m in workers], [f'worker{n}' for n in range(1, 12)])\n\
         assert worker11 is workers[10] and machines[0] is log1 and logs == [log1]\n\
         assert len(machines) == 14 and [machine1, machine2] == machines[1:3]\n\
         assert 'machine' not in globals() and 'worker' not in globals()\n",
    );
    place.run(&["run", "test.py"]).expect(0, &["passed in"]);
}

#[test]
fn a_vlan_is_impaired_parted_and_healed_and_all_of_it_can_be_undone() {
    let place = Place::new();
    place.write(
        "test.py",
        r#"# /// hotbed
# [machines.alice]
# [machines.bob]
# vlans = [2]
# ///
from datetime import timedelta
from test_driver.errors import MachineError
with vlan1.impair(between=(alice, "probe"), delay="20ms", loss=0.01, burst=3) as change:
    vlan1.impair(source=alice, jitter=timedelta(milliseconds=1), delay=0.01, distribution="pareto")
    vlan1.impair(target=alice, rate="10Mbit", duplicate=0.5, corrupt=1, reorder=0.1, seed=3)
    vlan1.impair(source=alice, target="probe", rate=1000, down=True)
    with vlan1.partition([alice], ["probe"]), vlan1.heal() as healed:
        vlan1.impair(delay="1.5 s")
    healed.undo()
change.undo()
wrong = [
    dict(between=[alice]), dict(between=[alice, bob]), dict(delay="20"), dict(delay="20 min"), dict(loss=1.5),
    dict(loss=1.0, burst=2), dict(loss=0.1, burst=0.5), dict(distribution="even"), dict(rate="fast"), dict(rate=0),
    dict(duplicate=float("nan")), dict(delay=3600),
]
for arguments in wrong:
    with t.assertRaises((ValueError, MachineError), msg=arguments): vlan1.impair(**arguments)
for arguments in [dict(between=(alice, "x"), source=alice), dict(source=3), dict(delay=True), dict(seed=-1)]:
    with t.assertRaises((TypeError, OverflowError), msg=arguments): vlan1.impair(**arguments)
with t.assertRaisesRegex(ValueError, "bob is not on VLAN 1"): vlan1.partition([alice], [bob])
t.assertEqual((vlan1.ports(), vlan1.stations(), vlan1.links()), ([], [], []))
with vlan1.capture("all.pcapng", ports=[alice]) as capture, vlan1.capture("some.pcapng", "arp or icmp") as other:
    t.assertEqual(capture.path, driver.out_dir / "all.pcapng")
    with t.assertRaises(MachineError): vlan1.capture("all.pcapng")
t.assertEqual((capture.stop(), other.stop()), (0, 0))
t.assertEqual(capture.path.read_bytes()[:4], bytes.fromhex("0a0d0d0a"))
with t.assertRaisesRegex(ValueError, "filter `arq`: `arq` at character 1 is not expected there"): vlan1.capture("x", "arq")
t.assertFalse(alice.booted)
"#,
    );
    place
        .run(&["run", "-o", ".", "test.py"])
        .expect(0, &["passed in"]);
}

/// Plugs the script itself into the VLAN.
const PROBE: &str = r#"# /// hotbed
# [machines.alice]
# ///
import socket
import struct
probe = socket.socket(socket.AF_UNIX)
probe.connect(str(vlan1.socket_dir.parent / "vlan1"))
def send(source, target):
    frame = bytes.fromhex("ffffffffffff 020000000001 0806 0001 0800 0604 0001 020000000001")
    frame += socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)
    probe.sendall(struct.pack("!I", len(frame)) + frame)
    return frame
"#;

#[test]
fn frames_on_a_vlan_are_expected_and_forbidden() {
    let place = Place::new();
    let script = r#"
from test_driver.errors import RequestedAssertionFailed
with vlan1.expecting("arp and host 10.0.0.2", within=60) as expectation, vlan1.forbid("tcp or host 10.0.0.3") as ban:
    with t.assertRaises(RuntimeError): expectation.frame
    sent = send("10.0.0.1", "10.0.0.2")
frame = expectation.frame
t.assertEqual((frame.port, frame.is_outgoing, frame.data), ("vlan1", False, sent))
t.assertEqual(repr(frame), "<Frame from vlan1: ARP who-has 10.0.0.2 tell 10.0.0.1, 42 bytes>")
ban.lift()

later = vlan1.expecting("dst host 10.0.0.5", within=0)
send("10.0.0.4", "10.0.0.5")
with later: pass
with t.assertRaises(RequestedAssertionFailed) as raised, vlan1.expecting("arp", 0.5):
    pass
t.assertEqual(str(raised.exception), "no frame `arp` passed on VLAN 1 within 0.5 seconds; 0 others did")
watch = vlan1.expecting("tcp", within=0)
send("10.0.0.1", "10.0.0.7")
with t.assertRaises(RequestedAssertionFailed) as raised, watch:
    pass
t.assertEqual(str(raised.exception).splitlines(), [
    "no frame `tcp` passed on VLAN 1 within 0 seconds; 1 others did, the last of them:",
    "  from vlan1: ARP who-has 10.0.0.7 tell 10.0.0.1, 42 bytes",
])
with t.assertRaises(RequestedAssertionFailed): vlan1.expect("arp", within=0)

with t.assertRaises(RequestedAssertionFailed) as raised, vlan1.forbid("arp"):
    for _ in range(100): send("10.0.0.1", "10.0.0.8")
t.assertEqual(
    str(raised.exception),
    "forbidden frames `arp` passed on VLAN 1: 100, the first from vlan1: ARP who-has 10.0.0.8 tell 10.0.0.1, 42 bytes",
)
# An exception of the block is not hidden by what came of it.
with t.assertRaises(KeyError), vlan1.forbid("arp"), vlan1.expecting("tcp", within=900):
    send("10.0.0.1", "10.0.0.9")
    raise KeyError
with t.assertRaises(ValueError): vlan1.forbid("arq")
"#;
    place.write("test.py", &[PROBE, script].concat());
    place
        .run(&["run", "test.py"])
        .expect(0, &["waiting for a frame `arp` on VLAN 1", "passed in"]);
}

#[test]
fn what_is_forbidden_stays_so_to_the_end_of_the_test() {
    let place = Place::new();
    let script = "vlan1.forbid('arp')\nsend('10.0.0.1', '10.0.0.2')\n";
    place.write("test.py", &[PROBE, script].concat());
    place.run(&["run", "test.py"]).expect(
        1,
        &["forbidden frames `arp` passed on VLAN 1: 1, the first"],
    );
}

#[test]
fn every_method_takes_the_keywords_of_its_signature() {
    // Each argument has a wrong type, so nothing happens; the error must be about the type, not about the keyword.
    let place = Place::new();
    let ended = place.run_script(
        "import inspect\nwrong = object()\nchecked = 0\n\
         for owner in [alice, alice.qmp_client, driver, log]:\n    \
             for name in dir(owner):\n        \
                 if name.startswith('_'): continue\n        \
                 method = getattr(owner, name)\n        \
                 if not callable(method): continue\n        \
                 parameters = inspect.signature(method).parameters.values()\n        \
                 keywords = {p.name: wrong for p in parameters if p.kind is not p.VAR_POSITIONAL}\n        \
                 several = [wrong for p in parameters if p.kind is p.VAR_POSITIONAL]\n        \
                 if not keywords or name in ('wait_for_qmp_event',): continue\n        \
                 try:\n            \
                     method(*several, **keywords)\n        \
                 except TypeError as error:\n            \
                     t.assertNotIn('unexpected keyword', str(error), name)\n            \
                     t.assertNotIn('missing', str(error), name)\n            \
                     checked += 1\n        \
                 else:\n            \
                     raise AssertionError(name)\n\
         print(checked)\n",
    );
    ended.expect(0, &["passed in"]);
    let checked: usize = ended.stdout.trim().parse().expect("a number");
    assert!(checked >= 35, "{ended}");
}

#[test]
fn durations_of_the_wrong_type_are_refused_before_anything_boots() {
    let place = Place::new();
    let ended = place.run_script(
        "for wrong in [True, 'x', [1]]:\n    \
             with t.assertRaises(TypeError): alice.succeed('true', timeout=wrong)\n    \
             with t.assertRaises(TypeError): alice.sleep(wrong)\n\
         with t.assertRaises(TypeError): alice.sleep()\n\
         with t.assertRaises(TypeError): alice.sleep(1, duration=2)\n\
         with t.assertRaises(OverflowError): alice.wait_for_open_port(65536)\n\
         assert not alice.booted\n",
    );
    ended.expect(0, &["passed in"]);
}
