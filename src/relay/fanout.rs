//! Every frame to every group: asks all for room, copies the events once, seals what has gathered.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;

use tokio::time::Instant;

use super::arena::Arena;
use super::group_queue::GroupQueue;
use super::line::Line;
use super::queue::{Limits, PARCEL_COST_BYTES, Room};
use super::receipt::{Receipt, Verdict};
use super::sealed::Sealed;
use crate::wire::Events;
use crate::wire::events::{Run, stream_of};

/// Open batches grow in buffers of this many times the largest batch.
const BUFFER_BATCHES: usize = 2;
type Groups = [Rc<GroupQueue>];

/// Some group has no room: try again when [called](Place::called), or at this time, when its patience ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// When the first patience ends; `None` = when called only.
    pub retry_at: Option<Instant>,
}

/// The way in.
#[derive(Debug, Clone)]
pub struct Fanout {
    shared: Rc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    groups: RefCell<Vec<Rc<GroupQueue>>>,
    open: RefCell<Open>,
    batch_max_bytes: Cell<usize>,
    /// Frames that wait for room.
    line: Line,
    unix_ms: fn() -> i64,
}

/// The batch that all groups share until it is sealed.
#[derive(Debug)]
struct Open {
    arena: Arena,
    events: usize,
    /// One bit a group (hence [`crate::config::GROUPS_MAX`]): who gets it. A frame for other groups than the last one starts a new batch.
    targets: u64,
    /// It is a single event that cannot be decoded.
    alone: bool,
    /// Its events are of the throttle stream.
    is_throttle: bool,
    accepted_at: Option<Instant>,
    oldest_event_ms: i64,
    receipts: Vec<Rc<Receipt>>,
}

impl Open {
    /// Whether these events may share a frame with it.
    fn goes_with(&self, run: &Run<'_>, targets: u64, batch_max: usize) -> bool {
        let bytes = run.events.bytes();
        self.events == 0
            || (self.targets == targets
                && self.arena.len() + bytes.len() <= batch_max
                && !run.alone
                && self.is_throttle == run.is_throttle
                && (run.is_throttle || stream_of(self.arena.open()) == stream_of(bytes)))
    }
}

impl Fanout {
    /// No groups yet. `unix_ms` tells the wall clock, for `max_age`.
    #[must_use]
    pub fn new(batch_max_bytes: usize, unix_ms: fn() -> i64) -> Self {
        let open = Open {
            arena: Arena::new(batch_max_bytes * BUFFER_BATCHES),
            events: 0,
            targets: 0,
            alone: false,
            is_throttle: false,
            accepted_at: None,
            oldest_event_ms: i64::MAX,
            receipts: Vec::new(),
        };
        Self {
            shared: Rc::new(Shared {
                groups: RefCell::default(),
                open: RefCell::new(open),
                batch_max_bytes: Cell::new(batch_max_bytes),
                line: Line::default(),
                unix_ms,
            }),
        }
    }

    /// A queue for a group that is not yet part of the fan-out.
    #[must_use]
    pub fn queue(&self, name: &str, limits: Limits) -> Rc<GroupQueue> {
        GroupQueue::new(name, limits, Rc::downgrade(&self.shared))
    }

    /// From now on every frame goes to exactly these.
    pub fn set_groups(&self, groups: Vec<Rc<GroupQueue>>) {
        self.shared.seal();
        *self.shared.groups.borrow_mut() = groups;
        self.shared.call_for_frames();
    }

    /// Largest batch from now on.
    pub fn set_batch_max_bytes(&self, bytes: usize) {
        self.shared.batch_max_bytes.set(bytes);
    }

    /// Takes a frame's events into all groups, or none. A frame that finds no room gets a `place` among those that
    /// wait, unless it has one, and is to be tried again with it.
    ///
    /// # Errors
    /// [`Full`] when some group makes gateways wait, or another frame waits since longer.
    pub fn admit(
        &self,
        batch: Events<'_>,
        now: Instant,
        receipt: Option<&Rc<Receipt>>,
        place: &mut Option<Place>,
    ) -> Result<(), Full> {
        let line = &self.shared.line;
        let full = if line.is_behind(place.as_ref().map(|p| p.number)) {
            Some(Full { retry_at: None })
        } else {
            self.try_admit(batch, now, receipt).err()
        };
        let Some(full) = full else {
            *place = None;
            return Ok(());
        };
        place.get_or_insert_with(|| Place {
            number: line.enter(),
            shared: Rc::clone(&self.shared),
        });
        Err(full)
    }

    fn try_admit(&self, batch: Events<'_>, now: Instant, receipt: Option<&Rc<Receipt>>) -> Result<(), Full> {
        let first = batch.split(self.shared.batch_max_bytes.get());
        let (events, bytes) = (
            batch.count(),
            batch.bytes().len() + self.shared.extra_cost(first.1),
        );
        let groups = self.shared.groups.borrow();
        let mut targets = 0_u64;
        let mut all_have_room = true;
        let mut full: Option<Full> = None;
        for (i, group) in groups.iter().enumerate() {
            match group.core().borrow_mut().ask(events, bytes, now) {
                Room::Take => targets |= 1 << i,
                Room::TakeInstead => {
                    targets |= 1 << i;
                    all_have_room = false;
                }
                Room::Skip => all_have_room = false,
                Room::Wait(at) => full = Some(earliest(full, at)),
            }
        }
        if let Some(full) = full {
            return Err(full);
        }
        if !all_have_room {
            self.shared.give_up(&groups, targets, events, bytes, receipt);
        }
        if targets != 0 {
            self.shared.gather(&groups, first, targets, now, receipt);
        }
        Ok(())
    }

    /// Seals the open batch, so that it can be counted or taken.
    pub fn seal(&self) {
        self.shared.seal();
    }
}

/// A frame's place among those that wait for room. Whoever gives it up lets the next one try.
#[derive(Debug)]
pub struct Place {
    shared: Rc<Shared>,
    number: u64,
}

impl Place {
    /// Resolves when the frame should be tried again.
    pub async fn called(&self) {
        poll_fn(|cx| self.shared.line.poll(self.number, cx.waker())).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.shared.line.leave(self.number) {
            for group in self.shared.groups.borrow().iter() {
                group.core().borrow_mut().forget_waiting();
            }
            self.shared.line.call_first();
        }
    }
}

/// The earlier of two times, where `None` is never.
fn earliest(so_far: Option<Full>, at: Option<Instant>) -> Full {
    let retry_at = match (so_far.and_then(|f| f.retry_at), at) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Full { retry_at }
}

impl Shared {
    pub(super) fn unix_ms(&self) -> i64 {
        (self.unix_ms)()
    }

    /// When the open batch took its first event.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.open.borrow().accepted_at
    }

    /// How many frames wait for the end of the open batch.
    pub(super) fn open_frames(&self) -> usize {
        self.open.borrow().receipts.len()
    }

    pub(super) fn call_for_frames(&self) {
        self.line.call_first();
    }

    pub(super) fn seal(&self) {
        self.seal_for(&self.groups.borrow(), false);
    }

    /// What a frame costs without room: the oldest events, or (outside `targets`) the frame's own.
    fn give_up(
        &self,
        groups: &Groups,
        targets: u64,
        events: usize,
        bytes: usize,
        receipt: Option<&Rc<Receipt>>,
    ) {
        for (i, group) in groups.iter().enumerate() {
            if targets & (1 << i) != 0 {
                let enough = group.core().borrow_mut().shed_for(events, bytes);
                if !enough {
                    self.seal_for(groups, false);
                    group.core().borrow_mut().shed_for(events, bytes);
                }
            } else {
                let mut queue = group.core().borrow_mut();
                queue.skip(events);
                if let (Some(receipt), true) = (receipt, queue.holds_answers()) {
                    receipt.hold();
                    receipt.end_one(Verdict::GivenUp);
                }
            }
        }
    }

    /// What the batches cost that the rest of a frame needs beside the first one: a frame that changes streams with every
    /// event must not hold more memory than it is charged for.
    fn extra_cost(&self, mut rest: Events<'_>) -> usize {
        let mut cost = 0;
        while rest.count() > 0 {
            (_, rest) = rest.split(self.batch_max_bytes.get());
            cost += PARCEL_COST_BYTES;
        }
        cost
    }

    /// Copies a frame's events, cut into runs, into the open batch of `targets`; larger ones are cut at event
    /// borders, and all where the stream changes.
    fn gather(
        &self,
        groups: &Groups,
        (mut run, mut rest): (Run<'_>, Events<'_>),
        targets: u64,
        now: Instant,
        receipt: Option<&Rc<Receipt>>,
    ) {
        let batch_max = self.batch_max_bytes.get();
        // Where no group holds the answer, it need not wait until somebody seals the batch.
        let receipt = receipt.filter(|_| chosen(groups, targets).any(|g| g.core().borrow().holds_answers()));
        loop {
            let (events, bytes) = (run.events.count(), run.events.bytes());
            if !self.open.borrow().goes_with(&run, targets, batch_max) {
                self.seal_for(groups, true);
                ring(groups, targets);
            } else if !self.open.borrow().arena.fits(bytes.len()) {
                // Its buffer is at its end. What comes may still share a frame with it.
                self.seal_for(groups, false);
            }
            let mut open = self.open.borrow_mut();
            let first = open.events == 0;
            open.arena.extend(bytes);
            open.events += events;
            open.targets = targets;
            open.alone = run.alone;
            open.is_throttle = run.is_throttle;
            open.accepted_at.get_or_insert(now);
            open.oldest_event_ms = open.oldest_event_ms.min(run.oldest_ms);
            if let Some(receipt) = receipt {
                receipt.hold();
                open.receipts.push(Rc::clone(receipt));
            }
            let is_done = run.alone || open.arena.len() >= batch_max - batch_max / 8;
            drop(open);
            for group in chosen(groups, targets) {
                let enough = group.core().borrow_mut().reserve(&run, now);
                if enough && !first && !is_done {
                    group.bell().ring_one();
                }
            }
            if is_done {
                self.seal_for(groups, true);
            }
            if first || is_done {
                ring(groups, targets);
            }
            if rest.count() == 0 {
                return;
            }
            (run, rest) = rest.split(batch_max);
        }
    }

    /// `complete`: nothing that is to come could share a frame with the open batch.
    fn seal_for(&self, groups: &Groups, complete: bool) {
        let mut open = self.open.borrow_mut();
        let Some(accepted_at) = open.accepted_at.take() else {
            return;
        };
        let bytes = open.arena.seal();
        let events = std::mem::take(&mut open.events);
        let targets = std::mem::take(&mut open.targets);
        let oldest_ms = std::mem::replace(&mut open.oldest_event_ms, i64::MAX);
        let alone = open.alone;
        let receipts = std::mem::take(&mut open.receipts);
        drop(open);
        let holding = chosen(groups, targets)
            .filter(|g| g.core().borrow().holds_answers())
            .count();
        let holding = u32::try_from(holding).unwrap_or(u32::MAX);
        let sealed = Sealed::new(bytes, events, alone, accepted_at, oldest_ms, holding, receipts);
        for group in chosen(groups, targets) {
            group.put(Rc::clone(&sealed), complete);
        }
    }
}

fn chosen(groups: &Groups, targets: u64) -> impl Iterator<Item = &Rc<GroupQueue>> {
    groups
        .iter()
        .enumerate()
        .filter(move |(i, _)| targets & (1 << i) != 0)
        .map(|(_, g)| g)
}

fn ring(groups: &Groups, targets: u64) {
    for group in chosen(groups, targets) {
        group.bell().ring_one();
    }
}
