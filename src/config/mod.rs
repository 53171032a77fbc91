//! Text → one immutable, already valid [`Config`].
//!
//! In the order of the way: `document` parses a file into a tree that knows every place; `references` resolves
//! `$ref{} $env{} $sys{} $secret{} $file{}`; `raw`, `given`, `unknown` read its tables key by key and `context`
//! gathers what is wrong; `throttling`, `url_groups`, `receiver_url` read WSO2's block, `gateway_side`, `tls`,
//! `delivery`, `decisions` weir's own tables, `values` single values; `checks` holds the rules between tables;
//! [`parse()`] puts it together into a [`Config`], or into [`Problems`]: every one, with line, column, key and a
//! hint. [`Change`] says what differs between two configurations, [`keys()`] lists every key with its default.
//! Nothing below this room ever sees an invalid value: the types here carry the proof.
//!
//! `None` in a time limit means "never".

mod change;
mod checks;
mod context;
mod decisions;
mod delivery;
mod document;
mod gateway_side;
mod given;
mod keys;
mod parse;
mod problem;
mod raw;
mod receiver_url;
mod references;
mod secret;
mod throttling;
mod tls;
mod unknown;
mod url_groups;
mod values;

pub use change::{Change, GroupChange};
pub use keys::{Key, keys};
pub use parse::{Source, load, parse};
pub use problem::{Problem, Problems, Warning};
pub use secret::Secret;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Url groups a configuration can have: a batch keeps one bit for each.
pub const GROUPS_MAX: usize = 64;

/// Everything weir needs to know, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Worker threads; each is a whole weir (listeners, queues, links). Limits below are per process.
    pub workers: usize,
    /// Where gateways connect.
    pub ingress: Ingress,
    /// Who may log in, and how sessions live.
    pub auth: Auth,
    /// Key and trust for both directions.
    pub tls: Tls,
    /// When a gateway gets its reply.
    pub ack: Ack,
    /// How links towards Traffic Managers behave.
    pub link: Link,
    /// The url groups; every event goes to every one of them.
    pub groups: Vec<Group>,
    /// The admin port; `None` = off.
    pub admin: Option<Admin>,
    /// The return leg (AMQP); `None` = off.
    pub decisions: Option<Decisions>,
    /// Log level and format.
    pub log: Log,
    /// How long a drain may take before the rest is counted as dropped.
    pub drain_timeout: Duration,
}

/// The listeners and what a gateway connection may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingress {
    /// Plain listener (WSO2: port 9611), `None` = off.
    pub tcp: Option<SocketAddr>,
    /// TLS listener (WSO2: port 9711), `None` = off.
    pub tls: Option<SocketAddr>,
    /// Open gateway connections per process; further ones wait in the kernel's accept queue.
    pub connections_max: usize,
    /// Largest frame, header excluded, in bytes.
    pub frame_max_bytes: usize,
    /// Largest event in bytes.
    pub event_max_bytes: usize,
    /// TLS handshake deadline.
    pub handshake_timeout: Duration,
    /// A frame whose bytes stop coming for this long resets its connection.
    pub frame_timeout: Duration,
    /// A connection without a byte for this long is reset; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// Longest wait before a publish is answered, at most 25 s: the agent gives up at 30 s.
    pub reply_timeout: Duration,
}

/// Users and session tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// Accepted users, in the order of the file; never empty.
    pub users: Vec<User>,
    /// Key for signing session tokens; `None` = generated at start.
    pub session_secret: Option<Secret>,
    /// Life of a session after login.
    pub session_ttl: Duration,
    /// Whether a login on the plain listener is served.
    pub allow_plaintext_login: bool,
}

/// One accepted user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Name as the gateway sends it.
    pub name: String,
    /// What it is checked against.
    pub password: Password,
}

/// A stored password.
#[derive(Debug, Clone, PartialEq)]
pub enum Password {
    /// In clear (from the file, `$env{}`, `$file{}`, `$secret{}`).
    Clear(Secret),
    /// An argon2 PHC string, `$argon2id$…`, already checked to be well-formed.
    Argon2(String),
}

/// TLS in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// Weir's own certificate and key for the TLS listener; `None` = self-signed at start.
    pub identity: Option<KeyFile>,
    /// Whom weir trusts when it connects to a Traffic Manager.
    pub trust: Trust,
    /// How a Traffic Manager's certificate is checked.
    pub verify: Verify,
}

/// A certificate chain with its key.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyFile {
    /// Two PEM files.
    Pem {
        /// Certificate chain, leaf first.
        certificate: PathBuf,
        /// Private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
        key: PathBuf,
    },
    /// A Java keystore (JKS) or PKCS#12 file; the kind is found by its first bytes.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Store password.
        password: Secret,
        /// Alias; `None` = the only key entry.
        alias: Option<String>,
        /// Key password; `None` = the store's.
        key_password: Option<Secret>,
    },
}

/// Trust anchors.
#[derive(Debug, Clone, PartialEq)]
pub enum Trust {
    /// The operating system's.
    System,
    /// A PEM bundle.
    Pem(PathBuf),
    /// A JKS or PKCS#12 truststore.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Store password.
        password: Secret,
    },
}

/// How a server certificate is verified.
#[derive(Debug, Clone, PartialEq)]
pub enum Verify {
    /// Chain and host name.
    Full,
    /// Chain only: what WSO2's own agent does.
    Chain,
    /// SHA-256 of the certificate (DER), any of these.
    Pin(Vec<[u8; 32]>),
}

/// When a publish is answered ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// As soon as every group's queue has taken it.
    Accepted,
    /// When every group has delivered it.
    Delivered,
}

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

/// The admin HTTP port.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Address; loopback by default.
    pub listen: SocketAddr,
    /// Bearer token for calls that change state; `None` = such calls only from loopback.
    pub token: Option<Secret>,
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

/// Logging.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// `info`, or per module: `weir::egress=debug,info`.
    pub level: String,
    /// Text for people or JSON for collectors.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object per line.
    Json,
}
