//! The phases of the process: every module watches the [`Phase`], `app` moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not ready: being built.
    Starting,
    /// Serving.
    Ready,
    /// Not ready. Serves until balancers have noticed, then sends gateways away, and still serves those that stay.
    Draining {
        /// When gateways are sent away.
        away_at: Instant,
        /// When what is left is dropped.
        deadline: Instant,
        /// What it leads to.
        end: End,
    },
    /// Everything has ended.
    Stopped,
}

/// What a drain leads to; it only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// To nothing: an operator started it, and ends it or the process.
    Open,
    /// To the end of the process, when no gateway is left.
    Process,
    /// The same, and a successor serves on the same listening sockets.
    Succeeded,
    /// Gateways are not read from any more; what is queued may still be delivered.
    Closing,
}

impl Phase {
    /// As in /status and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining { .. } => "draining",
            Phase::Stopped => "stopped",
        }
    }

    /// Whether a successor serves on the same listening sockets.
    #[must_use]
    pub fn is_succeeded(self) -> bool {
        matches!(
            self,
            Phase::Draining {
                end: End::Succeeded,
                ..
            }
        )
    }

    /// Which part of a drain this is, and how much of the drain is left.
    #[must_use]
    pub fn drain(self, now: Instant) -> Option<(&'static str, Duration)> {
        let Phase::Draining {
            away_at,
            deadline,
            end,
        } = self
        else {
            return None;
        };
        let stage = match end {
            End::Closing => "closing",
            _ if now < away_at => "notice",
            _ => "sending away",
        };
        Some((stage, deadline.saturating_duration_since(now)))
    }
}

/// Moves the phase forward.
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
    /// Begins in [`Phase::Starting`].
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

    /// Everything is built: ready. Also ends a drain that an operator started.
    pub fn ready(&self) {
        self.phase.send_if_modified(|p| {
            let change = matches!(p, Phase::Starting | Phase::Draining { end: End::Open, .. });
            if change {
                *p = Phase::Ready;
            }
            change
        });
    }

    /// An operator's drain: gateways are sent away at `now + notice`, and it reports an end at `now + timeout`. A drain
    /// under way keeps its times.
    pub fn drain(&self, now: Instant, notice: Duration, timeout: Duration) {
        self.phase.send_if_modified(|p| {
            let change = matches!(p, Phase::Starting | Phase::Ready);
            if change {
                *p = Phase::Draining {
                    away_at: now + notice,
                    deadline: now + timeout,
                    end: End::Open,
                };
            }
            change
        });
    }

    /// A drain that ends the process, at `now + timeout` at the latest. If an operator's drain has given balancers notice,
    /// there is no second one.
    pub fn end(&self, now: Instant, notice: Duration, timeout: Duration, end: End) {
        self.phase.send_if_modified(|p| {
            let away_at = match *p {
                Phase::Stopped => return false,
                Phase::Draining { end: before, .. } if before >= end => return false,
                Phase::Draining { away_at, .. } => away_at.min(now + notice),
                Phase::Starting | Phase::Ready => now + notice,
            };
            let deadline = now + timeout;
            *p = Phase::Draining {
                away_at,
                deadline,
                end,
            };
            true
        });
    }

    /// Stops reading from gateways.
    pub fn close(&self) {
        self.phase.send_if_modified(|p| match p {
            Phase::Draining { end, .. } => std::mem::replace(end, End::Closing) != End::Closing,
            _ => false,
        });
    }

    /// Ends everything now.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        self.stop.cancel();
    }

    /// Cancelled by [`Lifecycle::stop`] and [`Lifecycle::fail`].
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops everything because a task has failed: a weir without it must not report ready.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// Whether a task has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// A guard for a task or thread that weir cannot do without. If the guard is dropped before [`Phase::Stopped`], by a
    /// return or a panic, weir stops.
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
    /// The task ends because it is not needed any more.
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
        let seconds = Duration::from_secs;
        let draining = |away, deadline, end| Phase::Draining {
            away_at: now + seconds(away),
            deadline: now + seconds(deadline),
            end,
        };
        life.drain(now, seconds(2), seconds(5));
        life.drain(now, seconds(20), seconds(50));
        assert_eq!(life.phase(), draining(2, 5, End::Open));
        life.ready();
        assert_eq!(life.phase(), Phase::Ready, "an operator may end a drain");
        life.drain(now, seconds(2), seconds(5));
        life.end(now + seconds(10), seconds(2), seconds(5), End::Process);
        assert_eq!(
            life.phase(),
            draining(2, 15, End::Process),
            "the process has its own time to end, and balancers get one notice"
        );
        life.ready();
        assert_eq!(life.phase(), draining(2, 15, End::Process), "no way back");
        life.close();
        life.end(now + seconds(10), seconds(2), seconds(50), End::Succeeded);
        assert_eq!(life.phase(), draining(2, 15, End::Closing));
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
