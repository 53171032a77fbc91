//! Who is connected, and the counters: the one place where sessions, listeners and readers of [`Status`] meet.
//!
//! A session holds a [`Ticket`]; when it is dropped, the session has never existed but in the counters.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::stage::{Leave, Stage};
use super::status::{BrokerStatus, Leaving, Side, Status};
use crate::config::Url;

/// The books, and the number of sessions for those who wait for a change of it.
#[derive(Debug)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Books {
    counters: Status,
    sessions: BTreeMap<u64, Live>,
    next_id: u64,
    /// When a session last stopped relaying.
    relayed_at: Option<Instant>,
}

#[derive(Debug)]
struct Live {
    stage: Stage,
    since: Instant,
    broker: Option<String>,
    read_at: [Instant; 2],
    paused_since: [Option<Instant>; 2],
    leave: watch::Sender<Leave>,
    /// Since when it is to leave, and for which broker.
    asked: Option<(Instant, Option<String>)>,
}

/// A session's place in the ledger.
#[derive(Debug)]
pub(super) struct Ticket {
    ledger: Arc<Ledger>,
    id: u64,
}

/// What a session gets when it is taken up.
pub(super) type Place = (Ticket, watch::Receiver<Leave>);

impl Ledger {
    pub(super) fn new(brokers: impl Iterator<Item = String>) -> Arc<Self> {
        let ledger = Self {
            books: Mutex::default(),
            open: watch::Sender::new(0),
        };
        ledger.name_brokers(brokers);
        Arc::new(ledger)
    }

    /// Takes up a session, and the wishes it will have to listen to.
    #[cfg(test)]
    pub(super) fn open(self: &Arc<Self>, now: Instant) -> Place {
        self.take_up(&mut self.lock(), now)
    }

    /// Takes up a session for what `accept` brings, while there are fewer than `max`. The look at the limit and
    /// the accept are one step: two ports that wait for a gateway each cannot pass it together.
    pub(super) fn admit<T>(
        self: &Arc<Self>,
        max: usize,
        now: Instant,
        accept: impl FnOnce() -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<(T, Place)>> {
        let mut books = self.lock();
        if books.sessions.len() >= max {
            return Poll::Pending;
        }
        accept().map_ok(|accepted| (accepted, self.take_up(&mut books, now)))
    }

    fn take_up(self: &Arc<Self>, books: &mut Books, now: Instant) -> Place {
        let (leave, wishes) = watch::channel(Leave::No);
        let id = books.next_id;
        books.next_id += 1;
        books.counters.accepted_total += 1;
        let live = Live {
            stage: Stage::Opening,
            since: now,
            broker: None,
            read_at: [now; 2],
            paused_since: [None; 2],
            leave,
            asked: None,
        };
        books.sessions.insert(id, live);
        self.open.send_replace(books.sessions.len());
        let ledger = Arc::clone(self);
        (Ticket { ledger, id }, wishes)
    }

    /// How many sessions there are, and every change of it.
    pub(super) fn watch_open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Changes counters.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.lock().counters)
    }

    /// The brokers of a new configuration, in its order; one that is gone is forgotten with its counters.
    pub(super) fn name_brokers(&self, names: impl Iterator<Item = String>) {
        let mut books = self.lock();
        let mut old = std::mem::take(&mut books.counters.brokers);
        for name in names {
            let known = old
                .iter()
                .position(|b| b.name == name)
                .map(|at| old.swap_remove(at));
            let fresh = || BrokerStatus {
                name,
                ..BrokerStatus::default()
            };
            books.counters.brokers.push(known.unwrap_or_else(fresh));
        }
    }

    /// Sessions with a broker: their number and its name.
    pub(super) fn placements(&self) -> Vec<(u64, String)> {
        self.placed_where(|_| true)
    }

    /// Those of them that relay.
    pub(super) fn relaying(&self) -> Vec<(u64, String)> {
        self.placed_where(Stage::relays)
    }

    fn placed_where(&self, wanted: impl Fn(Stage) -> bool) -> Vec<(u64, String)> {
        let books = self.lock();
        let placed = books.sessions.iter().filter(|(_, live)| wanted(live.stage));
        placed
            .filter_map(|(id, live)| Some((*id, live.broker.clone()?)))
            .collect()
    }

    /// Whether a session relays, or did less than `time` ago.
    pub(super) fn relayed_within(&self, time: Duration, now: Instant) -> bool {
        let books = self.lock();
        books.relayed_at.is_some_and(|at| now < at + time)
            || books.sessions.values().any(|s| s.stage.relays())
    }

    /// Asks a session to leave, for the broker `to`; whether it was not asked before for a reason as strong.
    pub(super) fn ask_to_leave(&self, id: u64, wish: Leave, to: Option<&str>, now: Instant) -> bool {
        self.lock().sessions.get_mut(&id).is_some_and(|live| {
            let stronger = wish.outranks(*live.leave.borrow());
            if stronger {
                live.leave.send_replace(wish);
                live.asked = Some((now, to.map(str::to_owned)));
            }
            stronger
        })
    }

    /// Takes back the wish that a session leave because its broker was removed.
    pub(super) fn keep(&self, id: u64) {
        if let Some(live) = self.lock().sessions.get_mut(&id)
            && matches!(*live.leave.borrow(), Leave::Removed { .. })
        {
            live.stay();
        }
    }

    /// Looks again at every wish to go back: `proven(to)` says until when it holds, `None` takes it back. Returns
    /// how many were taken back.
    pub(super) fn review_failbacks(&self, proven: impl Fn(&str) -> Option<Instant>) -> usize {
        let mut withdrawn = 0;
        for live in self.lock().sessions.values_mut() {
            let Leave::Failback { at_latest, .. } = *live.leave.borrow() else {
                continue;
            };
            let to = live.asked.as_ref().and_then(|(_, to)| to.as_deref());
            match to.and_then(&proven) {
                Some(proven_until) => {
                    let renewed = Leave::Failback {
                        at_latest,
                        proven_until,
                    };
                    live.leave.send_if_modified(|wish| {
                        let changed = *wish != renewed;
                        *wish = renewed;
                        changed
                    });
                }
                None => {
                    live.stay();
                    withdrawn += 1;
                }
            }
        }
        withdrawn
    }

    /// Whether a session wants to go back to this broker.
    pub(super) fn is_wanted_back(&self, broker: &str) -> bool {
        let books = self.lock();
        let wants = |live: &Live| matches!(&live.asked, Some((_, Some(to))) if to == broker);
        books.sessions.values().any(wants)
    }

    /// How things are.
    pub(super) fn status(&self, now: Instant) -> Status {
        let books = self.lock();
        let mut status = books.counters.clone();
        for broker in &mut status.brokers {
            broker.since_ms = broker.since.map(|at| millis(now.saturating_duration_since(at)));
        }
        for live in books.sessions.values() {
            status.count(live.stage);
            live.settle(now, &mut status);
            if let Some(name) = &live.broker
                && let Some(broker) = status.brokers.iter_mut().find(|b| b.name == *name)
            {
                broker.connections += 1;
            }
            if let Some(leaving) = live.leaving(now) {
                status.count_leaving(leaving);
            }
            if live.stage == Stage::Held {
                let held_ms = millis(now.saturating_duration_since(live.since));
                status.held_ms_max = status.held_ms_max.max(Some(held_ms));
            }
            if live.stage == Stage::Open {
                for (side, read_at) in Side::BOTH.into_iter().zip(live.read_at) {
                    let silent_ms = millis(now.saturating_duration_since(read_at));
                    let max = &mut status.side(side).silent_ms_max;
                    *max = silent_ms.max(*max);
                }
            }
        }
        status
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn stay(&mut self) {
        self.leave.send_replace(Leave::No);
        self.asked = None;
    }

    /// As the status shows it, while it is to leave and has not begun to.
    fn leaving(&self, now: Instant) -> Option<Leaving> {
        let reason = self.leave.borrow().reason()?;
        let (since, to) = self.asked.clone()?;
        (self.stage != Stage::Closing).then(|| Leaving {
            reason,
            from: self.broker.clone().unwrap_or_default(),
            to,
            sessions: 1,
            waiting_ms_max: millis(now.saturating_duration_since(since)),
        })
    }

    /// Adds what is under way: a hold, a pause.
    fn settle(&self, now: Instant, status: &mut Status) {
        if self.stage == Stage::Held {
            status.hold_nanos_total += nanos(now.saturating_duration_since(self.since));
        }
        for (side, since) in Side::BOTH.into_iter().zip(self.paused_since) {
            if let Some(since) = since {
                status.side(side).paused_nanos_total += nanos(now.saturating_duration_since(since));
            }
        }
    }
}

impl Ticket {
    /// The session does something else now.
    pub(super) fn enter(&self, stage: Stage, now: Instant) {
        let mut books = self.ledger.lock();
        let Books {
            counters,
            sessions,
            relayed_at,
            ..
        } = &mut *books;
        if let Some(live) = sessions.get_mut(&self.id) {
            live.settle(now, counters);
            if live.stage.relays() {
                *relayed_at = Some(now);
            }
            live.stage = stage;
            live.since = now;
            live.paused_since = live.paused_since.map(|paused| paused.map(|_| now));
            if stage == Stage::Open {
                live.read_at = [now; 2];
            }
        }
    }

    /// The session has this broker now.
    pub(super) fn placed(&self, broker: String) {
        if let Some(live) = self.ledger.lock().sessions.get_mut(&self.id) {
            live.broker = Some(broker);
        }
    }

    /// These brokers were found wanting, and the gateway was given another one.
    pub(super) fn failed_over<'a>(&self, brokers: impl Iterator<Item = &'a Url>) {
        self.note(|status| {
            for broker in brokers {
                if let Some(broker) = status.broker_mut(&broker.to_string()) {
                    broker.failovers_total += 1;
                }
            }
        });
    }

    /// A side was read.
    pub(super) fn read(&self, side: Side, now: Instant) {
        if let Some(live) = self.ledger.lock().sessions.get_mut(&self.id) {
            *side.of(&mut live.read_at) = now;
        }
    }

    /// Weir stops reading a side, or reads it again.
    pub(super) fn pause(&self, side: Side, paused: bool, now: Instant) {
        let mut books = self.ledger.lock();
        let Books {
            counters, sessions, ..
        } = &mut *books;
        let Some(live) = sessions.get_mut(&self.id) else {
            return;
        };
        let since = side.of(&mut live.paused_since);
        match (*since, paused) {
            (None, true) => *since = Some(now),
            (Some(began), false) => {
                *since = None;
                counters.side(side).paused_nanos_total += nanos(now.saturating_duration_since(began));
            }
            _ => {}
        }
    }

    /// Changes counters.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        self.ledger.note(change)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut books = self.ledger.lock();
        let Books {
            counters, sessions, ..
        } = &mut *books;
        if let Some(live) = sessions.remove(&self.id) {
            live.settle(now, counters);
        }
        self.ledger.open.send_replace(sessions.len());
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
