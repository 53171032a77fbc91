//! One group's queue of sealed batches, bounded by events and by bytes. Pure: time is an argument.
//!
//! Three states: open; blocking (full: gateways wait, for at most `block_timeout` an incident); shedding
//! (patience is over, or the group is unavailable: events go, counted). Back to open when half empty, unless a frame
//! waits that needs more.
//! Events written to a Traffic Manager and unanswered still hold their room.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::age::AgeLimits;
use super::linger::WORTH_A_FRAME;
use super::receipt::Verdict;
use super::sealed::Sealed;
use crate::config;
use crate::status::{Events, Overflow};
use crate::wire::events::{EVENT_PREFIX_BYTES, Run, iterate, stream_of};

/// What a batch costs beside its bytes: bookkeeping in queue and ledger.
pub const PARCEL_COST_BYTES: usize = 128;

/// How much one queue may hold, and its manners when it is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Events queued and in flight.
    pub events_max: usize,
    /// Bytes queued and in flight.
    pub bytes_max: usize,
    /// Patience per incident; `None` = for ever.
    pub block_timeout: Option<Duration>,
    /// Which events go when patience is over.
    pub shed: config::Shed,
    /// Limits of age.
    pub age: AgeLimits,
}

impl Limits {
    /// A worker's share of a group's limits.
    #[must_use]
    pub fn share(queue: &config::Queue, workers: usize) -> Self {
        let workers = workers.max(1);
        Self {
            events_max: (queue.events_max / workers).max(1),
            bytes_max: (queue.bytes_max / workers).max(1),
            block_timeout: queue.block_timeout,
            shed: queue.shed,
            age: AgeLimits::new(queue.max_age, &queue.max_age_streams),
        }
    }
}

/// Why events were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Full for longer than `block_timeout`.
    QueueFull,
    /// Full while unavailable.
    Unavailable,
    /// Over `max_age`.
    MaxAge,
    /// Left at the end of a drain.
    DrainTimeout,
    /// The group was removed.
    GroupRemoved,
    /// A parcel was dropped without a verdict: a defect.
    Lost,
}

/// How some events of a group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    Rejected,
    Dropped(Reason),
}

impl Outcome {
    fn verdict(self) -> Verdict {
        match self {
            Outcome::Delivered
            | Outcome::Rejected
            | Outcome::Dropped(Reason::MaxAge | Reason::GroupRemoved) => Verdict::Settled,
            Outcome::Dropped(_) => Verdict::GivenUp,
        }
    }
}

/// The answer to "is there room for a frame?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Yes.
    Take,
    /// Yes, at the cost of the oldest: [`Queue::shed_for`] first.
    TakeInstead,
    /// No, and it is not waited for: the events are dropped for this group.
    Skip,
    /// Not now; ask again when room is freed, or at this time.
    Wait(Option<Instant>),
}

/// A sealed batch in one group's queue, or out of it in a parcel.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) sealed: Rc<Sealed>,
    /// The batch's bytes, or what `max_age` left of them.
    pub(super) bytes: Bytes,
    pub(super) events: usize,
    /// Error replies that this load, a single event, has met.
    pub(super) refusals: u8,
    /// It shares no frame with others.
    pub(super) alone: bool,
    /// It waits for nothing to share a frame with: nothing can come, or it was out already.
    pub(super) complete: bool,
    /// Whether it still holds the batch's receipts back.
    pub(super) holding: bool,
}

impl Load {
    fn cost_bytes(&self) -> usize {
        self.bytes.len() + PARCEL_COST_BYTES
    }

    /// Whether both may travel in one frame: a receiver that cannot decode one event drops its whole frame.
    pub(super) fn goes_with(&self, other: &Load) -> bool {
        !self.alone && !other.alone && stream_of(&self.bytes) == stream_of(&other.bytes)
    }

    /// Two loads of half the events each, in order.
    fn halves(mut self) -> (Load, Load) {
        let front_events = self.events / 2;
        let cut = iterate(&self.bytes)
            .take(front_events)
            .map(|e| EVENT_PREFIX_BYTES + e.bytes().len())
            .sum();
        if self.holding {
            self.sealed.hold();
        }
        let back = Load {
            sealed: Rc::clone(&self.sealed),
            bytes: self.bytes.split_off(cut),
            events: self.events - front_events,
            ..self
        };
        self.events = front_events;
        (self, back)
    }

    /// The receipts wait for this load no longer.
    pub(super) fn let_go(&mut self, verdict: Verdict) {
        if std::mem::take(&mut self.holding) {
            self.sealed.release(verdict);
        }
    }
}

#[derive(Debug)]
enum State {
    Open,
    Blocking { since: Instant },
    Shedding,
}

#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    loads: VecDeque<Load>,
    /// Events of this group in the open batch.
    open_events: usize,
    /// When the first of them was accepted.
    open_since: Instant,
    queued_events: usize,
    inflight_events: usize,
    /// Queued and in flight, the open batch included.
    held_bytes: usize,
    inflight_bytes: usize,
    available: bool,
    /// It is available, but its Traffic Managers have not answered for `unavailable_after`.
    silent: bool,
    /// Events and bytes of the first frame that waits, while it finds no room here.
    waiting: Option<(usize, usize)>,
    state: State,
    totals: Events,
    blocked_incidents: u64,
    shed_incidents: u64,
    resent_events: u64,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            loads: VecDeque::new(),
            open_events: 0,
            open_since: Instant::now(),
            queued_events: 0,
            inflight_events: 0,
            held_bytes: 0,
            inflight_bytes: 0,
            available: true,
            silent: false,
            waiting: None,
            state: State::Open,
            totals: Events::default(),
            blocked_incidents: 0,
            shed_incidents: 0,
            resent_events: 0,
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.relax();
    }

    /// Whether a frame may enter, and the change of state that the question brings with it. While one waits no other
    /// may ask.
    pub(super) fn ask(&mut self, events: usize, bytes: usize, now: Instant) -> Room {
        self.waiting = None;
        if self.fits(events, bytes) {
            return Room::Take;
        }
        let patience = match (&self.state, self.limits.block_timeout) {
            _ if !self.available => Some(now),
            (State::Shedding, Some(_)) | (State::Open, Some(Duration::ZERO)) => Some(now),
            // A strict group that shed while it was unavailable blocks again.
            (State::Open | State::Shedding, timeout) => {
                self.state = State::Blocking { since: now };
                self.blocked_incidents += 1;
                timeout.map(|t| now + t)
            }
            (State::Blocking { since }, timeout) => timeout.map(|t| *since + t),
        };
        if patience.is_none_or(|until| until > now) {
            self.waiting = Some((events, bytes));
            return Room::Wait(patience);
        }
        if !matches!(self.state, State::Shedding) {
            self.state = State::Shedding;
            self.shed_incidents += 1;
        }
        match self.limits.shed {
            config::Shed::Oldest if self.fits_without_queued(events, bytes) => Room::TakeInstead,
            _ => Room::Skip,
        }
    }

    /// Makes room by dropping from the front; false when the sealed loads are used up and it is not enough.
    pub(super) fn shed_for(&mut self, events: usize, bytes: usize) -> bool {
        while !self.fits(events, bytes) {
            let Some(load) = self.loads.pop_front() else {
                return false;
            };
            let reason = self.shed_reason();
            self.queued_events -= load.events;
            self.finish(load, Outcome::Dropped(reason));
        }
        true
    }

    /// A run of events goes into the open batch. Returns whether what waits is worth a frame from now on.
    pub(super) fn reserve(&mut self, run: &Run<'_>, now: Instant) -> bool {
        let (events, bytes) = (run.events.count(), run.events.bytes().len());
        let little = self.queued_events < WORTH_A_FRAME;
        if self.open_events == 0 {
            self.held_bytes += PARCEL_COST_BYTES;
            self.open_since = now;
            if let Some(back) = self.loads.back_mut() {
                back.complete |= run.alone || stream_of(&back.bytes) != stream_of(run.events.bytes());
            }
        }
        self.totals.accepted += events as u64;
        self.open_events += events;
        self.queued_events += events;
        self.held_bytes += bytes;
        little && self.queued_events >= WORTH_A_FRAME
    }

    /// A frame is accepted and dropped at once.
    pub(super) fn skip(&mut self, events: usize) {
        self.totals.accepted += events as u64;
        self.count(events, Outcome::Dropped(self.shed_reason()));
    }

    /// The open batch, sealed.
    pub(super) fn put(&mut self, sealed: Rc<Sealed>, complete: bool) {
        let load = Load {
            bytes: sealed.bytes.clone(),
            events: sealed.events,
            refusals: 0,
            alone: sealed.alone,
            complete,
            holding: self.holds_answers(),
            sealed,
        };
        debug_assert_eq!(
            self.open_events, load.events,
            "what was reserved is what is sealed"
        );
        self.open_events = 0;
        self.loads.push_back(load);
    }

    /// The oldest load, out to a link, if it `suits`; events over age end here.
    pub(super) fn take(&mut self, now_ms: impl Fn() -> i64, suits: impl Fn(&Load) -> bool) -> Option<Load> {
        let strictest = self.limits.age.strictest_ms();
        loop {
            if !suits(self.loads.front()?) {
                return None;
            }
            let mut load = self.loads.pop_front()?;
            if let Some(limit_ms) = strictest {
                let now_ms = now_ms();
                if now_ms.saturating_sub(load.sealed.oldest_event_ms) > limit_ms {
                    let (kept, dropped) = self.limits.age.sift(&load.bytes, now_ms);
                    self.held_bytes -= load.bytes.len() - kept.len();
                    self.queued_events -= dropped;
                    self.count(dropped, Outcome::Dropped(Reason::MaxAge));
                    load.bytes = kept;
                    load.events -= dropped;
                }
            }
            self.queued_events -= load.events;
            if load.events == 0 {
                self.finish(load, Outcome::Dropped(Reason::MaxAge));
                continue;
            }
            self.inflight_events += load.events;
            self.inflight_bytes += load.cost_bytes();
            return Some(load);
        }
    }

    /// A load comes back unanswered, to the front: the last one first, so that order is kept.
    pub(super) fn give_back(&mut self, load: Load) {
        self.comes_back(&load);
        self.push_front(load);
    }

    /// The same in two halves, which are to be sent alone.
    pub(super) fn give_back_halves(&mut self, mut load: Load) {
        self.comes_back(&load);
        self.held_bytes += PARCEL_COST_BYTES;
        load.alone = true;
        let (front, back) = load.halves();
        self.push_front(back);
        self.push_front(front);
    }

    fn comes_back(&mut self, load: &Load) {
        self.inflight_events -= load.events;
        self.inflight_bytes -= load.cost_bytes();
        self.queued_events += load.events;
        self.resent_events += load.events as u64;
    }

    fn push_front(&mut self, mut load: Load) {
        load.complete = true;
        if !self.holds_answers() {
            load.let_go(Verdict::Settled);
        }
        self.loads.push_front(load);
    }

    /// A load that was out has ended.
    pub(super) fn end(&mut self, load: Load, outcome: Outcome) {
        if matches!(outcome, Outcome::Delivered | Outcome::Rejected) {
            self.silent = false;
        }
        self.inflight_events -= load.events;
        self.inflight_bytes -= load.cost_bytes();
        self.finish(load, outcome);
    }

    /// Everything that is queued is given up; the open batch must be sealed before.
    pub(super) fn drop_queued(&mut self, reason: Reason) {
        while let Some(load) = self.loads.pop_front() {
            self.queued_events -= load.events;
            self.finish(load, Outcome::Dropped(reason));
        }
    }

    /// An unavailable group holds nobody: neither gateways nor receipts. The open batch must be sealed before.
    pub(super) fn set_available(&mut self, available: bool) {
        self.available = available;
        self.release_queued();
    }

    /// A silent group holds no receipts, until one of its loads is answered. The open batch must be sealed before.
    pub(super) fn set_silent(&mut self, silent: bool) {
        self.silent = silent;
        self.release_queued();
    }

    /// Whether gateways' answers wait for this group.
    pub(super) fn holds_answers(&self) -> bool {
        self.available && !self.silent
    }

    fn release_queued(&mut self) {
        if !self.holds_answers() {
            for load in &mut self.loads {
                load.let_go(Verdict::Settled);
            }
        }
    }

    /// The frame that waited has gone elsewhere.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting = None;
        self.relax();
    }

    /// Whether a frame waits that finds room by now.
    pub(super) fn has_room_for_waiting(&self) -> bool {
        self.waiting
            .is_some_and(|(events, bytes)| self.fits(events, bytes))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued_events == 0 && self.inflight_events == 0
    }

    pub(super) fn has_sealed(&self) -> bool {
        !self.loads.is_empty()
    }

    /// Whether what waits gains nothing by waiting: it is worth a frame, or some of it can share one with nothing that comes.
    pub(super) fn has_gathered(&self) -> bool {
        // A look at few loads: each has an event at least.
        self.queued_events >= WORTH_A_FRAME || self.loads.iter().any(|l| l.complete)
    }

    /// How many frames wait for the end of what is sealed; more than one is as good as many.
    pub(super) fn sealed_frames(&self) -> usize {
        // A look at few loads.
        self.loads.iter().take(2).map(|l| l.sealed.receipts()).sum()
    }

    /// How many events wait.
    pub(super) fn queued_events(&self) -> usize {
        self.queued_events
    }

    pub(super) fn has_open(&self) -> bool {
        self.open_events > 0
    }

    /// Since when the open batch holds events.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.has_open().then_some(self.open_since)
    }

    pub(super) fn oldest_accepted_at(&self) -> Option<Instant> {
        let sealed = self.loads.front().map(|l| l.sealed.accepted_at);
        sealed.or(self.open_since())
    }

    /// The numbers for /status; the caller adds names and endpoints.
    pub(super) fn fill(&self, status: &mut crate::status::Group) {
        status.available = self.available;
        status.overflow = match self.state {
            State::Open => Overflow::Open,
            State::Blocking { .. } => Overflow::Blocking,
            State::Shedding => Overflow::Shedding,
        };
        status.events = Events {
            queued: self.queued_events as u64,
            inflight: self.inflight_events as u64,
            ..self.totals
        };
        status.held_bytes = self.held_bytes as u64;
        status.held_bytes_max = self.limits.bytes_max as u64;
        status.held_events_max = self.limits.events_max as u64;
        status.blocked_incidents_total = self.blocked_incidents;
        status.shed_incidents_total = self.shed_incidents;
        status.resent_events_total = self.resent_events;
    }

    fn finish(&mut self, mut load: Load, outcome: Outcome) {
        self.held_bytes -= load.cost_bytes();
        self.count(load.events, outcome);
        load.let_go(outcome.verdict());
        self.relax();
    }

    fn count(&mut self, events: usize, outcome: Outcome) {
        let dropped = &mut self.totals.dropped;
        let counter = match outcome {
            Outcome::Delivered => &mut self.totals.delivered,
            Outcome::Rejected => &mut self.totals.rejected,
            Outcome::Dropped(Reason::QueueFull) => &mut dropped.queue_full,
            Outcome::Dropped(Reason::Unavailable) => &mut dropped.unavailable,
            Outcome::Dropped(Reason::MaxAge) => &mut dropped.max_age,
            Outcome::Dropped(Reason::DrainTimeout) => &mut dropped.drain_timeout,
            Outcome::Dropped(Reason::GroupRemoved) => &mut dropped.group_removed,
            Outcome::Dropped(Reason::Lost) => &mut dropped.lost,
        };
        *counter += events as u64;
    }

    /// Why events go when there is no room.
    fn shed_reason(&self) -> Reason {
        if self.available {
            Reason::QueueFull
        } else {
            Reason::Unavailable
        }
    }

    /// An incident is over when the queue is half empty and no frame waits that still finds no room.
    fn relax(&mut self) {
        if self.waiting.is_some() && !self.has_room_for_waiting() {
            return;
        }
        if self.held_bytes <= self.limits.bytes_max / 2 && self.held_events() <= self.limits.events_max / 2 {
            self.state = State::Open;
        }
    }

    fn held_events(&self) -> usize {
        self.queued_events + self.inflight_events
    }

    /// A frame larger than the whole queue enters when it is alone: it could enter at no other time.
    /// It may need a batch of its own.
    fn fits(&self, events: usize, bytes: usize) -> bool {
        self.held_events() == 0
            || (self.held_events() + events <= self.limits.events_max
                && self.held_bytes + bytes + PARCEL_COST_BYTES <= self.limits.bytes_max)
    }

    fn fits_without_queued(&self, events: usize, bytes: usize) -> bool {
        self.inflight_events == 0
            || (self.inflight_events + events <= self.limits.events_max
                && self.inflight_bytes + bytes + PARCEL_COST_BYTES <= self.limits.bytes_max)
    }
}
