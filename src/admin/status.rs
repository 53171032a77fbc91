//! The JSON of GET /status: the whole state of the process, without secrets.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::config::{Ack, Config, Policy, Shed};
use crate::control::{LastReload, Upgrades};
use crate::decisions;
use crate::metrics::ProcessState;
use crate::status::Snapshot;

/// An endpoint whose oldest frame is unanswered for this long, or for half of `link.reply_timeout`, is shown as not
/// answering.
const LATE_AFTER_MAX: Duration = Duration::from_secs(3);

/// The answer to GET /status.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    phase: &'static str,
    drain_stage: Option<&'static str>,
    drain_remaining_seconds: Option<f64>,
    version: &'static str,
    pid: u32,
    /// By `weir supervise`.
    supervised: bool,
    /// Why the last `POST /upgrade` started no successor.
    upgrade_refused: Option<String>,
    started_at: String,
    uptime_seconds: f64,
    log_level: String,
    config: Summary<'a>,
    config_loaded_at: String,
    last_reload: Option<Reload<'a>>,
    warnings: &'a [String],
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    /// The return leg; `null` = it is off.
    decisions: Option<decisions::Status>,
}

#[derive(Serialize)]
struct Reload<'a> {
    at: String,
    successful: bool,
    changes: &'a [String],
    needs_restart: &'a [String],
    problems: &'a [String],
}

/// The configuration in force, without secrets and users.
#[derive(Serialize)]
struct Summary<'a> {
    workers: usize,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    decisions: Option<SocketAddr>,
    decisions_tls: Option<SocketAddr>,
    ack: &'static str,
    drain_timeout: String,
    /// An endpoint whose `oldest_inflight_ms` reaches this is not answering.
    late_after_ms: u128,
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Group<'a> {
    name: &'a str,
    policy: &'static str,
    endpoints: Vec<Endpoint<'a>>,
    events_max: usize,
    bytes_max: usize,
    block_timeout: String,
    shed: &'static str,
    unavailable_after: String,
    max_age: String,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    name: &'a str,
    data: String,
    auth: String,
}

impl<'a> Status<'a> {
    pub(super) fn new(
        state: &'a ProcessState,
        config: &'a Config,
        decisions: Option<decisions::Status>,
        upgrades: Option<&Upgrades>,
        log_level: String,
        now: Instant,
    ) -> Self {
        let facts = &state.facts;
        let drain = state.phase.drain(now);
        Self {
            phase: state.phase.as_str(),
            drain_stage: drain.map(|d| d.0),
            drain_remaining_seconds: drain.map(|d| d.1.as_secs_f64()),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            supervised: upgrades.is_some(),
            upgrade_refused: upgrades.and_then(Upgrades::refused),
            started_at: utc(facts.started_at),
            uptime_seconds: facts.started_at.elapsed().unwrap_or_default().as_secs_f64(),
            log_level,
            config: Summary::new(config),
            config_loaded_at: utc(facts.config_loaded_at),
            last_reload: facts.last_reload.as_ref().map(Reload::new),
            warnings: &facts.warnings,
            snapshot: &state.snapshot,
            decisions,
        }
    }
}

impl<'a> Reload<'a> {
    fn new(reload: &'a LastReload) -> Self {
        let (changes, needs_restart, problems) = match &reload.outcome {
            Ok(report) => (&report.changes[..], &report.needs_restart[..], &[][..]),
            Err(problems) => (&[][..], &[][..], &problems[..]),
        };
        Self {
            at: utc(reload.at),
            successful: reload.outcome.is_ok(),
            changes,
            needs_restart,
            problems,
        }
    }
}

impl<'a> Summary<'a> {
    fn new(config: &'a Config) -> Self {
        let decisions = config.decisions.as_ref();
        Self {
            workers: config.workers,
            tcp: config.ingress.tcp,
            tls: config.ingress.tls,
            decisions: decisions.and_then(|d| d.listen),
            decisions_tls: decisions.and_then(|d| d.listen_tls),
            ack: match config.ack {
                Ack::Accepted => "accepted",
                Ack::Delivered => "delivered",
            },
            drain_timeout: humantime::format_duration(config.drain_timeout).to_string(),
            late_after_ms: LATE_AFTER_MAX.min(config.link.reply_timeout / 2).as_millis(),
            groups: config.groups.iter().map(Group::new).collect(),
        }
    }
}

impl<'a> Group<'a> {
    fn new(group: &'a crate::config::Group) -> Self {
        let queue = &group.queue;
        let endpoints = group.endpoints.iter().map(|e| Endpoint {
            name: &e.name,
            data: e.data.to_string(),
            auth: e.auth.to_string(),
        });
        Self {
            name: &group.name,
            policy: match group.policy {
                Policy::Loadbalance => "loadbalance",
                Policy::Failover => "failover",
            },
            endpoints: endpoints.collect(),
            events_max: queue.events_max,
            bytes_max: queue.bytes_max,
            block_timeout: or_never(queue.block_timeout),
            shed: match queue.shed {
                Shed::Oldest => "oldest",
                Shed::Newest => "newest",
            },
            unavailable_after: or_never(queue.unavailable_after),
            max_age: or_never(queue.max_age),
        }
    }
}

fn or_never(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".into(), |t| humantime::format_duration(t).to_string())
}

fn utc(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
