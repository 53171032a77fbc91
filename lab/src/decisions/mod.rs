//! A stream of decisions for the return leg: a stand-in [`Broker`] that publishes numbered ones, a
//! [`subscribe`]r that behaves as a gateway's client does, and the [`Tally`] of both that is judged.
//!
//! The broker does what Andes does by default (it offers heartbeat 0, obeys the one it is answered with, and keeps
//! nothing for those who are not there), the gateway what WSO2's client does (it burns its retries in 0.3 s and then
//! sleeps 20, 40, 80 … s). So a relay that does not hold the gateway is found out.

mod broker;
mod frames;
mod line;
mod subscriber;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use broker::Broker;
pub use subscriber::subscribe;
pub use tally::{Tally, Verdict, decision};

/// One tally for both ends of a stream, with the clock of the run.
#[derive(Debug, Clone)]
pub struct Book {
    tally: Arc<Mutex<Tally>>,
    start: Instant,
}

impl Book {
    /// The run begins now.
    #[must_use]
    pub fn open() -> Self {
        Self {
            tally: Arc::default(),
            start: Instant::now(),
        }
    }

    /// The tally, locked: keep it for a word, never across an await.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the start of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }
}
