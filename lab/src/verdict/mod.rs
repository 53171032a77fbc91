//! PURE: the rules a run is judged by, and the table that says how it went.
//!
//! Weir is held to equality wherever the oracle can know: missing = rejected + dropped, received =
//! delivered. Where a connection ended between a write and its reply nobody can know, so there, and only
//! there, a rule has slack, and the slack is counted: events weir sent again, events a gateway sent again,
//! events a gateway never got an answer for.

mod rules;

use std::fmt;

use serde::{Serialize, Serializer};
use weir::status::{self, Snapshot};

use super::event::Id;
use super::histogram::Histogram;
use super::oracle::Account;

pub(super) use rules::judge;

/// Ids kept as examples of one finding.
pub(crate) const EXAMPLES_MAX: usize = 5;

/// How often something was found, with the first ids it was found on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Events.
    pub count: u64,
    /// At most [`EXAMPLES_MAX`].
    #[serde(serialize_with = "ids")]
    pub examples: Vec<Id>,
}

impl Finding {
    pub(super) fn add(&mut self, id: Option<Id>) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.extend(id);
        }
    }
}

fn ids<S: Serializer>(ids: &[Id], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ids.iter().map(Id::to_string))
}

/// What weir says of itself, as far as the rules need it.
#[derive(Debug, Clone, Default)]
pub struct WeirCounts {
    /// Groups that were there during the whole run; others are judged by what arrived alone.
    pub groups: Vec<GroupCounts>,
}

/// One group by weir's own count, in events.
#[derive(Debug, Clone, Default)]
pub struct GroupCounts {
    /// Name, as the oracle knows it.
    pub name: String,
    /// Where weir says the events are.
    pub events: status::Events,
    /// Events weir sent again after a connection ended.
    pub resent: u64,
    /// Connections that ended for any reason.
    pub failures: u64,
}

impl From<&Snapshot> for WeirCounts {
    fn from(snapshot: &Snapshot) -> Self {
        let count = |g: &status::Group| GroupCounts {
            name: g.name.clone(),
            events: g.events,
            resent: g.resent_events_total,
            failures: g.endpoints.iter().flat_map(|e| e.failures_total).sum(),
        };
        Self {
            groups: snapshot.groups.iter().map(count).collect(),
        }
    }
}

/// How a run went.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Distinct events issued by gateways.
    pub issued: u64,
    /// Distinct events answered ok.
    pub acked: u64,
    /// Copies that gateways sent again.
    pub again: u64,
    /// Events that gateways' agents refused or lost because their queue was full: no loss of weir's, and none for it to see.
    pub refused_by_agents: u64,
    /// In the order of the oracle.
    pub groups: Vec<GroupVerdict>,
    /// Each broken rule: which, where, with numbers and examples.
    pub violations: Vec<String>,
    /// What had to happen for the run to count, and how often it did.
    pub witnesses: Vec<(String, u64)>,
}

/// What arrived at one group.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupVerdict {
    /// Name.
    pub name: String,
    /// Copies received.
    pub copies: u64,
    /// Copies in frames that were answered ok.
    pub copies_answered_ok: u64,
    /// Distinct events received.
    pub distinct: u64,
    /// Events per frame.
    pub events_per_frame: f64,
    /// Acknowledged and never received.
    pub missing: Finding,
    /// Received by another group, never by this one, and never acknowledged.
    pub split: Finding,
    /// Received and never issued.
    pub unexpected: Finding,
    /// Received with other bytes than issued.
    pub corrupted: Finding,
    /// Copies beyond the first.
    pub duplicated: Finding,
    /// Behind a later one of the same gateway connection on the same endpoint connection.
    pub reordered: Finding,
    /// Issue to receipt, median, in microseconds; 0 when not measured.
    pub latency_p50_us: u64,
    /// Issue to receipt, 99 of 100, in microseconds; 0 when not measured.
    pub latency_p99_us: u64,
}

impl Verdict {
    /// Whether no rule is broken and every witness speaks.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.violations.is_empty() && self.witnesses.iter().all(|(_, n)| *n > 0)
    }

    /// What the gateways of the run counted as [`queue_full`](super::LoadCounts::queue_full).
    #[must_use]
    pub fn refused_by_agents(mut self, events: u64) -> Self {
        self.refused_by_agents += events;
        self
    }

    /// The run counts only if `count` is not 0: a fault that never happened shows nothing.
    #[must_use]
    pub fn witness(mut self, what: impl Into<String>, count: u64) -> Self {
        self.witnesses.push((what.into(), count));
        self
    }
}

impl From<Account> for GroupVerdict {
    fn from(a: Account) -> Self {
        let micros =
            |h: &Histogram, per_mille| u64::try_from(h.quantile(per_mille).as_micros()).unwrap_or(u64::MAX);
        let t = a.tally;
        Self {
            name: a.name,
            events_per_frame: crate::per(t.copies, t.frames),
            copies: t.copies,
            copies_answered_ok: t.copies_answered_ok,
            distinct: a.distinct,
            missing: a.missing,
            split: a.split,
            unexpected: t.unexpected,
            corrupted: t.corrupted,
            duplicated: t.duplicated,
            reordered: t.reordered,
            latency_p50_us: micros(&a.latency, 500),
            latency_p99_us: micros(&a.latency, 990),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (issued, acked, again) = (self.issued, self.acked, self.again);
        writeln!(
            f,
            "gateways issued {issued} events, {acked} were answered ok, {again} copies were sent again; {} were refused by the agent",
            self.refused_by_agents
        )?;
        writeln!(
            f,
            "{:<12} {:>10} {:>9} {:>7} {:>7} {:>10} {:>9} {:>10} {:>9} {:>8} {:>9} {:>9}",
            "group",
            "received",
            "distinct",
            "missing",
            "split",
            "unexpected",
            "corrupted",
            "duplicated",
            "reordered",
            "ev/frame",
            "p50 us",
            "p99 us"
        )?;
        for g in &self.groups {
            writeln!(
                f,
                "{:<12} {:>10} {:>9} {:>7} {:>7} {:>10} {:>9} {:>10} {:>9} {:>8.1} {:>9} {:>9}",
                g.name,
                g.copies,
                g.distinct,
                g.missing.count,
                g.split.count,
                g.unexpected.count,
                g.corrupted.count,
                g.duplicated.count,
                g.reordered.count,
                g.events_per_frame,
                g.latency_p50_us,
                g.latency_p99_us
            )?;
        }
        for (what, count) in &self.witnesses {
            let void = if *count == 0 {
                "  VOID: this never happened"
            } else {
                ""
            };
            writeln!(f, "witness: {what} {count}{void}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATED: {violation}")?;
        }
        f.write_str(if self.ok() {
            "verdict: ok"
        } else {
            "verdict: FAILED"
        })
    }
}
