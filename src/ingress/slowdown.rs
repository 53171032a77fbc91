//! PURE: failed logins slow down further ones from the same address. Time is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Failures of one address without a delay: typing errors, a password being rotated.
const FREE: u32 = 3;
/// The first delay; it doubles with each further failure.
const FIRST: Duration = Duration::from_millis(250);
/// No login waits longer: the agent gives up at 30 s.
const LONGEST: Duration = Duration::from_secs(8);
/// An address without failures for this long has no delay any more.
const MEMORY: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond that the one with the oldest failure is forgotten.
const PEERS_MAX: usize = 4096;

/// What counts as one address: an IPv6 host can use any address of its /64.
pub(super) fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// Failed logins by address.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    peers: HashMap<IpAddr, (u32, Instant)>,
}

impl Slowdown {
    /// How long a login from `peer` waits before it is decided. Valid ones wait too: a fast reply must not give
    /// anything away.
    pub(super) fn delay(&self, peer: IpAddr, now: Instant) -> Duration {
        match self.peers.get(&peer) {
            Some((failures, last)) if *failures > FREE && now.duration_since(*last) < MEMORY => {
                let doublings = (*failures - FREE - 1).min(16);
                (FIRST * 2_u32.pow(doublings)).min(LONGEST)
            }
            _ => Duration::ZERO,
        }
    }

    /// A login from `peer` failed.
    pub(super) fn failed(&mut self, peer: IpAddr, now: Instant) {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.peers
                .retain(|_, (_, last)| now.duration_since(*last) < MEMORY);
            let oldest = self
                .peers
                .iter()
                .min_by_key(|(_, (_, last))| *last)
                .map(|(ip, _)| *ip);
            if let Some(oldest) = oldest.filter(|_| self.peers.len() >= PEERS_MAX) {
                self.peers.remove(&oldest);
            }
        }
        let entry = self.peers.entry(peer).or_insert((0, now));
        if now.duration_since(entry.1) >= MEMORY {
            entry.0 = 0;
        }
        *entry = (entry.0.saturating_add(1), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn failures_slow_down_their_own_address_only_and_expire() {
        let mut slow = Slowdown::default();
        let (bad, good) = (
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        );
        let now = Instant::now();
        for _ in 0..FREE {
            slow.failed(bad, now);
        }
        assert_eq!(slow.delay(bad, now), Duration::ZERO);
        slow.failed(bad, now);
        assert_eq!(slow.delay(bad, now), FIRST);
        for _ in 0..100 {
            slow.failed(bad, now);
        }
        assert_eq!(slow.delay(bad, now), LONGEST);
        assert_eq!(slow.delay(good, now), Duration::ZERO);
        assert_eq!(slow.delay(bad, now + MEMORY), Duration::ZERO);
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_and_ipv4_is_the_same_on_either_socket() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("2001:db8::1:2:3:4"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("::ffff:10.0.0.1"), of("::ffff:10.0.0.2"));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let mut slow = Slowdown::default();
        let now = Instant::now();
        for i in 0..10_000_u32 {
            slow.failed(
                IpAddr::V4(Ipv4Addr::from_bits(i)),
                now + Duration::from_millis(i.into()),
            );
        }
        assert!(slow.peers.len() <= PEERS_MAX);
    }
}
