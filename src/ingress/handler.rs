//! Handles the frames of a connection, without I/O: login, logout and publish, and their replies in order.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Ingress;
use super::budget::FREE_BYTES;
use super::listener::address;
use super::login::log_in;
use super::replies::{Replies, retry_reply};
use crate::config::Ack;
use crate::relay::{Full, Place};
use crate::wire::reply::{AUTHENTICATION, Reply, SESSION_TIMEOUT, TRANSPORT, UNDEFINED_EVENT_TYPE};
use crate::wire::request::{HEADER_BYTES, LOGIN, PUBLISH};
use crate::wire::{Decoded, Events, FrameError, Front, Malformed, Request, front};

/// No session id that weir issues is longer.
const SESSION_MAX_BYTES: usize = 128;

pub(super) struct Handler {
    pub(super) ingress: Rc<Ingress>,
    pub(super) replies: Replies,
    pub(super) front: FrontFrame,
    peer: SocketAddr,
    is_tls: bool,
    verified: Option<Verified>,
    /// What this connection has done in this stage of a drain (see [`super::addresses`]).
    number: u32,
    /// The bytes that come next belong to a frame that is not kept.
    skip: Option<Box<Skip>>,
}

/// The frame at the front of the bytes that are not handled yet.
pub(super) struct FrontFrame {
    /// Bytes that it needs in all.
    pub(super) needed: usize,
    /// It is incomplete, and has shown a valid session.
    pub(super) verified: bool,
    /// It is to have this much memory; see [`Handler::examine_front`].
    pub(super) claim: Option<usize>,
    /// Since when it waits for capacity or memory.
    pub(super) blocked_since: Option<Instant>,
    /// Its place among those that wait for capacity.
    pub(super) place: Option<Place>,
    /// It has waited long enough: answer it with the retry reply.
    refuse: bool,
}

/// The session id this connection has used last, verified.
struct Verified {
    token: Box<[u8]>,
    valid_until: Instant,
    /// [`super::token::Tokens::revocations`] when it was checked.
    revocations: u64,
}

/// Why the handler stopped before the end of the bytes.
pub(super) enum Stop {
    /// Some group has no capacity for the frame at the front.
    Full(Full),
    /// A login: it may take time.
    Login { user: String, password: String },
    /// The replies must leave first.
    Flush,
    /// Framing is lost.
    Lost(FrameError),
}

/// A frame whose bytes are dropped as they arrive; it gets its reply when all of them have come.
struct Skip {
    /// Bytes that are still to come.
    left: usize,
    reason: SkipReason,
}

enum SkipReason {
    /// The session is unknown or expired: its id, printable.
    Expired(String),
    Malformed(u8, Malformed),
    /// A logout with an id that is too long.
    Logout,
    /// There was no memory for it in time.
    Refused,
}

impl FrontFrame {
    const NEW: Self = Self {
        needed: HEADER_BYTES,
        verified: false,
        claim: None,
        blocked_since: None,
        place: None,
        refuse: false,
    };
}

impl Handler {
    pub(super) fn new(ingress: Rc<Ingress>, peer: SocketAddr, is_tls: bool) -> Self {
        let number = ingress.addresses.borrow().number();
        Self {
            ingress,
            replies: Replies::default(),
            front: FrontFrame::NEW,
            peer,
            is_tls,
            verified: None,
            number,
            skip: None,
        }
    }

    /// Handles whole frames from the front of `bytes`: how many bytes are done with, and why it stopped
    /// if it was not for want of bytes.
    pub(super) fn consume(&mut self, bytes: &[u8], now: Instant) -> (usize, Option<Stop>) {
        let settings = self.ingress.settings();
        let (mut used, mut frames, mut publishes, mut events) = (0, 0, 0, 0);
        let stop = loop {
            if self.replies.are_many() {
                break Some(Stop::Flush);
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let (request, length) = match settings.decoder.decode(rest) {
                Ok(Decoded::Frame { request, length }) => (request, length),
                Ok(Decoded::Incomplete { needed }) => {
                    if self.examine_front(rest, needed, now) {
                        used = bytes.len();
                    }
                    break None;
                }
                Err(error) => {
                    if matches!(error, FrameError::UnknownType(_)) {
                        self.ingress.stats().unknown_type_total += 1;
                    }
                    break Some(Stop::Lost(error));
                }
            };
            let mut stop = None;
            match request {
                Ok(Request::Publish {
                    session,
                    events: sent,
                }) => match self.publish(session, sent, now) {
                    Ok(0) => {}
                    Ok(accepted) => {
                        publishes += 1;
                        events += accepted as u64;
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
                    // As for a valid one, the session comes first.
                    Front::Publish(session) if kind == PUBLISH && !self.verify(session, now) => {
                        self.expired(printable(session));
                    }
                    _ => self.malformed(kind, malformed),
                },
            }
            self.front = FrontFrame::NEW;
            used += length;
            frames += 1;
            if stop.is_some() {
                break stop;
            }
        };
        let mut stats = self.ingress.stats();
        stats.frames_total += frames;
        stats.publishes_ok_total += publishes;
        stats.events_ok_total += events;
        (used, stop)
    }

    /// Examines an incomplete frame before memory is kept for it. True when nothing of it needs to be kept. Sets the
    /// front frame's claim where it needs more memory than every connection may use.
    fn examine_front(&mut self, bytes: &[u8], needed: usize, now: Instant) -> bool {
        self.front.needed = needed;
        if self.front.verified || bytes.is_empty() {
            return false;
        }
        let reason = match front(bytes, SESSION_MAX_BYTES) {
            Front::Publish(session) if self.verify(session, now) => {
                self.front.verified = true;
                self.front.claim = (needed > FREE_BYTES).then_some(needed);
                return false;
            }
            Front::Publish(session) => SkipReason::Expired(printable(session)),
            Front::Malformed(kind, malformed) => SkipReason::Malformed(kind, malformed),
            Front::Logout(session) if session.len() > SESSION_MAX_BYTES => SkipReason::Logout,
            Front::Open | Front::Logout(_) => {
                // A front of this length can be examined, and a valid login or logout is shorter.
                self.front.needed = needed.min(FREE_BYTES);
                return false;
            }
        };
        self.skip_rest(needed.saturating_sub(bytes.len()), reason);
        true
    }

    /// The frame at the front, of which `kept` bytes were read, has waited for memory for too long: the rest is read
    /// without being kept, and answered with the retry reply.
    pub(super) fn refuse_partial(&mut self, kept: usize) {
        let left = self.front.needed.saturating_sub(kept);
        self.front = FrontFrame::NEW;
        self.skip_rest(left, SkipReason::Refused);
    }

    fn skip_rest(&mut self, left: usize, reason: SkipReason) {
        self.skip = Some(Box::new(Skip { left, reason }));
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skip.is_some()
    }

    /// How many bytes more belong to the frame that is skipped.
    pub(super) fn skips(&self) -> usize {
        self.skip.as_ref().map_or(0, |skip| skip.left)
    }

    /// Skips the next bytes as far as they belong to such a frame, and replies to it at its end. Returns how many did.
    pub(super) fn skip(&mut self, bytes: usize) -> usize {
        let Some(skip) = &mut self.skip else { return 0 };
        let skipped = bytes.min(skip.left);
        skip.left -= skipped;
        if skip.left > 0 {
            return skipped;
        }
        let reason = self.skip.take().map(|skip| skip.reason);
        self.ingress.stats().frames_total += 1;
        match reason {
            Some(SkipReason::Expired(id)) => self.expired(id),
            Some(SkipReason::Malformed(kind, malformed)) => self.malformed(kind, malformed),
            Some(SkipReason::Logout) => self.logged_out(),
            Some(SkipReason::Refused) => {
                self.ingress.stats().partial_refused_total += 1;
                self.refused();
            }
            None => {}
        }
        skipped
    }

    /// Moves resolved receipts to the replies; whether there were any.
    pub(super) fn settle_replies(&mut self, waker: &Waker, now: Instant) -> bool {
        let settled = self.replies.settle(waker, now);
        if settled.is_empty() {
            return false;
        }
        let mut stats = self.ingress.stats();
        stats.publishes_ok_total += settled.publishes_ok;
        stats.events_ok_total += settled.events_ok;
        stats.publishes_refused_total += settled.publishes_refused;
        true
    }

    fn expired(&mut self, id: String) {
        self.ingress.stats().session_errors_total += 1;
        self.replies.send(&Reply::Error {
            class: SESSION_TIMEOUT,
            message: format!("{id} expired"),
        });
    }

    fn refused(&mut self) {
        self.ingress.stats().publishes_refused_total += 1;
        self.replies.send(&retry_reply());
    }

    /// Sends a publish away where this stage of a drain does so; only for connections without a served publish in this
    /// stage. A few times at most: an agent that stays, or comes back, is served.
    fn is_sent_away(&mut self) -> bool {
        let address = address(self.peer);
        let (number, away) = self
            .ingress
            .addresses
            .borrow_mut()
            .publishes(address, self.number);
        self.number = number;
        if away {
            self.ingress.stats().publishes_sent_away_total += 1;
            self.replies.send(&Reply::Error {
                class: TRANSPORT,
                message: "weir is about to end, send the events elsewhere".into(),
            });
        }
        away
    }

    /// See [`super::addresses`].
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Events that were accepted and answered ok (0: answered otherwise, or to be answered later).
    fn publish(&mut self, session: &[u8], events: Events<'_>, now: Instant) -> Result<usize, Full> {
        if !self.verify(session, now) {
            self.expired(printable(session));
            return Ok(0);
        }
        if self.number < self.ingress.noted_from.get() && self.is_sent_away() {
            return Ok(0);
        }
        if events.count() == 0 {
            self.replies.ok();
            return Ok(0);
        }
        let settings = self.ingress.settings();
        let (relay, place) = (&self.ingress.relay, &mut self.front.place);
        let receipt = match relay.admit(events, now, settings.ack == Ack::Delivered, place) {
            Ok(receipt) => receipt,
            Err(full) if !self.front.refuse => return Err(full),
            Err(_) => {
                self.refused();
                return Ok(0);
            }
        };
        self.ingress.taps.pass(events, now);
        match receipt {
            None => {
                self.replies.ok();
                Ok(events.count())
            }
            Some(receipt) => {
                self.replies
                    .wait(receipt, events.count() as u64, now + settings.reply_timeout);
                Ok(0)
            }
        }
    }

    pub(super) fn is_verified(&self) -> bool {
        self.verified.is_some()
    }

    /// Whether a session id is valid. Checked once, then compared: a signature costs more than a frame.
    fn verify(&mut self, session: &[u8], now: Instant) -> bool {
        let revocations = self.ingress.tokens.revocations();
        if let Some(verified) = &self.verified
            && *verified.token == *session
            && verified.revocations == revocations
        {
            return now < verified.valid_until;
        }
        let settings = self.ingress.settings();
        let now_ms = self.ingress.unix_ms();
        let Some(valid) = self.ingress.tokens.check(session, &settings.users, now_ms) else {
            return false;
        };
        let left_ms = u64::try_from(valid.expires_ms.saturating_sub(now_ms)).unwrap_or(0);
        let left = Duration::from_millis(left_ms).min(settings.session_ttl);
        self.verified = Some(Verified {
            token: session.into(),
            valid_until: now + left,
            revocations,
        });
        true
    }

    /// A logout of an unknown session is answered ok, as a Traffic Manager does.
    fn logout(&mut self, session: &[u8]) {
        let (settings, now_ms) = (self.ingress.settings(), self.ingress.unix_ms());
        if let Some(valid) = self.ingress.tokens.check(session, &settings.users, now_ms)
            && let Some(user) = self.ingress.tokens.revoke(session, valid.user, now_ms)
        {
            self.warn(&format!(
                "too many logouts to remember: older sessions of user {user:?} have to log in again"
            ));
        }
        self.logged_out();
    }

    fn logged_out(&mut self) {
        self.ingress.stats().logouts_total += 1;
        self.replies.ok();
    }

    /// The frame's borders are valid: it gets a reply. The agent drops a batch that is answered with
    /// `UndefinedEventTypeException`; with any other class it would send the same bytes for ever.
    fn malformed(&mut self, kind: u8, malformed: Malformed) {
        self.ingress.stats().malformed_total += 1;
        self.warn(&format!("malformed frame: {malformed}"));
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

    /// Decides a login and replies.
    pub(super) async fn login(&mut self, user: String, password: String) {
        match log_in(&self.ingress, self.peer, self.is_tls, &user, password).await {
            Ok(session) => self.replies.send(&Reply::LoginOk {
                session: session.as_bytes(),
            }),
            Err(message) => self.replies.send(&Reply::Error {
                class: AUTHENTICATION,
                message: message.into(),
            }),
        }
    }

    /// Waits until the frame at the front may be tried again, or must be refused, or a reply to an
    /// earlier one is due.
    pub(super) async fn wait_for_capacity(&mut self, full: Full) {
        let ingress = Rc::clone(&self.ingress);
        let began = Instant::now();
        let give_up = *self.front.blocked_since.get_or_insert(began) + ingress.settings().reply_timeout;
        ingress.stats().blocked_now += 1;
        let until = [full.retry_at, self.replies.due()]
            .into_iter()
            .flatten()
            .fold(give_up, Instant::min);
        let called = async {
            match &self.front.place {
                Some(place) => place.called().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Capacity first: when both have come, the frame is better accepted than refused.
            biased;
            () = called => {}
            () = sleep_until(until) => {}
        }
        let now = Instant::now();
        let mut stats = ingress.stats();
        stats.blocked_now -= 1;
        let waited = now.duration_since(began).as_nanos();
        stats.blocked_nanos_total += u64::try_from(waited).unwrap_or(u64::MAX);
        self.front.refuse = now >= give_up;
    }

    /// Logs a line about this peer, if it is time for one.
    pub(super) fn warn(&self, what: &str) {
        self.ingress.warn(Some(self.peer), what);
    }
}

/// A session id as it is shown to its gateway. ASCII only: the agent counts characters and reads bytes.
fn printable(session: &[u8]) -> String {
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
