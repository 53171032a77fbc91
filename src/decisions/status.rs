//! What the return leg reports about itself: plain numbers, readable from any thread.

use std::ops::{Index, IndexMut};

use serde::{Serialize, Serializer};
use tokio::time::Instant;

/// The sides of a relayed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The gateway.
    Client,
    /// The Traffic Manager's broker.
    Broker,
}

/// A value for each side.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sides<T> {
    pub(super) client: T,
    pub(super) broker: T,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Client, Side::Broker];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Broker => "broker",
        }
    }

    pub(super) fn other(self) -> Side {
        match self {
            Side::Client => Side::Broker,
            Side::Broker => Side::Client,
        }
    }
}

impl<T: Clone> Sides<T> {
    pub(super) fn both(value: T) -> Self {
        Self {
            client: value.clone(),
            broker: value,
        }
    }
}

impl<T> Index<Side> for Sides<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Client => &self.client,
            Side::Broker => &self.broker,
        }
    }
}

impl<T> IndexMut<Side> for Sides<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Client => &mut self.client,
            Side::Broker => &mut self.broker,
        }
    }
}

/// What a connection is doing, in the order of [`STATES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// TLS handshake and protocol header of the gateway, and the first round over the brokers.
    Opening,
    /// No broker answered in the first round.
    Held,
    /// A broker answered; until Tune-Ok was forwarded.
    Handshake,
    /// Relaying frames.
    Open,
    /// Relaying bytes.
    Spliced,
    /// Sending what is left.
    Closing,
}

impl State {
    /// Whether the gateway is connected through to its broker.
    pub(super) fn relays(self) -> bool {
        matches!(self, State::Open | State::Spliced)
    }
}

/// The labels of a connection's state, in the order of [`SideStatus::connections`].
pub const STATES: [&str; 6] = ["opening", "held", "handshake", "open", "spliced", "closing"];

/// Why a gateway's connection was never open, in the order of [`Status::handshake_failures_total`].
pub const HANDSHAKE_FAILURES: [&str; 10] = [
    "tls",
    "not_amqp",
    "timeout",
    "client_gone",
    "no_broker",
    "version_refused",
    "broker_closed",
    "bad_frame",
    "drain",
    "other",
];

/// Why a broker gave no Start, in the order of [`BrokerStatus::failures_total`].
pub const BROKER_FAILURES: [&str; 8] = [
    "dns", "refused", "timeout", "tls", "other", "mute", "closed", "protocol",
];

/// Why a connection is to end so that its gateway reconnects.
pub const LEAVE_REASONS: [&str; 2] = ["failback", "removed"];

/// The state of the return leg at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Status {
    /// Gateway connections accepted since start.
    pub accepted_total: u64,
    /// Towards the gateways.
    pub client: SideStatus,
    /// Towards the brokers.
    pub broker: SideStatus,
    /// From broker to gateway.
    pub to_client: Traffic,
    /// From gateway to broker.
    pub to_broker: Traffic,
    /// Messages delivered to gateways (Basic.Deliver): the decisions.
    pub deliveries_total: u64,
    /// Gateways held because no broker answered at once.
    pub holds_total: u64,
    /// Nanoseconds spent holding gateways, those held now included.
    pub hold_nanos_total: u64,
    /// The longest any gateway that is held now has been held, in milliseconds; `None` = none is held.
    pub held_ms_max: Option<u64>,
    /// Whether the ports are closed because a gateway was held in vain; they open when a broker answers.
    pub refusing: bool,
    /// Connections asked to leave so that their gateway goes back to a preferred broker.
    pub failbacks_total: u64,
    /// Connections that were asked to end and have not yet, by reason and brokers.
    pub leaving: Vec<Leaving>,
    /// See [`HANDSHAKE_FAILURES`].
    #[serde(serialize_with = "by_handshake_failure")]
    pub handshake_failures_total: [u64; HANDSHAKE_FAILURES.len()],
    /// Streams ended because their framing was lost, at either side.
    pub bad_frames_total: u64,
    /// In the order of the configuration.
    pub brokers: Vec<BrokerStatus>,
}

/// Connections that are to end so that their gateways reconnect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Leaving {
    /// One of [`LEAVE_REASONS`].
    pub reason: &'static str,
    /// The broker they are connected to.
    pub from: String,
    /// The preferred broker, for `failback`.
    pub to: Option<String>,
    /// How many they are.
    pub sessions: u64,
    /// How long ago the first of them was asked, in milliseconds.
    pub waiting_ms_max: u64,
}

/// One side of all connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SideStatus {
    /// Connections now, see [`STATES`]. The broker's `held` have none yet.
    #[serde(serialize_with = "by_state")]
    pub connections: [u64; STATES.len()],
    /// Heartbeats weir injected towards this side.
    pub heartbeats_sent_total: u64,
    /// Heartbeats this side sent, swallowed.
    pub heartbeats_received_total: u64,
    /// Connections ended because this side was silent for `delay × timeout_factor`.
    pub dead_total: u64,
    /// Nanoseconds in which this side was not read because the other took nothing, pauses under way included.
    pub paused_nanos_total: u64,
    /// The longest any open connection has been without a byte from this side, in milliseconds.
    pub silent_ms_max: u64,
}

/// One direction of all connections; heartbeats excluded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Whole frames; 0 for spliced connections.
    pub frames_total: u64,
    /// Bytes of frames, or of a splice.
    pub bytes_total: u64,
}

/// One broker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BrokerStatus {
    /// Its URL.
    pub name: String,
    /// Whether it answered the last time it was tried or probed; `None` = not tried yet.
    pub up: Option<bool>,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Milliseconds that it has been up, or down.
    pub since_ms: Option<u64>,
    #[serde(skip)]
    pub(super) since: Option<Instant>,
    /// Connections now.
    pub connections: u64,
    /// Connections it answered with Start.
    pub connects_total: u64,
    /// Gateways given another broker because this one failed.
    pub failovers_total: u64,
    /// See [`BROKER_FAILURES`].
    #[serde(serialize_with = "by_class")]
    pub failures_total: [u64; BROKER_FAILURES.len()],
}

impl Status {
    /// Every connection gauge: side, state, count.
    pub fn connections(&self) -> impl Iterator<Item = (Side, &'static str, u64)> {
        let side = |side, status: &SideStatus| {
            STATES
                .into_iter()
                .zip(status.connections)
                .map(move |(s, n)| (side, s, n))
        };
        side(Side::Client, &self.client).chain(side(Side::Broker, &self.broker))
    }

    pub(super) fn side(&mut self, side: Side) -> &mut SideStatus {
        match side {
            Side::Client => &mut self.client,
            Side::Broker => &mut self.broker,
        }
    }

    pub(super) fn towards(&mut self, side: Side) -> &mut Traffic {
        match side {
            Side::Client => &mut self.to_client,
            Side::Broker => &mut self.to_broker,
        }
    }

    /// Adds a connection to the gauges.
    pub(super) fn count(&mut self, state: State) {
        if let Some(n) = self.client.connections.get_mut(state as usize) {
            *n += 1;
        }
        if state != State::Opening
            && let Some(n) = self.broker.connections.get_mut(state as usize)
        {
            *n += 1;
        }
    }

    pub(super) fn handshake_failed(&mut self, reason: &str) {
        bump(&mut self.handshake_failures_total, &HANDSHAKE_FAILURES, reason);
    }

    /// A broker of the configuration in force; `None` = it was removed, and nothing is counted for it any more.
    pub(super) fn broker_mut(&mut self, name: &str) -> Option<&mut BrokerStatus> {
        self.brokers.iter_mut().find(|b| b.name == name)
    }

    /// Connections that are to end for this reason, see [`LEAVE_REASONS`].
    #[must_use]
    pub(super) fn leaving_for(&self, reason: &str) -> u64 {
        let for_it = self.leaving.iter().filter(|l| l.reason == reason);
        for_it.map(|l| l.sessions).sum()
    }

    /// Adds a connection that is to end.
    pub(super) fn count_leaving(&mut self, one: Leaving) {
        let same = |l: &&mut Leaving| (l.reason, &l.from, &l.to) == (one.reason, &one.from, &one.to);
        match self.leaving.iter_mut().find(same) {
            Some(known) => {
                known.sessions += one.sessions;
                known.waiting_ms_max = known.waiting_ms_max.max(one.waiting_ms_max);
            }
            None => self.leaving.push(one),
        }
    }
}

impl BrokerStatus {
    pub(super) fn failed(&mut self, class: &str) {
        bump(&mut self.failures_total, &BROKER_FAILURES, class);
    }
}

/// Counts as an object, keyed by label.
fn named<const N: usize, S: Serializer>(
    names: &[&str; N],
    counts: &[u64; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(names.iter().zip(counts))
}

fn by_state<S: Serializer>(counts: &[u64; STATES.len()], serializer: S) -> Result<S::Ok, S::Error> {
    named(&STATES, counts, serializer)
}

fn by_handshake_failure<S: Serializer>(
    counts: &[u64; HANDSHAKE_FAILURES.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    named(&HANDSHAKE_FAILURES, counts, serializer)
}

fn by_class<S: Serializer>(counts: &[u64; BROKER_FAILURES.len()], serializer: S) -> Result<S::Ok, S::Error> {
    named(&BROKER_FAILURES, counts, serializer)
}

/// Counts a label. One that is not in the list is a defect.
fn bump<const N: usize>(counts: &mut [u64; N], labels: &[&str; N], label: &str) {
    debug_assert!(labels.contains(&label), "unknown label {label}");
    if let Some((_, n)) = labels.iter().zip(counts).find(|(l, _)| **l == label) {
        *n += 1;
    }
}
