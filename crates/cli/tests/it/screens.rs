//! Screens, keyboards and terminals, with a guest whose kernel has a console on them.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Ended, Place};

/// Shows lines on an otherwise empty screen, without a cursor, which would blink.
const SHOW: &str = "def show(text): alice.succeed(f\"printf '\\\\033[2J\\\\033[H\\\\033[?25l{text}\\\\n' >/dev/tty1\")\n";

/// A test whose machine has a screen and a keyboard.
///
/// The kernels of images are entered by PVH, where there is no BIOS that would tell them of a screen. The same kernel as its
/// package has it is told.
fn script_with_screen(place: &Place, body: &str) {
    place.script("print(alice.succeed('uname -r'))\n");
    let ended = place.run(&["run", "--quiet", "test.py"]);
    ended.expect(0, &[]);
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar xO --wildcards './boot/vmlinuz-*' >bzImage";
    let unpacked = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script, "sh"])
        .arg(package_of(ended.stdout.trim()))
        .current_dir(place.path("."))
        .status();
    assert!(unpacked.expect("bash runs").success());
    place.write(
        "test.py",
        &format!(
            "# /// hotbed\n# [machines.alice]\n# kernel = \"{}\"\n# qemu_args = [\"-vga\", \"std\"]\n# ///\n{body}",
            place.path("bzImage").display()
        ),
    );
}

/// The package that a kernel of the image cache came in.
fn package_of(release: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"),
        PathBuf::from,
    );
    let entries = std::fs::read_dir(cache.join("hotbed/entries")).expect("a cache");
    let files = entries
        .flatten()
        .flat_map(|entry| std::fs::read_dir(entry.path()));
    let start = format!("linux-image-{release}_");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start)
    };
    let mut packages = files.flatten().flatten().map(|file| file.path());
    packages.find(is_it).expect("the kernel's package")
}

#[test]
fn a_screen_is_photographed_and_read_and_its_terminal_too() {
    let place = Place::new();
    script_with_screen(
        &place,
        &format!(
            r#"{SHOW}
show("Welcome to the harbour")
alice.screenshot("shot")
alice.screenshot(f"{{os.getcwd()}}/other.png")
t.assertEqual((driver.out_dir / "shot.png").read_bytes()[:6], b"\x89PNG\r\n")
t.assertIn("harbour", alice.get_screen_text())
t.assertEqual(["harbour" in text for text in alice.get_screen_text_variants()], [True] * 3)
alice.wait_for_text(r"Welcome\s+to", timeout=60)
with t.assertRaisesRegex(t.failureException, "timed out"): alice.wait_for_text("a lighthouse", timeout=1)
alice.wait_until_tty_matches("1", "to the .*bour", timeout=30)
with t.assertRaises(t.failureException): alice.wait_until_tty_matches(1, "lighthouse", timeout=1)
t.assertEqual(alice.get_tty_text(1).splitlines()[0].strip(), "Welcome to the harbour")
t.assertEqual([len(line) for line in alice.get_tty_text(1).splitlines()], [80] * 25)
alice.succeed("printf 'cat >/tmp/journal' >/bin/systemd-cat; chmod +x /bin/systemd-cat")
alice.dump_tty_contents("1")
t.assertIn("harbour", alice.succeed("cat /tmp/journal"))
"#
        ),
    );
    let ended = place.run(&["run", "-o", ".", "test.py"]);
    ended.expect(
        0,
        &[
            "passed in",
            "making screenshot ",
            "waiting for a lighthouse to appear on screen",
            "Last OCR attempt failed. Text was: [",
            "Last chance to match /lighthouse/ on TTY1, which currently contains: Welcome",
        ],
    );
    assert!(place.path("other.png").exists());
}

#[test]
fn what_is_typed_arrives_key_by_key() {
    let place = Place::new();
    script_with_screen(
        &place,
        r#"
typed = "Az09 _-+={}[]:;\"'~`|\\<,>.?/!@#$%^&*()"
alice.execute("(exec </dev/tty1; touch /tmp/ready; IFS= read -r x; printf %s \"$x\" >/tmp/typed; read -r _; touch /tmp/more) >/dev/null 2>&1 &")
alice.wait_for_file("/tmp/ready")
alice.send_chars(typed + "\n", delay=None)
alice.wait_for_file("/tmp/typed")
alice.wait_until_succeeds("[ -s /tmp/typed ]")
t.assertEqual(alice.succeed("cat /tmp/typed"), typed)
alice.send_key("ret")
alice.wait_for_file("/tmp/more")
from test_driver.errors import MachineError
with t.assertRaisesRegex(MachineError, "does not press"): alice.send_key("no-such-key")
"#,
    );
    let ended = place.run(&["run", "test.py"]);
    ended.expect(0, &["passed in", "sending keys 'Az09", "sending key 'ret'"]);
}

#[test]
fn text_is_recognised_once_for_each_change_of_the_screen_and_no_longer_than_until_it_matches() {
    let place = Place::new();
    script_with_screen(
        &place,
        &format!(
            r#"{SHOW}
def calls():
    count = len(open("calls").read().split())
    open("calls", "w").close()
    return count

show("one")
open("calls", "w").close()
alice.wait_for_text("text of call 2", timeout=60)
t.assertEqual(calls(), 2)
with t.assertRaises(t.failureException): alice.wait_for_text("nothing", timeout=3)
t.assertEqual(calls(), 3)
os.environ["PATH"] = "/nowhere"
from test_driver.errors import MachineError
with t.assertRaisesRegex(MachineError, "OCR requested but `tesseract` is not available"): alice.get_screen_text()
"#
        ),
    );
    std::fs::create_dir(place.path("bin")).unwrap();
    let fake = place.write(
        "bin/tesseract",
        &format!(
            "#!/bin/sh\ncd {0} && echo x >>calls && echo text of call $(wc -l <calls)\n",
            place.path(".").display()
        ),
    );
    Command::new("chmod").arg("+x").arg(fake).status().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = place.command(&["run", "--quiet", "test.py"]);
    command.env("PATH", format!("{}:{path}", place.path("bin").display()));
    Ended::of(&mut command).expect(0, &["passed in"]);
}

#[test]
fn a_machine_without_a_screen_says_so() {
    let place = Place::new();
    let ended = place.run_script("alice.screenshot('x')\n");
    ended.expect(3, &["alice cannot show its screen: "]);
}
