//! A sealed batch on its way to a Traffic Manager: taken from one group's queue by one link.

use std::rc::Rc;

use bytes::Bytes;
use tokio::time::Instant;

use super::group_queue::GroupQueue;
use super::queue::{Load, Outcome, Reason};
use super::receipt::Verdict;

/// Ends exactly once: [`delivered`](Parcel::delivered), [`refused`](Parcel::refused) or
/// [`give_back`](Parcel::give_back). Dropped without a verdict it is counted as lost, and panics in debug
/// builds.
#[must_use = "a parcel holds room in its queue until it ends"]
#[derive(Debug)]
pub struct Parcel {
    load: Option<Load>,
    home: Rc<GroupQueue>,
}

/// Error replies after which a single event is rejected for good: no poison loop.
const REFUSALS_MAX: u8 = 3;

impl Parcel {
    pub(super) fn new(load: Load, home: Rc<GroupQueue>) -> Self {
        Self {
            load: Some(load),
            home,
        }
    }

    pub(super) fn load(&self) -> Option<&Load> {
        self.load.as_ref()
    }

    /// The events as they lie on the wire.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.load.as_ref().map(|l| l.bytes.clone()).unwrap_or_default()
    }

    /// How many events.
    #[must_use]
    pub fn events(&self) -> usize {
        self.load.as_ref().map_or(0, |l| l.events)
    }

    /// How many gateways' frames wait for its end.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.load.as_ref().map_or(0, |l| l.sealed.receipts())
    }

    /// When its first event was accepted.
    #[must_use]
    pub fn accepted_at(&self) -> Option<Instant> {
        self.load.as_ref().map(|l| l.sealed.accepted_at)
    }

    /// Gateways' answers wait for it no longer.
    pub fn let_go(&mut self) {
        if let Some(load) = &mut self.load {
            load.let_go(Verdict::Settled);
        }
    }

    /// The Traffic Manager answered ok.
    pub fn delivered(mut self) {
        if let Some(load) = self.load.take() {
            self.home.end(load, Outcome::Delivered);
        }
    }

    /// The Traffic Manager answered the frame with an error that is not about the session; the frame held this parcel
    /// `only`, or others too. Back to the queue, to be sent alone, until a single event has met three of
    /// these answers by itself: that event is rejected. Returns whether it was.
    pub fn refused(mut self, only: bool) -> bool {
        let Some(mut load) = self.load.take() else {
            return false;
        };
        if only && load.events > 1 {
            self.home.give_back_halves(load);
            return false;
        }
        load.alone = true;
        load.refusals += u8::from(only);
        let rejected = load.refusals >= REFUSALS_MAX;
        if rejected {
            self.home.end(load, Outcome::Rejected);
        } else {
            self.home.give_back(load);
        }
        rejected
    }

    /// Unanswered: back to the front of the queue. Of several, the last one first.
    pub fn give_back(mut self) {
        if let Some(load) = self.load.take() {
            self.home.give_back(load);
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(load) = self.load.take() {
            self.home.end(load, Outcome::Dropped(Reason::Lost));
            debug_assert!(std::thread::panicking(), "a parcel was dropped without a verdict");
        }
    }
}
