//! User-mode Linux, a kernel that is a program, as the front end and the guest.

use super::{BASH, INIT, check_guest, config, run, wait_for, wait_ready};
use hotbed_console::Shell;
use hotbed_console::device::vhost_user::{Happened, Service};
use hotbed_testing::{UserModeLinux, Vmm};
use std::path::Path;

/// A guest that has not said anything yet, or why there can be none.
fn start(folder: &Path, socket: &Path) -> Result<Vmm, String> {
    let guest = UserModeLinux {
        folder,
        name: "guest",
        modules: &["drivers/char/virtio_console"],
        init: INIT,
        programs: &[BASH],
        device: &format!("{}:3", socket.display()),
    };
    guest.start()
}

/// Starts a guest, unless that cannot be done here: then it says why, and the test ends.
pub(super) fn start_or_skip(folder: &Path, socket: &Path) -> Option<Vmm> {
    start(folder, socket)
        .inspect_err(|why| println!("SKIPPED: no guest of User-mode Linux: {why}"))
        .ok()
}

#[test]
fn user_mode_linux_has_its_consoles_on_our_back_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    let mut shell = Shell::new(service.stream(0).unwrap()).unwrap();
    let (mut one, mut two) = (service.stream(1).unwrap(), service.stream(2).unwrap());
    let running = service.start().unwrap();
    let Some(vmm) = start_or_skip(folder.path(), &socket) else {
        return;
    };
    wait_ready(&vmm, &mut shell);
    check_guest(&mut shell, &mut one, &mut two, &running);

    let pid = std::fs::read_to_string(folder.path().join("guest/pid")).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(vmm);
    assert!(!process.exists(), "the guest is dead");
    wait_for(&running, |happened| {
        matches!(happened, Happened::Disconnected(None))
    });
    drop(running);
    assert!(!socket.exists(), "the socket is gone");
}

#[test]
fn second_guest_finds_the_console_as_the_first_one_did() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("console.sock");
    let mut service = Service::listen(&socket, config()).unwrap();
    let mut shell = Shell::new(service.stream(0).unwrap()).unwrap();
    let running = service.start().unwrap();
    for _ in 0..2 {
        let Some(vmm) = start_or_skip(folder.path(), &socket) else {
            return;
        };
        wait_for(&running, |happened| matches!(happened, Happened::Connected));
        wait_ready(&vmm, &mut shell);
        assert_eq!(
            run(&mut shell, "cat /sys/class/virtio-ports/vport*p0/name"),
            "shell"
        );
        drop(vmm); // As if its power were cut.
        wait_for(&running, |happened| {
            matches!(happened, Happened::Disconnected(_))
        });
        shell.expect_ready();
    }
}
