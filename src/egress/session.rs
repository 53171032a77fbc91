//! The session of a link's connection: when it is renewed. Pure: time is an argument.
//!
//! A Traffic Manager ends a session 30 minutes after its login, whatever the traffic. A login on a connection of its own
//! renews it before that, and at once when the Traffic Manager says that it has expired; the link's connection stays.

use std::time::Duration;

use tokio::time::Instant;

/// How long a session lives at a Traffic Manager that has not shown otherwise.
const LIFE: Duration = Duration::from_secs(30 * 60);

/// Shorter lives are not learned, so that logins stay rare.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// A session id and what is known of its life.
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

    /// When the next login is due; `None` = when the session has expired.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// A frame was answered ok.
    pub(super) fn works(&mut self) {
        self.unproven = false;
    }

    /// The Traffic Manager says that the session has expired. False when it said the same of the previous session and has
    /// taken nothing in between: another login would not help.
    pub(super) fn expired(&mut self, now: Instant) -> bool {
        if !self.expired && !self.unproven {
            self.expired = true;
            self.life = self.life.min(now.duration_since(self.since).max(LIFE_MIN));
            self.renew_at = Some(now);
        }
        !self.unproven
    }

    /// The renewal has failed while the session was still good: the next login is due when it has expired.
    pub(super) fn stays(&mut self) {
        self.renew_at = None;
    }

    /// Replaced by `next`, which is expected to live as long.
    pub(super) fn replace(&mut self, next: Session) {
        *self = Session {
            life: self.life,
            renew_at: Some(next.since + self.life / 10 * 9),
            unproven: self.expired,
            ..next
        };
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
        assert_eq!(session.renew_at(), Some(start + (62 + 9) * S), "logins stay rare");
    }

    #[test]
    fn a_second_refusal_in_a_row_is_a_failure() {
        let start = Instant::now();
        let mut session = Session::new(b"a".to_vec(), start);
        assert!(
            session.expired(start + S),
            "the rest of the window gets the same reply"
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
