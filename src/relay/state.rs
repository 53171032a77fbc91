//! [`State`]: the whole relay of one worker as a state machine. Pure: time is an argument, and what it returns says who
//! is to be woken.

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::arena::Arena;
use super::batch::{BATCH_COST_BYTES, Batch};
use super::queue::{Admission, Limits, Offer, Outcome, Queue, Reason};
use super::receipts::{ReceiptId, Receipts, Verdict};
use crate::status;
use crate::wire::Events;
use crate::wire::events::{Run, stream_of};

pub(super) type GroupId = usize;
pub(super) type PlaceId = u64;

/// Open batches grow in buffers of this many times the largest batch.
const BUFFER_BATCHES: usize = 2;

/// Error replies after which a single event is rejected for good, so that it is not sent for ever.
const ERRORS_MAX: u8 = 3;

/// Emptied lists of batches that are kept for the next deliveries.
const SPARE_MAX: usize = 64;

/// Some group makes the frame wait: try again when its [place](super::Place) is called, or at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// When the first of these groups begins to shed; `None` = when called only.
    pub retry_at: Option<Instant>,
}

/// Who is to be woken after an operation.
#[must_use = "a task that is not woken may wait for ever"]
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Wake {
    /// One waiting link of each of these groups: bit n stands for group n, and bit 63 for all from 63 on.
    links: u64,
    /// The frame at this place.
    pub(super) frame: Option<PlaceId>,
    /// Who waits for these.
    pub(super) receipts: Vec<ReceiptId>,
}

impl Wake {
    pub(super) fn is_empty(&self) -> bool {
        self.links == 0 && self.frame.is_none() && self.receipts.is_empty()
    }

    fn add_link(&mut self, group: GroupId) {
        self.links |= 1 << group.min(63);
    }

    /// The groups below `count` of which a link is to be woken.
    pub(super) fn links(&self, count: usize) -> impl Iterator<Item = GroupId> + use<> {
        let links = self.links;
        (0..count).filter(move |group| links & (1 << (*group).min(63)) != 0)
    }
}

/// See the [module](super).
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct State {
    queues: Slab<Queue>,
    /// The groups that frames go to. A bit of a `targets` is an index of it.
    destinations: Vec<GroupId>,
    open: Open,
    batch_max_bytes: usize,
    line: Line,
    receipts: Receipts,
    /// Emptied lists, to be filled again.
    spare: Vec<Vec<Batch>>,
    /// What the current operation has found to be woken.
    wake: Wake,
}

impl State {
    pub(super) fn new(batch_max_bytes: usize) -> Self {
        Self {
            queues: Slab::new(),
            destinations: Vec::new(),
            open: Open::new(batch_max_bytes),
            batch_max_bytes,
            line: Line::default(),
            receipts: Receipts::default(),
            spare: Vec::new(),
            wake: Wake::default(),
        }
    }

    // === Groups ===

    /// A queue for a group that frames do not go to yet.
    pub(super) fn add_group(&mut self, limits: Limits) -> GroupId {
        self.queues.insert(Queue::new(limits))
    }

    /// The group is gone; none of its deliveries is out. What is queued is dropped.
    pub(super) fn remove_group(&mut self, group: GroupId) -> Wake {
        self.seal(false);
        self.destinations.retain(|g| *g != group);
        self.queues
            .remove(group)
            .drop_queued(Reason::GroupRemoved, &mut self.receipts);
        self.call_frame();
        self.woken()
    }

    /// From now on every frame goes to exactly these, at most [`GROUPS_MAX`](crate::config::GROUPS_MAX).
    pub(super) fn set_destinations(&mut self, groups: Vec<GroupId>) -> Wake {
        self.seal(false);
        self.destinations = groups;
        self.call_frame();
        self.woken()
    }

    pub(super) fn set_batch_max_bytes(&mut self, bytes: usize) {
        self.batch_max_bytes = bytes;
    }

    pub(super) fn set_limits(&mut self, group: GroupId, limits: Limits) -> Wake {
        self.queues[group].set_limits(limits);
        self.call_frame();
        self.woken()
    }

    /// Neither gateways nor receipts wait for an unavailable group.
    pub(super) fn set_available(&mut self, group: GroupId, available: bool) -> Wake {
        if !available {
            self.seal_open(group);
        }
        self.queues[group].set_available(available, &mut self.receipts);
        self.call_frame();
        self.woken()
    }

    /// No receipt waits for a silent group, until one of its batches is answered.
    pub(super) fn set_silent(&mut self, group: GroupId, silent: bool) -> Wake {
        if silent {
            self.seal_open(group);
        }
        self.queues[group].set_silent(silent, &mut self.receipts);
        self.woken()
    }

    /// Drops what is queued.
    pub(super) fn drop_queued(&mut self, group: GroupId, reason: Reason) -> Wake {
        self.seal_open(group);
        self.queues[group].drop_queued(reason, &mut self.receipts);
        self.call_frame();
        self.woken()
    }

    // === Frames coming in ===

    /// Takes a frame's events into all groups, or into none. A frame that has to wait gets a `place` among the waiting
    /// ones, unless it has one, and is to be tried again with it. Returns the receipt, if the caller `wants_receipt`.
    pub(super) fn admit(
        &mut self,
        events: Events<'_>,
        now: Instant,
        wants_receipt: bool,
        place: &mut Option<PlaceId>,
    ) -> Result<(Option<ReceiptId>, Wake), Full> {
        match self.try_admit(events, now, wants_receipt, *place) {
            Ok(receipt) => {
                if let Some(place) = place.take() {
                    self.leave_line(place);
                }
                Ok((receipt, self.woken()))
            }
            Err(full) => {
                place.get_or_insert_with(|| self.line.enter());
                Err(full)
            }
        }
    }

    fn try_admit(
        &mut self,
        events: Events<'_>,
        now: Instant,
        wants_receipt: bool,
        place: Option<PlaceId>,
    ) -> Result<Option<ReceiptId>, Full> {
        if self.line.is_behind(place) {
            return Err(Full { retry_at: None });
        }
        self.line.called = false;
        let (first, rest) = events.split(self.batch_max_bytes);
        let (count, bytes) = (events.count(), events.bytes().len() + self.extra_cost(rest));
        let (mut targets, mut all_fit, mut full) = (0_u64, true, None);
        for (i, group) in self.destinations.iter().enumerate() {
            match self.queues[*group].ask(count, bytes, now) {
                Admission::Fits => targets |= 1 << i,
                Admission::ReplacesOldest => {
                    targets |= 1 << i;
                    all_fit = false;
                }
                Admission::Dropped => all_fit = false,
                Admission::Waits(at) => full = Some(earliest(full, at)),
            }
        }
        if let Some(full) = full {
            return Err(full);
        }
        let receipt = wants_receipt.then(|| self.receipts.open());
        if !all_fit {
            self.shed(targets, count, bytes, receipt);
        }
        if targets != 0 {
            self.gather(first, rest, targets, now, receipt);
        }
        if let Some(receipt) = receipt {
            self.receipts.end_one(receipt, Verdict::Settled);
        }
        Ok(receipt)
    }

    /// What the further batches of a frame cost: one that changes streams with every event must not hold more memory
    /// than it is charged for.
    fn extra_cost(&self, mut rest: Events<'_>) -> usize {
        let mut cost = 0;
        while rest.count() > 0 {
            (_, rest) = rest.split(self.batch_max_bytes);
            cost += BATCH_COST_BYTES;
        }
        cost
    }

    /// Drops the oldest events of `targets`, and the frame itself for the other groups.
    fn shed(&mut self, targets: u64, events: usize, bytes: usize, receipt: Option<ReceiptId>) {
        for i in 0..self.destinations.len() {
            let group = self.destinations[i];
            if targets & (1 << i) != 0 {
                if !self.queues[group].shed_for(events, bytes, &mut self.receipts) {
                    self.seal(false);
                    self.queues[group].shed_for(events, bytes, &mut self.receipts);
                }
                continue;
            }
            let queue = &mut self.queues[group];
            queue.drop_frame(events);
            if let Some(receipt) = receipt.filter(|_| queue.holds_replies()) {
                self.receipts.hold(receipt);
                self.receipts.end_one(receipt, Verdict::GivenUp);
            }
        }
    }

    /// Copies a frame's events into the open batch of `targets`, cut where the stream changes and where a batch is full.
    fn gather<'a>(
        &mut self,
        mut run: Run<'a>,
        mut rest: Events<'a>,
        targets: u64,
        now: Instant,
        receipt: Option<ReceiptId>,
    ) {
        // If no group holds replies, the receipt need not wait until the batch is sealed.
        let holds = |i: usize| self.queues[self.destinations[i]].holds_replies();
        let receipt = receipt.filter(|_| bits(targets).any(holds));
        loop {
            if !self.open.takes(&run, targets, self.batch_max_bytes) {
                self.seal(true);
            } else if !self.open.arena.fits(run.events.bytes().len()) {
                // Its buffer is used up. Later events may still share a frame with it.
                self.seal(false);
            }
            let first = self.open.events == 0;
            self.open.add(&run, targets, now);
            if let Some(receipt) = receipt {
                self.receipts.hold(receipt);
                self.open.receipts.push(receipt);
            }
            for i in bits(targets) {
                let group = self.destinations[i];
                if self.queues[group].reserve(&run, now) || first {
                    self.wake.add_link(group);
                }
            }
            if run.alone || self.open.arena.len() >= self.batch_max_bytes - self.batch_max_bytes / 8 {
                self.seal(true);
            }
            if rest.count() == 0 {
                return;
            }
            (run, rest) = rest.split(self.batch_max_bytes);
        }
    }

    /// Seals the open batch if it has events of this group.
    fn seal_open(&mut self, group: GroupId) {
        if self.queues[group].has_open() {
            self.seal(false);
        }
    }

    /// Puts the open batch into the queues. `complete`: no later event could share a frame with it.
    pub(super) fn seal(&mut self, complete: bool) {
        let Some((batch, receipts)) = self.open.seal(complete) else {
            return;
        };
        let targets = std::mem::take(&mut self.open.targets);
        let list = if receipts.is_empty() {
            None
        } else {
            let holds = |i: &usize| self.queues[self.destinations[*i]].holds_replies();
            let holders = bits(targets).filter(holds).count();
            self.receipts.list(receipts, holders)
        };
        for i in bits(targets) {
            let group = self.destinations[i];
            let queue = &mut self.queues[group];
            queue.put(Batch {
                bytes: batch.bytes.clone(),
                receipts: list.filter(|_| queue.holds_replies()),
                ..batch
            });
            if complete {
                self.wake.add_link(group);
            }
        }
    }

    // === Waiting frames ===

    /// Gives up the place of a frame.
    pub(super) fn leave(&mut self, place: PlaceId) -> Wake {
        self.leave_line(place);
        self.woken()
    }

    fn leave_line(&mut self, place: PlaceId) {
        if self.line.leave(place) {
            for group in &self.destinations {
                self.queues[*group].forget_waiting();
            }
            self.call_frame();
        }
    }

    /// Whether the frame should be tried again.
    pub(super) fn is_called(&self, place: PlaceId) -> bool {
        self.line.is_called(place)
    }

    fn call_frame(&mut self) {
        self.wake.frame = self.line.call();
    }

    fn call_frame_if_it_fits(&mut self, group: GroupId) {
        if self.queues[group].fits_waiting() {
            self.call_frame();
        }
    }

    // === Deliveries ===

    /// What waits for a link of the group.
    pub(super) fn offer(&self, group: GroupId, now: Instant, linger: Duration) -> Offer {
        self.queues[group].offer(now, linger)
    }

    /// Whether what is queued gains nothing by waiting.
    pub(super) fn has_gathered(&self, group: GroupId) -> bool {
        self.queues[group].has_gathered()
    }

    /// Whether something is queued, whenever it is due.
    pub(super) fn has_queued(&self, group: GroupId) -> bool {
        self.queues[group].has_sealed() || self.queues[group].has_open()
    }

    /// Gateways' frames whose replies depend on what is queued; of many, some.
    pub(super) fn frames(&self, group: GroupId) -> usize {
        let queue = &self.queues[group];
        let open = if queue.has_open() {
            self.open.receipts.len()
        } else {
            0
        };
        queue.sealed_frames() + open
    }

    /// Takes the batches of the next frame: the oldest one, and those behind it that may share a frame of `bytes_max`
    /// with it. None when nothing is queued.
    pub(super) fn take(
        &mut self,
        group: GroupId,
        bytes_max: usize,
        now: Instant,
        unix_ms: impl Fn() -> i64,
    ) -> (Vec<Batch>, Wake) {
        let mut batches = Vec::new();
        let mut first = self.queues[group].take(now, &unix_ms, &mut self.receipts, |_| true);
        if first.is_none() {
            // Also where all sealed batches were over age: no link is woken again for events in the open one.
            self.seal_open(group);
            first = self.queues[group].take(now, &unix_ms, &mut self.receipts, |_| true);
        }
        if let Some(first) = first {
            batches = self.spare.pop().unwrap_or_default();
            let mut bytes = first.bytes.len();
            batches.push(first);
            while let Some(next) =
                self.take_beside(group, &batches[0], bytes_max.saturating_sub(bytes), now, &unix_ms)
            {
                bytes += next.bytes.len();
                batches.push(next);
            }
        }
        // Events over age free capacity although no delivery ends.
        self.call_frame_if_it_fits(group);
        (batches, self.woken())
    }

    /// The oldest batch, if it may share a frame with `first` and is not larger than `bytes_max`.
    fn take_beside(
        &mut self,
        group: GroupId,
        first: &Batch,
        bytes_max: usize,
        now: Instant,
        unix_ms: impl Fn() -> i64,
    ) -> Option<Batch> {
        let wanted = |batch: &Batch| batch.bytes.len() <= bytes_max && first.shares_frame_with(batch);
        let beside = self.queues[group].take(now, &unix_ms, &mut self.receipts, wanted);
        if beside.is_some() || first.complete || self.queues[group].has_sealed() {
            return beside;
        }
        // Another group's link has sealed it before it was complete: the rest of it is open.
        self.seal_open(group);
        self.queues[group].take(now, &unix_ms, &mut self.receipts, wanted)
    }

    /// The batches of one frame end, all in the same way.
    pub(super) fn end(&mut self, group: GroupId, mut batches: Vec<Batch>, outcome: Outcome) -> Wake {
        for batch in batches.drain(..) {
            self.queues[group].end(batch, outcome, &mut self.receipts);
        }
        self.keep_list(batches);
        self.call_frame_if_it_fits(group);
        self.woken()
    }

    /// The frame was answered with an error that is not about the session. Its batches return to the queue, to be sent
    /// alone; a batch that was alone already returns in halves. A single event is rejected after its third such reply.
    /// Returns how many events were rejected.
    pub(super) fn end_with_error(&mut self, group: GroupId, mut batches: Vec<Batch>) -> (usize, Wake) {
        let queue = &mut self.queues[group];
        let was_alone = batches.len() == 1;
        let mut rejected = 0;
        while let Some(mut batch) = batches.pop() {
            if was_alone && batch.events > 1 {
                queue.return_halves(batch, &mut self.receipts);
                continue;
            }
            batch.alone = true;
            batch.errors += u8::from(was_alone);
            if batch.errors >= ERRORS_MAX {
                rejected += batch.events;
                queue.end(batch, Outcome::Rejected, &mut self.receipts);
            } else {
                queue.return_whole(batch, &mut self.receipts);
            }
        }
        self.keep_list(batches);
        self.wake.add_link(group);
        self.call_frame_if_it_fits(group);
        (rejected, self.woken())
    }

    /// Unanswered: the batches of one frame return to the front of the queue, in order. Of several frames, the last one
    /// first.
    pub(super) fn end_unanswered(&mut self, group: GroupId, mut batches: Vec<Batch>) -> Wake {
        while let Some(batch) = batches.pop() {
            self.queues[group].return_whole(batch, &mut self.receipts);
        }
        self.keep_list(batches);
        self.wake.add_link(group);
        self.woken()
    }

    /// Receipts no longer wait for these batches.
    pub(super) fn release(&mut self, batches: &mut [Batch]) -> Wake {
        for batch in batches {
            batch.release(Verdict::Settled, &mut self.receipts);
        }
        self.woken()
    }

    fn keep_list(&mut self, list: Vec<Batch>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(list);
        }
    }

    // === Receipts ===

    /// The verdict, once there is one.
    pub(super) fn verdict(&self, receipt: ReceiptId) -> Option<Verdict> {
        self.receipts.verdict(receipt)
    }

    /// The session no longer waits for it.
    pub(super) fn forget_receipt(&mut self, receipt: ReceiptId) {
        self.receipts.forget(receipt);
    }

    // === Numbers ===

    /// Nothing queued, nothing in flight.
    pub(super) fn is_empty(&self, group: GroupId) -> bool {
        self.queues[group].is_empty()
    }

    /// The group's numbers, without names and endpoints.
    pub(super) fn status(&self, group: GroupId, now: Instant) -> status::Group {
        self.queues[group].status(now)
    }

    fn woken(&mut self) -> Wake {
        Wake {
            links: std::mem::take(&mut self.wake.links),
            frame: self.wake.frame.take(),
            receipts: self.receipts.take_resolved(),
        }
    }

    #[cfg(test)]
    pub(super) fn has_receipts(&self) -> bool {
        !self.receipts.is_empty()
    }

    #[cfg(test)]
    pub(super) fn first_place(&self) -> Option<PlaceId> {
        self.line.places.front().copied()
    }
}

/// The batch that all groups share until it is sealed.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Open {
    arena: Arena,
    events: usize,
    /// The groups that get it. A frame for other groups starts a new batch.
    targets: u64,
    /// It is a single event that cannot be decoded.
    alone: bool,
    /// Its events are of the throttle stream.
    is_throttle: bool,
    accepted_at: Option<Instant>,
    oldest_event_ms: i64,
    receipts: Vec<ReceiptId>,
}

impl Open {
    fn new(batch_max_bytes: usize) -> Self {
        Self {
            arena: Arena::new(batch_max_bytes * BUFFER_BATCHES),
            events: 0,
            targets: 0,
            alone: false,
            is_throttle: false,
            accepted_at: None,
            oldest_event_ms: i64::MAX,
            receipts: Vec::new(),
        }
    }

    /// Whether these events may be added to it.
    fn takes(&self, run: &Run<'_>, targets: u64, batch_max: usize) -> bool {
        let bytes = run.events.bytes();
        self.events == 0
            || (self.targets == targets
                && self.arena.len() + bytes.len() <= batch_max
                && !run.alone
                && self.is_throttle == run.is_throttle
                && (run.is_throttle || stream_of(self.arena.open()) == stream_of(bytes)))
    }

    fn add(&mut self, run: &Run<'_>, targets: u64, now: Instant) {
        self.arena.extend(run.events.bytes());
        self.events += run.events.count();
        self.targets = targets;
        self.alone = run.alone;
        self.is_throttle = run.is_throttle;
        self.accepted_at.get_or_insert(now);
        self.oldest_event_ms = self.oldest_event_ms.min(run.oldest_ms);
    }

    /// Ends it: what each group gets, and the receipts that wait for it. `None` when it is empty.
    fn seal(&mut self, complete: bool) -> Option<(Batch, Vec<ReceiptId>)> {
        let accepted_at = self.accepted_at.take()?;
        let receipts = std::mem::take(&mut self.receipts);
        let batch = Batch {
            bytes: self.arena.seal(),
            events: std::mem::take(&mut self.events),
            accepted_at,
            oldest_event_ms: std::mem::replace(&mut self.oldest_event_ms, i64::MAX),
            frames: receipts.len(),
            receipts: None,
            errors: 0,
            alone: self.alone,
            complete,
        };
        Some((batch, receipts))
    }
}

/// Frames that wait for capacity, in the order in which they came. Only the first may ask for it, so that small frames
/// do not overtake a large one for ever.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Line {
    places: VecDeque<PlaceId>,
    next: PlaceId,
    /// The first should ask again.
    called: bool,
}

impl Line {
    fn enter(&mut self) -> PlaceId {
        let place = self.next;
        self.next += 1;
        self.places.push_back(place);
        place
    }

    /// Whether another frame waits before this place, or before one that is yet to be taken.
    fn is_behind(&self, place: Option<PlaceId>) -> bool {
        self.places.front().is_some_and(|first| place != Some(*first))
    }

    /// Gives a place up; returns whether it was the first.
    fn leave(&mut self, place: PlaceId) -> bool {
        let at = self.places.iter().position(|p| *p == place);
        at.is_some_and(|at| self.places.remove(at).is_some() && at == 0)
    }

    /// The first frame should ask again: which one that is.
    fn call(&mut self) -> Option<PlaceId> {
        self.called = !self.places.is_empty();
        self.places.front().copied()
    }

    fn is_called(&self, place: PlaceId) -> bool {
        match self.is_behind(Some(place)) {
            false => self.called || self.places.is_empty(),
            true => !self.places.contains(&place),
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

/// The positions of the bits that are set.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit as usize)
    })
}
