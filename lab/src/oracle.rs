//! PURE: knows what was issued, acknowledged and received, and so what must have happened in between.
//!
//! Load generators tell it what they issue ([`Oracle::issue`], before the bytes leave) and what was answered
//! ok ([`Oracle::ack`]); stand-in Traffic Managers tell it what they read ([`Oracle::take`]), group by
//! group. [`Oracle::verdict`] then compares that with what weir says of itself ([`super::verdict`] has the
//! rules). A bit per event and fact; time is an argument. [`Judge`](super::Judge) shares one oracle between threads.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use weir::wire::events::iterate;

use super::bits::Bits;
use super::event::{Corrupt, Events, Id};
use super::histogram::Histogram;
use super::verdict::{self, Finding, Verdict, WeirCounts};

/// One run's memory.
#[derive(Debug)]
pub struct Oracle {
    events: Events,
    latency: bool,
    origins: BTreeMap<u32, Origin>,
    groups: Vec<Group>,
    again: u64,
}

/// What one gateway connection issued.
#[derive(Debug, Default)]
struct Origin {
    issued: u64,
    acked: Bits,
    again: Bits,
    /// Microseconds since the start of the run, by sequence; only when latency is measured.
    issued_micros: Vec<u32>,
}

/// What arrived at the endpoints of one group.
#[derive(Debug, Default)]
struct Group {
    name: String,
    received: BTreeMap<u32, Bits>,
    /// By (origin, endpoint connection): the largest sequence so far.
    newest: HashMap<(u32, u64), u64>,
    tally: Tally,
    latency: Histogram,
}

/// What can be counted while events arrive.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) copies: u64,
    pub(super) copies_answered_ok: u64,
    pub(super) frames: u64,
    pub(super) corrupted: Finding,
    pub(super) unexpected: Finding,
    pub(super) duplicated: Finding,
    pub(super) reordered: Finding,
}

/// What the rules need to know of one group, counted from the sets.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) tally: Tally,
    pub(super) distinct: u64,
    pub(super) missing: Finding,
    pub(super) split: Finding,
    pub(super) latency: Histogram,
}

/// What the gateways' side amounts to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Issues {
    /// Distinct events issued.
    pub(super) issued: u64,
    /// Distinct events answered ok.
    pub(super) acked: u64,
    /// Copies issued again.
    pub(super) again: u64,
}

impl Oracle {
    /// For a run with these events and groups; `latency` costs four bytes an event.
    #[must_use]
    pub fn new(events: Events, groups: &[&str], latency: bool) -> Self {
        let groups = groups
            .iter()
            .map(|name| Group {
                name: (*name).into(),
                ..Group::default()
            })
            .collect();
        Self {
            events,
            latency,
            origins: BTreeMap::new(),
            groups,
            again: 0,
        }
    }

    /// One more group, for a run that adds one. Returns its index for [`Oracle::take`].
    pub fn add_group(&mut self, name: &str) -> usize {
        self.groups.push(Group {
            name: name.into(),
            ..Group::default()
        });
        self.groups.len() - 1
    }

    /// What the events of the run look like.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// A gateway connection is about to send these events, for the first time (then `first` is where the
    /// last call ended) or again.
    pub fn issue(&mut self, origin: u32, first: u64, count: u64, now: Duration) {
        let micros = u32::try_from(now.as_micros()).unwrap_or(u32::MAX);
        let own = self.origins.entry(origin).or_default();
        for sequence in first..first + count {
            if sequence < own.issued {
                own.again.insert(sequence);
                self.again += 1;
            } else {
                own.issued = sequence + 1;
                if self.latency {
                    own.issued_micros.push(micros);
                }
            }
        }
    }

    /// A gateway takes these events for sent: they were answered ok (or the connection ended with FIN,
    /// which the gateways' agent takes for ok).
    pub fn ack(&mut self, origin: u32, first: u64, count: u64) {
        let own = self.origins.entry(origin).or_default();
        for sequence in first..first + count {
            own.acked.insert(sequence);
        }
    }

    /// An endpoint of the `group`-th group read one frame's events (with their length prefixes) from
    /// its connection `connection`, a number unique in the run, and answered it ok or not.
    pub fn take(&mut self, group: usize, connection: u64, events: &[u8], answered_ok: bool, now: Duration) {
        let Some(own) = self.groups.get_mut(group) else {
            return;
        };
        own.tally.frames += 1;
        for event in iterate(events) {
            own.tally.copies += 1;
            own.tally.copies_answered_ok += u64::from(answered_ok);
            let id = match self.events.verify(event.bytes()) {
                Ok(id) => id,
                Err(Corrupt::Differs(id)) => {
                    own.tally.corrupted.add(Some(id));
                    continue;
                }
                Err(Corrupt::Unreadable) => {
                    own.tally.corrupted.add(None);
                    continue;
                }
            };
            match self.origins.get(&id.origin).filter(|o| id.sequence < o.issued) {
                Some(origin) => own.take(id, connection, origin, now),
                None => own.tally.unexpected.add(Some(id)),
            }
        }
    }

    /// Distinct events answered ok to gateways so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.origins.values().map(|o| o.acked.count()).sum()
    }

    /// Distinct events received by a group so far.
    #[must_use]
    pub fn received(&self, group: usize) -> u64 {
        self.groups
            .get(group)
            .map_or(0, |g| g.received.values().map(Bits::count).sum())
    }

    /// Whether a group has received this event.
    #[must_use]
    pub fn has(&self, group: usize, id: Id) -> bool {
        let bits = self.groups.get(group).and_then(|g| g.received.get(&id.origin));
        bits.is_some_and(|b| b.contains(id.sequence))
    }

    /// Acknowledged events that a group has not received yet.
    #[must_use]
    pub fn missing(&self, group: usize) -> u64 {
        self.groups
            .get(group)
            .map_or(0, |g| g.lacks(&self.acknowledged()).count)
    }

    /// Compares everything with what weir counted; `None` = nothing stood between gateways and
    /// endpoints, so nothing may be missing at all. Call it at rest.
    #[must_use]
    pub fn verdict(&self, weir: Option<&WeirCounts>) -> Verdict {
        let acked = self.acknowledged();
        let entered = self.groups.iter().fold(acked.clone(), |mut all, group| {
            for (origin, bits) in &group.received {
                let sum = all.get(origin).map_or_else(|| bits.clone(), |b| b.union(bits));
                all.insert(*origin, sum);
            }
            all
        });
        let accounts = self.groups.iter().map(|g| {
            let missing = g.lacks(&acked);
            let mut split = g.lacks(&entered);
            split.count -= missing.count;
            split.examples.retain(|id| !missing.examples.contains(id));
            Account {
                name: g.name.clone(),
                tally: g.tally.clone(),
                distinct: g.received.values().map(Bits::count).sum(),
                missing,
                split,
                latency: g.latency.clone(),
            }
        });
        let issues = Issues {
            issued: self.origins.values().map(|o| o.issued).sum(),
            acked: self.acked(),
            again: self.again,
        };
        verdict::judge(issues, accounts.collect(), weir)
    }

    fn acknowledged(&self) -> BTreeMap<u32, Bits> {
        self.origins.iter().map(|(k, o)| (*k, o.acked.clone())).collect()
    }
}

impl Group {
    fn take(&mut self, id: Id, connection: u64, origin: &Origin, now: Duration) {
        if !self.received.entry(id.origin).or_default().insert(id.sequence) {
            self.tally.duplicated.add(Some(id));
        } else if let Some(issued) = usize::try_from(id.sequence)
            .ok()
            .and_then(|at| origin.issued_micros.get(at))
        {
            self.latency
                .record(now.saturating_sub(Duration::from_micros(u64::from(*issued))));
        }
        // An event the gateway sent twice has two right places.
        if origin.again.contains(id.sequence) {
            return;
        }
        let newest = self.newest.entry((id.origin, connection)).or_insert(id.sequence);
        if id.sequence < *newest {
            self.tally.reordered.add(Some(id));
        } else {
            *newest = id.sequence;
        }
    }

    /// What of `all` has not arrived here.
    fn lacks(&self, all: &BTreeMap<u32, Bits>) -> Finding {
        let mut found = Finding::default();
        let nothing = Bits::default();
        for (origin, bits) in all {
            let here = self.received.get(origin).unwrap_or(&nothing);
            let (count, examples) = bits.without(here, verdict::EXAMPLES_MAX);
            found.count += count;
            found.examples.extend(examples.into_iter().map(|sequence| Id {
                origin: *origin,
                sequence,
            }));
        }
        found.examples.truncate(verdict::EXAMPLES_MAX);
        found
    }
}
