//! Addresses of interfaces, by rtnetlink: a program of the guest's would cost more than all else after a hot boot.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// An address, and how long its network's prefix is.
pub(crate) type Address = (IpAddr, u8);

// From linux/netlink.h and linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_REPLACE: u16 = 0x500;
const IFLA_ADDRESS: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;
const IFA_F_NODAD: u32 = 2;
const SCOPE_HOST: u8 = 254;
const SCOPE_LINK: u8 = 253;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The length of the prefix of a link's own address.
const LINK_PREFIX: u8 = 64;

/// The length of a message's head.
const HEAD_LEN: usize = 16;

/// What is received at once.
const BUFFER_LEN: usize = 64 << 10;

/// Reads an address as `10.0.0.1/24`.
pub(crate) fn parse(text: &str) -> Result<Address, String> {
    let parsed = text.split_once('/').and_then(|(address, len)| {
        let address: IpAddr = address.parse().ok()?;
        let len: u8 = len.parse().ok()?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        (len <= max).then_some((address, len))
    });
    parsed.ok_or_else(|| text.to_owned())
}

/// Gives an interface this MAC address and these addresses, and no others but those of its link, and brings it up.
///
/// An interface that is up stays so, where its driver allows that: to bring it down and up is most of a clone's start, and says more on the
/// network than anybody there wants to hear.
pub(crate) fn set_interface(name: &str, mac: [u8; 6], addresses: &[Address]) -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // rtnetlink is number 0.
    )?;
    let index = rustix::net::netdevice::name_to_index(&socket, name)?;
    let old = mac_of(name).filter(|old| *old != mac).map(of_link);
    if old.is_some() && set_link(&socket, index, Some(mac), true).is_err() {
        set_link(&socket, index, Some(mac), false)?;
    }
    let mut wanted = addresses.to_vec();
    for (address, message) in dump(&socket, index)? {
        if Some(address) == old {
            wanted.push((of_link(mac), LINK_PREFIX));
        } else if message.get(3) == Some(&SCOPE_LINK) {
            continue;
        }
        request(&socket, RTM_DELADDR, NLM_F_ACK, &message)?;
    }
    set_link(&socket, index, None, true)?;
    for (address, len) in wanted {
        let message = new_address(index, address, len);
        let flags = NLM_F_ACK | NLM_F_CREATE_REPLACE;
        request(&socket, RTM_NEWADDR, flags, &message)?;
    }
    Ok(())
}

/// The address that the kernel gives the link of an interface with this MAC address, as it comes up.
fn of_link(mac: [u8; 6]) -> IpAddr {
    let [a, b, c, d, e, f] = mac;
    let interface = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..].copy_from_slice(&interface);
    address.into()
}

fn mac_of(name: &str) -> Option<[u8; 6]> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/address")).ok()?;
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(mac)
}

fn set_link(socket: &OwnedFd, index: u32, mac: Option<[u8; 6]>, up: bool) -> Result<(), Errno> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    let flags = if up { IFF_UP } else { 0 };
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&IFF_UP.to_ne_bytes());
    if let Some(mac) = mac {
        attribute(&mut body, IFLA_ADDRESS, &mac);
    }
    request(socket, RTM_NEWLINK, NLM_F_ACK, &body)
}

fn new_address(index: u32, address: IpAddr, len: u8) -> Vec<u8> {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let scope = if address.is_loopback() { SCOPE_HOST } else { 0 };
    let mut body = vec![family, len, 0, scope];
    body.extend_from_slice(&index.to_ne_bytes());
    match address {
        IpAddr::V4(address) => {
            attribute(&mut body, IFA_LOCAL, &address.octets());
            attribute(&mut body, IFA_ADDRESS, &address.octets());
        }
        IpAddr::V6(address) => attribute(&mut body, IFA_ADDRESS, &address.octets()),
    }
    // The addresses are the machine's alone.
    attribute(&mut body, IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(4);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn transmit(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
    let len = u32::try_from(HEAD_LEN + body.len()).map_err(|_| Errno::MSGSIZE)?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    send(socket, &message, SendFlags::empty()).map(|_| ())
}

fn request(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
    transmit(socket, kind, flags, body)?;
    let mut result = Err(Errno::PROTO);
    receive(socket, &mut |_, _| {}, &mut result)?;
    result
}

/// Asks for all addresses, and returns this interface's, with the messages about them.
fn dump(socket: &OwnedFd, index: u32) -> Result<Vec<(IpAddr, Vec<u8>)>, Errno> {
    transmit(socket, RTM_GETADDR, NLM_F_DUMP, &[0; 8])?;
    let mut found = Vec::new();
    let mut result = Ok(());
    let mut take = |kind: u16, body: &[u8]| {
        let is_wanted = kind == RTM_NEWADDR && body.get(4..8) == Some(&index.to_ne_bytes());
        if let Some(address) = address_of(body).filter(|_| is_wanted) {
            found.push((address, body.to_vec()));
        }
    };
    receive(socket, &mut take, &mut result)?;
    result.map(|()| found)
}

/// The address that a message is about.
fn address_of(body: &[u8]) -> Option<IpAddr> {
    let mut rest = body.get(8..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..len)?;
        if kind == IFA_ADDRESS {
            let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
            return v4
                .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
                .ok();
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// Receives messages up to the end of an answer.
fn receive(
    socket: &OwnedFd,
    take: &mut dyn FnMut(u16, &[u8]),
    result: &mut Result<(), Errno>,
) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let (len, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..len];
        while let Some((kind, body, after)) = message(rest) {
            rest = after;
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body
                        .get(..4)
                        .and_then(|code| code.try_into().ok())
                        .map_or(0, i32::from_ne_bytes);
                    *result = if code == 0 {
                        Ok(())
                    } else {
                        Err(Errno::from_raw_os_error(-code))
                    };
                    return Ok(());
                }
                kind => take(kind, body),
            }
        }
    }
}

/// Splits the first message off: its kind, its body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEAD_LEN..len)?;
    Some((
        kind,
        body,
        bytes.get(len.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_link_is_made_of_its_mac_address() {
        let address = of_link([0x52, 0x54, 0x00, 0x12, 0x01, 0x03]);
        assert_eq!(address.to_string(), "fe80::5054:ff:fe12:103");
    }

    #[test]
    fn message_says_which_address_it_is_about_or_is_none() {
        for text in ["10.0.0.1", "2001:db8::1"] {
            let address = text.parse().unwrap();
            let message = new_address(7, address, 24);
            assert_eq!(address_of(&message), Some(address));
            for len in 0..12 {
                assert_eq!(address_of(&message[..len]), None);
            }
        }
        // An attribute that is shorter than its own head.
        assert_eq!(address_of(&[0; 64]), None);
    }
}
