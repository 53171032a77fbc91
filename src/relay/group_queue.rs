//! A group's queue as links and the group see it: the pure [`Queue`] with the bells that are rung when
//! something changes.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::bell::Bell;
use super::fanout::Shared;
use super::linger;
use super::parcel::Parcel;
use super::queue::{Limits, Load, Outcome, Queue, Reason};
use super::sealed::Sealed;
use crate::status;

/// What waits for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// Too few events for a frame; due at this time if no others come.
    Lingering(Instant),
    /// Take it now.
    Ready,
}

/// One group's queue on one worker.
#[derive(Debug)]
pub struct GroupQueue {
    name: String,
    queue: RefCell<Queue>,
    /// Links that wait for something to take.
    links: Bell,
    last_take: Cell<Option<Instant>>,
    fanout: Weak<Shared>,
}

impl GroupQueue {
    pub(super) fn new(name: &str, limits: Limits, fanout: Weak<Shared>) -> Rc<Self> {
        Rc::new(Self {
            name: name.to_owned(),
            queue: RefCell::new(Queue::new(limits)),
            links: Bell::default(),
            last_take: Cell::new(None),
            fanout,
        })
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where links wait.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.links
    }

    /// A link waits no longer, for whatever reason. It may be the one that was woken for what is queued, or the
    /// only one with a timer for it, so the next link is woken to look.
    pub fn leave(&self, link: usize) {
        self.links.leave(link);
        let queue = self.queue.borrow();
        if queue.has_sealed() || queue.has_open() {
            self.links.ring_one();
        }
    }

    /// Whether a link could take something now. Where the group has taken something a short time ago, others may come
    /// that share a frame with what waits: for at most `linger` after that, and for less where it is little.
    #[must_use]
    pub fn offer(&self, now: Instant, linger: Duration) -> Offer {
        let queue = self.queue.borrow();
        let Some(since) = queue.oldest_accepted_at() else {
            return Offer::Nothing;
        };
        if queue.has_gathered() {
            return Offer::Ready;
        }
        // What is given back and taken again must not make events that wait already wait longer.
        let last_take = self.last_take.get().map(|t| t.min(since));
        match last_take.map(|t| linger::due(t, linger, queue.queued_events())) {
            Some(due) if due > now => Offer::Lingering(due),
            _ => Offer::Ready,
        }
    }

    /// Whether what waits gains nothing by waiting.
    #[must_use]
    pub fn has_gathered(&self) -> bool {
        self.queue.borrow().has_gathered()
    }

    /// With `ack = "delivered"`: how many gateways' frames are in what waits; of many, some.
    #[must_use]
    pub fn frames(&self) -> usize {
        let queue = self.queue.borrow();
        let open = || self.fanout.upgrade().filter(|_| queue.has_open());
        queue.sealed_frames() + open().map_or(0, |shared| shared.open_frames())
    }

    /// The oldest batch, whatever its size; the open one is sealed when there is no other.
    #[must_use]
    pub fn take(self: &Rc<Self>, now: Instant) -> Option<Parcel> {
        if let Some(parcel) = self.take_if(now, |_| true) {
            return Some(parcel);
        }
        // Also where everything sealed was over age: nobody is rung again for a batch that is open.
        self.seal_open();
        self.take_if(now, |_| true)
    }

    /// The oldest sealed batch, if it may share a frame with `first` and is not larger than `bytes_max`.
    #[must_use]
    pub fn take_beside(self: &Rc<Self>, first: &Parcel, bytes_max: usize, now: Instant) -> Option<Parcel> {
        let first = first.load()?;
        let suits = |load: &Load| load.bytes.len() <= bytes_max && first.goes_with(load);
        let beside = self.take_if(now, suits);
        if beside.is_some() || first.complete || self.queue.borrow().has_sealed() {
            return beside;
        }
        // Another group's link has sealed it before it was complete: the rest of it is open.
        self.seal_open();
        self.take_if(now, suits)
    }

    fn take_if(self: &Rc<Self>, now: Instant, suits: impl Fn(&Load) -> bool) -> Option<Parcel> {
        let shared = self.fanout.upgrade();
        let now_ms = || shared.as_ref().map_or(0, |s| s.unix_ms());
        let (load, call) = {
            let mut queue = self.queue.borrow_mut();
            let load = queue.take(now_ms, suits);
            (load, queue.has_room_for_waiting())
        };
        // Events over age have made room without any parcel's end.
        if call {
            self.call_for_frames();
        }
        let load = load?;
        self.last_take.set(Some(now));
        Some(Parcel::new(load, Rc::clone(self)))
    }

    /// An unavailable group makes nobody wait.
    pub fn set_available(&self, available: bool) {
        if !available {
            self.seal_open();
        }
        self.queue.borrow_mut().set_available(available);
        self.call_for_frames();
    }

    /// Whether its Traffic Managers have not answered for so long that no gateway's answer waits for them. An answer
    /// ends it.
    pub fn set_silent(&self, silent: bool) {
        if silent {
            self.seal_open();
        }
        self.queue.borrow_mut().set_silent(silent);
    }

    /// New limits from a reload.
    pub fn set_limits(&self, limits: Limits) {
        self.queue.borrow_mut().set_limits(limits);
        self.call_for_frames();
    }

    /// Gives up everything that waits.
    pub fn drop_queued(&self, reason: Reason) {
        self.seal_open();
        self.queue.borrow_mut().drop_queued(reason);
        self.call_for_frames();
    }

    /// Nothing queued, nothing in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// This group's numbers, without its endpoints.
    #[must_use]
    pub fn status(&self, now: Instant) -> status::Group {
        let queue = self.queue.borrow();
        let mut status = status::Group {
            name: self.name.clone(),
            ..status::Group::default()
        };
        queue.fill(&mut status);
        let open_since = || self.fanout.upgrade().filter(|_| queue.has_open())?.open_since();
        let oldest = queue
            .oldest_accepted_at()
            .or_else(open_since)
            .map_or(Duration::ZERO, |at| now.duration_since(at));
        status.oldest_queued_ms = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        status.oldest_undelivered_ms = status.oldest_queued_ms;
        status
    }

    pub(super) fn core(&self) -> &RefCell<Queue> {
        &self.queue
    }

    pub(super) fn put(&self, sealed: Rc<Sealed>, complete: bool) {
        self.queue.borrow_mut().put(sealed, complete);
    }

    pub(super) fn end(&self, load: Load, outcome: Outcome) {
        let call = {
            let mut queue = self.queue.borrow_mut();
            queue.end(load, outcome);
            queue.has_room_for_waiting()
        };
        if call {
            self.call_for_frames();
        }
    }

    pub(super) fn give_back(&self, load: Load) {
        self.queue.borrow_mut().give_back(load);
        self.links.ring_one();
    }

    pub(super) fn give_back_halves(&self, load: Load) {
        self.queue.borrow_mut().give_back_halves(load);
        self.links.ring_one();
    }

    fn seal_open(&self) {
        let open = self.queue.borrow().has_open();
        if open && let Some(shared) = self.fanout.upgrade() {
            shared.seal();
        }
    }

    fn call_for_frames(&self) {
        if let Some(shared) = self.fanout.upgrade() {
            shared.call_for_frames();
        }
    }
}
