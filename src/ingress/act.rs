//! What a session does with whole frames: login, logout, publish.

use tokio::time::{Instant, sleep, sleep_until};

use super::auth::{Check, check, verify_hash};
use super::listener::warn;
use super::replies::gentle_no;
use super::session::Session;
use crate::config::Ack;
use crate::relay::{Full, Receipt};
use crate::wire::reply::{AUTHENTICATION, Reply, SESSION_TIMEOUT, UNDEFINED_EVENT_TYPE};
use crate::wire::request::LOGIN;
use crate::wire::{Batch, Decoded, FrameError, Malformed, Request};

/// Why a session does not simply go on with the next frame.
pub(super) enum Stop {
    /// Some group has no room for the frame at the front.
    Full(Full),
    /// A login: it may take time.
    Login { user: String, password: String },
    /// Framing is lost.
    Lost(FrameError),
}

/// The session id this connection has used last, checked.
pub(super) struct Known {
    token: Vec<u8>,
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
                    self.needed = needed;
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
                Ok(Request::Publish { session, batch }) => match self.publish(session, batch, now) {
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
                Err((kind, malformed)) => self.malformed(kind, malformed),
            }
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

    /// Events that were taken and answered ok (0: answered otherwise, or to be answered later).
    fn publish(&mut self, session: &[u8], batch: Batch<'_>, now: Instant) -> Result<usize, Full> {
        if !self.is_known(session, now) {
            self.gate.stats().session_errors_total += 1;
            // ASCII only: the agent counts characters and reads bytes.
            let id: String = session.escape_ascii().take(64).map(char::from).collect();
            self.replies.send(&Reply::Error {
                class: SESSION_TIMEOUT,
                message: format!("{id} expired"),
            });
            return Ok(0);
        }
        if batch.events() == 0 {
            self.replies.ok();
            return Ok(0);
        }
        let settings = self.gate.settings();
        let receipt = (settings.ack == Ack::Delivered).then(Receipt::new);
        if let Err(full) = self.gate.fanout.admit(batch, now, receipt.as_ref()) {
            if !self.refuse_front {
                return Err(full);
            }
            self.waited();
            self.gate.stats().publishes_refused_total += 1;
            self.replies.send(&gentle_no());
            return Ok(0);
        }
        self.gate.taps.pass(batch, now);
        self.waited();
        match receipt {
            None => {
                self.replies.ok();
                Ok(batch.events())
            }
            Some(receipt) => {
                receipt.admitted();
                self.replies
                    .wait(receipt, batch.events() as u64, now + settings.reply_timeout);
                Ok(0)
            }
        }
    }

    /// The frame at the front is another one now.
    fn waited(&mut self) {
        self.blocked_since = None;
        self.refuse_front = false;
    }

    /// Checked once, then compared: a signature costs more than a frame.
    fn is_known(&mut self, session: &[u8], now: Instant) -> bool {
        let revocations = self.gate.tokens.revocations();
        if let Some(known) = &self.known
            && known.token == session
            && known.revocations == revocations
        {
            return now < known.valid_until;
        }
        let settings = self.gate.settings();
        let now_ms = self.gate.unix_ms();
        let users = settings.users.iter().map(|u| u.name.as_str());
        let Some(valid) = self.gate.tokens.check(session, users, now_ms) else {
            return false;
        };
        let left_ms = u64::try_from(valid.expires_ms.saturating_sub(now_ms)).unwrap_or(0);
        let left = std::time::Duration::from_millis(left_ms).min(settings.session_ttl);
        self.known = Some(Known {
            token: session.to_vec(),
            valid_until: now + left,
            revocations,
        });
        true
    }

    /// A logout of an unknown session is answered ok, as a Traffic Manager does.
    fn logout(&mut self, session: &[u8]) {
        if self.is_known(session, Instant::now()) {
            self.gate.tokens.revoke(session, self.gate.unix_ms());
        }
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
        let ip = self.peer.ip();
        let delay = gate.slowdown.borrow().delay(ip, Instant::now());
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let good = match check(&settings.users, &user, &password) {
            Check::Decided(good) => good,
            Check::Hash(phc) => {
                let _turn = gate.hashing.acquire().await;
                tokio::task::spawn_blocking(move || verify_hash(&phc, &password))
                    .await
                    .unwrap_or(false)
            }
        };
        if !good {
            gate.slowdown.borrow_mut().failed(ip, Instant::now());
            gate.stats().logins_failed_total += 1;
            let shown: String = user.chars().take(64).collect();
            warn(
                &gate,
                Some(self.peer),
                &format!("login failed: wrong user name or password (user {shown:?})"),
            );
            self.replies.send(&refuse("wrong userName or password"));
            return;
        }
        let ttl_ms = i64::try_from(settings.session_ttl.as_millis()).unwrap_or(i64::MAX);
        match gate.tokens.issue(&user, gate.unix_ms().saturating_add(ttl_ms)) {
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
        tokio::select! {
            // Room first: when both have come, the frame is better taken than refused.
            biased;
            () = gate.fanout.room() => {}
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
