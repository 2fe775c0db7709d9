//! Router advertisements: the LAN's prefix, from which machines make addresses of their own.

use std::net::Ipv6Addr;

use smoltcp::time::Duration as Span;
use smoltcp::wire::{
    EthernetAddress, IPV6_LINK_LOCAL_ALL_NODES, Icmpv6Repr, NdiscPrefixInfoFlags,
    NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
};

use super::Own;
use crate::hosts::packet::{HOP_LIMIT, Stations, multicast};
use crate::wire::MacAddr;

/// How long machines take the gateway for a router: three times as long as it tells them unasked.
const ROUTER_LIFETIME: Span = Span::from_secs(1800);

/// How long an address with the prefix is one, and is used for what is new; the values of RFC 4861.
const VALID_LIFETIME: Span = Span::from_secs(2_592_000);
const PREFERRED_LIFETIME: Span = Span::from_secs(604_800);

/// The address that a station makes for itself on its link (RFC 4291).
pub(super) fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from_octets([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// An advertisement for all, and where it goes.
pub(super) fn advertisement(own: &Own) -> (Stations, Ipv6Addr, Icmpv6Repr<'static>) {
    let [a, b, c, d, ..] = own.ipv6.segments();
    let prefix = NdiscPrefixInformation {
        prefix_len: 64,
        flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
        valid_lifetime: VALID_LIFETIME,
        preferred_lifetime: PREFERRED_LIFETIME,
        prefix: Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0),
    };
    let advert = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: HOP_LIMIT,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: ROUTER_LIFETIME,
        reachable_time: Span::ZERO,
        retrans_time: Span::ZERO,
        lladdr: Some(EthernetAddress(own.mac.0).into()),
        mtu: None,
        prefix_info: Some(prefix),
    });
    let all = IPV6_LINK_LOCAL_ALL_NODES;
    let stations = Stations {
        source: own.mac,
        target: multicast(all),
    };
    (stations, all, advert)
}
