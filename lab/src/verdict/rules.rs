//! PURE: the rules, one group at a time.

use super::{Finding, GroupCounts, GroupVerdict, Verdict, WeirCounts};
use crate::event::Id;
use crate::oracle::{Account, Issues};

pub(crate) fn judge(issues: Issues, accounts: Vec<Account>, weir: Option<&WeirCounts>) -> Verdict {
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
        refused_by_agents: 0,
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
        self.holds(e.balanced(), || format!("out of balance: {e:?}"));
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
