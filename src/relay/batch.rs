//! [`Batch`]: what lies in a queue, and what a delivery consists of.

use bytes::Bytes;
use tokio::time::Instant;

use super::receipts::{ListId, Receipts, Verdict};
use crate::wire::events::{EVENT_PREFIX_BYTES, iterate, stream_of};

/// What a batch costs beside its bytes: bookkeeping in the queue and in the link's pipeline.
pub(super) const BATCH_COST_BYTES: usize = 128;

/// Events of one stream that one group holds together. The bytes are shared with the other groups' batches.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Batch {
    /// The events as they lie on the wire.
    pub(super) bytes: Bytes,
    pub(super) events: usize,
    /// When its first event was accepted.
    pub(super) accepted_at: Instant,
    /// Smallest event timestamp; `i64::MAX` where no event has one.
    pub(super) oldest_event_ms: i64,
    /// Gateways' frames whose replies depend on it (`ack = "delivered"`).
    pub(super) frames: usize,
    /// The receipts that wait for it, until it releases them.
    pub(super) receipts: Option<ListId>,
    /// Error replies to a frame that held this single event only.
    pub(super) errors: u8,
    /// It shares no frame with other batches.
    pub(super) alone: bool,
    /// It has nothing to wait for: no later event can share a frame with it, or it was returned.
    pub(super) complete: bool,
}

impl Batch {
    /// The events as they lie on the wire.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many events.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// When its first event was accepted.
    #[must_use]
    pub fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    pub(super) fn cost_bytes(&self) -> usize {
        self.bytes.len() + BATCH_COST_BYTES
    }

    /// Whether both may leave in one frame: a receiver that cannot decode one event drops the whole frame.
    pub(super) fn shares_frame_with(&self, other: &Batch) -> bool {
        !self.alone && !other.alone && stream_of(&self.bytes) == stream_of(&other.bytes)
    }

    /// Two batches of half the events each, in order.
    pub(super) fn halves(mut self, receipts: &mut Receipts) -> (Batch, Batch) {
        let front_events = self.events / 2;
        let cut = iterate(&self.bytes)
            .take(front_events)
            .map(|e| EVENT_PREFIX_BYTES + e.bytes().len())
            .sum();
        if let Some(list) = self.receipts {
            receipts.hold_list(list);
        }
        let back = Batch {
            bytes: self.bytes.split_off(cut),
            events: self.events - front_events,
            ..self
        };
        self.events = front_events;
        (self, back)
    }

    /// Its receipts no longer wait for it.
    pub(super) fn release(&mut self, verdict: Verdict, receipts: &mut Receipts) {
        if let Some(list) = self.receipts.take() {
            receipts.release_list(list, verdict);
        }
    }
}
