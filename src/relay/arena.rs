//! Large buffers in which open batches grow, used front to back and recycled.
//!
//! Batches are split off one buffer one after the other. So a batch of a few bytes does not keep a large buffer alive by
//! itself: its neighbours in the buffer are batches of the same queues.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Used buffers that are kept for recycling; older ones are freed with their last batch. Enough for the windows of a busy
/// link, so that a steady flow allocates nothing.
const RETIRED_MAX: usize = 32;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Arena {
    current: BytesMut,
    retired: VecDeque<BytesMut>,
    buffer_bytes: usize,
}

impl Arena {
    /// Buffers of `buffer_bytes`, or of one event when that is larger.
    pub(super) fn new(buffer_bytes: usize) -> Self {
        Self {
            current: BytesMut::new(),
            retired: VecDeque::new(),
            buffer_bytes,
        }
    }

    /// The open batch.
    pub(super) fn open(&self) -> &[u8] {
        &self.current
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    /// Whether `more` bytes can join the open batch without moving it.
    pub(super) fn fits(&self, more: usize) -> bool {
        self.current.capacity() - self.current.len() >= more
    }

    /// Adds to the open batch, which must be empty if [`Arena::fits`] is false.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if !self.fits(bytes.len()) {
            debug_assert!(self.current.is_empty(), "an open batch never moves");
            self.renew(bytes.len());
        }
        self.current.extend_from_slice(bytes);
    }

    /// Ends the open batch; the next one begins behind it.
    pub(super) fn seal(&mut self) -> Bytes {
        self.current.split().freeze()
    }

    fn renew(&mut self, needed: usize) {
        let wanted = self.buffer_bytes.max(needed);
        let used = std::mem::take(&mut self.current);
        self.retired.push_back(used);
        let free = self.retired.iter_mut().position(|b| b.try_reclaim(wanted));
        self.current = match free.and_then(|i| self.retired.remove(i)) {
            Some(buffer) => buffer,
            None => BytesMut::with_capacity(wanted),
        };
        if self.retired.len() > RETIRED_MAX {
            self.retired.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_whose_batches_have_ended_are_used_again() {
        let mut arena = Arena::new(100);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            arena.extend(&[7; 60]);
            seen.insert(arena.seal().as_ptr() as usize);
        }
        assert!(seen.len() <= 2, "{} buffers", seen.len());
    }

    #[test]
    fn batches_keep_their_bytes() {
        let mut arena = Arena::new(100);
        let batches: Vec<Bytes> = (0..40_u8)
            .map(|i| {
                arena.extend(&[i; 30]);
                arena.seal()
            })
            .collect();
        for (i, batch) in batches.iter().enumerate() {
            assert_eq!(&batch[..], &[i as u8; 30]);
        }
    }
}
