//! With `ack = "delivered"` a gateway's frame is answered when every parcel that carries some of it has
//! ended; the [`Receipt`] is what the session waits on meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// The worst that happened to a frame in any group that holds its reply back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Delivered, refused by the Traffic Manager for good, or over age: sending again is of no use.
    Settled,
    /// Given up for want of room or time by a group that was available: the gateway should send again.
    GivenUp,
}

/// Resolves to the worst verdict over the parcels of one frame.
#[derive(Debug)]
pub struct Receipt {
    batches: Cell<u32>,
    worst: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
}

impl Receipt {
    /// For a frame that is being admitted; it is not resolved before [`Receipt::admitted`].
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            batches: Cell::new(1),
            worst: Cell::new(Verdict::Settled),
            waker: RefCell::new(None),
        })
    }

    /// The frame is in its batches: from now on it resolves with the last of them.
    pub fn admitted(&self) {
        self.end_one(Verdict::Settled);
    }

    /// One more batch carries some of the frame.
    pub(super) fn hold(&self) {
        self.batches.set(self.batches.get() + 1);
    }

    /// A batch that carries some of the frame has ended everywhere.
    pub(super) fn end_one(&self, verdict: Verdict) {
        self.worst.set(self.worst.get().max(verdict));
        self.batches.set(self.batches.get().saturating_sub(1));
        if self.batches.get() == 0
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// The verdict once there is one; else `waker` is woken when it comes.
    #[must_use]
    pub fn poll(&self, waker: &Waker) -> Option<Verdict> {
        if self.batches.get() == 0 {
            return Some(self.worst.get());
        }
        self.waker.borrow_mut().replace(waker.clone());
        None
    }
}
