//! Text → one immutable, already valid [`Config`].
//!
//! In the order of the way: `document` parses a file into a tree that knows every place; `references` resolves
//! `$ref{} $env{} $sys{} $secret{} $file{}`; `raw`, `given`, `unknown` read its tables key by key and `context`
//! gathers what is wrong; `throttling`, `url_groups`, `receiver_url` read WSO2's block, `gateway_side`, `tls`,
//! `delivery`, `decisions` weir's own tables, `values` single values, `units` how durations and sizes are written;
//! `unquoted` finds values that lack quotes, `checks` holds the rules between tables;
//! [`parse()`] puts it together into a [`Config`], or into [`Problems`]: every one, with line, column, key and a
//! hint. [`Change`] says what differs between two configurations, [`files_referred_to`] which files `$file{}` brings
//! in, [`keys()`] lists every key with its default.
//! Nothing below this room ever sees an invalid value: the types here carry the proof.
//!
//! `None` in a time limit means "never".

mod change;
mod checks;
mod context;
mod decisions;
mod delivery;
mod document;
mod file;
mod gateway_side;
mod given;
mod keys;
mod parse;
mod problem;
mod raw;
mod receiver_url;
mod references;
mod secret;
mod security;
mod throttling;
mod tls;
mod units;
mod unknown;
mod unquoted;
mod upstream;
mod url_groups;
mod values;
mod watched;

pub use change::{Change, GroupChange};
pub use file::read_file;
pub use keys::{Key, keys};
pub use parse::{Source, complain, load, parse};
pub use problem::{Problem, Problems, Warning};
pub use secret::Secret;
pub use security::{Auth, KeyFile, Password, Tls, Trust, User, Verify};
pub use units::duration_text;
pub use upstream::{Decisions, Endpoint, Group, Heartbeat, Link, Policy, Queue, Scheme, Shed, Url};
pub use watched::files_referred_to;

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
    /// How long a drain serves as before, so that balancers notice.
    pub drain_notice: Duration,
    /// Whether a drain sends gateways elsewhere after that.
    pub drain_sends_away: bool,
}

impl Config {
    /// Every address weir listens on, and the key that sets it.
    #[must_use]
    pub fn ports(&self) -> Vec<(&'static str, SocketAddr)> {
        let decisions = self.decisions.as_ref();
        let all = [
            ("listen.tcp", self.ingress.tcp),
            ("listen.tls", self.ingress.tls),
            ("decisions.listen", decisions.and_then(|d| d.listen)),
            ("decisions.listen_tls", decisions.and_then(|d| d.listen_tls)),
            ("admin.listen", self.admin.as_ref().map(|a| a.listen)),
        ];
        all.into_iter().filter_map(|(key, at)| Some((key, at?))).collect()
    }
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
    /// The same from one address; `None` = no limit of its own.
    pub connections_per_address_max: Option<usize>,
    /// Memory for frames that have not arrived whole.
    pub partial_max_bytes: usize,
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
    /// A connection without a login or a valid session for this long is reset; `None` = never.
    pub first_frame_timeout: Option<Duration>,
    /// Longest wait before a publish is answered, at most 25 s: the agent gives up at 30 s.
    pub reply_timeout: Duration,
}

/// When a publish is answered ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// As soon as every group's queue has taken it.
    Accepted,
    /// When every group has delivered it.
    Delivered,
}

/// The admin HTTP port.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Address; loopback by default.
    pub listen: SocketAddr,
    /// Bearer token for calls that change state; `None` = such calls only from loopback.
    pub token: Option<Secret>,
    /// What `POST /tap` may show.
    pub tap: TapMode,
    /// File of stream definitions beside the built-in one.
    pub tap_streams: Option<PathBuf>,
}

/// How much of passing events may be shown to who may change the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapMode {
    /// Nothing.
    Off,
    /// All but what may name a person.
    Masked,
    /// Everything, where it is asked for.
    Full,
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
