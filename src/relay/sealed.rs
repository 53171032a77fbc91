//! A sealed batch: the bytes that all its groups share, and the receipts that wait for it.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::time::Instant;

use super::receipt::{Receipt, Verdict};

/// Shared by the parcels of all groups; the receipts resolve when the last load that holds them lets go.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) events: usize,
    /// It is a single event that cannot be decoded, and shares no frame.
    pub(super) alone: bool,
    /// When its first event was accepted.
    pub(super) accepted_at: Instant,
    /// Smallest event timestamp; `i64::MAX` where no event has one.
    pub(super) oldest_event_ms: i64,
    holding: Cell<u32>,
    worst: Cell<Verdict>,
    receipts: Vec<Rc<Receipt>>,
}

impl Sealed {
    /// How many receipts wait for it.
    pub(super) fn receipts(&self) -> usize {
        self.receipts.len()
    }

    /// `holding`: how many groups, each with one load, hold the receipts back.
    pub(super) fn new(
        bytes: Bytes,
        events: usize,
        alone: bool,
        accepted_at: Instant,
        oldest_event_ms: i64,
        holding: u32,
        receipts: Vec<Rc<Receipt>>,
    ) -> Rc<Self> {
        let sealed = Self {
            bytes,
            events,
            alone,
            accepted_at,
            oldest_event_ms,
            holding: Cell::new(holding),
            worst: Cell::new(Verdict::Settled),
            receipts,
        };
        if holding == 0 {
            sealed.resolve();
        }
        Rc::new(sealed)
    }

    /// One more load of a group that holds the receipts carries some of the batch.
    pub(super) fn hold(&self) {
        self.holding.set(self.holding.get() + 1);
    }

    /// One load lets go of the receipts.
    pub(super) fn release(&self, verdict: Verdict) {
        self.worst.set(self.worst.get().max(verdict));
        self.holding.set(self.holding.get().saturating_sub(1));
        if self.holding.get() == 0 {
            self.resolve();
        }
    }

    fn resolve(&self) {
        for receipt in &self.receipts {
            receipt.end_one(self.worst.get());
        }
    }
}
