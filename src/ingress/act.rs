//! What a session does with whole frames: login, logout, publish.

use tokio::time::{Instant, sleep, sleep_until};

use super::auth::Attempt;
use super::budget::FREE_BYTES;
use super::hashing::Busy;
use super::listener::{address, warn};
use super::replies::gentle_no;
use super::session::{Memory, Session};
use super::slowdown::source;
use crate::config::Ack;
use crate::relay::{Full, Receipt};
use crate::wire::reply::{AUTHENTICATION, Reply, SESSION_TIMEOUT, TRANSPORT, UNDEFINED_EVENT_TYPE};
use crate::wire::request::{LOGIN, PUBLISH};
use crate::wire::{Decoded, Events, FrameError, Front, Malformed, Request, front};

/// No session id that weir issues is longer.
const SESSION_MAX_BYTES: usize = 128;

/// Why a session does not simply go on with the next frame.
pub(super) enum Stop {
    /// Some group has no room for the frame at the front.
    Full(Full),
    /// A login: it may take time.
    Login { user: String, password: String },
    /// Framing is lost.
    Lost(FrameError),
}

/// A frame whose bytes are thrown away as they arrive; it is answered when all of them have come.
pub(super) struct Skip {
    /// Bytes that are still to come.
    left: usize,
    why: Skipped,
}

enum Skipped {
    /// The session is unknown or expired: its id as it is shown.
    Expired(String),
    Malformed(u8, Malformed),
    /// A logout of a session that cannot be.
    Logout,
    /// There was no memory for it in time.
    Refused,
}

/// The session id this connection has used last, checked.
pub(super) struct Known {
    token: Box<[u8]>,
    valid_until: Instant,
    /// [`super::token::Tokens::revocations`] when it was checked.
    revocations: u64,
}

impl Session {
    /// Handles whole frames from the front of `bytes`: how many bytes are done with, and why it stopped
    /// if it was not for want of bytes.
    pub(super) fn consume(&mut self, bytes: &[u8], now: Instant) -> (usize, Option<Stop>) {
        let settings = self.gate.settings();
        let (mut used, mut frames, mut publishes, mut events) = (0, 0, 0, 0);
        let stop = loop {
            if self.replies.are_many() {
                self.resume = true;
                break None;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let (request, length) = match settings.decoder.decode(rest) {
                Ok(Decoded::Frame { request, length }) => (request, length),
                Ok(Decoded::Incomplete { needed }) => {
                    if self.judge_front(rest, needed, now) {
                        used = bytes.len();
                    }
                    break None;
                }
                Err(error) => {
                    if matches!(error, FrameError::UnknownType(_)) {
                        self.gate.stats().unknown_type_total += 1;
                    }
                    break Some(Stop::Lost(error));
                }
            };
            let mut stop = None;
            match request {
                Ok(Request::Publish {
                    session,
                    events: published,
                }) => match self.publish(session, published, now) {
                    Ok(0) => {}
                    Ok(taken) => {
                        publishes += 1;
                        events += taken as u64;
                    }
                    Err(full) => break Some(Stop::Full(full)),
                },
                Ok(Request::Login { user, password }) => {
                    stop = Some(Stop::Login {
                        user: user.to_owned(),
                        password: password.to_owned(),
                    });
                }
                Ok(Request::Logout { session }) => self.logout(session),
                Err((kind, malformed)) => match front(rest, SESSION_MAX_BYTES) {
                    // As for a sound one, the session comes first.
                    Front::Publish(session) if kind == PUBLISH && !self.is_known(session, now) => {
                        self.expired(shown(session));
                    }
                    _ => self.malformed(kind, malformed),
                },
            }
            self.next_front();
            used += length;
            frames += 1;
            if stop.is_some() {
                break stop;
            }
        };
        let mut stats = self.gate.stats();
        stats.frames_total += frames;
        stats.publishes_ok_total += publishes;
        stats.events_ok_total += events;
        (used, stop)
    }

    /// Looks at a frame of which only the front is there, before memory is kept for it. True when nothing of
    /// it needs to be kept.
    fn judge_front(&mut self, bytes: &[u8], needed: usize, now: Instant) -> bool {
        self.needed = needed;
        if self.judged || bytes.is_empty() {
            return false;
        }
        let why = match front(bytes, SESSION_MAX_BYTES) {
            Front::Publish(session) if self.is_known(session, now) => {
                self.judged = true;
                if needed > FREE_BYTES {
                    self.claim(needed, bytes.len(), now);
                }
                return false;
            }
            Front::Publish(session) => Skipped::Expired(shown(session)),
            Front::Malformed(kind, malformed) => Skipped::Malformed(kind, malformed),
            Front::Logout(session) if session.len() > SESSION_MAX_BYTES => Skipped::Logout,
            Front::Open | Front::Logout(_) => {
                // A front of this length can be judged, and a login or logout that is sound is shorter.
                self.needed = needed.min(FREE_BYTES);
                return false;
            }
        };
        self.skip_rest(needed.saturating_sub(bytes.len()), why);
        true
    }

    fn claim(&mut self, bytes: usize, kept: usize, now: Instant) {
        // What was kept so far may be the front of this frame, and is part of its claim.
        self.memory = Memory::Free;
        self.memory = match self.gate.budget().claim(bytes, kept) {
            Ok(claim) => Memory::Claimed(claim),
            Err(wait) => {
                self.blocked_since.get_or_insert(now);
                Memory::Wanted(wait)
            }
        };
    }

    /// The frame at the front has waited for memory for too long: it is read without being kept, and answered
    /// with the gentle no.
    pub(super) fn refuse_partial(&mut self, kept: usize) {
        let left = self.needed.saturating_sub(kept);
        self.next_front();
        self.memory = Memory::Free;
        self.skip_rest(left, Skipped::Refused);
    }

    fn skip_rest(&mut self, left: usize, why: Skipped) {
        self.skip = Some(Box::new(Skip { left, why }));
    }

    /// How many of `bytes` bytes more the next read may take for the frame that is thrown away.
    pub(super) fn skips(&self) -> usize {
        self.skip.as_ref().map_or(0, |skip| skip.left)
    }

    /// Throws the next bytes away as far as they belong to such a frame, and answers it at its end. Returns how
    /// many did.
    pub(super) fn skip(&mut self, bytes: usize) -> usize {
        let Some(skip) = &mut self.skip else { return 0 };
        let skipped = bytes.min(skip.left);
        skip.left -= skipped;
        if skip.left > 0 {
            return skipped;
        }
        let why = self.skip.take().map(|skip| skip.why);
        self.gate.stats().frames_total += 1;
        match why {
            Some(Skipped::Expired(id)) => self.expired(id),
            Some(Skipped::Malformed(kind, malformed)) => self.malformed(kind, malformed),
            Some(Skipped::Logout) => self.logged_out(),
            Some(Skipped::Refused) => {
                self.gate.stats().partial_refused_total += 1;
                self.refused();
            }
            None => {}
        }
        skipped
    }

    /// The frame at the front is another one now.
    fn next_front(&mut self) {
        self.judged = false;
        self.blocked_since = None;
        self.refuse_front = false;
        self.place = None;
    }

    fn expired(&mut self, id: String) {
        self.gate.stats().session_errors_total += 1;
        self.replies.send(&Reply::Error {
            class: SESSION_TIMEOUT,
            message: format!("{id} expired"),
        });
    }

    fn refused(&mut self) {
        self.gate.stats().publishes_refused_total += 1;
        self.replies.send(&gentle_no());
    }

    /// Sends a publish away where this stage of a drain does so; only for connections without a served publish in this
    /// stage. A few times at most: an agent that stays, or comes back, is served.
    fn is_sent_away(&mut self) -> bool {
        let (number, away) = self.gate.note(address(self.peer), self.replies.number);
        self.replies.number = number;
        if away {
            self.send_away();
        }
        away
    }

    fn send_away(&mut self) {
        self.gate.stats().publishes_sent_away_total += 1;
        self.replies.send(&Reply::Error {
            class: TRANSPORT,
            message: "weir is about to end, send the events elsewhere".into(),
        });
    }

    /// Events that were taken and answered ok (0: answered otherwise, or to be answered later).
    fn publish(&mut self, session: &[u8], events: Events<'_>, now: Instant) -> Result<usize, Full> {
        if !self.is_known(session, now) {
            self.expired(shown(session));
            return Ok(0);
        }
        if !self.gate.has_noted(self.replies.number) && self.is_sent_away() {
            return Ok(0);
        }
        if events.count() == 0 {
            self.replies.ok();
            return Ok(0);
        }
        let settings = self.gate.settings();
        let receipt = (settings.ack == Ack::Delivered).then(Receipt::new);
        let admitted = self
            .gate
            .fanout
            .admit(events, now, receipt.as_ref(), &mut self.place);
        if let Err(full) = admitted {
            if !self.refuse_front {
                return Err(full);
            }
            self.refused();
            return Ok(0);
        }
        self.gate.taps.pass(events, now);
        match receipt {
            None => {
                self.replies.ok();
                Ok(events.count())
            }
            Some(receipt) => {
                receipt.admitted();
                self.replies
                    .wait(receipt, events.count() as u64, now + settings.reply_timeout);
                Ok(0)
            }
        }
    }

    /// Checked once, then compared: a signature costs more than a frame.
    fn is_known(&mut self, session: &[u8], now: Instant) -> bool {
        let revocations = self.gate.tokens.revocations();
        if let Some(known) = &self.known
            && *known.token == *session
            && known.revocations == revocations
        {
            return now < known.valid_until;
        }
        let settings = self.gate.settings();
        let now_ms = self.gate.unix_ms();
        let Some(valid) = self.gate.tokens.check(session, &settings.users, now_ms) else {
            return false;
        };
        let left_ms = u64::try_from(valid.expires_ms.saturating_sub(now_ms)).unwrap_or(0);
        let left = std::time::Duration::from_millis(left_ms).min(settings.session_ttl);
        self.known = Some(Known {
            token: session.into(),
            valid_until: now + left,
            revocations,
        });
        true
    }

    /// A logout of an unknown session is answered ok, as a Traffic Manager does.
    fn logout(&mut self, session: &[u8]) {
        let (settings, now_ms) = (self.gate.settings(), self.gate.unix_ms());
        if let Some(valid) = self.gate.tokens.check(session, &settings.users, now_ms)
            && let Some(user) = self.gate.tokens.revoke(session, valid.user, now_ms)
        {
            warn(
                &self.gate,
                Some(self.peer),
                &format!(
                    "too many logouts to remember: older sessions of user {user:?} have to log in again"
                ),
            );
        }
        self.logged_out();
    }

    fn logged_out(&mut self) {
        self.gate.stats().logouts_total += 1;
        self.replies.ok();
    }

    /// The frame's borders are sound: an answer. The agent drops a batch that is answered with
    /// `UndefinedEventTypeException`; with any other class it would send the same bytes for ever.
    fn malformed(&mut self, kind: u8, malformed: Malformed) {
        self.gate.stats().malformed_total += 1;
        warn(
            &self.gate,
            Some(self.peer),
            &format!("malformed frame: {malformed}"),
        );
        let class = if kind == LOGIN {
            AUTHENTICATION
        } else {
            UNDEFINED_EVENT_TYPE
        };
        self.replies.send(&Reply::Error {
            class,
            message: malformed.to_string(),
        });
    }

    pub(super) async fn login(&mut self, user: String, password: String) {
        let gate = std::rc::Rc::clone(&self.gate);
        let settings = gate.settings();
        let refuse = |message: &str| Reply::Error {
            class: AUTHENTICATION,
            message: message.into(),
        };
        if !self.is_tls() && !settings.allow_plaintext_login {
            gate.stats().logins_plaintext_refused_total += 1;
            warn(
                &gate,
                Some(self.peer),
                "login over the plain port refused (auth.allow_plaintext_login is false)",
            );
            self.replies
                .send(&refuse("login over plain TCP is refused, use the TLS port"));
            return;
        }
        let from = source(self.peer.ip());
        let delay = gate.slowdown.borrow().delay(from, Instant::now());
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let attempt = Attempt::new(&settings.users, &user, password);
        let decided = match attempt.decided() {
            Ok(decided) => Ok(decided),
            Err(attempt) => gate.hashing.settle(from, attempt).await,
        };
        let good = match decided {
            Ok(user) => user.and_then(|i| settings.users.get(i)),
            Err(Busy) => {
                gate.stats().logins_busy_total += 1;
                warn(
                    &gate,
                    Some(self.peer),
                    "login refused: too many logins wait for their argon2 hash",
                );
                self.replies.send(&refuse("too many logins at once, try again"));
                return;
            }
        };
        let Some(good) = good else {
            gate.slowdown.borrow_mut().failed(from, Instant::now());
            gate.stats().logins_failed_total += 1;
            let shown: String = user.chars().take(64).collect();
            warn(
                &gate,
                Some(self.peer),
                &format!("login failed: wrong user name or password (user {shown:?})"),
            );
            self.replies.send(&refuse("wrong userName or password"));
            return;
        };
        let ttl_ms = i64::try_from(settings.session_ttl.as_millis()).unwrap_or(i64::MAX);
        let now_ms = gate.unix_ms();
        match gate.tokens.issue(good, now_ms, now_ms.saturating_add(ttl_ms)) {
            Ok(token) => {
                gate.stats().logins_ok_total += 1;
                self.replies.send(&Reply::LoginOk {
                    session: token.as_bytes(),
                });
            }
            Err(error) => {
                tracing::error!(error, "cannot issue a session");
                self.replies.send(&refuse("no session can be issued now"));
            }
        }
    }

    /// Waits until the frame at the front may be tried again, or must be refused, or an answer to an
    /// earlier one is due.
    pub(super) async fn wait_for_room(&mut self, full: Full) {
        let gate = std::rc::Rc::clone(&self.gate);
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let began = Instant::now();
        let give_up = since + gate.settings().reply_timeout;
        gate.stats().blocked_now += 1;
        let until = [full.retry_at, self.replies.due()]
            .into_iter()
            .flatten()
            .fold(give_up, Instant::min);
        let called = async {
            match &self.place {
                Some(place) => place.called().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Room first: when both have come, the frame is better taken than refused.
            biased;
            () = called => {}
            () = sleep_until(until) => {}
        }
        let now = Instant::now();
        let mut stats = gate.stats();
        stats.blocked_now -= 1;
        let waited = now.duration_since(began).as_nanos();
        stats.blocked_nanos_total += u64::try_from(waited).unwrap_or(u64::MAX);
        self.refuse_front = now >= give_up;
    }
}

/// A session id as it is shown to its gateway. ASCII only: the agent counts characters and reads bytes.
fn shown(session: &[u8]) -> String {
    session.escape_ascii().take(64).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Password, Secret, User};
    use crate::ingress::token::Tokens;

    #[test]
    fn a_session_id_that_weir_issues_is_never_too_long() {
        let user = User {
            name: "admin".into(),
            password: Password::Clear(Secret::new("admin")),
        };
        let tokens = Tokens::new(None).unwrap();
        let id = tokens.issue(&user, i64::MAX, i64::MAX).unwrap();
        assert!(id.len() <= SESSION_MAX_BYTES);
    }
}
