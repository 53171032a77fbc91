//! Frames that are written, or being written, and have no reply yet. Replies carry no id; they come in the order of the
//! frames. Dropped, a pipeline returns all its deliveries to the queue.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::relay::Delivery;

/// One frame to a Traffic Manager.
#[derive(Debug)]
pub struct Frame {
    /// `None` for a heartbeat.
    pub delivery: Option<Delivery>,
    /// When it was begun.
    pub sent_at: Instant,
}

impl Frame {
    fn unanswered(self) {
        if let Some(delivery) = self.delivery {
            delivery.unanswered();
        }
    }
}

/// One connection's frames, oldest first.
#[derive(Debug, Default)]
pub struct Pipeline {
    frames: VecDeque<Frame>,
    /// Refused because their session had expired, and older than all of the above.
    expired: Vec<Frame>,
}

impl Pipeline {
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// The oldest frame was answered; its delivery is the caller's to end.
    pub fn pop(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// The oldest frame was refused because its session has expired; it keeps its place until
    /// [`return_expired`](Self::return_expired). False when there is none.
    pub(super) fn expired(&mut self) -> bool {
        let oldest = self.frames.pop_front();
        let found = oldest.is_some();
        self.expired.extend(oldest);
        found
    }

    /// Returns the frames whose session had expired to the queue.
    pub(super) fn return_expired(&mut self) {
        while let Some(frame) = self.expired.pop() {
            frame.unanswered();
        }
    }

    /// The oldest frame was answered with an error that is not about the session. Younger frames return to the queue
    /// before it, so that everything is there in order. Returns how many events were rejected for good.
    pub(super) fn answered_with_error(mut self) -> usize {
        let oldest = self.frames.pop_front();
        self.return_frames();
        let delivery = oldest.and_then(|frame| frame.delivery);
        delivery.map_or(0, Delivery::answered_with_error)
    }

    /// Gateways' replies no longer wait for any of them.
    pub(super) fn release(&mut self) {
        let deliveries = self.frames.iter_mut().filter_map(|f| f.delivery.as_mut());
        deliveries.for_each(Delivery::release);
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// When the oldest event in flight was accepted.
    pub(super) fn oldest_accepted_at(&self) -> Option<Instant> {
        let mut deliveries = self.frames.iter().filter_map(|f| f.delivery.as_ref());
        deliveries.next()?.accepted_at()
    }

    pub(super) fn oldest(&self) -> Option<&Frame> {
        self.frames.front()
    }

    fn return_frames(&mut self) {
        while let Some(frame) = self.frames.pop_back() {
            frame.unanswered();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.return_frames();
        self.return_expired();
    }
}
