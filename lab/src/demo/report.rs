//! What the demo says.

use std::fmt::Write as _;
use std::time::Duration;

use weir::status::Snapshot;

use super::DemoArgs;
use super::setup::{GROUPS, Setup};
use crate::{LoadReport, Verdict, decisions};

/// Who takes part.
pub(super) fn introduce(args: &DemoArgs, setup: &Setup) -> String {
    // Writing to a String cannot fail, here and below.
    let mut out = String::new();
    let at = setup.weir.addresses();
    let shown = |a: Option<std::net::SocketAddr>| a.map_or_else(String::new, |a| a.to_string());
    let _ = writeln!(
        out,
        "{} gateways ──▶ weir (events {}, login with TLS {}) ──▶ every group:",
        args.gateways,
        shown(at.tcp),
        shown(at.tls)
    );
    for ((name, policy, _), managers) in GROUPS.iter().zip(&setup.managers) {
        let list: Vec<String> = managers.iter().map(|m| m.data_address().to_string()).collect();
        let _ = writeln!(
            out,
            "    {name:<8} {policy} of Traffic Managers {}",
            list.join(" and ")
        );
    }
    let _ = writeln!(
        out,
        "broker {} ──▶ weir (decisions {}) ──▶ a gateway",
        setup.leg.broker_url(),
        shown(at.decisions)
    );
    let _ = writeln!(
        out,
        "look at it meanwhile: http://{}/  (also /metrics, /status)",
        shown(at.admin)
    );
    out
}

/// What the judges found.
pub(super) struct Outcome {
    pub(super) events: Verdict,
    pub(super) decisions: decisions::Verdict,
    /// That the broker received.
    pub(super) heartbeats: u64,
}

impl Outcome {
    pub(super) fn ok(&self) -> bool {
        self.events_ok() && self.decisions.violations().is_empty()
    }

    fn events_ok(&self) -> bool {
        self.events.ok() && self.events.groups.iter().all(|g| g.missing.count == 0)
    }
}

/// The tables and the verdicts.
pub(super) fn conclude(outcome: &Outcome, last: &Snapshot, load: &LoadReport) -> String {
    let mut out = String::new();
    let verdict = &outcome.events;
    let seconds = load.elapsed.as_secs_f64();
    let _ = writeln!(
        out,
        "\n{:<8} {:>9} {:>9} {:>8} {:>10} {:>5} {:>10} {:>9} {:>9}",
        "group", "accepted", "delivered", "dropped", "duplicated", "lost", "events/s", "p50", "p99"
    );
    for (group, judged) in last.groups.iter().zip(&verdict.groups) {
        let _ = writeln!(
            out,
            "{:<8} {:>9} {:>9} {:>8} {:>10} {:>5} {:>10.0} {:>9} {:>9}",
            group.name,
            group.events.accepted,
            group.events.delivered,
            group.events.dropped.total() + group.events.rejected,
            judged.duplicated.count,
            judged.missing.count,
            group.events.delivered as f64 / seconds,
            micros(judged.latency_p50_us),
            micros(judged.latency_p99_us),
        );
    }
    let _ = writeln!(
        out,
        "p50 and p99: from the API call in the gateway to the Traffic Manager's read, outages included\n"
    );
    let _ = writeln!(
        out,
        "gateways: {} events answered ok in {seconds:.1} s, after the API call p50 {:.1?}, p99 {:.1?}",
        load.counts.events_acked,
        load.latency.p50(),
        load.latency.p99()
    );
    let _ = writeln!(out, "{verdict}");
    if outcome.events_ok() {
        let _ = writeln!(
            out,
            "the oracle says: every accepted event was delivered to every group, nothing was lost"
        );
    } else {
        let _ = writeln!(out, "the oracle says: NOT everything was delivered");
    }
    let _ = writeln!(out, "\n{}", outcome.decisions);
    let _ = writeln!(
        out,
        "missed: published while no gateway was subscribed; weir sent the broker {} heartbeats",
        outcome.heartbeats
    );
    let _ = writeln!(
        out,
        "the judge of decisions says: {}",
        match outcome.decisions.violations().is_empty() {
            true => "every decision that was sent arrived, once and in order",
            false => "NOT everything arrived as it should",
        }
    );
    out
}

fn micros(us: u64) -> String {
    format!("{:.1?}", Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::{Tally, decision};
    use crate::{Events, Oracle, Sizes};

    /// One decision sent, and received so many times.
    fn outcome(received: usize) -> Outcome {
        let mut tally = Tally::default();
        let number = tally.published();
        tally.began(0, number);
        tally.offered(0, number);
        tally.sent(0, number);
        for _ in 0..received {
            tally.received(0, decision(number).as_bytes());
        }
        Outcome {
            events: Oracle::new(Events::new(Sizes::Typical, 0), &[], true).verdict(None),
            decisions: tally.verdict(None),
            heartbeats: 0,
        }
    }

    #[test]
    fn a_decision_that_is_lost_or_doubled_fails_the_demo() {
        assert!(outcome(1).ok());
        assert!(!outcome(0).ok());
        assert!(!outcome(2).ok());
    }
}
