//! What makes one machine of many that boot the same image.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name, the interfaces and the neighbours of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The host name: letters, digits and hyphens, at most 63.
    pub hostname: String,
    /// The interfaces that the guest names and gives addresses at boot.
    pub interfaces: Vec<Interface>,
    /// Lines of `/etc/hosts` (those of `localhost` come by themselves).
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
