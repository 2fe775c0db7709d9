//! From what a user says to a unit's name, as `systemctl` does it.

use super::{Failure, FailureKind};

/// The longest name, in bytes: systemd's own bound.
const NAME_MAX: usize = 255;

const KINDS: &[&str] = &[
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

/// A unit's name: a path becomes its device or mount, a name without a suffix a service, and what may not stand in a name is
/// escaped.
pub(in crate::wait) fn mangle(said: &str) -> Result<String, Failure> {
    let invalid = || Failure::new(FailureKind::Invalid, format!("{said:?} is not a unit"));
    if said.is_empty() || said.len() > NAME_MAX || said.contains('\0') {
        return Err(invalid());
    }
    let name = if let Some(path) = said.strip_prefix('/') {
        let is_device = path.starts_with("dev/") || path.starts_with("sys/");
        let kind = if is_device { "device" } else { "mount" };
        format!("{}.{kind}", escape_path(path))
    } else {
        let mut name = String::new();
        for (at, byte) in said.bytes().enumerate() {
            match byte {
                b'/' => name.push('-'),
                b'.' if at == 0 => escape(&mut name, byte),
                b'-' | b'\\' | b'@' => name.push(char::from(byte)),
                _ => put(&mut name, byte),
            }
        }
        let has_kind = name
            .rsplit_once('.')
            .is_some_and(|(_, kind)| KINDS.contains(&kind));
        if !has_kind {
            name.push_str(".service");
        }
        name
    };
    if name.len() > NAME_MAX {
        return Err(invalid());
    }
    Ok(name)
}

fn escape_path(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let mut name = String::new();
    for (at, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => escape(&mut name, byte),
            _ => put(&mut name, byte),
        }
    }
    if name.is_empty() {
        name.push('-');
    }
    name
}

fn put(name: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) {
        name.push(char::from(byte));
    } else {
        escape(name, byte);
    }
}

fn escape(name: &mut String, byte: u8) {
    name.push_str(&format!("\\x{byte:02x}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_systemctl_makes_of_them() {
        for (said, name) in [
            ("nginx.service", "nginx.service"),
            ("nginx", "nginx.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("foo.bar", "foo.bar.service"),
            (
                r"dev-disk-by\x2dlabel-x.device",
                r"dev-disk-by\x2dlabel-x.device",
            ),
            ("/dev/disk/by-label/x", r"dev-disk-by\x2dlabel-x.device"),
            ("/", "-.mount"),
            ("/var//lib/", "var-lib.mount"),
            ("/.hidden", r"\x2ehidden.mount"),
            ("a b.target", r"a\x20b.target"),
            ("ü", r"\xc3\xbc.service"),
            (".x", r"\x2ex.service"),
        ] {
            assert_eq!(mangle(said).unwrap(), name, "{said}");
        }
        for said in ["", "a\0b", &"x".repeat(256), &"ü".repeat(100)] {
            assert!(mangle(said).is_err());
        }
    }
}
