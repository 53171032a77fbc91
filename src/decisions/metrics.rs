//! The return leg's metrics: a table of its own, read from one [`Status`].

use super::DecisionsHandle;
use super::status::{BROKER_FAILURES, HANDSHAKE_FAILURES, LEAVE_REASONS, Side, SideStatus, Status};
use crate::metrics::{Kind, Metric, Sample, Source};

/// A metric and where its values come from.
struct Row {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    read: fn(&Status) -> Vec<Value>,
}

/// Label values and the value.
type Value = (Vec<String>, f64);

impl DecisionsHandle {
    /// The return leg's metrics, for [`crate::metrics::Metrics::add_source`].
    #[must_use]
    pub fn metrics(&self) -> Source {
        let handle = self.clone();
        Source {
            table: table(),
            samples: Box::new(move || samples(&handle.status())),
        }
    }
}

fn table() -> Vec<Metric> {
    let metric = |row: &Row| Metric {
        name: row.name,
        help: row.help,
        kind: row.kind,
        labels: row.labels.to_vec(),
    };
    TABLE.iter().map(metric).collect()
}

fn samples(status: &Status) -> Vec<Sample> {
    let of = |row: &Row| {
        let metric = row.name;
        let sample = move |(labels, value)| Sample {
            metric,
            labels,
            value,
        };
        (row.read)(status).into_iter().map(sample)
    };
    TABLE.iter().flat_map(of).collect()
}

macro_rules! row {
    ($kind:ident $name:literal [$($label:literal),*] $help:literal, $read:expr) => {
        Row { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*], read: $read }
    };
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row!(Gauge "weir_decisions_connections" ["side", "state"] "Connections now; the broker's held ones are being sought.",
        |s| s.connections().map(|(side, state, n)| (vec![side.as_str().into(), state.into()], count(n))).collect()),
    row!(Counter "weir_decisions_accepted_total" [] "Gateway connections accepted.", |s| one(count(s.accepted_total))),
    row!(Counter "weir_decisions_relayed_frames_total" ["direction"] "Whole frames relayed, heartbeats excluded.",
        |s| by_direction(s.to_client.frames_total, s.to_broker.frames_total)),
    row!(Counter "weir_decisions_relayed_bytes_total" ["direction"] "Bytes of relayed frames and of splices.",
        |s| by_direction(s.to_client.bytes_total, s.to_broker.bytes_total)),
    row!(Counter "weir_decisions_deliveries_total" [] "Messages delivered to gateways (Basic.Deliver).",
        |s| one(count(s.deliveries_total))),
    row!(Counter "weir_decisions_heartbeats_sent_total" ["side"] "Heartbeats injected towards this side.",
        |s| by_side(s, |side| count(side.heartbeats_sent_total))),
    row!(Counter "weir_decisions_heartbeats_received_total" ["side"] "Heartbeats of this side, swallowed.",
        |s| by_side(s, |side| count(side.heartbeats_received_total))),
    row!(Counter "weir_decisions_dead_peers_total" ["side"] "Connections ended because this side was silent too long.",
        |s| by_side(s, |side| count(side.dead_total))),
    row!(Counter "weir_decisions_paused_seconds_total" ["side"] "Time this side was not read because the other took nothing.",
        |s| by_side(s, |side| count(side.paused_nanos_total) / 1e9)),
    row!(Gauge "weir_decisions_last_byte_age_seconds" ["side"] "Longest any open connection has had no byte from this side.",
        |s| by_side(s, |side| count(side.silent_ms_max) / 1e3)),
    row!(Counter "weir_decisions_holds_total" [] "Gateways held because no broker answered in the first round.",
        |s| one(count(s.holds_total))),
    row!(Counter "weir_decisions_hold_seconds_total" [] "Time gateways were held, those held now included.",
        |s| one(count(s.hold_nanos_total) / 1e9)),
    row!(Gauge "weir_decisions_refusing" [] "1 while gateways are refused: a hold has ended without a broker, and none answers.",
        |s| one(f64::from(u8::from(s.refusing)))),
    row!(Gauge "weir_decisions_leaving" ["reason"] "Connections asked to end, so that their gateways reconnect, and not gone yet.",
        |s| LEAVE_REASONS.iter().map(|reason| (vec![(*reason).into()], count(s.leaving_for(reason)))).collect()),
    row!(Counter "weir_decisions_failbacks_total" [] "Connections asked to go back to a preferred broker.",
        |s| one(count(s.failbacks_total))),
    row!(Counter "weir_decisions_bad_frames_total" [] "Connections ended because their framing was lost.",
        |s| one(count(s.bad_frames_total))),
    row!(Counter "weir_decisions_handshake_failures_total" ["reason"] "Gateway connections that were never open.",
        |s| by_label(&[], &HANDSHAKE_FAILURES, &s.handshake_failures_total)),
    row!(Gauge "weir_decisions_broker_up" ["broker"] "1 when the broker answered when last tried; missing before that.",
        |s| s.brokers.iter().filter_map(|b| Some((vec![b.name.clone()], f64::from(u8::from(b.up?))))).collect()),
    row!(Gauge "weir_decisions_broker_connections" ["broker"] "Connections to this broker now.",
        |s| s.brokers.iter().map(|b| (vec![b.name.clone()], count(b.connections))).collect()),
    row!(Counter "weir_decisions_broker_connects_total" ["broker"] "Connections this broker answered with Start.",
        |s| s.brokers.iter().map(|b| (vec![b.name.clone()], count(b.connects_total))).collect()),
    row!(Counter "weir_decisions_broker_failovers_total" ["broker"] "Gateways that were given another broker than this one.",
        |s| s.brokers.iter().map(|b| (vec![b.name.clone()], count(b.failovers_total))).collect()),
    row!(Counter "weir_decisions_broker_failures_total" ["broker", "class"] "Attempts at this broker without a Start.",
        |s| s.brokers.iter().flat_map(|b| by_label(&[&b.name], &BROKER_FAILURES, &b.failures_total)).collect()),
];

fn one(value: f64) -> Vec<Value> {
    vec![(Vec::new(), value)]
}

fn by_direction(to_client: u64, to_broker: u64) -> Vec<Value> {
    vec![
        (vec!["to_client".into()], count(to_client)),
        (vec!["to_broker".into()], count(to_broker)),
    ]
}

fn by_side(status: &Status, read: fn(&SideStatus) -> f64) -> Vec<Value> {
    let sides = [(Side::Client, &status.client), (Side::Broker, &status.broker)];
    sides
        .map(|(side, s)| (vec![side.as_str().into()], read(s)))
        .into()
}

fn by_label<const N: usize>(outer: &[&String], names: &[&str; N], counts: &[u64; N]) -> Vec<Value> {
    let labels = |name: &str| {
        outer
            .iter()
            .map(|o| (*o).clone())
            .chain([name.to_owned()])
            .collect()
    };
    names
        .iter()
        .zip(counts)
        .map(|(name, n)| (labels(name), count(*n)))
        .collect()
}

/// Exact up to 2^53, which no counter here reaches.
#[allow(clippy::cast_precision_loss)]
fn count(n: u64) -> f64 {
    n as f64
}
