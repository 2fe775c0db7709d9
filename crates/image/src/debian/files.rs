//! What is put into every Debian root, and the scripts that are run in it.

use std::fmt::Write as _;

use crate::spec::DebianSpec;

/// Path, permission bits and content.
pub(super) const FILES: [(&str, u32, &str); 9] = [
    (
        "/etc/systemd/system/backdoor.service",
        0o644,
        include_str!("../guest/debian/backdoor.service"),
    ),
    (
        "/etc/systemd/system/hotbed-agent.service",
        0o644,
        include_str!("../guest/debian/hotbed-agent.service"),
    ),
    (
        "/etc/systemd/system/hotbed-coldplug.service",
        0o644,
        include_str!("../guest/debian/hotbed-coldplug.service"),
    ),
    (
        "/etc/systemd/system/systemd-tmpfiles-setup.service.d/hotbed.conf",
        0o644,
        TMPFILES,
    ),
    ("/etc/systemd/journald.conf.d/hotbed.conf", 0o644, JOURNALD),
    ("/etc/systemd/system.conf.d/hotbed.conf", 0o644, MANAGER),
    ("/etc/systemd/user.conf.d/hotbed.conf", 0o644, USER_MANAGER),
    ("/etc/sysctl.d/60-hotbed.conf", 0o644, SYSCTL),
    (
        "/usr/lib/hotbed/backdoor",
        0o755,
        include_str!("../guest/debian/backdoor"),
    ),
];

const SETUP: &str = include_str!("../guest/debian/setup.sh");
/// Run last in every root.
pub(super) const FINISH: &str = include_str!("../guest/debian/finish.sh");

/// Installs packages with the host's apt, in the root `$1`; mmdebstrap says how by its configuration of apt.
pub(super) const INSTALL: &str = "APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get --yes --no-install-recommends \
     -oDPkg::Chroot-Directory=\"$1\" -oDPkg::Use-Pty=false install $HOTBED_PACKAGES";

/// Makes the file system `$out` from a bare view of the root `$1`, without what is mounted in it.
pub(super) const MAKE_EROFS: &str = "set -e; bare=$(mktemp -d); mount --bind \"$1\" \"$bare\"; \
     mkfs.erofs -U 6f746265-6421-4f6e-8000-000000000000 '--exclude-regex=^(dev|run|tmp)/.' \"$out\" \"$bare\" >/dev/null; umount \"$bare\"; rmdir \"$bare\"";

const TMPFILES: &str = "# One run for all: device nodes are not made apart.\n\
     [Service]\nExecStart=\nExecStart=systemd-tmpfiles --create --remove --boot\n";
const JOURNALD: &str = "[Journal]\nForwardToConsole=yes\nMaxLevelConsole=debug\nAudit=no\n";
const MANAGER: &str =
    "[Manager]\nShowStatus=no\nDefaultTimeoutStartSec=300\nDefaultDeviceTimeoutSec=300\n";
const USER_MANAGER: &str = "[Manager]\nDefaultTimeoutStartSec=300\n";
const SYSCTL: &str = "kernel.hung_task_timeout_secs = 600\nvm.panic_on_oom = 2\n";

/// The script that makes a base system a machine of a test.
pub(super) fn setup_script() -> String {
    let mut script = String::from("#!/bin/bash\nset -e\n");
    for (path, mode, content) in FILES {
        put_file(&mut script, path, mode, content);
    }
    script.push_str(SETUP.strip_prefix("#!/bin/sh\n").unwrap_or(SETUP));
    script
}

/// The script that writes the files of a spec and runs its commands.
pub(super) fn spec_script(spec: &DebianSpec) -> String {
    let mut script = String::from("#!/bin/bash\nset -e\n");
    for (path, file) in &spec.files {
        put_file(&mut script, path, file.mode, &file.content);
    }
    for command in &spec.run {
        let shown = quote(&format!("run: {command}"));
        let _ = writeln!(
            script,
            "printf '%s\\n' {shown}\ncd / && bash -e -c {} </dev/null",
            quote(command)
        );
    }
    script
}

fn put_file(script: &mut String, path: &str, mode: u32, content: &str) {
    let (path, content) = (quote(path), quote(content));
    let _ = writeln!(
        script,
        "path={path}\nmkdir -p \"${{path%/*}}/\"\nrm -f \"$path\""
    );
    let _ = writeln!(
        script,
        "printf %s {content} >\"$path\"\nchmod {mode:04o} \"$path\""
    );
}

/// One word of a shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
