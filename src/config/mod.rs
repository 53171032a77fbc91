//! Text → one immutable, valid [`Config`]: code that gets one need not check it.
//!
//! Each table of weir.toml is declared once, by `settings!`: a row has the key's path, default, range, help and whether a reload
//! applies it ([`keys()`] lists the rows). [`parse()`] reads the files (`document`) table by table (`section`), resolves
//! `$ref{} $env{} $sys{} $secret{} $file{}` (`references`), takes the url groups from WSO2's own block (`throttling`), checks the rules
//! between tables (`checks`), and returns a [`Config`] or [`Problems`]: every one, with line, column, key and a hint.
//! [`Change`] says what differs between two configurations.
//!
//! `None` in a time limit means "never".

mod admin;
mod auth;
mod change;
mod checks;
mod context;
mod decisions;
mod document;
mod file;
mod group;
mod ingress;
mod kinds;
mod link;
mod parse;
mod problem;
mod queue;
mod receiver_url;
mod references;
mod secret;
mod section;
mod settings;
mod throttling;
mod tls;
mod units;
mod unquoted;

pub use admin::{Admin, Log, LogFormat, TapMode};
pub use auth::{Auth, Password, User};
pub use change::{Change, GroupChange};
pub use decisions::Decisions;
pub use file::read_file;
pub use group::{Endpoint, Group, Policy, Scheme, Url};
pub use ingress::Ingress;
pub use link::{Heartbeat, Link};
pub use parse::{Source, complain, load, parse};
pub use problem::{Problem, Problems, Warning};
pub use queue::{Queue, Shed};
pub use references::files_referred_to;
pub use secret::Secret;
pub use settings::{Key, Reload, keys};
pub use tls::{KeyFile, Tls, Trust, Verify};
pub use units::duration_text;

use std::net::SocketAddr;
use std::time::Duration;

use kinds::{HOUR, count, flag, time, word};
use settings::settings;

/// Url groups a configuration can have: a batch keeps one bit for each.
pub const GROUPS_MAX: usize = 64;

settings! {
    /// Everything weir needs to know, validated. Limits are per process.
    pub struct Config("") {
        "workers" workers: usize = count(1, 256), or 1, Restart,
            "Threads, each with its own listeners, queues and links. A Traffic Manager accepts 100 connections and each worker takes one per endpoint, so use more than one only where one core is not enough.";
        "ack" ack: Ack = word(&[("accepted", Ack::Accepted), ("delivered", Ack::Delivered)]), or "accepted", Now,
            "When a gateway gets its ok: \"accepted\" = when every group's queue has the events; \"delivered\" = when every available group has delivered them, so that even a killed weir loses nothing.";
        "drain_timeout" drain_timeout: Duration = time(Duration::ZERO, HOUR), or "20s", Now,
            "Longest time a stop may take, until no gateway is connected and everything queued is delivered. Keep it below the grace period of your platform, and at least 11s longer than drain_notice.";
        "drain_notice" drain_notice: Duration = time(Duration::ZERO, HOUR), or "5s", Now,
            "The first part of a stop: not ready, but serving as before, until balancers have noticed.";
        "drain_sends_away" drain_sends_away: bool = flag(), or true, Now,
            "After the notice, answer the next publish on each connection with an error that makes the agent use another weir. false for agents of 6.1, which never publish again after it.";
    }
    and {
        /// Where gateways connect.
        ingress: Ingress,
        /// Who may log in, and how sessions live.
        auth: Auth,
        /// Key and trust for both directions.
        tls: Tls,
        /// How links to Traffic Managers behave.
        link: Link,
        /// The url groups; every event goes to every one of them.
        groups: Vec<Group>,
        /// The admin port; `None` = off.
        admin: Option<Admin>,
        /// The return leg (AMQP); `None` = off.
        decisions: Option<Decisions>,
        /// Log level and format.
        log: Log,
    }
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

/// When a publish is answered ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// As soon as every group's queue has taken it.
    Accepted,
    /// When every group has delivered it.
    Delivered,
}
