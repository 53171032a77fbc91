//! Which broker a gateway gets: the order to try them in, and what attempts and probes found.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::greeting::Answer;
use crate::config::{Policy, Url};

/// So long after a failure a broker is tried behind the others, so that a dead broker costs no gateway its
/// timeout. Longer than the time between two probes of it, so that it ends with the first probe that is answered.
const DEMOTED: Duration = Duration::from_secs(15);
/// An answered probe is proof for this long.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of the brokers.
#[derive(Debug, Default)]
pub(super) struct Brokers {
    turn: AtomicUsize,
    found: Mutex<HashMap<String, Found>>,
}

/// How a broker was when it was last asked.
#[derive(Debug, Clone, Copy)]
struct Found {
    at: Instant,
    /// Whether it answered; if not, the class of the failure.
    answer: Result<Answer, &'static str>,
    /// Since when, and when last, it has answered probes with Start, without a failure in between.
    proven: Option<(Instant, Instant)>,
}

/// Who asked a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    ByGateway,
    ByProbe,
}

impl Brokers {
    /// The brokers in the order to try them: with [`Policy::Loadbalance`] starting one further each time, and those
    /// that failed lately last.
    pub(super) fn order(&self, brokers: &[Url], policy: Policy, now: Instant) -> Vec<Url> {
        let mut order = brokers.to_vec();
        if policy == Policy::Loadbalance {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            order.rotate_left(turn.checked_rem(brokers.len()).unwrap_or_default());
        }
        let found = self.lock();
        // Stable: the order among equals stays.
        order.sort_by_key(|url| {
            let last = found.get(&url.to_string());
            last.is_some_and(|last| last.answer.is_err() && now < last.at + DEMOTED)
        });
        order
    }

    /// Records what a broker answered.
    pub(super) fn record(&self, url: &Url, answer: Result<Answer, &'static str>, asked: Asked, now: Instant) {
        let mut found = self.lock();
        let before = found.get(&url.to_string()).and_then(|last| last.proven);
        let before = before.filter(|_| answer.is_ok());
        let proven = match (asked, answer) {
            (Asked::ByGateway, _) => before,
            (Asked::ByProbe, Ok(Answer::Start)) => Some((before.map_or(now, |(since, _)| since), now)),
            (Asked::ByProbe, _) => None,
        };
        let last = Found {
            at: now,
            answer,
            proven,
        };
        found.insert(url.to_string(), last);
    }

    /// What a broker answered when it was last asked.
    pub(super) fn last(&self, name: &str) -> Option<Result<Answer, &'static str>> {
        self.lock().get(name).map(|last| last.answer)
    }

    /// Until when a broker that has answered every probe for `after` counts as up; `None` = it has not.
    pub(super) fn proven_until(&self, name: &str, after: Duration, now: Instant) -> Option<Instant> {
        let (since, at) = self.lock().get(name)?.proven?;
        (now >= since + after).then(|| at + FRESH)
    }

    /// Forgets the brokers that are not among these.
    pub(super) fn keep(&self, names: &[String]) {
        self.lock().retain(|name, _| names.contains(name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scheme;

    fn urls(n: u16) -> Vec<Url> {
        let url = |port| Url {
            scheme: Scheme::Tcp,
            host: "tm".into(),
            port,
        };
        (1..=n).map(url).collect()
    }

    fn ports(order: &[Url]) -> Vec<u16> {
        order.iter().map(|u| u.port).collect()
    }

    #[test]
    fn failover_tries_in_order_and_loadbalance_starts_one_further_each_time() {
        let (brokers, now) = (Brokers::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(ports(&brokers.order(&urls(3), Policy::Failover, now)), [1, 2, 3]);
        }
        let orders: Vec<_> = (0..4)
            .map(|_| ports(&brokers.order(&urls(3), Policy::Loadbalance, now)))
            .collect();
        assert_eq!(orders, [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
    }

    #[test]
    fn a_broker_that_failed_lately_is_tried_last_for_a_while() {
        let (brokers, now) = (Brokers::default(), Instant::now());
        brokers.record(&urls(1)[0], Err("mute"), Asked::ByGateway, now);
        assert_eq!(ports(&brokers.order(&urls(3), Policy::Failover, now)), [2, 3, 1]);
        assert_eq!(
            ports(&brokers.order(&urls(3), Policy::Failover, now + DEMOTED)),
            [1, 2, 3]
        );
        brokers.record(&urls(1)[0], Ok(Answer::Start), Asked::ByProbe, now);
        assert_eq!(ports(&brokers.order(&urls(3), Policy::Failover, now)), [1, 2, 3]);
        brokers.record(&urls(1)[0], Err("refused"), Asked::ByProbe, now);
        assert_eq!(
            ports(&brokers.order(&urls(3), Policy::Failover, now)),
            [2, 3, 1],
            "probes count as well"
        );
    }

    #[test]
    fn a_broker_is_proven_by_an_unbroken_row_of_probes_only() {
        let (brokers, t) = (Brokers::default(), Instant::now());
        let (url, after) = (&urls(1)[0], FRESH * 5);
        let proven = |now| brokers.proven_until(&url.to_string(), after, now);
        brokers.record(url, Ok(Answer::Start), Asked::ByGateway, t);
        assert_eq!(proven(t + after), None, "a gateway's attempt is not a probe");
        brokers.record(url, Ok(Answer::Start), Asked::ByProbe, t);
        brokers.record(url, Ok(Answer::Start), Asked::ByProbe, t + FRESH * 3);
        assert_eq!(proven(t + FRESH * 4), None, "not for long enough");
        assert_eq!(
            proven(t + FRESH * 5),
            Some(t + FRESH * 4),
            "one second from the last answer"
        );
        brokers.record(url, Ok(Answer::Start), Asked::ByGateway, t + FRESH * 5);
        assert_eq!(proven(t + FRESH * 5), Some(t + FRESH * 4));
        for broken in [Err("mute"), Ok(Answer::OtherVersion)] {
            brokers.record(url, broken, Asked::ByProbe, t + FRESH * 6);
            brokers.record(url, Ok(Answer::Start), Asked::ByProbe, t + FRESH * 7);
            assert_eq!(proven(t + FRESH * 8), None, "a new row starts");
        }
        brokers.keep(&[]);
        assert_eq!(brokers.last(&url.to_string()), None);
    }
}
