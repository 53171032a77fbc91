//! The session of a link's connection. A Traffic Manager ends it 30 minutes after its login, whatever the
//! traffic: a login on the side renews it before that, and at once when the Traffic Manager says that it has
//! expired. The connection stays.
//!
//! A new id takes effect when no frame is in flight. With two at a time, frames of the old one would be
//! refused while younger ones were taken, and the order of events would be lost.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::link::log_in;
use super::pump::{Pump, Stop};
use super::state::Failure;

/// How long a session lives at a Traffic Manager that has not shown otherwise.
const LIFE: Duration = Duration::from_secs(30 * 60);

/// A life shorter than this is not learned: renewals must not become a flood.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// A session id and what is known of its life. Pure: time is an argument.
#[derive(Debug)]
pub(super) struct Session {
    id: Vec<u8>,
    since: Instant,
    /// As long as the shortest one of this connection.
    life: Duration,
    renew_at: Option<Instant>,
    expired: bool,
    /// Took the place of one that had expired, and no frame has been answered ok since.
    unproven: bool,
}

impl Session {
    pub(super) fn new(id: Vec<u8>, now: Instant) -> Self {
        Self {
            id,
            since: now,
            life: LIFE,
            renew_at: Some(now + LIFE / 10 * 9),
            expired: false,
            unproven: false,
        }
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// The Traffic Manager has said so.
    pub(super) fn is_expired(&self) -> bool {
        self.expired
    }

    /// When a login on the side is due; `None` = when the session has expired.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// A frame was answered ok.
    pub(super) fn works(&mut self) {
        self.unproven = false;
    }

    /// The Traffic Manager says that the session has expired. False when it said so of the one before, too, and
    /// has taken nothing in between: then a login does not help.
    pub(super) fn expired(&mut self, now: Instant) -> bool {
        if !self.expired && !self.unproven {
            self.expired = true;
            self.life = self.life.min(now.duration_since(self.since).max(LIFE_MIN));
            self.renew_at = Some(now);
        }
        !self.unproven
    }

    /// The login on the side has failed while the session was good: the next one when it has expired.
    fn stays(&mut self) {
        self.renew_at = None;
    }

    /// Gives way to `next`, which is expected to live as long.
    fn replace(&mut self, next: Session) {
        *self = Session {
            life: self.life,
            renew_at: Some(next.since + self.life / 10 * 9),
            unproven: self.expired,
            ..next
        };
    }
}

/// The login on the side.
#[derive(Default)]
pub(super) enum Renewal {
    #[default]
    Idle,
    LoggingIn(Pin<Box<dyn Future<Output = Result<Session, Failure>>>>),
    /// Waits until no frame is in flight.
    Ready(Session),
}

impl Pump {
    /// Whether the next frame waits for a new session.
    pub(super) fn is_held(&self) -> bool {
        self.session.is_expired() || matches!(self.renewal, Renewal::Ready(_))
    }

    /// When the next login on the side is due.
    pub(super) fn renewal_due(&self) -> Option<Instant> {
        let idle = matches!(self.renewal, Renewal::Idle) && self.link.wanted();
        self.session.renew_at().filter(|_| idle)
    }

    /// Begins and ends the login on the side. Frames that were refused for their session go back to the
    /// queue when the last one in flight has been answered.
    pub(super) fn renew(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Stop> {
        if self.nothing_in_flight() {
            self.pipeline.give_back_expired();
        }
        if self.renewal_due().is_some_and(|due| due <= now) {
            let login = log_in(Rc::clone(&self.link), Rc::clone(self.group()));
            self.renewal = Renewal::LoggingIn(Box::pin(login));
        }
        if let Renewal::LoggingIn(login) = &mut self.renewal
            && let Poll::Ready(result) = login.as_mut().poll(cx)
        {
            self.renewal = match result {
                Ok(session) => Renewal::Ready(session),
                Err(failure) if self.session.is_expired() => return Err(Stop::Failed(failure)),
                Err(failure) => {
                    tracing::debug!(
                        group = self.link.group,
                        endpoint = self.link.endpoint.name,
                        class = failure.class,
                        error = failure.message,
                        "session not renewed, it is used until it expires"
                    );
                    self.session.stays();
                    Renewal::Idle
                }
            };
        }
        if self.nothing_in_flight()
            && let Renewal::Ready(_) = &self.renewal
            && let Renewal::Ready(next) = std::mem::take(&mut self.renewal)
        {
            tracing::debug!(
                group = self.link.group,
                endpoint = self.link.endpoint.name,
                "session renewed"
            );
            self.session.replace(next);
        }
        Ok(())
    }

    /// The oldest frame was refused because the session has expired: not taken, and its connection goes on.
    pub(super) fn expired(&mut self, text: String, now: Instant) -> Result<(), Stop> {
        let first = !self.session.is_expired();
        if !self.session.expired(now) {
            return Err(Stop::failed("session", text));
        }
        if !self.pipeline.expired() {
            return Err(Stop::failed("protocol", "an unsolicited reply"));
        }
        if first {
            tracing::info!(
                group = self.link.group,
                endpoint = self.link.endpoint.name,
                "session expired at the Traffic Manager: logging in again on the side"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_session_is_renewed_before_its_thirty_minutes_are_over() {
        let start = Instant::now();
        let mut session = Session::new(b"a".to_vec(), start);
        assert_eq!(session.renew_at(), Some(start + 27 * 60 * S));
        let next = Session::new(b"b".to_vec(), start + 1621 * S);
        session.replace(next);
        assert_eq!(session.id(), b"b");
        assert_eq!(session.renew_at(), Some(start + (1621 + 27 * 60) * S));
    }

    #[test]
    fn a_shorter_life_is_learned_and_renewed_before_its_end() {
        let start = Instant::now();
        let mut session = Session::new(b"a".to_vec(), start);
        assert!(session.expired(start + 60 * S) && session.expired(start + 70 * S));
        assert_eq!(session.renew_at(), Some(start + 60 * S), "at once");
        session.replace(Session::new(b"b".to_vec(), start + 61 * S));
        assert_eq!(session.renew_at(), Some(start + (61 + 54) * S));
        session.works();
        assert!(session.expired(start + 62 * S), "ended by something else");
        session.replace(Session::new(b"c".to_vec(), start + 62 * S));
        assert_eq!(
            session.renew_at(),
            Some(start + (62 + 9) * S),
            "no flood of logins"
        );
    }

    #[test]
    fn a_second_refusal_in_a_row_is_a_failure() {
        let start = Instant::now();
        let mut session = Session::new(b"a".to_vec(), start);
        assert!(
            session.expired(start + S),
            "the rest of the window is told the same"
        );
        assert!(session.expired(start + S));
        session.replace(Session::new(b"b".to_vec(), start + 2 * S));
        assert!(!session.expired(start + 3 * S));
        session.works();
        assert!(session.expired(start + 3 * S));
    }

    #[test]
    fn a_renewal_that_fails_waits_until_the_session_has_expired() {
        let start = Instant::now();
        let mut session = Session::new(b"a".to_vec(), start);
        session.stays();
        assert_eq!((session.renew_at(), session.is_expired()), (None, false));
        assert!(session.expired(start + LIFE));
        assert_eq!(session.renew_at(), Some(start + LIFE));
    }
}
