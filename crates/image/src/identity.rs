//! What makes one machine of many that boot the same image.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Error;
use crate::initramfs::Initramfs;
use crate::key::KeyBuilder;
use crate::reseed;

/// The name, the interfaces and the neighbours of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The host name: letters, digits and hyphens, at most 63.
    pub hostname: String,
    /// The interfaces that the guest names and gives addresses at boot.
    pub interfaces: Vec<Interface>,
    /// Lines of `/etc/hosts` (those of `localhost` and of the machine's own name come by themselves).
    pub hosts: Vec<(IpAddr, Vec<String>)>,
}

/// One network interface of a machine, found in the guest by its MAC address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name in the guest, such as `eth1`: at most 15 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The MAC address that QEMU gives the card.
    pub mac: [u8; 6],
    /// IPv4 address and prefix length.
    pub ipv4: (Ipv4Addr, u8),
    /// IPv6 address and prefix length.
    pub ipv6: (Ipv6Addr, u8),
}

impl Identity {
    /// Says what a guest could not take; a shell reads what passes, so the alphabets are narrow.
    ///
    /// # Errors
    ///
    /// Names the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let hostname = &self.hostname;
        if !is_label(hostname) || hostname.contains('_') {
            return wrong(format!(
                "the host name {hostname:?} is not 1 to 63 letters, digits and hyphens with no hyphen at an end"
            ));
        }
        if self.interfaces.len() > INTERFACES_MAX {
            return wrong(format!(
                "{} interfaces are more than {INTERFACES_MAX}",
                self.interfaces.len()
            ));
        }
        let (mut names, mut macs) = (BTreeSet::new(), BTreeSet::new());
        for interface in &self.interfaces {
            interface.check()?;
            if !names.insert(&interface.name) || !macs.insert(interface.mac) {
                return wrong(format!(
                    "the interface {} or its MAC address is there twice",
                    interface.name
                ));
            }
        }
        if self.hosts.len() > HOSTS_MAX {
            return wrong(format!(
                "{} lines of /etc/hosts are more than {HOSTS_MAX}",
                self.hosts.len()
            ));
        }
        for (address, names) in &self.hosts {
            let is_host =
                |name: &String| name.len() <= HOST_NAME_MAX && name.split('.').all(is_label);
            if names.is_empty() || !names.iter().all(is_host) {
                return wrong(format!(
                    "the host names {names:?} of {address} are not names that /etc/hosts can hold"
                ));
            }
        }
        Ok(())
    }

    /// A digest of what goes into the guest (hexadecimal).
    ///
    /// # Errors
    ///
    /// As of [`check`](Self::check).
    pub fn digest(&self) -> Result<String, Error> {
        Ok(crate::key::digest(&self.archive()?))
    }

    /// The archive that is appended to an image's initramfs.
    pub(crate) fn archive(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let mut archive = Initramfs::default();
        let mut write = || {
            archive.file(
                "etc/hostname",
                0o644,
                format!("{}\n", self.hostname).as_bytes(),
            )?;
            archive.file("etc/hosts", 0o644, self.hosts_file().as_bytes())?;
            archive.file("etc/machine-id", 0o444, self.machine_id().as_bytes())?;
            archive.file(
                "etc/hotbed/interfaces",
                0o644,
                self.interfaces_file().as_bytes(),
            )?;
            archive.file(RESEED, 0o755, &reseed::program())
        };
        write().map_err(|error| Error::InvalidIdentity(error.to_string()))?;
        archive
            .finish()
            .map_err(|error| Error::InvalidIdentity(error.to_string()))
    }

    /// The same machine of the same test has the same `/etc/machine-id` in every run.
    #[must_use]
    pub fn machine_id(&self) -> String {
        let macs = self.interfaces.iter().map(|interface| interface.mac);
        let key = KeyBuilder::new("machine-id")
            .input("hostname", &self.hostname)
            .inputs("mac", macs)
            .finish();
        // The form of a random UUID (version 4), as machine-id(5) asks for.
        format!("{}4{}8{}\n", &key[..12], &key[13..16], &key[17..32])
    }

    /// The text of `/etc/hosts`.
    #[must_use]
    pub fn hosts_file(&self) -> String {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        if !self
            .hosts
            .iter()
            .any(|(_, names)| names.contains(&self.hostname))
        {
            let _ = writeln!(text, "127.0.1.1 {}", self.hostname); // Writing to a String cannot fail.
        }
        for (address, names) in &self.hosts {
            let _ = writeln!(text, "{address} {}", names.join(" "));
        }
        text
    }

    /// One line for each interface, as stage 1 reads it.
    fn interfaces_file(&self) -> String {
        let mut text = String::new();
        for interface in &self.interfaces {
            let mac: Vec<String> = interface
                .mac
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let ((ipv4, prefix4), (ipv6, prefix6)) = (interface.ipv4, interface.ipv6);
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix4.min(32)))
                .unwrap_or(0);
            let netmask = Ipv4Addr::from_bits(mask);
            let _ = writeln!(
                text,
                "{} {} {ipv4} {netmask} {ipv6}/{prefix6}",
                interface.name,
                mac.join(":")
            );
        }
        text
    }
}

impl Interface {
    fn check(&self) -> Result<(), Error> {
        let name = &self.name;
        let is_word = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let is_free = !RESERVED.contains(&name.as_str());
        if !is_word
            || !is_free
            || name.is_empty()
            || name.len() > INTERFACE_NAME_MAX
            || name.starts_with('-')
        {
            return wrong(format!("{name:?} is not a name that an interface can have"));
        }
        if self.mac[0] & 1 == 1 || self.mac == [0; 6] {
            return wrong(format!(
                "the MAC address {:02x?} of {name} is not that of one card",
                self.mac
            ));
        }
        if self.ipv4.1 > 32 || self.ipv6.1 > 128 {
            return wrong(format!(
                "the prefix length of an address of {name} is too long"
            ));
        }
        Ok(())
    }
}

fn is_label(label: &str) -> bool {
    let is_word = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_word
        && (1..=LABEL_MAX).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn wrong<T>(message: String) -> Result<T, Error> {
    Err(Error::InvalidIdentity(message))
}

/// Where a guest without an agent finds the program; the driver knows the name.
const RESEED: &str = "hotbed-reseed";
/// Names that Linux itself uses.
const RESERVED: [&str; 5] = [".", "..", "lo", "all", "default"];
const LABEL_MAX: usize = 63;
const HOST_NAME_MAX: usize = 253;
/// `IFNAMSIZ`, less the final zero.
const INTERFACE_NAME_MAX: usize = 15;
/// As many as there are VLANs.
const INTERFACES_MAX: usize = 255;
/// Every machine on every VLAN, by both address families.
const HOSTS_MAX: usize = 2 * 255 * 255;

#[cfg(test)]
mod tests;
