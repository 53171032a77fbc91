//! Every metric of weir, one row each: name, help, and the expression that reads it.
//!
//! The type is the word that begins a row; labels follow from what a row is read from (a group's row has
//! `group`, an endpoint's `group` and `endpoint`, [`Value::By`] adds one); the unit ends the name.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics_process::collector::Metrics as Process;

use super::histogram::{Buckets, Observed};
use super::{Kind, Metric, ProcessState};
use crate::status::{Endpoint, FAILURES, Group, Ingress, LinkState, Overflow};

/// A metric and where its values come from.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) read: Read,
}

/// Where the values of a metric come from.
pub(super) enum Read {
    Process(Value<ProcessState>),
    Ingress(Value<Ingress>),
    Group(Value<Group>),
    Endpoint(Value<Endpoint>),
    /// Recorded by links in a histogram.
    Observed(fn(&Observed) -> &Buckets),
    /// Read from /proc/self.
    OfProcess(fn(&Process) -> Option<f64>),
}

/// How values are read from a `T`.
pub(super) enum Value<T> {
    One(fn(&T) -> f64),
    Maybe(fn(&T) -> Option<f64>),
    By(&'static str, fn(&T) -> Vec<(&'static str, f64)>),
}

impl Row {
    pub(super) fn metric(&self) -> Metric {
        let labels = match &self.read {
            Read::Process(value) => value.labels(&[]),
            Read::Ingress(value) => value.labels(&[]),
            Read::Group(value) => value.labels(&["group"]),
            Read::Endpoint(value) => value.labels(&["group", "endpoint"]),
            Read::Observed(_) => vec!["group", "endpoint"],
            Read::OfProcess(_) => Vec::new(),
        };
        Metric {
            name: self.name,
            help: self.help,
            kind: self.kind,
            labels,
        }
    }
}

impl<T> Value<T> {
    fn labels(&self, outer: &[&'static str]) -> Vec<&'static str> {
        let mut labels = outer.to_vec();
        if let Value::By(label, _) = self {
            labels.push(label);
        }
        labels
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PHASES: [&str; 4] = ["starting", "ready", "draining", "stopped"];

/// All of them.
#[rustfmt::skip] // Two or three lines a metric: what it is, where it is read, what it means.
pub(super) static TABLE: &[Row] = &[
    gauge("weir_build_info", Read::Process(Value::By("version", |_| vec![(VERSION, 1.0)])),
        "Always 1; says which weir this is."),
    gauge("weir_phase", Read::Process(Value::By("phase", |l| one_of(&PHASES.map(|p| (p, p)), &l.phase.as_str()))),
        "1 for the phase the process is in: starting, ready, draining or stopped."),
    gauge("weir_config_last_reload_successful",
        Read::Process(Value::One(|l| truth(l.facts.last_reload_successful()))),
        "1 if the configuration file as last read is in force, 0 if it was refused and the one before it stays."),
    gauge("weir_config_last_reload_success_timestamp_seconds",
        Read::Process(Value::One(|l| unix_seconds(l.facts.config_loaded_at))),
        "Unix time at which the configuration in force was loaded."),
    gauge("weir_config_warnings", Read::Process(Value::One(|l| l.facts.warnings.len() as f64)),
        "Warnings about the configuration in force; /status has their text."),
    gauge("weir_tls_certificate_not_after_timestamp_seconds",
        Read::Process(Value::Maybe(|l| l.facts.certificate_not_after.map(unix_seconds))),
        "Unix time at which the certificate of weir's TLS listener ends."),
    gauge("weir_gateway_connections",
        Read::Ingress(Value::By("listener", |i| vec![("tcp", i.connections_tcp as f64), ("tls", i.connections_tls as f64)])),
        "Gateway connections open now."),
    gauge("weir_gateway_connections_limit", Read::Process(Value::One(|l| l.facts.connections_max as f64)),
        "Gateway connections allowed at a time; further ones wait in the kernel."),
    counter("weir_gateway_connections_accepted_total", Read::Ingress(Value::One(|i| i.accepted_total as f64)),
        "Gateway connections accepted, on both listeners."),
    counter("weir_gateway_connections_ended_total", Read::Ingress(Value::By("cause", connections_ended)),
        "Gateway connections that ended, by cause. closed: by the gateway between two frames; closed_mid_frame: by the gateway inside a frame; the others by weir."),
    counter("weir_gateway_accept_pauses_total", Read::Ingress(Value::One(|i| i.accept_paused_total as f64)),
        "Times the accept loop paused because the process was out of file descriptors."),
    counter("weir_gateway_received_bytes_total", Read::Ingress(Value::One(|i| i.received_bytes_total as f64)),
        "Bytes read from gateways, after decryption."),
    counter("weir_gateway_frames_total", Read::Ingress(Value::One(|i| i.frames_total as f64)),
        "Frames of any type read from gateways."),
    counter("weir_gateway_publishes_total",
        Read::Ingress(Value::By("result", |i| vec![("ok", i.publishes_ok_total as f64), ("refused", i.publishes_refused_total as f64), ("sent_away", i.publishes_sent_away_total as f64)])),
        "Publish frames answered: ok, refused because a queue or partial_max_bytes gave no room in time (the gateway sends again), or sent away by a drain (it sends again, elsewhere)."),
    gauge("weir_gateway_partial_bytes", Read::Ingress(Value::One(|i| i.partial_bytes as f64)),
        "Memory claimed now by frames that have not been handled whole; at most listen.partial_max_bytes, or one larger frame a worker."),
    counter("weir_gateway_partial_refused_total", Read::Ingress(Value::One(|i| i.partial_refused_total as f64)),
        "Publish frames refused because listen.partial_max_bytes gave no room in time; counted in weir_gateway_publishes_total, too."),
    counter("weir_gateway_events_total", Read::Ingress(Value::One(|i| i.events_ok_total as f64)),
        "Events in publish frames answered ok."),
    counter("weir_gateway_bad_frames_total",
        Read::Ingress(Value::By("reason", |i| vec![("session", i.session_errors_total as f64), ("malformed", i.malformed_total as f64), ("unknown_type", i.unknown_type_total as f64)])),
        "Frames answered with an error: session unknown or expired, body malformed, or type unknown."),
    counter("weir_gateway_logins_total",
        Read::Ingress(Value::By("result", |i| vec![("ok", i.logins_ok_total as f64), ("failed", i.logins_failed_total as f64), ("plaintext_refused", i.logins_plaintext_refused_total as f64), ("busy", i.logins_busy_total as f64)])),
        "Logins: ok, failed (wrong user or password), plaintext_refused (on the plain listener without allow_plaintext_login), or busy (too many waited for an argon2 hash)."),
    counter("weir_gateway_logouts_total", Read::Ingress(Value::One(|i| i.logouts_total as f64)),
        "Logouts."),
    counter("weir_gateway_blocked_seconds_total",
        Read::Ingress(Value::One(|i| i.blocked_nanos_total as f64 / 1e9)),
        "Time gateway connections spent waiting for room in a queue, added up over connections."),
    gauge("weir_gateway_blocked_connections", Read::Ingress(Value::One(|i| i.blocked_now as f64)),
        "Gateway connections waiting for room in a queue now."),
    gauge("weir_group_info", Read::Group(Value::By("policy", |g| vec![(g.policy, 1.0)])),
        "Always 1; says how the group chooses among its endpoints."),
    gauge("weir_group_available", Read::Group(Value::One(|g| truth(g.available))),
        "1 if the group has a usable endpoint, 0 after unavailable_after without one."),
    gauge("weir_group_overflow",
        Read::Group(Value::By("state", |g| one_of(&OVERFLOWS, &g.overflow))),
        "1 for what the group does about room: open (has some), blocking (gateways wait) or shedding (events are dropped)."),
    counter("weir_events_accepted_total", Read::Group(Value::One(|g| g.events.accepted as f64)),
        "Events taken into the group's queue. At every scrape accepted = delivered + rejected + dropped + queued + inflight."),
    counter("weir_events_delivered_total", Read::Group(Value::One(|g| g.events.delivered as f64)),
        "Events that a Traffic Manager answered ok."),
    counter("weir_events_rejected_total", Read::Group(Value::One(|g| g.events.rejected as f64)),
        "Events that Traffic Managers refused for good."),
    counter("weir_events_dropped_total",
        Read::Group(Value::By("reason", |g| { g.events.dropped.by_reason().map(|(reason, n)| (reason, n as f64)).to_vec() })),
        "Events given up by weir. lost is always 0, or weir has a defect."),
    gauge("weir_events_queued", Read::Group(Value::One(|g| g.events.queued as f64)),
        "Events waiting for an endpoint now."),
    gauge("weir_events_inflight", Read::Group(Value::One(|g| g.events.inflight as f64)),
        "Events sent to a Traffic Manager and unanswered now."),
    counter("weir_events_resent_total", Read::Group(Value::One(|g| g.resent_events_total as f64)),
        "Events sent again after a connection or a session ended before the answer: the upper bound of duplicates."),
    gauge("weir_queue_bytes", Read::Group(Value::One(|g| g.held_bytes as f64)),
        "Bytes held for the group now, queued and in flight."),
    gauge("weir_queue_limit_bytes", Read::Group(Value::One(|g| g.held_bytes_max as f64)),
        "The limit of weir_queue_bytes."),
    gauge("weir_queue_limit_events", Read::Group(Value::One(|g| g.held_events_max as f64)),
        "The limit of events held for the group, queued and in flight."),
    gauge("weir_queue_oldest_age_seconds", Read::Group(Value::One(|g| g.oldest_queued_ms as f64 / 1e3)),
        "Age of the oldest event still queued, since weir accepted it."),
    gauge("weir_group_oldest_undelivered_age_seconds",
        Read::Group(Value::One(|g| g.oldest_undelivered_ms as f64 / 1e3)),
        "Age of the oldest event that no Traffic Manager has answered, queued or in flight, since weir accepted it."),
    counter("weir_group_blocked_incidents_total",
        Read::Group(Value::One(|g| g.blocked_incidents_total as f64)),
        "Times the group began to make gateways wait."),
    counter("weir_group_shed_incidents_total", Read::Group(Value::One(|g| g.shed_incidents_total as f64)),
        "Times the group began to shed."),
    gauge("weir_endpoint_up", Read::Endpoint(Value::One(|e| truth(e.state == LinkState::Up))),
        "1 if every worker's connection to the endpoint is logged in and usable."),
    gauge("weir_endpoint_state", Read::Endpoint(Value::By("state", |e| one_of(&STATES, &e.state))),
        "1 for what the endpoint is: up, connecting, down or disabled."),
    gauge("weir_endpoint_state_age_seconds", Read::Endpoint(Value::One(|e| e.since_ms as f64 / 1e3)),
        "How long the endpoint has been in its state."),
    gauge("weir_endpoint_enabled", Read::Endpoint(Value::One(|e| truth(e.enabled))),
        "0 if an operator switched the endpoint off."),
    gauge("weir_endpoint_connections", Read::Endpoint(Value::One(|e| e.links_up as f64)),
        "Connections to the endpoint that are up now; at most one a worker."),
    counter("weir_endpoint_connects_total", Read::Endpoint(Value::One(|e| e.connects_total as f64)),
        "Connections to the endpoint that got as far as login and became usable."),
    counter("weir_endpoint_failures_total",
        Read::Endpoint(Value::By("class", |e| { FAILURES.iter().copied().zip(e.failures_total.map(|n| n as f64)).collect() })),
        "Failures of connections to the endpoint, by class."),
    counter("weir_endpoint_sent_frames_total", Read::Endpoint(Value::One(|e| e.frames_sent_total as f64)),
        "Publish frames written completely, heartbeats excluded."),
    counter("weir_endpoint_sent_events_total", Read::Endpoint(Value::One(|e| e.events_sent_total as f64)),
        "Events in the frames written; more than delivered when some were sent again."),
    counter("weir_endpoint_sent_bytes_total", Read::Endpoint(Value::One(|e| e.sent_bytes_total as f64)),
        "Bytes written to the endpoint, heartbeats included."),
    counter("weir_endpoint_heartbeats_total", Read::Endpoint(Value::One(|e| e.heartbeats_total as f64)),
        "Publishes of zero events written as proof of life."),
    counter("weir_endpoint_replies_total",
        Read::Endpoint(Value::By("result", |e| vec![("ok", e.replies_ok_total as f64), ("error", e.replies_error_total as f64)])),
        "Replies to publishes with events: ok or error."),
    counter("weir_endpoint_delivered_events_total",
        Read::Endpoint(Value::One(|e| e.delivered_events_total as f64)),
        "Events that this endpoint answered ok."),
    gauge("weir_endpoint_inflight_frames", Read::Endpoint(Value::One(|e| e.inflight_frames as f64)),
        "Frames unanswered now."),
    gauge("weir_endpoint_oldest_inflight_age_seconds",
        Read::Endpoint(Value::One(|e| e.oldest_inflight_ms as f64 / 1e3)),
        "Age of the oldest unanswered frame."),
    histogram("weir_endpoint_reply_seconds", Read::Observed(|o| &o.reply_seconds),
        "Time from a publish frame written to its reply."),
    histogram("weir_endpoint_delivery_seconds", Read::Observed(|o| &o.delivery_seconds),
        "Time from the acceptance of the first event of a batch to its delivery."),
    histogram("weir_endpoint_frame_events", Read::Observed(|o| &o.frame_events),
        "Events in a publish frame sent to the endpoint."),
    counter("process_cpu_seconds_total", Read::OfProcess(|p| p.cpu_seconds_total),
        "Total user and system CPU time spent in seconds."),
    gauge("process_open_fds", Read::OfProcess(|p| whole(p.open_fds)),
        "Number of open file descriptors."),
    gauge("process_max_fds", Read::OfProcess(|p| whole(p.max_fds)),
        "Maximum number of open file descriptors."),
    gauge("process_virtual_memory_bytes", Read::OfProcess(|p| whole(p.virtual_memory_bytes)),
        "Virtual memory size in bytes."),
    gauge("process_virtual_memory_max_bytes", Read::OfProcess(|p| whole(p.virtual_memory_max_bytes)),
        "Maximum amount of virtual memory available in bytes."),
    gauge("process_resident_memory_bytes", Read::OfProcess(|p| whole(p.resident_memory_bytes)),
        "Resident memory size in bytes."),
    gauge("process_start_time_seconds", Read::OfProcess(|p| whole(p.start_time_seconds)),
        "Start time of the process since unix epoch in seconds."),
    gauge("process_threads", Read::OfProcess(|p| whole(p.threads)),
        "Number of OS threads in the process."),
];

const fn counter(name: &'static str, read: Read, help: &'static str) -> Row {
    Row {
        name,
        help,
        kind: Kind::Counter,
        read,
    }
}

const fn gauge(name: &'static str, read: Read, help: &'static str) -> Row {
    Row {
        name,
        help,
        kind: Kind::Gauge,
        read,
    }
}

const fn histogram(name: &'static str, read: Read, help: &'static str) -> Row {
    Row {
        name,
        help,
        kind: Kind::Histogram,
        read,
    }
}

const OVERFLOWS: [(&str, Overflow); 3] = [
    ("open", Overflow::Open),
    ("blocking", Overflow::Blocking),
    ("shedding", Overflow::Shedding),
];

const STATES: [(&str, LinkState); 4] = [
    ("up", LinkState::Up),
    ("connecting", LinkState::Connecting),
    ("down", LinkState::Down),
    ("disabled", LinkState::Disabled),
];

/// 1 for the state that holds and 0 for the others, so that each has a series at all times.
fn one_of<T: PartialEq>(states: &[(&'static str, T)], now: &T) -> Vec<(&'static str, f64)> {
    states
        .iter()
        .map(|(name, state)| (*name, truth(state == now)))
        .collect()
}

fn connections_ended(i: &Ingress) -> Vec<(&'static str, f64)> {
    vec![
        ("closed", i.closed_by_peer_total as f64),
        ("closed_mid_frame", i.closed_mid_frame_total as f64),
        ("bad_input", i.reset_bad_input_total as f64),
        ("idle", i.reset_idle_total as f64),
        ("no_session", i.reset_no_session_total as f64),
        ("per_address", i.reset_per_address_total as f64),
        ("drain", i.reset_drain_total as f64),
        ("handshake", i.handshake_failed_total as f64),
    ]
}

fn whole(n: Option<u64>) -> Option<f64> {
    n.map(|n| n as f64)
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// Seconds since 1970; a time before that counts as 0.
fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
