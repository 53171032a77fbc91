//! The phases of a weir and the way it ends: every room watches the [`Phase`], the composition root moves it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where in its life the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rooms are being built; not ready.
    Starting,
    /// Serving.
    Ready,
    /// No new connections; delivering what was accepted until the deadline.
    Draining {
        /// When the rest is given up.
        deadline: Instant,
    },
    /// Over.
    Stopped,
}

impl Phase {
    /// The word for /status and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining { .. } => "draining",
            Phase::Stopped => "stopped",
        }
    }
}

/// The owner's end: moves the phase forward.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    stop: CancellationToken,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A new life, in [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            stop: CancellationToken::new(),
        }
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A receiver that sees every later change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// All rooms stand: ready. Also takes back a drain that was asked for by the operator.
    pub fn ready(&self) {
        self.phase.send_if_modified(|p| {
            let change = !matches!(p, Phase::Stopped | Phase::Ready);
            if change {
                *p = Phase::Ready;
            }
            change
        });
    }

    /// Starts a drain that ends at `now + timeout`; a drain under way keeps its deadline.
    pub fn drain(&self, now: Instant, timeout: Duration) {
        self.phase.send_if_modified(|p| {
            let change = matches!(p, Phase::Starting | Phase::Ready);
            if change {
                *p = Phase::Draining {
                    deadline: now + timeout,
                };
            }
            change
        });
    }

    /// Everything has ended, or must end now.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        self.stop.cancel();
    }

    /// Cancelled by [`Lifecycle::stop`].
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_move_forward_and_a_drain_keeps_its_first_deadline() {
        let life = Lifecycle::new();
        let now = Instant::now();
        life.ready();
        assert_eq!(life.phase(), Phase::Ready);
        life.drain(now, Duration::from_secs(5));
        life.drain(now, Duration::from_secs(50));
        assert_eq!(
            life.phase(),
            Phase::Draining {
                deadline: now + Duration::from_secs(5)
            }
        );
        life.ready();
        assert_eq!(life.phase(), Phase::Ready, "an operator may take a drain back");
        life.stop();
        life.ready();
        assert_eq!(life.phase(), Phase::Stopped);
        assert!(life.stop_token().is_cancelled());
    }
}
