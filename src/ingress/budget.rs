//! The memory of partial frames: one budget for all sessions of a worker.
//!
//! A frame claims its announced size before its session keeps more than [`FREE_BYTES`] of it, and holds the
//! claim until it has been handled. Memory itself grows only with the bytes that arrive. A session without a claim
//! waits in a queue and is not read from; every holder can finish without a further claim, so there is no deadlock.
//! Small frames and large ones have budgets of their own and never wait for each other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// What a session may keep without a claim: any login or logout, and the front of a publish.
pub(super) const FREE_BYTES: usize = 4096;

/// Frames up to this size are small.
const SMALL_BYTES: usize = 1 << 20;

/// Memory for a frame, released when it is dropped.
pub(super) type Claim = OwnedSemaphorePermit;

/// A place in the queue for memory.
pub(super) type Wait = Pin<Box<dyn Future<Output = Result<Claim, AcquireError>>>>;

pub(super) struct Budget {
    small: Part,
    large: Part,
}

struct Part {
    max: usize,
    /// One permit per byte. It is fair: claims are served in order, and none is granted while another waits.
    free: Arc<Semaphore>,
}

impl Budget {
    /// Three quarters of `max_bytes` are for small frames.
    pub(super) fn new(max_bytes: usize) -> Self {
        let large = max_bytes / 4;
        Self {
            small: Part::new(max_bytes - large),
            large: Part::new(large),
        }
    }

    /// Memory for a frame of `bytes` bytes, of which `kept` are there, or a place in the queue. A frame that is larger
    /// than its part of the budget gets memory when it is alone there.
    pub(super) fn claim(&self, bytes: usize, kept: usize) -> Result<Claim, Wait> {
        if bytes <= SMALL_BYTES {
            // Reads are short while frames wait here, so those that wait keep little.
            return self.small.claim(bytes).or_else(|_| self.small.wait(bytes, None));
        }
        self.large.claim(bytes).or_else(|_| {
            let kept = self.small.claim(kept).ok();
            self.large.wait(bytes, kept)
        })
    }

    /// Whether the rest of one read might exceed what is free.
    pub(super) fn is_tight(&self, read_bytes: usize) -> bool {
        self.small.free.available_permits() < read_bytes
    }

    /// What is claimed now.
    pub(super) fn held_bytes(&self) -> usize {
        [&self.small, &self.large]
            .map(|part| part.max.saturating_sub(part.free.available_permits()))
            .iter()
            .sum()
    }
}

impl Part {
    fn new(max: usize) -> Self {
        // A frame always needs something of it.
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            max,
            free: Arc::new(Semaphore::new(max)),
        }
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.max)).unwrap_or(u32::MAX)
    }

    fn claim(&self, bytes: usize) -> Result<Claim, TryAcquireError> {
        Arc::clone(&self.free).try_acquire_many_owned(self.permits(bytes))
    }

    /// Takes a place in the queue; `kept` is released at its end.
    fn wait(&self, bytes: usize, kept: Option<Claim>) -> Result<Claim, Wait> {
        let memory = Arc::clone(&self.free).acquire_many_owned(self.permits(bytes));
        let mut wait: Wait = Box::pin(async move {
            let claim = memory.await;
            drop(kept);
            claim
        });
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(claim)) => Ok(claim),
            _ => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn ready(wait: &mut Wait) -> Option<Claim> {
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(claim) => Some(claim.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn claims_that_do_not_fit_wait_and_are_served_in_order() {
        let budget = Budget::new(4 * MIB);
        let mut held: Vec<_> = (0..3).map(|_| budget.claim(MIB, 0).ok().unwrap()).collect();
        assert_eq!(budget.held_bytes(), 3 * MIB);
        let mut one = budget.claim(MIB, 0).err().unwrap();
        assert!(ready(&mut one).is_none());
        let mut two = budget.claim(1, 0).err().unwrap();
        assert!(ready(&mut two).is_none());
        held.pop();
        assert!(
            budget.claim(1, 0).is_err(),
            "free, but another claim waits for it"
        );
        let claim = ready(&mut one).unwrap();
        assert!(ready(&mut two).is_none());
        drop(claim);
        assert!(ready(&mut two).is_some());
        drop(held);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn small_and_large_frames_do_not_wait_for_each_other() {
        let budget = Budget::new(16 * MIB);
        let large = budget.claim(3 * MIB, 0).ok().unwrap();
        let mut next = budget.claim(3 * MIB, 0).err().unwrap();
        assert!(ready(&mut next).is_none());
        let small: Vec<_> = (0..12).map(|_| budget.claim(MIB, 0).ok().unwrap()).collect();
        assert!(budget.claim(MIB, 0).is_err());
        drop(large);
        assert!(ready(&mut next).is_some());
        drop(small);
    }

    #[test]
    fn a_frame_larger_than_its_part_enters_when_it_is_alone() {
        let budget = Budget::new(4 * MIB);
        let first = budget.claim(MIB + 1, 0).ok().unwrap();
        let mut huge = budget.claim(200 * MIB, 0).err().unwrap();
        assert!(ready(&mut huge).is_none());
        drop(first);
        assert!(ready(&mut huge).is_some());
        // However small the budget is.
        assert!(Budget::new(0).claim(200 * MIB, 0).is_ok());
    }

    #[test]
    fn a_claim_that_is_given_up_releases_what_was_reserved() {
        let budget = Budget::new(4 * MIB);
        let held = budget.claim(2 * MIB - MIB / 2, 0);
        assert!(held.is_ok(), "alone");
        let small = budget.claim(MIB, 0);
        let mut wait = (
            budget.claim(MIB, 0).ok(),
            budget.claim(MIB, 0).ok(),
            budget.claim(MIB, 0).err().unwrap(),
        );
        assert!(ready(&mut wait.2).is_none());
        assert!(budget.is_tight(1));
        drop((held, small, wait));
        assert!(!budget.is_tight(3 * MIB));
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn bytes_a_large_frame_has_sent_count_while_it_waits() {
        let budget = Budget::new(16 * MIB);
        let large = budget.claim(4 * MIB, 0).ok().unwrap();
        let mut wait = budget.claim(2 * MIB, 1000).err().unwrap();
        assert_eq!(budget.held_bytes(), 4 * MIB + 1000);
        drop(large);
        let claim = ready(&mut wait).unwrap();
        assert_eq!(budget.held_bytes(), 2 * MIB);
        drop((wait, claim));
        assert_eq!(budget.held_bytes(), 0);
    }
}
