//! Groups, queues, links and the return leg, in their valid form.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::Secret;

/// Links towards Traffic Managers.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// TCP connect deadline (name resolution included).
    pub connect_timeout: Duration,
    /// TLS handshake deadline.
    pub tls_timeout: Duration,
    /// Login reply deadline.
    pub login_timeout: Duration,
    /// Deadline for the reply to the oldest unanswered frame.
    pub reply_timeout: Duration,
    /// First reconnect delay (before jitter).
    pub backoff_min: Duration,
    /// Largest reconnect delay (jitter included).
    pub backoff_max: Duration,
    /// How long a busy link gathers events before it sends; zero = off.
    pub linger: Duration,
    /// Largest upstream frame in bytes (an event larger than that travels alone).
    pub batch_max_bytes: usize,
    /// Frames written before their replies are read.
    pub window_frames: usize,
    /// Proof of life on silent links; `None` = off.
    pub heartbeat: Option<Heartbeat>,
    /// Failover: how long the first endpoint must be healthy before it is used again.
    pub failback_after: Duration,
}

/// Heartbeat in the words of WSO2's broker setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heartbeat {
    /// Silence before a heartbeat is sent.
    pub delay: Duration,
    /// Dead after `delay * timeout_factor` without any byte.
    pub timeout_factor: f64,
}

impl Heartbeat {
    /// How long without a byte before the peer counts as dead.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.delay.mul_f64(self.timeout_factor)
    }
}

/// One url group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Unique name; `group1`, `group2` … in file order unless given.
    pub name: String,
    /// How endpoints share the events.
    pub policy: Policy,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Credentials towards this group's Traffic Managers.
    pub username: String,
    /// See `username`.
    pub password: Secret,
    /// The limits of this group's queue (the file's `[queue]`, overridden by `[group.NAME]`).
    pub queue: Queue,
}

/// How a group chooses among its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Round robin over the live endpoints.
    Loadbalance,
    /// The first live endpoint in order; back to an earlier one when it lives again.
    Failover,
}

/// One Traffic Manager of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique within its group: `host:port` of the data URL.
    pub name: String,
    /// Where events go.
    pub data: Url,
    /// Where weir logs in.
    pub auth: Url,
}

/// `tcp://host:port` or `ssl://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Host name or address; IPv6 without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Ssl => "ssl",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Transport of a [`Url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Ssl,
}

/// Limits and manners of one group's queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Events queued and in flight, per process.
    pub events_max: usize,
    /// Bytes queued and in flight, per process.
    pub bytes_max: usize,
    /// A full queue blocks the gateways for at most this long per incident; `None` = for ever
    /// (strict); zero = `overflow = "shed"`.
    pub block_timeout: Option<Duration>,
    /// Which events go when the queue sheds.
    pub shed: Shed,
    /// Without a usable link for this long the group blocks nobody; `None` = never unavailable.
    pub unavailable_after: Option<Duration>,
    /// Older events are dropped when a link would take them; `None` = off.
    pub max_age: Option<Duration>,
    /// `max_age` per stream id (wins over `max_age`); `None` = off for that stream.
    pub max_age_streams: BTreeMap<String, Option<Duration>>,
}

/// Which events a shedding queue gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// From the front of the queue.
    Oldest,
    /// The ones that arrive.
    Newest,
}

/// The return leg: gateways' AMQP connections to the brokers of the Traffic Managers.
#[derive(Debug, Clone, PartialEq)]
pub struct Decisions {
    /// Where gateways connect (AMQP in clear), `None` = off.
    pub listen: Option<SocketAddr>,
    /// Where gateways connect with TLS, `None` = off.
    pub listen_tls: Option<SocketAddr>,
    /// Brokers, in order of preference; at least one.
    pub brokers: Vec<Url>,
    /// Order of trial on connect.
    pub policy: Policy,
    /// Towards the broker.
    pub heartbeat: Heartbeat,
    /// Offered to the gateway.
    pub client_heartbeat: Heartbeat,
    /// How long an accepted gateway is held, silent, while no broker answers.
    pub hold: Duration,
    /// Failover only: go back to the preferred broker at a quiet moment after it answered for this long;
    /// `None` = never.
    pub failback_after: Option<Duration>,
    /// Open gateway connections.
    pub connections_max: usize,
}
