//! Probes brokers: one probe at a time for each, whose answer serves all who wait for it.
//!
//! A probe sends the protocol header, waits for Start, and closes properly, without a login: Andes notes at most a
//! closed connection, RabbitMQ logs a warning. A bare TCP connect would leave no trace and would take a broker that
//! hangs for one that works. How often depends on what the answer is needed for: see [`interval`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::brokers::Asked;
use super::connection::flush_and_close;
use super::failback::{self, Failback};
use super::frame::HEADER_0_9_1;
use super::greeting::{Answer, BrokerError, connect};
use super::shared::Shared;
use crate::config::Url;
use crate::net::Dialer;

/// While a gateway waits for a broker, or is refused.
const AWAITED: Duration = Duration::from_millis(250);
/// While a connection is to go back to it: twice within the time that an answer counts as proof.
const WANTED_BACK: Duration = Duration::from_millis(500);
/// While it does not answer.
const DOWN: Duration = Duration::from_secs(1);
/// While no gateway is connected to it.
pub const IDLE_PROBE: Duration = Duration::from_secs(10);
/// Longest time between two reviews of what brokers are needed for.
const REVIEW: Duration = Duration::from_secs(1);

/// How many wait for an answer, and the answers.
pub(super) struct Probes {
    waiting: watch::Sender<usize>,
    answers: watch::Sender<()>,
    idle: Option<Duration>,
}

/// A gateway that waits for a broker that answers, until this is dropped.
pub(super) struct Waiting<'a>(&'a Probes);

impl Probes {
    pub(super) fn new(idle: Option<Duration>) -> Self {
        Self {
            waiting: watch::Sender::new(0),
            answers: watch::Sender::new(()),
            idle,
        }
    }

    /// Probes brokers for a gateway that waits, from now on.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.send_modify(|n| *n += 1);
        Waiting(self)
    }
}

impl Waiting<'_> {
    /// Changes whenever a probe was answered.
    pub(super) fn answers(&self) -> watch::Receiver<()> {
        self.0.answers.subscribe()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|n| *n -= 1);
    }
}

/// What a broker is needed for.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// A gateway waits for any broker, or is refused until there is one.
    awaited: bool,
    /// A connection was asked to go back to this one.
    wanted_back: bool,
    /// Connections on a later one are to go back once this one has answered for so long.
    preferred: Option<Duration>,
    /// Gateways are connected to it, and their connections show whether it works.
    used: bool,
}

/// PURE: the time between the end of a probe and the next; `None` = no probe.
fn interval(need: Need, last: Option<Result<Answer, &str>>, idle: Option<Duration>) -> Option<Duration> {
    // One that answers and cannot be used is probed no more often than one that works.
    let down = matches!(last, Some(Err(class)) if !matches!(class, "tls" | "protocol"));
    let intervals = [
        need.awaited.then_some(AWAITED),
        need.wanted_back.then_some(WANTED_BACK),
        need.preferred.map(failback::review_interval),
        down.then_some(DOWN),
        idle.filter(|_| !need.used),
    ];
    intervals.into_iter().flatten().min()
}

/// Probes brokers, and moves connections back to preferred ones, until weir stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let (mut waiting, mut config) = (shared.probes.waiting.subscribe(), shared.config.subscribe());
    let mut probes = JoinSet::new();
    let mut under_way: HashSet<String> = HashSet::new();
    let mut ended_at: HashMap<String, Instant> = HashMap::new();
    let mut failback = Failback::default();
    loop {
        waiting.borrow_and_update();
        let brokers = config.borrow_and_update().brokers.clone();
        ended_at.retain(|name, _| brokers.iter().any(|url| url.to_string() == *name));
        let now = Instant::now();
        let mut wake = now + REVIEW;
        for (url, need) in needs(&shared) {
            let name = url.to_string();
            let Some(interval) = interval(need, shared.brokers.last(&name), shared.probes.idle) else {
                continue;
            };
            if under_way.contains(&name) {
                continue;
            }
            // Counted from the last probe, never from a gateway's attempt: those may come in a stream.
            let due = ended_at.get(&name).map_or(now, |at| *at + interval);
            if due > now {
                wake = wake.min(due);
                continue;
            }
            under_way.insert(name);
            let dialer = shared.dialer();
            probes.spawn(async move {
                let answer = probe(&dialer, &url).await;
                (url, answer)
            });
        }
        tokio::select! {
            biased; // An answer first: a gateway may wait for it.
            Some(Ok((url, answer))) = probes.join_next() => {
                shared.record(&url, answer.as_ref().copied(), Asked::ByProbe);
                if answer.is_ok() {
                    shared.probes.answers.send_replace(());
                }
                let name = url.to_string();
                under_way.remove(&name);
                ended_at.insert(name, Instant::now());
            }
            // `shared` keeps both senders.
            _ = waiting.changed() => {}
            _ = config.changed() => {}
            () = sleep_until(wake) => {}
        }
        failback.review(&shared, Instant::now());
    }
}

/// The brokers of the configuration and what each is needed for.
fn needs(shared: &Shared) -> Vec<(Url, Need)> {
    let config = shared.config();
    let awaited = *shared.probes.waiting.borrow() > 0 || *shared.refusing.borrow();
    let placements = shared.connections.placements();
    let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
    let last_used = names
        .iter()
        .rposition(|name| placements.iter().any(|(_, on)| on == name));
    let need = |(at, url): (usize, &Url)| {
        let name = url.to_string();
        let need = Need {
            awaited,
            wanted_back: shared.connections.is_wanted_back(&name),
            preferred: failback::after(&config).filter(|_| last_used.is_some_and(|last| at < last)),
            used: placements.iter().any(|(_, on)| *on == name),
        };
        (url.clone(), need)
    };
    config.brokers.iter().enumerate().map(need).collect()
}

/// Asks a broker for its Start, and closes without a login.
async fn probe(dialer: &Dialer, url: &Url) -> Result<Answer, BrokerError> {
    let answered = connect(dialer, url, &HEADER_0_9_1).await?;
    // In the background: the answer need not wait for the broker to close.
    tokio::spawn(flush_and_close(answered.stream, BytesMut::new()));
    Ok(answered.answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_interval_follows_what_the_answer_is_needed_for() {
        let need = |awaited, wanted_back, preferred: Option<u64>, used| Need {
            awaited,
            wanted_back,
            preferred: preferred.map(Duration::from_secs),
            used,
        };
        let (well, down, unfit) = (Some(Ok(Answer::Start)), Some(Err("mute")), Some(Err("tls")));
        let millis = |need, last| interval(need, last, Some(IDLE_PROBE)).map(|interval| interval.as_millis());
        for (need, last, expected) in [
            (need(false, false, None, true), well, None),
            (need(false, false, None, false), well, Some(10_000)),
            (need(false, false, None, true), down, Some(1_000)),
            (need(false, false, None, true), unfit, None),
            (need(false, false, Some(8), true), well, Some(2_000)),
            (need(false, true, Some(8), true), well, Some(500)),
            (need(true, true, Some(8), true), unfit, Some(250)),
        ] {
            assert_eq!(millis(need, last), expected, "{need:?} {last:?}");
        }
    }
}
