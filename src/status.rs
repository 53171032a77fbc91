//! The numbers of /status and of the metrics.
//!
//! Each worker fills a [`Snapshot`] between two turns of its loop, so the numbers of one snapshot are consistent; the
//! snapshots of several workers are [added](Snapshot::add). In each one and for every group the balance holds, in
//! events: `accepted = delivered + rejected + dropped + queued + inflight`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize, Serializer};

/// Defines a struct whose fields are all added when two workers' numbers are.
macro_rules! add_up {
    ($(#[$attribute:meta])* pub struct $name:ident { $($(#[$on_field:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$attribute])*
        pub struct $name { $($(#[$on_field])* pub $field: $type,)* }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

/// The numbers of one worker, or of all of them added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// The gateways' side.
    pub ingress: Ingress,
    /// The Traffic Managers' side, in the order of the configuration.
    pub groups: Vec<Group>,
    /// Connections by address; empty where only numbers were asked for.
    pub gateways: Gateways,
}

/// Connections by address. As JSON: those with the most connections, and the number of further addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways(BTreeMap<IpAddr, Gateway>);

add_up! {
    /// The connections of one address. Those that are neither publishing nor idle have been sent away and end soon.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
    pub struct Gateway {
        /// Open now.
        pub connections: u64,
        /// Publishes that this stage of a drain has sent away.
        pub sent_away: u64,
        /// Connections of which a publish was served since this stage of a drain began.
        pub publishing: u64,
        /// Connections that have published nothing since.
        pub idle: u64,
    }
}

/// Addresses that are shown.
const GATEWAYS_SHOWN: usize = 32;

add_up! {
    /// The gateways' side.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
    pub struct Ingress {
        /// Gateway connections open now, plain listener.
        pub connections_tcp: u64,
        /// Gateway connections open now, TLS listener.
        pub connections_tls: u64,
        /// Connections accepted since start, both listeners.
        pub accepted_total: u64,
        /// Connections that ended: closed by the gateway between frames (probes and idle closes too).
        pub closed_by_peer_total: u64,
        /// Ended: closed or reset by the gateway in the middle of a frame.
        pub closed_mid_frame_total: u64,
        /// Ended: reset by weir because framing was lost or a limit was broken.
        pub reset_bad_input_total: u64,
        /// Ended: reset by weir after `idle_timeout`.
        pub reset_idle_total: u64,
        /// Ended: reset by weir after `first_frame_timeout` without a login or a valid session.
        pub reset_no_session_total: u64,
        /// Ended: reset by weir because their address had `max_connections_per_address` already.
        pub reset_per_address_total: u64,
        /// Ended: reset by weir at the end of a drain or a stop.
        pub reset_drain_total: u64,
        /// Ended: TLS handshakes that failed or ran out of time.
        pub handshake_failed_total: u64,
        /// Pauses of the accept loop because the process was out of file descriptors.
        pub accept_paused_total: u64,
        /// Bytes read from gateways (after decryption).
        pub received_bytes_total: u64,
        /// Frames of any type.
        pub frames_total: u64,
        /// Publish frames answered ok.
        pub publishes_ok_total: u64,
        /// Events in publish frames answered ok.
        pub events_ok_total: u64,
        /// Publish frames answered with a retry reply (`SessionTimeoutException`) because a queue had no capacity, or,
        /// with `ack = "delivered"`, nothing was delivered, within `reply_timeout`.
        pub publishes_refused_total: u64,
        /// Publish frames answered with `TransportException` because weir drains.
        pub publishes_sent_away_total: u64,
        /// Those of them for which `partial_max_bytes` had no capacity.
        pub partial_refused_total: u64,
        /// Bytes that partial frames have claimed now.
        pub partial_bytes: u64,
        /// Frames answered with an error because the session was unknown or expired.
        pub session_errors_total: u64,
        /// Frames answered with an error because the body was malformed.
        pub malformed_total: u64,
        /// Frames of a type other than login, logout and publish; the connection is reset.
        pub unknown_type_total: u64,
        /// Logins that succeeded.
        pub logins_ok_total: u64,
        /// Logins refused: wrong user or password.
        pub logins_failed_total: u64,
        /// Logins refused: plain listener without `allow_plaintext_login`.
        pub logins_plaintext_refused_total: u64,
        /// Logins refused: too many waited for an argon2 hash.
        pub logins_busy_total: u64,
        /// Logouts.
        pub logouts_total: u64,
        /// Nanoseconds that gateway connections waited for capacity in a queue.
        pub blocked_nanos_total: u64,
        /// Gateway connections that wait for capacity now.
        pub blocked_now: u64,
    }
}

/// One url group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Group {
    /// Name from the configuration.
    pub name: String,
    /// `loadbalance` or `failover`.
    pub policy: &'static str,
    /// `available` or `unavailable` (no usable link for `unavailable_after`); the worst worker's.
    pub available: bool,
    /// `open`, `blocking` or `shedding`; the worst worker's.
    pub overflow: Overflow,
    /// Events since start; the balance holds over these.
    pub events: Events,
    /// Bytes held by queue and links now (events with their length prefix, plus a fixed cost a batch).
    pub held_bytes: u64,
    /// The limit of `held_bytes`.
    pub held_bytes_max: u64,
    /// The limit of events held.
    pub held_events_max: u64,
    /// Age of the oldest event still queued, by weir's clock since it was accepted, in milliseconds.
    pub oldest_queued_ms: u64,
    /// The same of the oldest event that is queued or in flight.
    pub oldest_undelivered_ms: u64,
    /// Incidents in which this group made gateways wait.
    pub blocked_incidents_total: u64,
    /// Incidents in which this group shed.
    pub shed_incidents_total: u64,
    /// Events sent again after a connection ended unanswered: the upper bound of duplicates.
    pub resent_events_total: u64,
    /// In the order of the configuration.
    pub endpoints: Vec<Endpoint>,
}

/// What a group does with new events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Takes them.
    #[default]
    Open,
    /// The queue is full: gateways wait.
    Blocking,
    /// Full for longer than `block_timeout`, or unavailable: events are dropped until it is half empty.
    Shedding,
}

add_up! {
    /// Where the events of a group are.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Events {
        /// Taken into the group's queue.
        pub accepted: u64,
        /// Answered ok by a Traffic Manager.
        pub delivered: u64,
        /// Refused by Traffic Managers for good.
        pub rejected: u64,
        /// Given up by weir, by reason.
        pub dropped: Dropped,
        /// Waiting for a link now.
        pub queued: u64,
        /// Written to a Traffic Manager and unanswered now.
        pub inflight: u64,
    }
}

impl Events {
    /// Whether the balance holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.accepted == self.delivered + self.rejected + self.dropped.total() + self.queued + self.inflight
    }
}

add_up! {
    /// Events given up, by reason.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Dropped {
        /// The queue was full for longer than `block_timeout`.
        pub queue_full: u64,
        /// The queue was full while the group was unavailable.
        pub unavailable: u64,
        /// Older than `max_age` when a link would have taken them.
        pub max_age: u64,
        /// Left at the end of a drain.
        pub drain_timeout: u64,
        /// The group was removed from the configuration and could not deliver them in time.
        pub group_removed: u64,
        /// A defect of weir: a delivery ended without a result. Always 0.
        pub lost: u64,
    }
}

impl Dropped {
    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, n)| n).sum()
    }

    /// Every reason with its count, for labels.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("queue_full", self.queue_full),
            ("unavailable", self.unavailable),
            ("max_age", self.max_age),
            ("drain_timeout", self.drain_timeout),
            ("group_removed", self.group_removed),
            ("lost", self.lost),
        ]
    }
}

/// One endpoint of a group. States and reasons are the worst worker's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Endpoint {
    /// `host:port` of the data URL.
    pub name: String,
    /// What it is doing.
    pub state: LinkState,
    /// Why it is not up: `class: message`.
    pub reason: Option<String>,
    /// Why the last connection ended or could not be made, also when the endpoint is up again.
    pub last_failure: Option<String>,
    /// Milliseconds in this state.
    pub since_ms: u64,
    /// Milliseconds to the next attempt, where one is waited for; the soonest worker's.
    pub again_in_ms: Option<u64>,
    /// Enabled by the operator.
    pub enabled: bool,
    /// Up, but its session has ended: nothing is sent until the login that is under way has a new one.
    pub logging_in: bool,
    /// Workers whose link is up.
    pub links_up: u64,
    /// Connections that reached the pumping state.
    pub connects_total: u64,
    /// Failures by class: see [`FAILURES`] for the order.
    #[serde(serialize_with = "by_class")]
    pub failures_total: [u64; FAILURES.len()],
    /// Publish frames written completely, heartbeats excluded.
    pub frames_sent_total: u64,
    /// Events in those frames.
    pub events_sent_total: u64,
    /// Bytes written, heartbeats included.
    pub sent_bytes_total: u64,
    /// Zero-event publishes written.
    pub heartbeats_total: u64,
    /// Ok replies to publishes with events.
    pub replies_ok_total: u64,
    /// Error replies.
    pub replies_error_total: u64,
    /// Events answered ok here.
    pub delivered_events_total: u64,
    /// Frames unanswered now.
    pub inflight_frames: u64,
    /// Age of the oldest unanswered frame, in milliseconds.
    pub oldest_inflight_ms: u64,
}

/// Classes of a link's failure, in the order of [`Endpoint::failures_total`].
pub const FAILURES: [&str; 11] = [
    "dns",
    "refused",
    "timeout",
    "tls",
    "authentication",
    "protocol",
    "closed",
    "session",
    "rejected",
    "loop",
    "other",
];

/// Failures as an object by class.
fn by_class<S: Serializer>(counts: &[u64; FAILURES.len()], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(FAILURES.iter().zip(counts))
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Connected, logged in, taking events (or standing by, in failover).
    Up,
    /// First connection under way.
    #[default]
    Connecting,
    /// Failed; waiting to try again.
    Down,
    /// Switched off by the operator.
    Disabled,
}

impl Snapshot {
    /// Adds another worker's snapshot of the same configuration to this one.
    pub fn add(&mut self, other: &Snapshot) {
        self.ingress += other.ingress;
        self.gateways.add(&other.gateways);
        for theirs in &other.groups {
            match self.groups.iter_mut().find(|g| g.name == theirs.name) {
                Some(ours) => ours.add(theirs),
                None => self.groups.push(theirs.clone()),
            }
        }
    }
}

impl Gateways {
    /// The connections of one address.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<Gateway> {
        self.0.get(&address).copied()
    }

    fn add(&mut self, o: &Gateways) {
        for (address, theirs) in &o.0 {
            *self.0.entry(*address).or_default() += *theirs;
        }
    }
}

impl FromIterator<(IpAddr, Gateway)> for Gateways {
    fn from_iter<T: IntoIterator<Item = (IpAddr, Gateway)>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Serialize for Gateways {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            address: &'a IpAddr,
            #[serde(flatten)]
            gateway: &'a Gateway,
        }
        #[derive(Serialize)]
        struct Most<'a> {
            list: Vec<Shown<'a>>,
            more: usize,
        }
        let shown = |(address, gateway)| Shown { address, gateway };
        let mut list: Vec<Shown<'_>> = self.0.iter().map(shown).collect();
        // Stable: of equals, the lower address comes first.
        list.sort_by_key(|g| std::cmp::Reverse(g.gateway.connections));
        let more = list.len().saturating_sub(GATEWAYS_SHOWN);
        list.truncate(GATEWAYS_SHOWN);
        Most { list, more }.serialize(serializer)
    }
}

impl Group {
    fn add(&mut self, o: &Group) {
        self.available &= o.available;
        self.overflow = self.overflow.max(o.overflow);
        self.events += o.events;
        self.held_bytes += o.held_bytes;
        self.held_bytes_max += o.held_bytes_max;
        self.held_events_max += o.held_events_max;
        self.oldest_queued_ms = self.oldest_queued_ms.max(o.oldest_queued_ms);
        self.oldest_undelivered_ms = self.oldest_undelivered_ms.max(o.oldest_undelivered_ms);
        self.blocked_incidents_total += o.blocked_incidents_total;
        self.shed_incidents_total += o.shed_incidents_total;
        self.resent_events_total += o.resent_events_total;
        for theirs in &o.endpoints {
            match self.endpoints.iter_mut().find(|e| e.name == theirs.name) {
                Some(ours) => ours.add(theirs),
                None => self.endpoints.push(theirs.clone()),
            }
        }
    }
}

impl Endpoint {
    fn add(&mut self, o: &Endpoint) {
        if o.state > self.state {
            self.state = o.state;
            self.reason.clone_from(&o.reason);
            self.since_ms = o.since_ms;
        }
        self.again_in_ms = self.again_in_ms.into_iter().chain(o.again_in_ms).min();
        if o.last_failure.is_some() {
            self.last_failure.clone_from(&o.last_failure);
        }
        self.enabled &= o.enabled;
        self.logging_in |= o.logging_in;
        self.links_up += o.links_up;
        self.connects_total += o.connects_total;
        for (a, b) in self.failures_total.iter_mut().zip(o.failures_total) {
            *a += b;
        }
        self.frames_sent_total += o.frames_sent_total;
        self.events_sent_total += o.events_sent_total;
        self.sent_bytes_total += o.sent_bytes_total;
        self.heartbeats_total += o.heartbeats_total;
        self.replies_ok_total += o.replies_ok_total;
        self.replies_error_total += o.replies_error_total;
        self.delivered_events_total += o.delivered_events_total;
        self.inflight_frames += o.inflight_frames;
        self.oldest_inflight_ms = self.oldest_inflight_ms.max(o.oldest_inflight_ms);
    }
}
