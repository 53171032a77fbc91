//! PURE: the rules a run is judged by, and the table that says how it went.
//!
//! Weir is held to equality wherever the oracle can know: missing = rejected + dropped, received =
//! delivered. Where a connection ended between a write and its reply nobody can know, so there, and only
//! there, a rule has slack, and the slack is counted: events weir sent again, events a gateway sent again,
//! events a gateway never got an answer for.

use std::fmt;

use serde::{Serialize, Serializer};

use super::event::Id;
use super::histogram::Histogram;
use super::oracle::{Account, Issues};
use crate::status::{self, Snapshot};

/// Ids kept as examples of one finding.
pub const EXAMPLES_MAX: usize = 5;

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

    /// The run counts only if `count` is not 0: a fault that never happened shows nothing.
    #[must_use]
    pub fn witness(mut self, what: impl Into<String>, count: u64) -> Self {
        self.witnesses.push((what.into(), count));
        self
    }
}

pub(super) fn judge(issues: Issues, accounts: Vec<Account>, weir: Option<&WeirCounts>) -> Verdict {
    let mut violations = Vec::new();
    for account in &accounts {
        let mut rules = Rules {
            group: &account.name,
            broken: &mut violations,
        };
        rules.intrinsic(account);
        match weir.map(|w| w.groups.iter().find(|g| g.name == account.name)) {
            None => rules.direct(issues, account),
            Some(Some(counts)) => rules.weir(issues, account, counts),
            // Came or went during the run: weir's counts cover another span than the oracle's.
            Some(None) => {}
        }
    }
    Verdict {
        issued: issues.issued,
        acked: issues.acked,
        again: issues.again,
        groups: accounts.into_iter().map(GroupVerdict::from).collect(),
        violations,
        witnesses: Vec::new(),
    }
}

struct Rules<'a> {
    group: &'a str,
    broken: &'a mut Vec<String>,
}

impl Rules<'_> {
    fn intrinsic(&mut self, a: &Account) {
        self.at_most("corrupted", &a.tally.corrupted, 0);
        self.at_most("unexpected", &a.tally.unexpected, 0);
    }

    /// Gateways spoke to the endpoints themselves.
    fn direct(&mut self, issues: Issues, a: &Account) {
        self.at_most("missing", &a.missing, 0);
        self.at_most("split", &a.split, 0);
        self.at_most("duplicated", &a.tally.duplicated, issues.again);
        self.at_most("reordered", &a.tally.reordered, 0);
    }

    fn weir(&mut self, issues: Issues, a: &Account, w: &GroupCounts) {
        let e = &w.events;
        let ended = e.rejected + e.dropped.total();
        let unknown = issues.again + (issues.issued - issues.acked);
        self.holds(e.balanced(), || format!("the law is broken: {e:?}"));
        self.holds(e.queued + e.inflight == 0, || {
            format!("not at rest: {} queued, {} in flight", e.queued, e.inflight)
        });
        self.holds(e.dropped.lost == 0, || {
            format!("{} lost by weir's own count", e.dropped.lost)
        });
        self.between(
            "accepted by weir",
            e.accepted,
            issues.acked,
            issues.acked + unknown,
        );

        // An event given back when a connection ended may have been read there all the same; then it is
        // sent again, or dropped later.
        let given_back = w.resent + if w.failures > 0 { ended } else { 0 };
        let delivered = e.delivered;
        self.between(
            "answered ok by endpoints",
            a.tally.copies_answered_ok,
            delivered,
            delivered + given_back,
        );
        let surplus = a.tally.copies.saturating_sub(delivered);
        self.holds(surplus <= given_back, || {
            format!(
                "{} received, weir delivered {delivered} and gave back {given_back}",
                a.tally.copies
            )
        });

        let lacking = a.missing.count + a.split.count;
        self.holds(lacking <= ended, || {
            let (missing, split) = (&a.missing, &a.split);
            format!(
                "missing {} and split {}, but weir rejected {} and dropped {}{}{}",
                missing.count,
                split.count,
                e.rejected,
                e.dropped.total(),
                examples(missing),
                examples(split)
            )
        });
        self.holds(ended <= lacking + unknown + surplus, || {
            format!(
                "weir rejected {} and dropped {}, but only {lacking} are missing",
                e.rejected,
                e.dropped.total()
            )
        });
        self.at_most("duplicated", &a.tally.duplicated, w.resent + issues.again);
        // What went back to the queue's front when one connection ended may go out on another that is
        // ahead of it.
        self.at_most("reordered", &a.tally.reordered, w.resent);
    }

    fn at_most(&mut self, what: &str, found: &Finding, limit: u64) {
        self.holds(found.count <= limit, || {
            format!("{what} {}, allowed {limit}{}", found.count, examples(found))
        });
    }

    fn between(&mut self, what: &str, value: u64, low: u64, high: u64) {
        self.holds((low..=high).contains(&value), || {
            let expected = if low == high {
                low.to_string()
            } else {
                format!("{low} to {high}")
            };
            format!("{what} {value}, expected {expected}")
        });
    }

    fn holds(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(format!("{}: {}", self.group, otherwise()));
        }
    }
}

fn examples(found: &Finding) -> String {
    let ids: Vec<String> = found.examples.iter().map(Id::to_string).collect();
    if ids.is_empty() {
        String::new()
    } else {
        format!(" (e.g. {})", ids.join(", "))
    }
}

impl From<Account> for GroupVerdict {
    fn from(a: Account) -> Self {
        let micros =
            |h: &Histogram, per_mille| u64::try_from(h.quantile(per_mille).as_micros()).unwrap_or(u64::MAX);
        let t = a.tally;
        Self {
            name: a.name,
            events_per_frame: super::per(t.copies, t.frames),
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
            "gateways issued {issued} events, {acked} were answered ok, {again} copies were sent again"
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
