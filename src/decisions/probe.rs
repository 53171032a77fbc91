//! Whether brokers answer: one probe for each, shared by everybody who wants to know.
//!
//! A probe sends the protocol header, waits for Start, and closes properly, without a login: Andes notes at most a
//! closed connection, RabbitMQ logs a warning. A bare TCP connect would leave no trace and would take a broker that
//! hangs for one that works. How often depends on who waits for the answer: see [`pace`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::brokers::{Answer, Refusal, attempt};
use super::end::farewell;
use super::failback::{self, Failback};
use super::frame::HEADER_0_9_1;
use super::room::Room;
use crate::config::Url;

/// While a gateway waits for a broker, or is refused.
const AWAITED: Duration = Duration::from_millis(250);
/// While a session wants to go back to it: twice as often as a proof expires.
const WANTED_BACK: Duration = Duration::from_millis(500);
/// While it does not answer: nobody is there to be disturbed.
const DOWN: Duration = Duration::from_secs(1);
/// While no gateway is connected to it.
pub const IDLE_PROBE: Duration = Duration::from_secs(10);
/// Longest between two looks at who needs what.
const LOOK: Duration = Duration::from_secs(1);

/// Who waits for an answer, and the answers.
pub(super) struct Probes {
    waiting: watch::Sender<usize>,
    answers: watch::Sender<()>,
    idle: Option<Duration>,
}

/// Somebody who waits for a broker that answers, until it is dropped.
pub(super) struct Waiting<'a>(&'a Probes);

impl Probes {
    pub(super) fn new(idle: Option<Duration>) -> Self {
        Self {
            waiting: watch::Sender::new(0),
            answers: watch::Sender::new(()),
            idle,
        }
    }

    /// From now on brokers are asked for a gateway that waits.
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
    /// A session was asked to go back to this one.
    wanted_back: bool,
    /// Sessions sit on a later one, and are to go back once this one has answered for so long.
    preferred: Option<Duration>,
    /// Gateways are connected to it: their connections show how it is.
    used: bool,
}

/// PURE: the time between the end of a probe and the next; `None` = no probe.
fn pace(need: Need, last: Option<Result<Answer, &str>>, idle: Option<Duration>) -> Option<Duration> {
    // One that answers and cannot be used is asked no more often than one that is well.
    let down = matches!(last, Some(Err(class)) if !matches!(class, "tls" | "protocol"));
    let paces = [
        need.awaited.then_some(AWAITED),
        need.wanted_back.then_some(WANTED_BACK),
        need.preferred.map(failback::look_every),
        down.then_some(DOWN),
        idle.filter(|_| !need.used),
    ];
    paces.into_iter().flatten().min()
}

/// Probes brokers, and brings sessions back to preferred ones, until weir stops.
pub(super) async fn run(room: Arc<Room>) {
    let (mut waiting, mut config) = (room.probes.waiting.subscribe(), room.config.subscribe());
    let mut probes = JoinSet::new();
    let mut under_way: HashSet<String> = HashSet::new();
    let mut ended_at: HashMap<String, Instant> = HashMap::new();
    let mut failback = Failback::default();
    loop {
        waiting.borrow_and_update();
        let brokers = config.borrow_and_update().brokers.clone();
        ended_at.retain(|name, _| brokers.iter().any(|url| url.to_string() == *name));
        let now = Instant::now();
        let mut wake = now + LOOK;
        for (url, need) in needs(&room) {
            let name = url.to_string();
            let Some(pace) = pace(need, room.brokers.last(&name), room.probes.idle) else {
                continue;
            };
            // Counted from the last probe, never from a session's try: those may come in a stream.
            let due = ended_at.get(&name).map_or(now, |at| *at + pace);
            if under_way.contains(&name) {
                continue;
            }
            if due > now {
                wake = wake.min(due);
                continue;
            }
            under_way.insert(name);
            let room = Arc::clone(&room);
            probes.spawn(async move {
                let answer = probe(&room, &url).await;
                (url, answer)
            });
        }
        tokio::select! {
            biased; // An answer first: somebody may wait for it.
            Some(Ok((url, answer))) = probes.join_next() => {
                let name = url.to_string();
                room.probed(&url, &answer);
                if answer.is_ok() {
                    room.probes.answers.send_replace(());
                }
                under_way.remove(&name);
                ended_at.insert(name, Instant::now());
            }
            // The room keeps both senders.
            _ = waiting.changed() => {}
            _ = config.changed() => {}
            () = sleep_until(wake) => {}
        }
        failback.look(&room, Instant::now());
    }
}

/// The brokers of the configuration and what each is needed for.
fn needs(room: &Room) -> Vec<(Url, Need)> {
    let config = room.config();
    let awaited = *room.probes.waiting.borrow() > 0 || *room.refusing.borrow();
    let placements = room.ledger.placements();
    let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
    let last_used = names
        .iter()
        .rposition(|name| placements.iter().any(|(_, on)| on == name));
    let need = |(at, url): (usize, &Url)| {
        let name = url.to_string();
        let need = Need {
            awaited,
            wanted_back: room.ledger.is_wanted_back(&name),
            preferred: failback::after(&config).filter(|_| last_used.is_some_and(|last| at < last)),
            used: placements.iter().any(|(_, on)| *on == name),
        };
        (url.clone(), need)
    };
    config.brokers.iter().enumerate().map(need).collect()
}

/// Asks a broker for its Start, and leaves without logging in.
async fn probe(room: &Room, url: &Url) -> Result<Answer, Refusal> {
    let answered = attempt(&room.dialer(), url, &HEADER_0_9_1).await?;
    let answer = answered.answer;
    // Nobody should wait for the broker's goodbye.
    tokio::spawn(farewell(answered.stream, BytesMut::new()));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_asked_as_often_as_somebody_needs_to_know() {
        let need = |awaited, wanted_back, preferred: Option<u64>, used| Need {
            awaited,
            wanted_back,
            preferred: preferred.map(Duration::from_secs),
            used,
        };
        let (well, down, unfit) = (Some(Ok(Answer::Start)), Some(Err("mute")), Some(Err("tls")));
        let millis = |need, last| pace(need, last, Some(IDLE_PROBE)).map(|pace| pace.as_millis());
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
