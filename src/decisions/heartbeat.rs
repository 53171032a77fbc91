//! PURE: the two timers of one side: when weir owes it a heartbeat, and when it is dead. Time is an argument.
//!
//! A heartbeat is due when nothing was *written* to the side for half the delay. The side is dead when nothing was
//! *read* from it for `delay × timeout_factor`; any byte counts. While weir does not read the side (back-pressure)
//! the dead timer stands still.

use std::time::Duration;

use tokio::time::Instant;

/// What is due on a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// A heartbeat to this side.
    Heartbeat,
    /// The side has been silent for too long.
    Dead,
}

/// The timers of one side; off until [`Timers::start`].
#[derive(Debug, Default)]
pub(super) struct Timers {
    running: Option<Running>,
    paused_since: Option<Instant>,
    closing: bool,
}

#[derive(Debug)]
struct Running {
    heartbeat_after: Duration,
    dead_after: Duration,
    wrote_at: Instant,
    read_at: Instant,
}

impl Timers {
    /// Starts both timers, once Tune-Ok was forwarded. A delay of zero means that this side wants no heartbeats:
    /// nothing is ever due.
    pub(super) fn start(&mut self, now: Instant, delay: Duration, timeout_factor: f64) {
        if delay.is_zero() {
            return;
        }
        // Bounded, so that a deadline can be added to any instant.
        let dead_after = delay.as_secs_f64() * timeout_factor.clamp(1.0, 1000.0);
        self.running = Some(Running {
            heartbeat_after: delay / 2,
            dead_after: Duration::try_from_secs_f64(dead_after).unwrap_or(delay),
            wrote_at: now,
            read_at: now,
        });
        self.paused_since = self.paused_since.map(|_| now);
    }

    /// Bytes were written to this side.
    pub(super) fn wrote(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.wrote_at = now;
        }
    }

    /// Bytes were read from this side.
    pub(super) fn read(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.read_at = now;
        }
    }

    /// Weir stops reading this side, or reads it again.
    pub(super) fn pause(&mut self, now: Instant, paused: bool) {
        match (self.paused_since, paused) {
            (None, true) => self.paused_since = Some(now),
            (Some(since), false) => {
                self.paused_since = None;
                if let Some(running) = &mut self.running {
                    running.read_at += now.saturating_duration_since(since);
                }
            }
            _ => {}
        }
    }

    /// Close or Close-Ok was forwarded to this side: no heartbeat may follow.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// What is due now. A dead side gets no heartbeat.
    #[must_use]
    pub(super) fn due(&self, now: Instant) -> Due {
        if self.dead_at().is_some_and(|at| at <= now) {
            Due::Dead
        } else if self.heartbeat_at().is_some_and(|at| at <= now) {
            Due::Heartbeat
        } else {
            Due::Nothing
        }
    }

    /// When something will be due, if no byte moves until then.
    #[must_use]
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.dead_at().into_iter().chain(self.heartbeat_at()).min()
    }

    fn heartbeat_at(&self) -> Option<Instant> {
        let running = self.running.as_ref().filter(|_| !self.closing)?;
        Some(running.wrote_at + running.heartbeat_after)
    }

    fn dead_at(&self) -> Option<Instant> {
        let running = self.running.as_ref().filter(|_| self.paused_since.is_none())?;
        Some(running.read_at + running.dead_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn started(now: Instant, delay_seconds: u32) -> Timers {
        let mut timers = Timers::default();
        timers.start(now, S * delay_seconds, 2.0);
        timers
    }

    #[test]
    fn nothing_is_due_before_tune_ok_was_forwarded() {
        let timers = Timers::default();
        assert_eq!(timers.next_at(), None);
        assert_eq!(timers.due(Instant::now() + S * 3600), Due::Nothing);
    }

    #[test]
    fn a_heartbeat_is_due_after_half_the_delay_without_a_write_whatever_was_read() {
        let t = Instant::now();
        let mut timers = started(t, 30);
        timers.read(t + S * 14);
        assert_eq!(timers.due(t + S * 14), Due::Nothing);
        assert_eq!(timers.next_at(), Some(t + S * 15));
        assert_eq!(timers.due(t + S * 15), Due::Heartbeat);
        timers.wrote(t + S * 15);
        assert_eq!(timers.due(t + S * 15), Due::Nothing);
        assert_eq!(timers.next_at(), Some(t + S * 30));
    }

    #[test]
    fn a_side_is_dead_after_delay_times_factor_without_a_byte_whatever_was_written() {
        let t = Instant::now();
        let mut timers = started(t, 30);
        timers.wrote(t + S * 59);
        assert_eq!(timers.due(t + S * 60 - Duration::from_millis(1)), Due::Nothing);
        assert_eq!(timers.due(t + S * 60), Due::Dead);
        timers.read(t + S * 60);
        timers.wrote(t + S * 60);
        assert_eq!(timers.due(t + S * 60), Due::Nothing, "any byte counts");
        assert_eq!(timers.due(t + S * 120), Due::Dead);
    }

    #[test]
    fn the_dead_timer_stands_still_while_weir_does_not_read_and_heartbeats_go_on() {
        let t = Instant::now();
        let mut timers = started(t, 30);
        timers.pause(t + S * 50, true);
        timers.pause(t + S * 55, true);
        assert_eq!(timers.due(t + S * 3600), Due::Heartbeat);
        timers.wrote(t + S * 3600);
        assert_eq!(timers.due(t + S * 3600), Due::Nothing);
        timers.pause(t + S * 3650, false);
        timers.wrote(t + S * 3650);
        assert_eq!(timers.due(t + S * 3659), Due::Nothing, "10 of the 60 s are left");
        assert_eq!(timers.due(t + S * 3660), Due::Dead);
    }

    #[test]
    fn after_close_no_heartbeat_is_due_and_the_dead_timer_goes_on() {
        let t = Instant::now();
        let mut timers = started(t, 30);
        timers.close();
        assert_eq!(timers.due(t + S * 59), Due::Nothing);
        assert_eq!(timers.next_at(), Some(t + S * 60));
        assert_eq!(timers.due(t + S * 60), Due::Dead);
    }

    #[test]
    fn a_pause_that_began_before_the_timers_counts_from_their_start() {
        let t = Instant::now();
        let mut timers = Timers::default();
        timers.pause(t, true);
        timers.start(t + S * 10, S * 30, 2.0);
        timers.pause(t + S * 20, false);
        assert_eq!(timers.next_at(), Some(t + S * 25), "the heartbeat");
        timers.close();
        assert_eq!(timers.next_at(), Some(t + S * 80), "dead: 10 + 60, and 10 paused");
    }

    #[test]
    fn any_factor_gives_a_deadline() {
        for factor in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            let mut timers = Timers::default();
            timers.start(Instant::now(), S * 65_535, factor);
            assert!(timers.next_at().is_some(), "{factor}");
        }
    }
}
