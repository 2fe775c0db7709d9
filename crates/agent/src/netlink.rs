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
pub(crate) fn set_interface(name: &str, mac: [u8; 6], addresses: &[Address]) -> Result<(), Errno> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // rtnetlink is number 0.
    )?;
    let index = rustix::net::netdevice::name_to_index(&socket, name)?;
    // A new MAC address changes the address of the link, but only as the interface comes up.
    if mac_of(name) != Some(mac) {
        set_link(&socket, index, Some(mac), false)?;
    }
    for message in dump(&socket, index)? {
        request(&socket, RTM_DELADDR, NLM_F_ACK, &message)?;
    }
    set_link(&socket, index, None, true)?;
    for (address, len) in addresses {
        request(
            &socket,
            RTM_NEWADDR,
            NLM_F_ACK | NLM_F_CREATE_REPLACE,
            &new_address(index, *address, *len),
        )?;
    }
    Ok(())
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

/// Asks for all addresses, and returns the messages about this interface's, but those of its link.
fn dump(socket: &OwnedFd, index: u32) -> Result<Vec<Vec<u8>>, Errno> {
    transmit(socket, RTM_GETADDR, NLM_F_DUMP, &[0; 8])?;
    let mut found = Vec::new();
    let mut result = Ok(());
    let mut take = |kind: u16, body: &[u8]| {
        let is_wanted = kind == RTM_NEWADDR
            && body.get(4..8) == Some(&index.to_ne_bytes())
            && body.get(3) != Some(&SCOPE_LINK);
        if is_wanted {
            found.push(body.to_vec());
        }
    };
    receive(socket, &mut take, &mut result)?;
    result.map(|()| found)
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
