//! One oracle for all threads of a run, and the run's clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::oracle::Oracle;
use super::verdict::{Verdict, WeirCounts};

/// One oracle for many threads, with the clock of the run.
#[derive(Debug, Clone)]
pub struct Judge {
    oracle: Arc<Mutex<Oracle>>,
    start: Instant,
}

impl Judge {
    /// The run begins now.
    #[must_use]
    pub fn new(oracle: Oracle) -> Self {
        Self {
            oracle: Arc::new(Mutex::new(oracle)),
            start: Instant::now(),
        }
    }

    /// The oracle, locked: keep it for a frame, never across an await.
    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the start of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// [`Oracle::verdict`].
    #[must_use]
    pub fn verdict(&self, weir: Option<&WeirCounts>) -> Verdict {
        self.oracle().verdict(weir)
    }
}
