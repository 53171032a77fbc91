//! One group's queue, bounded in events and in bytes. Pure: time is an argument.
//!
//! Three states: open; blocking (full: gateways wait, for at most `block_timeout` in each incident); shedding (the
//! timeout is over, or the group is unavailable: events are dropped and counted). It is open again when it is half
//! empty, unless a waiting frame needs more than that. Events in flight hold their capacity until their delivery ends.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::age::AgeLimits;
use super::batch::{BATCH_COST_BYTES, Batch};
use super::linger::{self, WORTH_A_FRAME};
use super::receipts::{Receipts, Verdict};
use crate::config;
use crate::status::{self, Events, Overflow};
use crate::wire::events::{Run, stream_of};

/// How much one queue may hold, and what happens when it is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Events queued and in flight.
    pub events_max: usize,
    /// Bytes queued and in flight.
    pub bytes_max: usize,
    /// How long gateways wait in one incident; `None` = for ever.
    pub block_timeout: Option<Duration>,
    /// Which events are dropped after that.
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

/// What waits for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// Too few events for a frame; due at this time if no others arrive.
    Lingering(Instant),
    /// Take it now.
    Ready,
}

/// Why events were dropped.
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
    /// A delivery was dropped without an end: a defect.
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

/// Whether a frame may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Fits,
    /// Yes, in place of the oldest events: [`Queue::shed_for`] first.
    ReplacesOldest,
    /// No, and it does not wait: its events are dropped for this group.
    Dropped,
    /// Not now; ask again when capacity is freed, or at this time.
    Waits(Option<Instant>),
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum State {
    Open,
    Blocking { since: Instant },
    Shedding,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Queue {
    limits: Limits,
    batches: VecDeque<Batch>,
    /// Events of this group in the open batch.
    open_events: usize,
    /// When the first of them was accepted.
    open_since: Option<Instant>,
    queued_events: usize,
    inflight_events: usize,
    /// Queued and in flight, the open batch included.
    held_bytes: usize,
    inflight_bytes: usize,
    last_take: Option<Instant>,
    available: bool,
    /// It is available, but its Traffic Managers have not answered for `unavailable_after`.
    silent: bool,
    /// Events and bytes of the first waiting frame, while it does not fit here.
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
            batches: VecDeque::new(),
            open_events: 0,
            open_since: None,
            queued_events: 0,
            inflight_events: 0,
            held_bytes: 0,
            inflight_bytes: 0,
            last_take: None,
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

    // === Frames coming in ===

    /// Whether a frame may enter. Only the first of the waiting frames asks, so `waiting` is about that one.
    pub(super) fn ask(&mut self, events: usize, bytes: usize, now: Instant) -> Admission {
        self.waiting = None;
        if self.fits(events, bytes) {
            return Admission::Fits;
        }
        let sheds_at = match (&self.state, self.limits.block_timeout) {
            _ if !self.available => Some(now),
            (State::Shedding, Some(_)) | (State::Open, Some(Duration::ZERO)) => Some(now),
            // A group that never sheds, but did while it was unavailable, blocks again.
            (State::Open | State::Shedding, timeout) => {
                self.state = State::Blocking { since: now };
                self.blocked_incidents += 1;
                timeout.map(|t| now + t)
            }
            (State::Blocking { since }, timeout) => timeout.map(|t| *since + t),
        };
        if sheds_at.is_none_or(|at| at > now) {
            self.waiting = Some((events, bytes));
            return Admission::Waits(sheds_at);
        }
        if !matches!(self.state, State::Shedding) {
            self.state = State::Shedding;
            self.shed_incidents += 1;
        }
        match self.limits.shed {
            config::Shed::Oldest if self.fits_without_queued(events, bytes) => Admission::ReplacesOldest,
            _ => Admission::Dropped,
        }
    }

    /// Drops the oldest batches until the frame fits; false when none is left and it still does not.
    pub(super) fn shed_for(&mut self, events: usize, bytes: usize, receipts: &mut Receipts) -> bool {
        while !self.fits(events, bytes) {
            let Some(batch) = self.batches.pop_front() else {
                return false;
            };
            self.queued_events -= batch.events;
            self.finish(batch, Outcome::Dropped(self.shed_reason()), receipts);
        }
        true
    }

    /// A frame is accepted and dropped at once.
    pub(super) fn drop_frame(&mut self, events: usize) {
        self.totals.accepted += events as u64;
        self.count(events, Outcome::Dropped(self.shed_reason()));
    }

    /// A run of events is added to the open batch. Returns whether what is queued is worth a frame from now on.
    pub(super) fn reserve(&mut self, run: &Run<'_>, now: Instant) -> bool {
        let (events, bytes) = (run.events.count(), run.events.bytes().len());
        let was_little = self.queued_events < WORTH_A_FRAME;
        if self.open_events == 0 {
            self.held_bytes += BATCH_COST_BYTES;
            self.open_since = Some(now);
            if let Some(back) = self.batches.back_mut() {
                back.complete |= run.alone || stream_of(&back.bytes) != stream_of(run.events.bytes());
            }
        }
        self.totals.accepted += events as u64;
        self.open_events += events;
        self.queued_events += events;
        self.held_bytes += bytes;
        was_little && self.queued_events >= WORTH_A_FRAME
    }

    /// The open batch was sealed.
    pub(super) fn put(&mut self, batch: Batch) {
        debug_assert_eq!(self.open_events, batch.events, "what was reserved is sealed");
        self.open_events = 0;
        self.open_since = None;
        self.batches.push_back(batch);
    }

    // === Batches going out ===

    /// Whether a link could take something now. If the group has taken something a short time ago, events that share a
    /// frame with the queued ones may follow: for at most `linger` after that, for less where few are queued.
    pub(super) fn offer(&self, now: Instant, linger: Duration) -> Offer {
        let Some(since) = self.oldest_accepted_at() else {
            return Offer::Nothing;
        };
        if self.has_gathered() {
            return Offer::Ready;
        }
        // A batch that is returned and taken again must not prolong the wait of events that are queued already.
        let last_take = self.last_take.map(|t| t.min(since));
        match last_take.map(|t| linger::due(t, linger, self.queued_events)) {
            Some(due) if due > now => Offer::Lingering(due),
            _ => Offer::Ready,
        }
    }

    /// Whether waiting gains nothing: what is queued is worth a frame, or no later event can share one with some of it.
    pub(super) fn has_gathered(&self) -> bool {
        // The scan is short: each of these batches has at least one event.
        self.queued_events >= WORTH_A_FRAME || self.batches.iter().any(|b| b.complete)
    }

    /// Gateways' frames whose replies depend on the sealed batches; more than one is as good as many.
    pub(super) fn sealed_frames(&self) -> usize {
        self.batches.iter().take(2).map(|b| b.frames).sum()
    }

    /// The oldest sealed batch, if it is `wanted`; events over age end here.
    pub(super) fn take(
        &mut self,
        now: Instant,
        unix_ms: impl Fn() -> i64,
        receipts: &mut Receipts,
        wanted: impl Fn(&Batch) -> bool,
    ) -> Option<Batch> {
        let strictest = self.limits.age.strictest_ms();
        loop {
            if !wanted(self.batches.front()?) {
                return None;
            }
            let mut batch = self.batches.pop_front()?;
            if let Some(limit_ms) = strictest {
                let now_ms = unix_ms();
                if now_ms.saturating_sub(batch.oldest_event_ms) > limit_ms {
                    let (kept, dropped) = self.limits.age.sift(&batch.bytes, now_ms);
                    self.held_bytes -= batch.bytes.len() - kept.len();
                    self.queued_events -= dropped;
                    self.count(dropped, Outcome::Dropped(Reason::MaxAge));
                    batch.bytes = kept;
                    batch.events -= dropped;
                }
            }
            self.queued_events -= batch.events;
            if batch.events == 0 {
                self.finish(batch, Outcome::Dropped(Reason::MaxAge), receipts);
                continue;
            }
            self.inflight_events += batch.events;
            self.inflight_bytes += batch.cost_bytes();
            self.last_take = Some(now);
            return Some(batch);
        }
    }

    /// A batch that was out has ended.
    pub(super) fn end(&mut self, batch: Batch, outcome: Outcome, receipts: &mut Receipts) {
        if matches!(outcome, Outcome::Delivered | Outcome::Rejected) {
            self.silent = false;
        }
        self.inflight_events -= batch.events;
        self.inflight_bytes -= batch.cost_bytes();
        self.finish(batch, outcome, receipts);
    }

    /// A batch returns to the front without an answer; of several the last one first, so that order is kept.
    pub(super) fn return_whole(&mut self, batch: Batch, receipts: &mut Receipts) {
        self.uncount_inflight(&batch);
        self.push_front(batch, receipts);
    }

    /// The same in two halves, each to be sent alone.
    pub(super) fn return_halves(&mut self, mut batch: Batch, receipts: &mut Receipts) {
        self.uncount_inflight(&batch);
        self.held_bytes += BATCH_COST_BYTES;
        batch.alone = true;
        let (front, back) = batch.halves(receipts);
        self.push_front(back, receipts);
        self.push_front(front, receipts);
    }

    fn uncount_inflight(&mut self, batch: &Batch) {
        self.inflight_events -= batch.events;
        self.inflight_bytes -= batch.cost_bytes();
        self.queued_events += batch.events;
        self.resent_events += batch.events as u64;
    }

    fn push_front(&mut self, mut batch: Batch, receipts: &mut Receipts) {
        batch.complete = true;
        if !self.holds_replies() {
            batch.release(Verdict::Settled, receipts);
        }
        self.batches.push_front(batch);
    }

    /// Drops everything that is queued; the open batch must have been sealed.
    pub(super) fn drop_queued(&mut self, reason: Reason, receipts: &mut Receipts) {
        while let Some(batch) = self.batches.pop_front() {
            self.queued_events -= batch.events;
            self.finish(batch, Outcome::Dropped(reason), receipts);
        }
    }

    // === Settings ===

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.relax();
    }

    /// Neither gateways nor receipts wait for an unavailable group. The open batch must have been sealed.
    pub(super) fn set_available(&mut self, available: bool, receipts: &mut Receipts) {
        self.available = available;
        self.release_queued(receipts);
    }

    /// No receipt waits for a silent group, until one of its batches is answered. The open batch must have been sealed.
    pub(super) fn set_silent(&mut self, silent: bool, receipts: &mut Receipts) {
        self.silent = silent;
        self.release_queued(receipts);
    }

    /// Whether gateways' replies wait for this group.
    pub(super) fn holds_replies(&self) -> bool {
        self.available && !self.silent
    }

    fn release_queued(&mut self, receipts: &mut Receipts) {
        if !self.holds_replies() {
            for batch in &mut self.batches {
                batch.release(Verdict::Settled, receipts);
            }
        }
    }

    // === Waiting frames ===

    /// The frame that waited no longer does.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting = None;
        self.relax();
    }

    /// Whether the waiting frame fits by now.
    pub(super) fn fits_waiting(&self) -> bool {
        self.waiting
            .is_some_and(|(events, bytes)| self.fits(events, bytes))
    }

    // === Numbers ===

    pub(super) fn is_empty(&self) -> bool {
        self.queued_events == 0 && self.inflight_events == 0
    }

    pub(super) fn has_sealed(&self) -> bool {
        !self.batches.is_empty()
    }

    pub(super) fn has_open(&self) -> bool {
        self.open_events > 0
    }

    fn oldest_accepted_at(&self) -> Option<Instant> {
        let sealed = self.batches.front().map(|b| b.accepted_at);
        sealed.or(self.open_since)
    }

    /// The numbers for /status, without names and endpoints.
    pub(super) fn status(&self, now: Instant) -> status::Group {
        let oldest = self.oldest_accepted_at();
        let oldest = oldest.map_or(Duration::ZERO, |at| now.duration_since(at));
        let oldest_ms = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        status::Group {
            available: self.available,
            overflow: match self.state {
                State::Open => Overflow::Open,
                State::Blocking { .. } => Overflow::Blocking,
                State::Shedding => Overflow::Shedding,
            },
            events: Events {
                queued: self.queued_events as u64,
                inflight: self.inflight_events as u64,
                ..self.totals
            },
            held_bytes: self.held_bytes as u64,
            held_bytes_max: self.limits.bytes_max as u64,
            held_events_max: self.limits.events_max as u64,
            oldest_queued_ms: oldest_ms,
            oldest_undelivered_ms: oldest_ms,
            blocked_incidents_total: self.blocked_incidents,
            shed_incidents_total: self.shed_incidents,
            resent_events_total: self.resent_events,
            ..status::Group::default()
        }
    }

    fn finish(&mut self, mut batch: Batch, outcome: Outcome, receipts: &mut Receipts) {
        self.held_bytes -= batch.cost_bytes();
        self.count(batch.events, outcome);
        batch.release(outcome.verdict(), receipts);
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

    /// Why events are dropped when the queue is full.
    fn shed_reason(&self) -> Reason {
        if self.available {
            Reason::QueueFull
        } else {
            Reason::Unavailable
        }
    }

    /// An incident is over when the queue is half empty and the waiting frame, if there is one, fits.
    fn relax(&mut self) {
        if self.waiting.is_some() && !self.fits_waiting() {
            return;
        }
        if self.held_bytes <= self.limits.bytes_max / 2 && self.held_events() <= self.limits.events_max / 2 {
            self.state = State::Open;
        }
    }

    fn held_events(&self) -> usize {
        self.queued_events + self.inflight_events
    }

    /// The frame may need a batch of its own. One that is larger than the whole queue enters when it is alone: it could
    /// enter at no other time.
    fn fits(&self, events: usize, bytes: usize) -> bool {
        self.held_events() == 0
            || (self.held_events() + events <= self.limits.events_max
                && self.held_bytes + bytes + BATCH_COST_BYTES <= self.limits.bytes_max)
    }

    fn fits_without_queued(&self, events: usize, bytes: usize) -> bool {
        self.inflight_events == 0
            || (self.inflight_events + events <= self.limits.events_max
                && self.inflight_bytes + bytes + BATCH_COST_BYTES <= self.limits.bytes_max)
    }
}
