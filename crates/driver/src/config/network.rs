//! Addresses: which MAC, IPv4 and IPv6 address a machine has on a VLAN.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The MAC address of the machine with that number on that VLAN.
#[must_use]
pub fn mac(vlan: u8, number: u8) -> [u8; 6] {
    [0x52, 0x54, 0x00, 0x12, vlan, number]
}

/// The MAC address as QEMU's command line has it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02X}")).join(":")
}

/// The IPv4 address of the machine with that number on that VLAN.
#[must_use]
pub fn ipv4(vlan: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, vlan, number)
}

/// The IPv6 address of the machine with that number on that VLAN: both numbers are written in decimal, as NixOS does.
#[must_use]
pub fn ipv6(vlan: u8, number: u8) -> Ipv6Addr {
    Ipv6Addr::new(
        0x2001,
        0x0db8,
        decimal_as_hexadecimal(vlan),
        0,
        0,
        0,
        0,
        decimal_as_hexadecimal(number),
    )
}

/// The number whose hexadecimal digits are the decimal digits of `value`: 254 becomes 0x254.
fn decimal_as_hexadecimal(value: u8) -> u16 {
    let value = u16::from(value);
    (value / 100) * 0x100 + (value / 10 % 10) * 0x10 + value % 10
}
