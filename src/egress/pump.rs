//! One connection at work: takes batches while its window is open, writes them in few full frames, reads replies, renews
//! its session, and notices when its peer is mute.
//!
//! A hand-written poll, because all of this shares one state. One turn reads what has arrived, loads and writes as much
//! as window and socket take, then waits for whatever can happen next. Replies of a busy link are read along with its
//! next write or after a short delay, so that the link is not woken for each of them.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::answered::JustAnswered;
use super::frame::{heartbeat, next_frame};
use super::group::Shared;
use super::link::log_in;
use super::outbox::{Outbox, SLICES_MAX};
use super::pipeline::{Frame, Pipeline};
use super::session::Session;
use super::state::{Failure, Link};
use crate::config;
use crate::net::Stream;
use crate::relay::Offer;
use crate::wire::reply::{Reply, SESSION_TIMEOUT, short_class};

/// How late a reply may be noticed on a link whose window is open.
const LAZY_READ: Duration = Duration::from_millis(5);

/// Between noticing that a reply is late and giving the peer up: the runtime looks at the socket once more.
pub(super) const LAST_LOOK: Duration = Duration::from_millis(10);

/// A new connection sends a heartbeat after this much silence at the latest: if the receiver is a weir, it resets a
/// connection that shows no session within `listen.first_frame_timeout`.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(20);

/// Replies are one byte each; more than a window of them never waits.
const READ_BYTES: usize = 256;

pub(super) struct Pump {
    link: Rc<Link>,
    group: Rc<Shared>,
    settings: Rc<config::Link>,
    stream: Stream,
    session: Session,
    renewal: Renewal,
    outbox: Outbox,
    pipeline: Pipeline,
    /// An incomplete reply; nearly always empty.
    inbox: Vec<u8>,
    unflushed: bool,
    /// Has taken something since it last entered the wait queue: other links come first.
    served: bool,
    answered: JustAnswered,
    last_read: Instant,
    last_write: Instant,
    began: Instant,
    /// A reply is late: the peer is given up at this time.
    last_look: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

/// A login that runs beside the connection.
#[derive(Default)]
enum Renewal {
    #[default]
    Idle,
    LoggingIn(Pin<Box<dyn Future<Output = Result<Session, Failure>>>>),
    /// Takes effect when no frame is in flight. With two sessions at a time, frames of the old one would be refused while
    /// younger ones were taken, and the order of events would be lost.
    Ready(Session),
}

/// Why the connection ends.
enum Stop {
    /// Switched off; nothing was in flight.
    Released,
    Failed(Failure),
    /// An error reply that is not about the session; it is about the oldest frame.
    ErrorReply(Failure),
}

impl Stop {
    fn failed(class: &'static str, message: impl Into<String>) -> Self {
        Stop::Failed(Failure::new(class, message))
    }

    fn lost(error: &io::Error) -> Self {
        Self::failed("closed", format!("connection lost: {error}"))
    }

    fn unsolicited() -> Self {
        Self::failed("protocol", "unsolicited reply")
    }
}

impl Pump {
    pub(super) fn new(link: Rc<Link>, group: Rc<Shared>, stream: Stream, session: Session) -> Self {
        let now = Instant::now();
        Self {
            link,
            settings: group.settings(),
            group,
            stream,
            session,
            renewal: Renewal::default(),
            outbox: Outbox::default(),
            pipeline: Pipeline::default(),
            inbox: Vec::new(),
            unflushed: false,
            served: false,
            answered: JustAnswered::default(),
            last_read: now,
            last_write: now,
            began: now,
            last_look: None,
            alarm: Box::pin(sleep_until(now)),
        }
    }

    /// Runs until the connection fails, or until the link is switched off and nothing is in flight. Everything without a
    /// reply is then back in the queue, in order.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let stop = poll_fn(|cx| self.poll(cx)).await;
        self.group.queue.leave(self.link.id);
        let pipeline = std::mem::take(&mut self.pipeline);
        let end = match stop {
            Stop::Released => Ok(()),
            Stop::Failed(failure) => Err(failure),
            Stop::ErrorReply(failure) => {
                let rejected = pipeline.answered_with_error();
                if rejected > 0 {
                    tracing::warn!(
                        group = self.link.group,
                        endpoint = self.link.endpoint.name,
                        events = rejected,
                        "events rejected after three error replies"
                    );
                }
                Err(failure)
            }
        };
        self.link.stats.borrow_mut().inflight_frames = 0;
        self.link.oldest_unanswered.set(None);
        self.link.oldest_accepted.set(None);
        self.link.logging_in.set(false);
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.link.park(cx.waker());
        // A reload wakes the pump: from here on it uses the new settings.
        self.settings = self.group.settings();
        loop {
            match self.turn(cx) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(stop) => return Poll::Ready(stop),
            }
        }
    }

    /// `Ready`: something has happened already, so the next turn follows at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Stop> {
        let now = Instant::now();
        if self.pipeline.len() > 0 {
            self.read(&mut Context::from_waker(Waker::noop()), now)?;
        }
        self.renew(cx, now)?;
        let offer = self.write(cx, now)?;
        if self.nothing_in_flight() && !self.link.wanted() {
            return Err(Stop::Released);
        }
        // A link whose window is open writes again soon, or looks after `LAZY_READ`.
        let lazy =
            self.pipeline.len() > 0 && self.is_window_open() && !self.group.is_eager() && !self.is_held();
        if !lazy && self.read(cx, now)? {
            return Ok(Poll::Ready(()));
        }
        self.wait(cx, now, offer, lazy)
    }

    // === Frames going out ===

    /// Loads and writes until window, queue or socket stop it. Returns what the queue offers, or `None` if the link may
    /// not take it now.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Option<Offer>, Stop> {
        let offer = loop {
            if self.outbox.is_empty() {
                let may_take = self.is_window_open() && self.link.may_take() && !self.is_held();
                let offer = may_take.then(|| self.group.queue.offer(now, self.linger()));
                if !self.load(offer, now) {
                    break offer;
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.outbox.slices(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..used]) {
                Poll::Pending => break None,
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.outbox.advance(written);
                    self.unflushed = true;
                    self.last_write = now;
                    self.link.stats.borrow_mut().sent_bytes_total += written as u64;
                }
                Poll::Ready(Ok(_)) => return Err(Stop::failed("closed", "write returned 0 bytes")),
                Poll::Ready(Err(e)) => return Err(Stop::lost(&e)),
            }
        };
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(e)) => return Err(Stop::lost(&e)),
            }
        }
        Ok(offer)
    }

    /// Puts the next frame, or a heartbeat that is due, into the outbox; false when there is neither.
    fn load(&mut self, offer: Option<Offer>, now: Instant) -> bool {
        if offer == Some(Offer::Ready) && !self.waits_for_answered() {
            let events = next_frame(
                &self.group.queue,
                self.session.id(),
                self.settings.batch_max_bytes,
                now,
                &mut self.outbox,
                &mut self.pipeline,
            );
            if events > 0 {
                self.group.queue.stop_waiting(self.link.id);
                self.served = true;
                self.answered.clear();
                self.link.observers.frame_events.record(events as f64);
                let mut stats = self.link.stats.borrow_mut();
                stats.frames_sent_total += 1;
                stats.events_sent_total += events as u64;
                return true;
            }
        }
        if self.heartbeat_due().is_none_or(|due| due > now) {
            return false;
        }
        heartbeat(self.session.id(), now, &mut self.outbox, &mut self.pipeline);
        self.link.stats.borrow_mut().heartbeats_total += 1;
        true
    }

    /// How long events may gather. Where gateways wait for the delivery, only while a frame is in flight: its reply ends
    /// the wait.
    fn linger(&self) -> Duration {
        if self.group.is_eager() && self.pipeline.len() == 0 {
            Duration::ZERO
        } else {
            self.settings.linger
        }
    }

    /// Whether the next frames of gateways that have just been answered may come before the next frame is sent.
    fn waits_for_answered(&self) -> bool {
        self.answered.may_follow()
            && self.pipeline.len() == 0
            && !self.settings.linger.is_zero()
            && !self.group.queue.has_gathered()
    }

    fn is_window_open(&self) -> bool {
        self.pipeline.len() < self.settings.window_frames
    }

    /// Every frame that was begun is written and answered.
    fn nothing_in_flight(&self) -> bool {
        self.pipeline.len() == 0 && self.outbox.is_empty()
    }

    // === Replies, in the order of the frames that they answer ===

    /// Reads until nothing is there; whether there was anything.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Stop> {
        let mut any = false;
        loop {
            let mut bytes = [0_u8; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(any),
                Poll::Ready(Err(e)) => return Err(Stop::lost(&e)),
                Poll::Ready(Ok(())) => {}
            }
            let read = buffer.filled();
            if read.is_empty() {
                let text = "the Traffic Manager closed the connection";
                return Err(Stop::failed("closed", text));
            }
            any = true;
            self.last_read = now;
            self.last_look = None;
            let more = read.len() == READ_BYTES;
            self.handle_replies(read, now)?;
            if !more {
                return Ok(any);
            }
        }
    }

    fn handle_replies(&mut self, read: &[u8], now: Instant) -> Result<(), Stop> {
        let mut joined = std::mem::take(&mut self.inbox);
        let mut bytes = read;
        if !joined.is_empty() {
            joined.extend_from_slice(read);
            bytes = &joined;
        }
        loop {
            match Reply::decode(bytes) {
                Ok(None) => {
                    self.inbox.extend_from_slice(bytes);
                    return Ok(());
                }
                Ok(Some((Reply::Ok, length))) => {
                    bytes = bytes.get(length..).unwrap_or_default();
                    self.delivered(now)?;
                }
                Ok(Some((Reply::Error { class, message }, length))) => {
                    self.link.stats.borrow_mut().replies_error_total += 1;
                    let text = format!("{}: {message:?}", short_class(class));
                    if class == SESSION_TIMEOUT && says_expired(&message) {
                        bytes = bytes.get(length..).unwrap_or_default();
                        self.expired(text, now)?;
                        continue;
                    }
                    if class == SESSION_TIMEOUT {
                        return Err(Stop::failed("session", text));
                    }
                    return Err(Stop::ErrorReply(Failure::new("rejected", text)));
                }
                Ok(Some((Reply::LoginOk { .. }, _))) => {
                    return Err(Stop::failed("protocol", "login reply to a publish"));
                }
                Err(e) => return Err(Stop::failed("protocol", e.to_string())),
            }
        }
    }

    fn delivered(&mut self, now: Instant) -> Result<(), Stop> {
        let Some(frame) = self.pipeline.pop() else {
            return Err(Stop::unsolicited());
        };
        self.session.works();
        let Some(delivery) = frame.delivery else {
            return Ok(());
        };
        if self.group.is_eager() {
            self.answered.add(delivery.frames(), self.group.queue.frames());
        }
        let observers = &self.link.observers;
        let reply_time = now.duration_since(frame.sent_at);
        observers.reply_seconds.record(reply_time);
        for batch in delivery.batches() {
            let delivery_time = now.duration_since(batch.accepted_at());
            observers.delivery_seconds.record(delivery_time);
        }
        let mut stats = self.link.stats.borrow_mut();
        stats.replies_ok_total += 1;
        stats.delivered_events_total += delivery.events() as u64;
        drop(stats);
        delivery.delivered();
        Ok(())
    }

    /// The oldest frame was refused because the session has expired. It was not taken, and the connection stays.
    fn expired(&mut self, text: String, now: Instant) -> Result<(), Stop> {
        let first = !self.session.is_expired();
        if !self.session.expired(now) {
            return Err(Stop::failed("session", text));
        }
        if !self.pipeline.expired() {
            return Err(Stop::unsolicited());
        }
        if first {
            tracing::info!(
                group = self.link.group,
                endpoint = self.link.endpoint.name,
                "session expired at the Traffic Manager: logging in again"
            );
        }
        Ok(())
    }

    // === The session ===

    /// Whether the next frame waits for a new session.
    fn is_held(&self) -> bool {
        self.session.is_expired() || matches!(self.renewal, Renewal::Ready(_))
    }

    /// When the next login is due.
    fn renewal_due(&self) -> Option<Instant> {
        let idle = matches!(self.renewal, Renewal::Idle) && self.link.wanted();
        self.session.renew_at().filter(|_| idle)
    }

    /// Begins and ends renewals. Frames that were refused for their session return to the queue when the last frame in
    /// flight has been answered.
    fn renew(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Stop> {
        if self.nothing_in_flight() {
            self.pipeline.return_expired();
        }
        if self.renewal_due().is_some_and(|due| due <= now) {
            let login = log_in(Rc::clone(&self.link), Rc::clone(&self.group));
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
                        "session not renewed: used until it expires"
                    );
                    self.session.stays();
                    Renewal::Idle
                }
            };
        }
        if self.nothing_in_flight() && matches!(self.renewal, Renewal::Ready(_)) {
            if let Renewal::Ready(next) = std::mem::take(&mut self.renewal) {
                self.session.replace(next);
            }
            tracing::debug!(
                group = self.link.group,
                endpoint = self.link.endpoint.name,
                "session renewed"
            );
        }
        Ok(())
    }

    // === Waiting ===

    /// Registers for everything that can happen next; `Ready` when something already has.
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        offer: Option<Offer>,
        lazy: bool,
    ) -> Result<Poll<()>, Stop> {
        let (queue, id) = (&self.group.queue, self.link.id);
        match offer {
            None => queue.leave(id),
            Some(Offer::Ready) if self.waits_for_answered() => {
                self.answered.turn();
                queue.stop_waiting(id);
                // Woken in the next turn of the event loop, after the runtime has looked at its sockets.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
            }
            Some(offer) => {
                let served = std::mem::take(&mut self.served);
                let first = !served && matches!(offer, Offer::Lingering(_));
                queue.wait(id, cx.waker(), first);
            }
        }
        self.report_inflight(now);
        let due = [
            match offer {
                Some(Offer::Lingering(due)) => Some(due),
                _ => None,
            },
            self.reply_due(now)?,
            lazy.then(|| now + LAZY_READ),
            self.heartbeat_due(),
            self.renewal_due(),
        ];
        let Some(due) = due.into_iter().flatten().min() else {
            return Ok(Poll::Pending);
        };
        // An early alarm costs one turn, so it is only ever moved to an earlier time.
        if self.alarm.is_elapsed() || self.alarm.deadline() > due {
            self.alarm.as_mut().reset(due);
        }
        Ok(self.alarm.as_mut().poll(cx))
    }

    /// When to check the oldest frame for its reply; fails when the last check has found none.
    ///
    /// While weir itself or its machine stood still, replies may have arrived that lie unread. So after the timeout weir
    /// looks once more, and waits as long again as it was late to notice: that long it may have stood still.
    fn reply_due(&mut self, now: Instant) -> Result<Option<Instant>, Stop> {
        let Some(oldest) = self.pipeline.oldest() else {
            return Ok(None);
        };
        let (timeout, sent_at) = (self.reply_timeout(oldest), oldest.sent_at);
        let due = sent_at + timeout;
        if due > now {
            return Ok(Some(due));
        }
        let late = now.duration_since(due).min(timeout);
        let last_look = *self.last_look.get_or_insert(now + LAST_LOOK + late);
        if last_look > now {
            return Ok(Some(last_look));
        }
        let (waited, frames) = (now.duration_since(sent_at), self.pipeline.len());
        let text = format!("no reply for {waited:.1?} ({frames} frames unanswered)");
        Err(Stop::failed("timeout", text))
    }

    /// How long the reply to a frame may take.
    fn reply_timeout(&self, frame: &Frame) -> Duration {
        match self.settings.heartbeat {
            Some(h) if frame.delivery.is_none() => h.timeout().saturating_sub(h.delay),
            _ => self.settings.reply_timeout,
        }
    }

    /// When a silent link sends a heartbeat.
    fn heartbeat_due(&self) -> Option<Instant> {
        let beat = self.settings.heartbeat?;
        let silent = self.pipeline.len() == 0 && !self.is_held();
        let since = self.last_write.max(self.last_read);
        let delay = if since > self.began {
            beat.delay
        } else {
            beat.delay.min(FIRST_HEARTBEAT)
        };
        silent.then(|| since + delay)
    }

    /// Tells the group and /status what is in flight.
    fn report_inflight(&mut self, now: Instant) {
        self.link.stats.borrow_mut().inflight_frames = self.pipeline.len() as u64;
        let oldest = self.pipeline.oldest().map(|f| f.sent_at);
        self.link.oldest_unanswered.set(oldest);
        self.link.oldest_accepted.set(self.pipeline.oldest_accepted_at());
        self.link.logging_in.set(self.is_held());
        if self.group.is_silent(&self.link, now) {
            self.pipeline.release();
        }
    }
}

/// Whether a `SessionTimeoutException` is about the session, and not another weir's "send again". In ASCII its length is
/// right, so what follows is the next reply.
fn says_expired(message: &str) -> bool {
    message.is_ascii() && message.ends_with(" expired")
}
