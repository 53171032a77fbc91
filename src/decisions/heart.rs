//! PURE: the two timers of one side, its heartbeat and its dead timer. Time is an argument.
//!
//! A side is silent for weir when no byte was *written* to it for half the delay: then a heartbeat is due. It is
//! dead when no byte was *read* from it for `delay × timeout_factor`; any byte is life. While weir itself
//! does not read a side (back-pressure) that clock stands still: silence is weir's own doing then.

use std::time::Duration;

use tokio::time::Instant;

/// What is due on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// A heartbeat towards this side.
    Beat,
    /// The side has been silent for too long.
    Dead,
}

/// The timers of one side; idle until [`Heart::start`].
#[derive(Debug, Default)]
pub(super) struct Heart {
    pulse: Option<Pulse>,
    paused_since: Option<Instant>,
    mute: bool,
}

#[derive(Debug)]
struct Pulse {
    beat_after: Duration,
    dead_after: Duration,
    wrote_at: Instant,
    read_at: Instant,
}

impl Heart {
    /// Begins to beat, when Tune-Ok has been forwarded. A delay of zero means that this side wants no
    /// heartbeats: nothing is ever due.
    pub(super) fn start(&mut self, now: Instant, delay: Duration, timeout_factor: f64) {
        if delay.is_zero() {
            return;
        }
        // Bounded, so that a deadline can be added to any instant.
        let dead_after = delay.as_secs_f64() * timeout_factor.clamp(1.0, 1000.0);
        self.pulse = Some(Pulse {
            beat_after: delay / 2,
            dead_after: Duration::try_from_secs_f64(dead_after).unwrap_or(delay),
            wrote_at: now,
            read_at: now,
        });
        if self.paused_since.is_some() {
            self.paused_since = Some(now);
        }
    }

    /// Bytes were written to this side.
    pub(super) fn wrote(&mut self, now: Instant) {
        if let Some(pulse) = &mut self.pulse {
            pulse.wrote_at = now;
        }
    }

    /// Bytes were read from this side.
    pub(super) fn read(&mut self, now: Instant) {
        if let Some(pulse) = &mut self.pulse {
            pulse.read_at = now;
        }
    }

    /// Weir stops reading this side, or reads it again.
    pub(super) fn pause(&mut self, now: Instant, paused: bool) {
        match (self.paused_since, paused) {
            (None, true) => self.paused_since = Some(now),
            (Some(since), false) => {
                self.paused_since = None;
                if let Some(pulse) = &mut self.pulse {
                    pulse.read_at += now.saturating_duration_since(since);
                }
            }
            _ => {}
        }
    }

    /// Close or Close-Ok was forwarded to this side: nothing more may be injected there.
    pub(super) fn hush(&mut self) {
        self.mute = true;
    }

    /// What is due now. Death wins: a heartbeat would not wake the dead.
    #[must_use]
    pub(super) fn due(&self, now: Instant) -> Due {
        if self.dies_at().is_some_and(|at| at <= now) {
            Due::Dead
        } else if self.beats_at().is_some_and(|at| at <= now) {
            Due::Beat
        } else {
            Due::Nothing
        }
    }

    /// When [`Heart::due`] will next have something to say, if nothing happens until then.
    #[must_use]
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.dies_at().into_iter().chain(self.beats_at()).min()
    }

    fn beats_at(&self) -> Option<Instant> {
        let pulse = self.pulse.as_ref().filter(|_| !self.mute)?;
        Some(pulse.wrote_at + pulse.beat_after)
    }

    fn dies_at(&self) -> Option<Instant> {
        let pulse = self.pulse.as_ref().filter(|_| self.paused_since.is_none())?;
        Some(pulse.read_at + pulse.dead_after)
    }
}

#[cfg(test)]
mod tests;
