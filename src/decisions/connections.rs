//! The connections there are, what each was asked to do, and the counters: what connections, listeners and readers of
//! [`Status`] share. The lock is taken a few times per turn of a connection; the data rate is low.
//!
//! Gauges are not counted up and down: they are the sum over the connections that live. A connection lives as long as its
//! [`Registration`].

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::status::{BrokerStatus, LEAVE_REASONS, Leaving, Side, Sides, State, Status};

/// Every connection, and the counters.
#[derive(Debug)]
pub(super) struct Connections {
    inner: Mutex<Inner>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    counters: Status,
    connections: BTreeMap<u64, Connection>,
    next_id: u64,
    /// When a connection last stopped relaying.
    relayed_at: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    state: State,
    since: Instant,
    broker: Option<String>,
    read_at: Sides<Instant>,
    paused_since: Sides<Option<Instant>>,
    leave: watch::Sender<Option<LeaveRequest>>,
}

/// A connection's entry, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    connections: Arc<Connections>,
    id: u64,
}

/// What a connection that was admitted gets: its entry, and the requests to leave.
pub(super) type Admitted = (Registration, watch::Receiver<Option<LeaveRequest>>);

/// A request that a connection end so that its gateway reconnects: at the next quiet moment, at `at_latest` without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaveRequest {
    pub(super) reason: Reason,
    pub(super) asked_at: Instant,
    pub(super) at_latest: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// Back to a preferred broker, and only while that broker answers.
    Failback {
        to: String,
        /// The preferred broker has answered so recently that the request holds until then; renewed by every answer.
        proven_until: Instant,
    },
    /// Its broker is not in the configuration any more.
    Removed,
}

impl Connections {
    pub(super) fn new(brokers: impl Iterator<Item = String>) -> Arc<Self> {
        let connections = Self {
            inner: Mutex::default(),
            count: watch::Sender::new(0),
        };
        connections.name_brokers(brokers);
        Arc::new(connections)
    }

    #[cfg(test)]
    pub(super) fn register_now(self: &Arc<Self>) -> Admitted {
        self.register(&mut self.lock(), Instant::now())
    }

    /// Registers a connection for what `accept` returns, while there are fewer than `max`. Both happen under one lock:
    /// two ports that each wait for a gateway cannot exceed the limit together.
    pub(super) fn admit<T>(
        self: &Arc<Self>,
        max: usize,
        now: Instant,
        accept: impl FnOnce() -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<(T, Admitted)>> {
        let mut inner = self.lock();
        if inner.connections.len() >= max {
            return Poll::Pending;
        }
        accept().map_ok(|accepted| (accepted, self.register(&mut inner, now)))
    }

    fn register(self: &Arc<Self>, inner: &mut Inner, now: Instant) -> Admitted {
        let (leave, requests) = watch::channel(None);
        let id = inner.next_id;
        inner.next_id += 1;
        inner.counters.accepted_total += 1;
        let connection = Connection {
            state: State::Opening,
            since: now,
            broker: None,
            read_at: Sides::both(now),
            paused_since: Sides::default(),
            leave,
        };
        inner.connections.insert(id, connection);
        self.count.send_replace(inner.connections.len());
        let connections = Arc::clone(self);
        (Registration { connections, id }, requests)
    }

    /// The number of connections, and every change of it.
    pub(super) fn watch_count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Changes counters.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.lock().counters)
    }

    /// The brokers of a new configuration, in its order; one that is gone is forgotten with its counters.
    pub(super) fn name_brokers(&self, names: impl Iterator<Item = String>) {
        let brokers = &mut self.lock().counters.brokers;
        let mut old = std::mem::take(brokers);
        brokers.extend(names.map(|name| {
            let known = old.iter().position(|b| b.name == name);
            known.map(|at| old.swap_remove(at)).unwrap_or(BrokerStatus {
                name,
                ..BrokerStatus::default()
            })
        }));
    }

    /// Connections with a broker: their number and its name.
    pub(super) fn placements(&self) -> Vec<(u64, String)> {
        self.placed_where(|_| true)
    }

    /// Those of them that relay.
    pub(super) fn relaying(&self) -> Vec<(u64, String)> {
        self.placed_where(State::relays)
    }

    fn placed_where(&self, wanted: impl Fn(State) -> bool) -> Vec<(u64, String)> {
        let inner = self.lock();
        let connections = inner.connections.iter().filter(|(_, s)| wanted(s.state));
        connections
            .filter_map(|(id, s)| Some((*id, s.broker.clone()?)))
            .collect()
    }

    /// Whether a connection relays, or did less than `time` ago.
    pub(super) fn relayed_within(&self, time: Duration, now: Instant) -> bool {
        let inner = self.lock();
        inner.relayed_at.is_some_and(|at| now < at + time)
            || inner.connections.values().any(|s| s.state.relays())
    }

    /// Asks a connection to leave; whether the request replaced none or a weaker one.
    pub(super) fn ask_to_leave(&self, id: u64, request: LeaveRequest) -> bool {
        let mut inner = self.lock();
        inner.connections.get_mut(&id).is_some_and(|connection| {
            let outranks = request.outranks(connection.leave.borrow().as_ref());
            if outranks {
                connection.leave.send_replace(Some(request));
            }
            outranks
        })
    }

    /// Withdraws the request that a connection leave because its broker was removed.
    pub(super) fn keep(&self, id: u64) {
        if let Some(connection) = self.lock().connections.get_mut(&id) {
            connection.leave.send_if_modified(|leave| {
                let removed = leave.as_ref().is_some_and(|l| l.reason == Reason::Removed);
                if removed {
                    *leave = None;
                }
                removed
            });
        }
    }

    /// Renews or withdraws the requests to go back: `proven(to)` says until when one holds, `None` withdraws it.
    /// Returns how many were withdrawn.
    pub(super) fn review_failbacks(&self, proven: impl Fn(&str) -> Option<Instant>) -> usize {
        let mut withdrawn = 0;
        for connection in self.lock().connections.values_mut() {
            connection.leave.send_if_modified(|leave| {
                let Some(Reason::Failback { to, proven_until }) = leave.as_mut().map(|l| &mut l.reason)
                else {
                    return false;
                };
                match proven(to) {
                    Some(until) => std::mem::replace(proven_until, until) != until,
                    None => {
                        withdrawn += 1;
                        *leave = None;
                        true
                    }
                }
            });
        }
        withdrawn
    }

    /// Whether a connection was asked to go back to this broker.
    pub(super) fn is_wanted_back(&self, broker: &str) -> bool {
        self.lock().connections.values().any(|connection| {
            let leave = connection.leave.borrow();
            leave.as_ref().and_then(LeaveRequest::to) == Some(broker)
        })
    }

    /// The status at `now`.
    pub(super) fn status(&self, now: Instant) -> Status {
        let inner = self.lock();
        let mut status = inner.counters.clone();
        for broker in &mut status.brokers {
            broker.since_ms = broker.since.map(|at| millis(now.saturating_duration_since(at)));
        }
        for connection in inner.connections.values() {
            connection.add_to(&mut status, now);
        }
        status
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaveRequest {
    fn outranks(&self, other: Option<&LeaveRequest>) -> bool {
        match other.map(|other| &other.reason) {
            None => true,
            Some(Reason::Failback { .. }) => self.reason == Reason::Removed,
            Some(Reason::Removed) => false,
        }
    }

    /// The preferred broker.
    fn to(&self) -> Option<&str> {
        match &self.reason {
            Reason::Failback { to, .. } => Some(to),
            Reason::Removed => None,
        }
    }

    fn label(&self) -> &'static str {
        let [failback, removed] = LEAVE_REASONS;
        match self.reason {
            Reason::Failback { .. } => failback,
            Reason::Removed => removed,
        }
    }
}

impl Connection {
    /// Adds this connection to a status.
    fn add_to(&self, status: &mut Status, now: Instant) {
        let millis_since = |at| millis(now.saturating_duration_since(at));
        status.count(self.state);
        self.add_times(status, now);
        if let Some(broker) = self.broker.as_ref().and_then(|name| status.broker_mut(name)) {
            broker.connections += 1;
        }
        if let Some(request) = &*self.leave.borrow()
            && self.state != State::Closing
        {
            status.count_leaving(Leaving {
                reason: request.label(),
                from: self.broker.clone().unwrap_or_default(),
                to: request.to().map(str::to_owned),
                sessions: 1,
                waiting_ms_max: millis_since(request.asked_at),
            });
        }
        if self.state == State::Held {
            status.held_ms_max = status.held_ms_max.max(Some(millis_since(self.since)));
        }
        if self.state == State::Open {
            for side in Side::BOTH {
                let max = &mut status.side(side).silent_ms_max;
                *max = millis_since(self.read_at[side]).max(*max);
            }
        }
    }

    /// Adds the time of a hold or pause under way.
    fn add_times(&self, status: &mut Status, now: Instant) {
        let nanos_since = |at| {
            let time = now.saturating_duration_since(at);
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
        };
        if self.state == State::Held {
            status.hold_nanos_total += nanos_since(self.since);
        }
        for side in Side::BOTH {
            if let Some(since) = self.paused_since[side] {
                status.side(side).paused_nanos_total += nanos_since(since);
            }
        }
    }
}

impl Registration {
    /// The connection is in this state now.
    pub(super) fn enter(&self, state: State, now: Instant) {
        let inner = &mut *self.connections.lock();
        let Some(connection) = inner.connections.get_mut(&self.id) else {
            return;
        };
        connection.add_times(&mut inner.counters, now);
        if connection.state.relays() {
            inner.relayed_at = Some(now);
        }
        connection.state = state;
        connection.since = now;
        for side in Side::BOTH {
            connection.paused_since[side] = connection.paused_since[side].map(|_| now);
        }
        if state == State::Open {
            connection.read_at = Sides::both(now);
        }
    }

    /// The connection has this broker now.
    pub(super) fn placed(&self, broker: String) {
        if let Some(connection) = self.connections.lock().connections.get_mut(&self.id) {
            connection.broker = Some(broker);
        }
    }

    /// Which sides were read, and which are not read because the other takes nothing.
    pub(super) fn moved(&self, read: Sides<bool>, paused: Sides<bool>, now: Instant) {
        let inner = &mut *self.connections.lock();
        let Some(connection) = inner.connections.get_mut(&self.id) else {
            return;
        };
        let changed = |side| connection.paused_since[side].is_some() != paused[side];
        if Side::BOTH.into_iter().any(changed) {
            connection.add_times(&mut inner.counters, now);
            for side in Side::BOTH {
                connection.paused_since[side] = paused[side].then_some(now);
            }
        }
        for side in Side::BOTH {
            if read[side] {
                connection.read_at[side] = now;
            }
        }
    }

    /// Changes counters.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        self.connections.note(change)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let inner = &mut *self.connections.lock();
        if let Some(connection) = inner.connections.remove(&self.id) {
            connection.add_times(&mut inner.counters, Instant::now());
        }
        self.connections.count.send_replace(inner.connections.len());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const BROKER: Sides<bool> = Sides {
        client: false,
        broker: true,
    };
    const CLIENT: Sides<bool> = Sides {
        client: true,
        broker: false,
    };
    const NEITHER: Sides<bool> = Sides {
        client: false,
        broker: false,
    };

    #[tokio::test(start_paused = true)]
    async fn gauges_are_the_connections_that_live_and_counters_outlive_them() {
        let connections = Connections::new(["tcp://a:1".to_owned(), "tcp://b:1".to_owned()].into_iter());
        let t = Instant::now();
        let (one, _requests) = connections.register_now();
        let (two, _requests) = connections.register_now();
        assert_eq!(*connections.watch_count().borrow(), 2);
        one.enter(State::Held, t);
        let status = connections.status(t + S * 3);
        assert_eq!(status.client.connections, [1, 1, 0, 0, 0, 0]);
        assert_eq!(status.broker.connections, [0, 1, 0, 0, 0, 0]);
        assert_eq!(status.hold_nanos_total, 3_000_000_000, "a hold under way counts");
        assert_eq!(status.held_ms_max, Some(3000));
        one.enter(State::Open, t + S * 4);
        one.placed("tcp://b:1".into());
        one.moved(NEITHER, BROKER, t + S * 5);
        let status = connections.status(t + S * 7);
        assert_eq!(
            (status.hold_nanos_total, status.held_ms_max),
            (4_000_000_000, None)
        );
        assert_eq!(status.broker.paused_nanos_total, 2_000_000_000);
        assert_eq!(status.brokers[1].connections, 1);
        one.moved(CLIENT, BROKER, t + S * 6);
        let status = connections.status(t + S * 7);
        assert_eq!(status.client.silent_ms_max, 1000);
        assert_eq!(status.broker.silent_ms_max, 3000);
        one.moved(NEITHER, NEITHER, t + S * 8);
        drop((one, two));
        let status = connections.status(t + S * 9);
        assert_eq!(status.client.connections, [0; 6]);
        assert_eq!(status.accepted_total, 2);
        assert_eq!(status.broker.paused_nanos_total, 3_000_000_000);
        assert_eq!(*connections.watch_count().borrow(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_asked_to_leave_once_for_each_reason_and_the_status_shows_it() {
        let connections = Connections::new(std::iter::empty());
        let t = Instant::now();
        let (registration, requests) = connections.register_now();
        registration.placed("tcp://b:1".into());
        assert_eq!(connections.relaying(), [], "not open yet");
        registration.enter(State::Open, t);
        let (id, name) = connections.relaying().remove(0);
        assert_eq!(name, "tcp://b:1");
        let back = LeaveRequest {
            reason: Reason::Failback {
                to: "tcp://a:1".into(),
                proven_until: t + S,
            },
            asked_at: t,
            at_latest: t + S * 10,
        };
        let removed = |asked_at| LeaveRequest {
            reason: Reason::Removed,
            asked_at,
            at_latest: asked_at + S * 30,
        };
        let shown = |now: Instant| {
            let status = connections.status(now);
            let shown = status.leaving.first().cloned().unwrap_or_default();
            assert_eq!(status.leaving_for(shown.reason), shown.sessions);
            (shown.reason, shown.to, shown.sessions, shown.waiting_ms_max)
        };
        assert!(connections.ask_to_leave(id, back.clone()));
        assert!(!connections.ask_to_leave(id, back.clone()));
        assert!(connections.is_wanted_back("tcp://a:1") && !connections.is_wanted_back("tcp://b:1"));
        assert_eq!(*requests.borrow(), Some(back.clone()));
        assert_eq!(shown(t + S * 3), ("failback", Some("tcp://a:1".into()), 1, 3000));
        // Withdrawn, and asked again.
        assert_eq!(connections.review_failbacks(|_| None), 1);
        assert_eq!((requests.borrow().clone(), shown(t).2), (None, 0));
        assert!(connections.ask_to_leave(id, back));
        // The stronger reason.
        assert!(connections.ask_to_leave(id, removed(t + S * 3)));
        assert!(
            !connections.ask_to_leave(id, removed(t + S * 9)),
            "its time stays"
        );
        assert_eq!(*requests.borrow(), Some(removed(t + S * 3)));
        assert_eq!(shown(t + S * 5), ("removed", None, 1, 2000));
        connections.keep(id);
        assert_eq!(
            (requests.borrow().clone(), shown(t).2),
            (None, 0),
            "its broker is back"
        );
        drop(registration);
        assert!(!connections.ask_to_leave(id, removed(t)), "gone");
    }

    #[test]
    fn a_new_configuration_keeps_the_counters_of_brokers_that_stay() {
        let connections = Connections::new(["a".to_owned(), "b".to_owned()].into_iter());
        connections.note(|s| s.broker_mut("b").unwrap().connects_total = 7);
        connections.name_brokers(["c".to_owned(), "b".to_owned()].into_iter());
        let brokers = connections.status(Instant::now()).brokers;
        let seen: Vec<_> = brokers
            .iter()
            .map(|b| (b.name.as_str(), b.connects_total))
            .collect();
        assert_eq!(seen, [("c", 0), ("b", 7)]);
        assert!(connections.note(|s| s.broker_mut("a").is_none()), "removed");
    }
}
