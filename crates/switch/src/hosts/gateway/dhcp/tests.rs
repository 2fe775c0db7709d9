use super::*;
use crate::hosts::gateway::fuzz_config;
use crate::hosts::tests::{MACHINE, MACHINE_V4, epoch};

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 100);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 101);

/// What a client says beside who it is.
#[derive(Clone, Copy, Default)]
struct Ask {
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    has: Option<Ipv4Addr>,
    relay: Option<Ipv4Addr>,
    broadcast: bool,
}

fn stranger(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn message(kind: DhcpMessageType, client: MacAddr, ask: Ask) -> Vec<u8> {
    let or_none = |address: Option<Ipv4Addr>| address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let id = [255, 1, 2, 3];
    let repr = DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234,
        secs: 0,
        client_hardware_address: EthernetAddress(client.0),
        client_ip: or_none(ask.has),
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: or_none(ask.relay),
        broadcast: ask.broadcast,
        requested_ip: ask.requested,
        client_identifier: None,
        server_identifier: ask.server,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[DhcpOption {
            kind: CLIENT_ID,
            data: &id,
        }],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..]))
        .unwrap();
    bytes
}

/// The kind of the answer and the address that it gives.
fn tell(
    dhcp: &mut Dhcp,
    now: Instant,
    kind: DhcpMessageType,
    client: MacAddr,
    ask: Ask,
) -> Option<(DhcpMessageType, Ipv4Addr)> {
    let answer = dhcp.handle(now, &message(kind, client, ask))?;
    let packet = DhcpPacket::new_checked(&answer.message[..]).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(
        (reply.transaction_id, reply.client_hardware_address.0),
        (0x1234, client.0)
    );
    assert_eq!(
        packet
            .options()
            .find(|option| option.kind == CLIENT_ID)
            .unwrap()
            .data,
        [255, 1, 2, 3]
    );
    Some((reply.message_type, reply.your_ip))
}

fn discover(dhcp: &mut Dhcp, now: Instant, client: MacAddr) -> Option<Ipv4Addr> {
    let (kind, address) = tell(dhcp, now, DhcpMessageType::Discover, client, Ask::default())?;
    assert_eq!(kind, DhcpMessageType::Offer);
    Some(address)
}

fn request(dhcp: &mut Dhcp, now: Instant, client: MacAddr, address: Ipv4Addr) -> bool {
    let ask = Ask {
        requested: Some(address),
        server: Some(dhcp.server),
        ..Ask::default()
    };
    match tell(dhcp, now, DhcpMessageType::Request, client, ask) {
        Some((DhcpMessageType::Ack, given)) => given == address,
        Some((DhcpMessageType::Nak, given)) => {
            assert!(given.is_unspecified());
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_known_machine_gets_its_own_address_and_no_other() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    assert_eq!(discover(&mut dhcp, now, MACHINE), Some(MACHINE_V4));
    assert!(request(&mut dhcp, now, MACHINE, MACHINE_V4));
    assert!(!request(&mut dhcp, now, MACHINE, FIRST));
    assert!(
        !request(&mut dhcp, now, STRANGER, MACHINE_V4),
        "it is not for others"
    );
    assert_eq!(dhcp.leases.at(now).count(), 0);
}

#[test]
fn an_answer_says_all_that_a_client_needs() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    let answer = dhcp
        .handle(
            now,
            &message(DhcpMessageType::Discover, MACHINE, Ask::default()),
        )
        .unwrap();
    assert!(answer.message.len() >= MESSAGE_MIN);
    let packet = DhcpPacket::new_checked(&answer.message[..]).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    let server = fuzz_config().ipv4;
    assert_eq!(
        (reply.router, reply.server_identifier, reply.subnet_mask),
        (Some(server), Some(server), Some(fuzz_config().mask))
    );
    assert_eq!(reply.dns_servers.unwrap()[..], [server]);
    assert_eq!(reply.lease_duration, Some(3600));
    assert_eq!(
        packet
            .options()
            .find(|option| option.kind == HOST_NAME)
            .unwrap()
            .data,
        b"alice"
    );
    let reply = dhcp
        .handle(
            now,
            &message(
                DhcpMessageType::Inform,
                STRANGER,
                Ask {
                    has: Some(FIRST),
                    ..Ask::default()
                },
            ),
        )
        .unwrap();
    let packet = DhcpPacket::new_checked(&reply.message[..]).unwrap();
    let inform = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(
        (inform.message_type, inform.your_ip, inform.lease_duration),
        (DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED, None)
    );
}

#[test]
fn answers_go_where_the_client_can_receive_them() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    let mut sent = |kind, ask| {
        let answer = dhcp.handle(now, &message(kind, STRANGER, ask)).unwrap();
        (answer.station, answer.address)
    };
    let (all, everywhere) = (MacAddr([0xff; 6]), Ipv4Addr::BROADCAST);
    assert_eq!(
        sent(DhcpMessageType::Discover, Ask::default()),
        (STRANGER, FIRST)
    );
    assert_eq!(
        sent(
            DhcpMessageType::Discover,
            Ask {
                broadcast: true,
                ..Ask::default()
            }
        ),
        (all, everywhere)
    );
    let renewal = Ask {
        has: Some(FIRST),
        broadcast: true,
        ..Ask::default()
    };
    assert_eq!(sent(DhcpMessageType::Request, renewal), (STRANGER, FIRST));
    let wrong = Ask {
        has: Some(MACHINE_V4),
        ..Ask::default()
    };
    assert_eq!(
        sent(DhcpMessageType::Request, wrong),
        (all, everywhere),
        "a refusal is for all to hear"
    );
}

#[test]
fn strangers_share_the_pool_until_it_is_empty() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    assert_eq!(discover(&mut dhcp, now, stranger(1)), Some(FIRST));
    assert_eq!(discover(&mut dhcp, now, stranger(1)), Some(FIRST), "again");
    assert_eq!(discover(&mut dhcp, now, stranger(2)), Some(SECOND));
    assert_eq!(discover(&mut dhcp, now, stranger(3)), None);
    assert!(request(&mut dhcp, now, stranger(1), FIRST));
    assert!(!request(&mut dhcp, now, stranger(3), FIRST));
    // What was offered and not taken is free soon; what was taken, when its time is up.
    let later = now + OFFER;
    assert_eq!(discover(&mut dhcp, later, stranger(3)), Some(SECOND));
    assert_eq!(discover(&mut dhcp, now + LEASE, stranger(4)), Some(FIRST));
}

#[test]
fn a_client_gets_what_it_had_or_wants_if_that_is_free() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    let wish = |address| Ask {
        requested: Some(address),
        ..Ask::default()
    };
    assert_eq!(
        tell(
            &mut dhcp,
            now,
            DhcpMessageType::Discover,
            STRANGER,
            wish(SECOND)
        ),
        Some((DhcpMessageType::Offer, SECOND))
    );
    for unfree in [MACHINE_V4, fuzz_config().ipv4, Ipv4Addr::new(10, 0, 0, 1)] {
        assert_eq!(
            tell(
                &mut dhcp,
                now,
                DhcpMessageType::Discover,
                stranger(1),
                wish(unfree)
            ),
            Some((DhcpMessageType::Offer, FIRST))
        );
    }
    // A client that starts again asks for what it had, and names no server.
    assert_eq!(
        tell(
            &mut dhcp,
            now,
            DhcpMessageType::Request,
            STRANGER,
            wish(SECOND)
        ),
        Some((DhcpMessageType::Ack, SECOND))
    );
    assert_eq!(
        dhcp.leases.at(now + OFFER).collect::<Vec<_>>(),
        [(SECOND, STRANGER)]
    );
    assert_eq!(discover(&mut dhcp, now, STRANGER), Some(SECOND));
    assert_eq!(
        dhcp.leases.at(now + OFFER).count(),
        1,
        "an offer does not end a loan"
    );
}

#[test]
fn a_released_address_is_free_and_a_declined_one_is_left_alone() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    let to_us = |address: Ipv4Addr| Ask {
        has: Some(address),
        requested: Some(address),
        server: Some(fuzz_config().ipv4),
        ..Ask::default()
    };
    assert!(request(&mut dhcp, now, stranger(1), FIRST));
    assert_eq!(
        tell(
            &mut dhcp,
            now,
            DhcpMessageType::Release,
            stranger(1),
            to_us(FIRST)
        ),
        None
    );
    assert!(request(&mut dhcp, now, stranger(2), FIRST));
    assert_eq!(
        tell(
            &mut dhcp,
            now,
            DhcpMessageType::Decline,
            stranger(1),
            to_us(FIRST)
        ),
        None
    );
    assert!(
        request(&mut dhcp, now, stranger(2), FIRST),
        "who does not have it cannot say so"
    );
    assert_eq!(
        tell(
            &mut dhcp,
            now,
            DhcpMessageType::Decline,
            stranger(2),
            to_us(FIRST)
        ),
        None
    );
    assert_eq!(discover(&mut dhcp, now, stranger(2)), Some(SECOND));
    assert_eq!(discover(&mut dhcp, now, stranger(3)), None);
    assert_eq!(
        discover(&mut dhcp, now + DECLINED, stranger(3)),
        Some(FIRST)
    );
}

#[test]
fn who_chose_another_server_or_comes_by_a_relay_gets_no_answer() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    assert_eq!(discover(&mut dhcp, now, STRANGER), Some(FIRST));
    let other = Ask {
        requested: Some(FIRST),
        server: Some(SECOND),
        ..Ask::default()
    };
    assert_eq!(
        tell(&mut dhcp, now, DhcpMessageType::Request, STRANGER, other),
        None
    );
    assert_eq!(
        discover(&mut dhcp, now, stranger(1)),
        Some(FIRST),
        "the offer is off"
    );
    let relayed = Ask {
        relay: Some(SECOND),
        ..Ask::default()
    };
    assert_eq!(
        tell(&mut dhcp, now, DhcpMessageType::Discover, STRANGER, relayed),
        None
    );
    assert_eq!(
        dhcp.handle(now, b"hello").map(|answer| answer.address),
        None
    );
}

#[test]
fn loans_go_back_to_what_they_were() {
    let (mut dhcp, now) = (Dhcp::new(&fuzz_config()), epoch());
    assert!(request(&mut dhcp, now, stranger(1), FIRST));
    let mut before = dhcp.leases().clone();
    assert!(request(&mut dhcp, now, stranger(2), SECOND));
    before.shift(OFFER);
    dhcp.restore(before);
    let later = now + LEASE + OFFER - Duration::from_secs(1);
    assert_eq!(
        dhcp.leases().at(later).collect::<Vec<_>>(),
        [(FIRST, stranger(1))]
    );
}
