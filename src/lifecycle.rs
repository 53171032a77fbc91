//! The phases of a weir and the way it ends: every room watches the [`Phase`], the composition root moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    failed: Arc<AtomicBool>,
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
            failed: Arc::default(),
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

    /// Cancelled by [`Lifecycle::stop`] and [`Lifecycle::fail`].
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops everything because a part has failed: a weir without one of its parts must not say that it is ready.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Whether a part has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// A guard to be held by a task or thread that weir cannot do without, for as long as it runs. However it
    /// ends before [`Phase::Stopped`], by a return or a panic, it takes everything down with it.
    #[must_use]
    pub fn vital(&self, part: impl Into<String>) -> Vital {
        Vital {
            life: Some(self.clone()),
            part: part.into(),
        }
    }
}

/// See [`Lifecycle::vital`].
#[derive(Debug)]
pub struct Vital {
    life: Option<Lifecycle>,
    part: String,
}

impl Vital {
    /// The part ends because it is not needed any more.
    pub fn done(mut self) {
        self.life = None;
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if let Some(life) = &self.life
            && life.phase() != Phase::Stopped
        {
            tracing::error!(
                part = self.part,
                "a part of weir has ended unexpectedly: stopping, so that weir is started again"
            );
            life.fail();
        }
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
        assert!(!life.has_failed());
    }

    #[test]
    fn a_vital_part_that_returns_or_panics_stops_everything_and_one_that_is_done_does_not() {
        let life = Lifecycle::new();
        life.ready();
        life.vital("not needed any more").done();
        assert_eq!(life.phase(), Phase::Ready);
        let returned = life.clone();
        drop(returned.vital("returned"));
        assert!(life.has_failed() && life.stop_token().is_cancelled());
        life.ready();
        assert_eq!(life.phase(), Phase::Stopped, "it never says ready again");

        let life = Lifecycle::new();
        let vital = life.vital("panicked");
        let thread = std::thread::spawn(move || {
            let _vital = vital;
            panic!("injected");
        });
        assert!(thread.join().is_err());
        assert!(life.has_failed());

        let life = Lifecycle::new();
        let vital = life.vital("stopped");
        life.stop();
        drop(vital);
        assert!(!life.has_failed(), "it was asked to end");
    }
}
