//! With `ack = "delivered"` a gateway's frame is answered when every batch that carries some of it has ended. A
//! receipt counts those batches. Pure.

use slab::Slab;

pub(super) type ReceiptId = usize;
pub(super) type ListId = usize;

/// The worst that happened to a frame in any group that holds its reply back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Delivered, rejected for good, or over age: there is no point in sending it again.
    Settled,
    /// Dropped for lack of capacity or time by a group that was available: the gateway should send it again.
    GivenUp,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Receipt {
    /// Batches that it waits for, and one while its frame is being admitted.
    batches: usize,
    worst: Verdict,
    /// The session still waits for it.
    wanted: bool,
}

/// The receipts of one batch, which the groups' copies of it hold together.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct List {
    receipts: Vec<ReceiptId>,
    /// Copies, or halves of copies, that still hold them.
    holders: usize,
    worst: Verdict,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Receipts {
    receipts: Slab<Receipt>,
    lists: Slab<List>,
    /// Resolved since the last [`take_resolved`](Self::take_resolved), and still wanted.
    resolved: Vec<ReceiptId>,
}

impl Receipts {
    /// For a frame that is being admitted: [`end_one`](Self::end_one) when it is.
    pub(super) fn open(&mut self) -> ReceiptId {
        self.receipts.insert(Receipt {
            batches: 1,
            worst: Verdict::Settled,
            wanted: true,
        })
    }

    /// One more batch carries some of the frame.
    pub(super) fn hold(&mut self, id: ReceiptId) {
        self.receipts[id].batches += 1;
    }

    /// The receipt no longer waits for one of the batches.
    pub(super) fn end_one(&mut self, id: ReceiptId, verdict: Verdict) {
        if self.count_down(id, verdict) {
            self.resolved.push(id);
        }
    }

    /// Whether it has resolved now, and the session is to be woken for it.
    fn count_down(&mut self, id: ReceiptId, verdict: Verdict) -> bool {
        let receipt = &mut self.receipts[id];
        receipt.worst = receipt.worst.max(verdict);
        receipt.batches -= 1;
        let resolved = receipt.batches == 0;
        if resolved && !receipt.wanted {
            self.receipts.remove(id);
            return false;
        }
        resolved
    }

    /// The verdict, once there is one.
    pub(super) fn verdict(&self, id: ReceiptId) -> Option<Verdict> {
        let receipt = &self.receipts[id];
        (receipt.batches == 0).then_some(receipt.worst)
    }

    /// The session no longer waits for it.
    pub(super) fn forget(&mut self, id: ReceiptId) {
        let receipt = &mut self.receipts[id];
        receipt.wanted = false;
        if receipt.batches == 0 {
            self.receipts.remove(id);
        }
    }

    /// The receipts of a sealed batch that `holders` groups hold; `None` when there is nothing to hold.
    pub(super) fn list(&mut self, receipts: Vec<ReceiptId>, holders: usize) -> Option<ListId> {
        if receipts.is_empty() {
            return None;
        }
        let id = self.lists.insert(List {
            receipts,
            holders: holders.max(1),
            worst: Verdict::Settled,
        });
        if holders == 0 {
            self.release_list(id, Verdict::Settled);
            return None;
        }
        Some(id)
    }

    /// One more batch holds the list.
    pub(super) fn hold_list(&mut self, id: ListId) {
        self.lists[id].holders += 1;
    }

    /// One batch releases the list; the last one ends the wait of its receipts for this batch.
    pub(super) fn release_list(&mut self, id: ListId, verdict: Verdict) {
        let list = &mut self.lists[id];
        list.worst = list.worst.max(verdict);
        list.holders -= 1;
        if list.holders > 0 {
            return;
        }
        let mut list = self.lists.remove(id);
        list.receipts.retain(|id| self.count_down(*id, list.worst));
        // The list itself says who is to be woken, so that nothing is allocated for it.
        if self.resolved.is_empty() {
            self.resolved = list.receipts;
        } else {
            self.resolved.append(&mut list.receipts);
        }
    }

    /// The receipts that have resolved since the last call.
    pub(super) fn take_resolved(&mut self) -> Vec<ReceiptId> {
        match self.resolved.is_empty() {
            true => Vec::new(),
            false => std::mem::take(&mut self.resolved),
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty() && self.lists.is_empty()
    }
}
