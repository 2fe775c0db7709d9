//! Hosts inside the program, on ports of a switch: they answer, so that real machines have somebody to talk to.
//!
//! - [`gateway`]: one host that gives addresses (DHCP, router advertisements) and knows names (DNS).
//! - [`simulated`]: hosts by the thousand that answer ping, TCP echo and HTTP.
//! - `packet`: frames taken apart and put together, by smoltcp; `answer`: what every host says to ARP, ND and ping.
//!
//! Nothing here reads a clock or has a thread: frames go in with the time, and frames come out. [`Switch::add_hosts`] is the
//! shell around it.
//!
//! Limits: Ethernet without tags, no IP fragments, no IPv6 extension headers; such frames get no answer.
//!
//! [`Switch::add_hosts`]: crate::Switch::add_hosts

use std::time::Instant;

mod answer;
pub mod gateway;
mod packet;
pub mod simulated;

pub use packet::Outbox;

/// Hosts that share a port of a switch.
pub trait Hosts: Send {
    /// Takes a frame, and puts the answers in `out`.
    fn handle_frame(&mut self, now: Instant, frame: &[u8], out: &mut Outbox);

    /// Does what is due at `now`, puts the frames in `out`, and says when to call again if nothing comes in.
    fn poll(&mut self, now: Instant, out: &mut Outbox) -> Option<Instant>;
}

/// What a fuzzer throws at hosts: they send whole frames of their own stations, and few for one. The input is frames, each behind
/// its length in one byte.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made in any other way"
)]
pub fn fuzz(data: &[u8]) {
    let now = Instant::now();
    let mut gateway = gateway::Gateway::new(now, &gateway::fuzz_config());
    let profile = simulated::Profile {
        count: 100,
        first: std::net::Ipv4Addr::new(10, 1, 0, 1),
        prefix: gateway::fuzz_config().ipv6,
        echo: true,
        http: true,
    };
    let mut simulated = simulated::Simulated::new(now, 7, &profile).expect("hosts that can be");
    let (mut rest, mut out) = (data, Outbox::default());
    while let [len, behind @ ..] = rest {
        let (frame, after) = behind.split_at(behind.len().min(usize::from(*len)));
        gateway.handle_frame(now, frame, &mut out);
        simulated.handle_frame(now, frame, &mut out);
        assert!(out.frames().count() <= 4, "an answer is no flood");
        for frame in out.frames() {
            let (stations, ..) = packet::parse_frame(frame).expect("a whole header");
            let is_gateway = stations.source == gateway::fuzz_config().mac;
            assert!(
                is_gateway || stations.source.0.starts_with(&simulated::MAC_PREFIX),
                "a station of theirs"
            );
        }
        out.clear();
        simulated.poll(now, &mut out);
        out.clear();
        rest = after;
    }
}

#[cfg(test)]
mod tests;
