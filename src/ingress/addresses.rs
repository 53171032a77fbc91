//! PURE: open connections by address, and what each has done in this stage: nothing, been sent away, published.
//!
//! A stage is a part of a drain, or the time between two drains. A connection has a number: the stage in which it
//! opened or published last, and what it has done there. Each publish compares it with one number of the worker's;
//! only publishes that are sent away, and the first one of a stage that is served, are recorded here. So events cost
//! nothing.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::status::{Gateway, Gateways};

/// Publishes on one connection that are sent away. One is enough where the agent has one publisher; several share its
/// connections, and another may take this one before the one that was answered closes it.
const SENT_AWAY_MAX: u32 = 8;

/// From the number of one stage to that of the next. Between them is what a connection has done: 0 nothing, else how many
/// of its publishes were sent away.
const STAGE: u32 = 16;
/// Or this: one was served.
const PUBLISHING: u32 = STAGE - 1;

#[derive(Debug, Default)]
pub(super) struct Addresses {
    stage: u32,
    /// The next publishes of each connection that was there before this stage are sent away.
    sends_away: bool,
    /// Connections that open now count as if they had been there before.
    none_is_new: bool,
    by_address: HashMap<IpAddr, Address>,
}

/// What the connections of one address have in common.
#[derive(Debug, Default)]
struct Address {
    connections: usize,
    /// Publishes sent away in this stage.
    sent_away: u64,
    /// Connections that were sent away with their last publish.
    leaving: usize,
    /// Connections that have published since.
    publishing: usize,
}

impl Addresses {
    /// Begins the next stage.
    pub(super) fn begin(&mut self, sends_away: bool, none_is_new: bool) {
        self.stage = self.stage.saturating_add(STAGE);
        (self.sends_away, self.none_is_new) = (sends_away, none_is_new);
        for address in self.by_address.values_mut() {
            (address.sent_away, address.leaving, address.publishing) = (0, 0, 0);
        }
    }

    /// Connections with a lower number are to be recorded when they publish.
    pub(super) fn noted_from(&self) -> u32 {
        self.stage.saturating_add(PUBLISHING)
    }

    /// The number of a connection that opens now.
    pub(super) fn number(&self) -> u32 {
        if self.none_is_new { 0 } else { self.stage }
    }

    /// A connection publishes whose number is below [`Self::noted_from`]: its new number, and whether the publish is
    /// sent away.
    pub(super) fn publishes(&mut self, address: IpAddr, number: u32) -> (u32, bool) {
        let address = self.by_address.entry(address).or_default();
        // `None`: it was there before.
        let away = number.checked_sub(self.stage);
        if self.sends_away && away.is_none_or(|times| (1..SENT_AWAY_MAX).contains(&times)) {
            address.sent_away += 1;
            address.leaving += usize::from(away.is_none());
            let times = away.unwrap_or(0).saturating_add(1);
            return (self.stage.saturating_add(times), true);
        }
        if away.is_some_and(|times| times > 0) {
            address.leaving = address.leaving.saturating_sub(1);
        }
        address.publishing += 1;
        (self.noted_from(), false)
    }

    /// Connections that an address has now.
    pub(super) fn connections(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, |a| a.connections)
    }

    pub(super) fn opened(&mut self, address: IpAddr) {
        self.by_address.entry(address).or_default().connections += 1;
    }

    /// A connection has ended that had this number.
    pub(super) fn closed(&mut self, address: IpAddr, number: u32) {
        let Some(known) = self.by_address.get_mut(&address) else {
            return;
        };
        known.connections = known.connections.saturating_sub(1);
        let count = match number.checked_sub(self.stage) {
            Some(PUBLISHING) => Some(&mut known.publishing),
            Some(1..) => Some(&mut known.leaving),
            _ => None,
        };
        if let Some(count) = count {
            *count = count.saturating_sub(1);
        }
        if known.connections == 0 {
            self.by_address.remove(&address);
        }
    }

    pub(super) fn status(&self) -> Gateways {
        let status = |a: &Address| Gateway {
            connections: a.connections as u64,
            sent_away: a.sent_away,
            publishing: a.publishing as u64,
            idle: a.connections.saturating_sub(a.leaving + a.publishing) as u64,
        };
        self.by_address.iter().map(|(at, a)| (*at, status(a))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// A connection as the listener and its session keep it.
    struct Connection(IpAddr, u32);

    impl Connection {
        fn open(addresses: &mut Addresses, at: IpAddr) -> Self {
            addresses.opened(at);
            Self(at, addresses.number())
        }

        /// Whether it is sent away.
        fn publishes(&mut self, addresses: &mut Addresses) -> bool {
            if self.1 >= addresses.noted_from() {
                return false;
            }
            let (number, away) = addresses.publishes(self.0, self.1);
            self.1 = number;
            away
        }

        fn close(self, addresses: &mut Addresses) {
            addresses.closed(self.0, self.1);
        }
    }

    /// Connections, publishes sent away, publishing, idle.
    fn at(addresses: &Addresses, address: IpAddr) -> [u64; 4] {
        let found = addresses.status().of(address);
        found.map_or([0; 4], |g| [g.connections, g.sent_away, g.publishing, g.idle])
    }

    #[test]
    fn a_drain_is_followed_by_address_from_its_notice_to_the_last_connection() {
        let mut all = Addresses::default();
        let [mut stays, mut goes] = [(); 2].map(|()| Connection::open(&mut all, HERE));
        let idle = Connection::open(&mut all, THERE);
        assert!(!stays.publishes(&mut all) && !goes.publishes(&mut all));
        assert_eq!(at(&all, HERE), [2, 0, 2, 0]);

        all.begin(false, false);
        assert_eq!(at(&all, HERE), [2, 0, 0, 2], "nothing since the notice");
        assert!(!stays.publishes(&mut all));
        assert_eq!(at(&all, HERE), [2, 0, 1, 1]);

        all.begin(true, false);
        assert!(goes.publishes(&mut all));
        for _ in 0..SENT_AWAY_MAX {
            assert!(stays.publishes(&mut all));
        }
        let away = u64::from(SENT_AWAY_MAX) + 1;
        assert_eq!(at(&all, HERE), [2, away, 0, 0]);
        assert!(!stays.publishes(&mut all), "it is served from then on");
        assert!(!stays.publishes(&mut all));
        assert_eq!(at(&all, HERE), [2, away, 1, 0]);
        goes.close(&mut all);
        assert_eq!(at(&all, HERE), [1, away, 1, 0]);
        let mut back = Connection::open(&mut all, HERE);
        assert_eq!(at(&all, HERE), [2, away, 1, 1], "it has published nothing yet");
        assert!(!back.publishes(&mut all), "new connections are served");
        assert_eq!(at(&all, HERE), [2, away, 2, 0]);
        assert_eq!(at(&all, THERE), [1, 0, 0, 1]);

        all.begin(true, true);
        assert!(back.publishes(&mut all), "a successor serves: all are sent away");
        let mut late = Connection::open(&mut all, THERE);
        assert!(late.publishes(&mut all), "its handshake was under way");
        for connection in [stays, back, late, idle] {
            connection.close(&mut all);
        }
        assert_eq!(all.status(), Gateways::default());

        all.begin(false, false);
        let mut later = Connection::open(&mut all, HERE);
        assert!(!later.publishes(&mut all), "the drain is taken back");
    }

    #[test]
    fn counts_by_address_always_add_up() {
        use proptest::prelude::*;
        let steps = proptest::collection::vec((0..6_u8, any::<usize>()), 0..200);
        proptest!(|(steps in steps)| {
            let mut all = Addresses::default();
            let mut open: Vec<Connection> = Vec::new();
            for (step, nth) in steps {
                let chosen = nth % open.len().max(1);
                match step {
                    0 | 1 => open.push(Connection::open(&mut all, if nth % 2 == 0 { HERE } else { THERE })),
                    2 | 3 if !open.is_empty() => drop(open[chosen].publishes(&mut all)),
                    4 if !open.is_empty() => open.swap_remove(chosen).close(&mut all),
                    _ => all.begin(nth % 2 == 0, nth % 3 == 0),
                }
                for address in [HERE, THERE] {
                    let connections = open.iter().filter(|c| c.0 == address);
                    let (stage, settled) = (all.stage, all.noted_from());
                    let count = |is: &dyn Fn(u32) -> bool| connections.clone().filter(|c| is(c.1)).count() as u64;
                    let leaving = count(&|n| n > stage && n < settled);
                    let [known, sent_away, publishing, idle] = at(&all, address);
                    prop_assert_eq!(known, count(&|_| true));
                    prop_assert_eq!(publishing, count(&|n| n == settled));
                    prop_assert_eq!(idle, known - publishing - leaving);
                    prop_assert!(sent_away >= leaving);
                }
            }
        });
    }
}
