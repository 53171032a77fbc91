//! [`Delivery`]: what is out with a link.

use std::rc::Rc;

use tokio::time::Instant;

use super::batch::Batch;
use super::handle::GroupQueue;
use super::queue::{Outcome, Reason};

/// The batches of one frame, on their way to a Traffic Manager. Ends exactly once: [`delivered`](Self::delivered),
/// [`answered_with_error`](Self::answered_with_error) or [`unanswered`](Self::unanswered). If it is dropped without an
/// end, its events are counted as lost; debug builds panic.
#[must_use = "a delivery holds capacity of its queue until it ends"]
#[derive(Debug)]
pub struct Delivery {
    /// Empty when it has ended.
    batches: Vec<Batch>,
    queue: Rc<GroupQueue>,
}

impl Delivery {
    pub(super) fn new(batches: Vec<Batch>, queue: &Rc<GroupQueue>) -> Option<Self> {
        (!batches.is_empty()).then(|| Self {
            batches,
            queue: Rc::clone(queue),
        })
    }

    /// The batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// How many events.
    #[must_use]
    pub fn events(&self) -> usize {
        self.batches.iter().map(Batch::events).sum()
    }

    /// Gateways' frames whose replies depend on it.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.batches.iter().map(|b| b.frames).sum()
    }

    /// When its oldest event was accepted.
    #[must_use]
    pub fn accepted_at(&self) -> Option<Instant> {
        self.batches.first().map(Batch::accepted_at)
    }

    /// Gateways' replies no longer wait for it.
    pub fn release(&mut self) {
        let batches = &mut self.batches;
        self.queue.run(|state| state.release(batches));
    }

    /// The Traffic Manager answered ok.
    pub fn delivered(mut self) {
        self.end(Outcome::Delivered);
    }

    /// The Traffic Manager answered with an error that is not about the session: back to the queue, to be sent in smaller
    /// frames, until a single event has met three such replies and is rejected. Returns how many events were.
    pub fn answered_with_error(mut self) -> usize {
        let (queue, batches) = (&self.queue, std::mem::take(&mut self.batches));
        let (rejected, wake) = queue
            .shared
            .state
            .borrow_mut()
            .end_with_error(queue.group, batches);
        queue.shared.wake(wake);
        rejected
    }

    /// Back to the front of the queue. Of several deliveries, the last one first.
    pub fn unanswered(mut self) {
        let batches = std::mem::take(&mut self.batches);
        let group = self.queue.group;
        self.queue.run(|state| state.end_unanswered(group, batches));
    }

    fn end(&mut self, outcome: Outcome) {
        let batches = std::mem::take(&mut self.batches);
        let group = self.queue.group;
        self.queue.run(|state| state.end(group, batches, outcome));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.batches.is_empty() {
            self.end(Outcome::Dropped(Reason::Lost));
            debug_assert!(std::thread::panicking(), "a delivery was dropped without an end");
        }
    }
}
