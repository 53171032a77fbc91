//! One connection at work: takes batches while its window has room, writes them as few full frames, reads
//! replies, proves that it lives.
//!
//! A hand-written poll, because all its halves share one state. In one turn: read what is there, load and
//! write as much as window and socket take, then wait for whatever can happen next. Replies of a link that
//! is busy anyway are read with its next write or on a slow tick, not woken for one by one.

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};

use super::frame::{heartbeat, next_frame};
use super::group::Shared;
use super::outbox::{Outbox, SLICES_MAX};
use super::pipeline::{Frame, Pipeline};
use super::returns::Returns;
use super::session::{Renewal, Session};
use super::state::{Failure, Link};
use crate::config;
use crate::net::Stream;
use crate::relay::{Offer, Parcel};

/// How late a reply may be noticed on a link that has room in its window.
const LAZY_READ: Duration = Duration::from_millis(5);

/// Between noticing that a reply is late and judging the peer for it: the runtime looks at the socket.
pub(super) const LAST_LOOK: Duration = Duration::from_millis(10);

/// A new connection sends a heartbeat after this much silence at the latest: where a weir is the receiver, it
/// resets one that shows no session within `listen.first_frame_timeout`.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(20);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Switched off; nothing was in flight.
    Released,
    /// Anything else.
    Failed(Failure),
}

pub(super) struct Pump {
    pub(super) link: Rc<Link>,
    group: Rc<Shared>,
    settings: Rc<config::Link>,
    pub(super) stream: Stream,
    pub(super) session: Session,
    pub(super) renewal: Renewal,
    outbox: Outbox,
    pub(super) pipeline: Pipeline,
    /// An incomplete reply; empty nearly always.
    pub(super) inbox: Vec<u8>,
    unflushed: bool,
    /// Has taken something since it stood in the line for it: others come first.
    served: bool,
    returns: Returns,
    pub(super) last_read: Instant,
    last_write: Instant,
    began: Instant,
    /// A reply is late: the peer is judged at this time.
    pub(super) last_look: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
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
            returns: Returns::default(),
            last_read: now,
            last_write: now,
            began: now,
            last_look: None,
            alarm: Box::pin(sleep_until(now)),
        }
    }

    /// Until the connection ends. Whatever is unanswered then is back in the queue, in order.
    pub(super) async fn run(mut self) -> End {
        let end = poll_fn(|cx| self.poll(cx)).await;
        self.group.queue.leave(self.link.id);
        let (end, refused) = match end {
            Stop::Released => (End::Released, false),
            Stop::Failed(failure) => (End::Failed(failure), false),
            Stop::Refused(failure) => (End::Failed(failure), true),
        };
        let pipeline = std::mem::take(&mut self.pipeline);
        if refused {
            let rejected = pipeline.refused();
            if rejected > 0 {
                tracing::warn!(
                    group = self.link.group,
                    endpoint = self.link.endpoint.name,
                    events = rejected,
                    "events rejected after three error replies"
                );
            }
        } else {
            drop(pipeline);
        }
        let mut stats = self.link.stats.borrow_mut();
        stats.inflight_frames = 0;
        drop(stats);
        self.link.oldest_unanswered.set(None);
        self.link.oldest_accepted.set(None);
        self.link.logging_in.set(false);
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.link.park(cx.waker());
        // A reload nudges: what it has changed counts from here on.
        self.settings = self.group.settings();
        loop {
            let now = Instant::now();
            let mut lazy = Context::from_waker(Waker::noop());
            if self.pipeline.len() > 0
                && let Err(stop) = self.read(&mut lazy, now)
            {
                return Poll::Ready(stop);
            }
            if let Err(stop) = self.renew(cx, now) {
                return Poll::Ready(stop);
            }
            if let Err(stop) = self.write(cx, now) {
                return Poll::Ready(stop);
            }
            if self.nothing_in_flight() && !self.link.wanted() {
                return Poll::Ready(Stop::Released);
            }
            // A link with room in its window will write again soon, or look on the tick.
            let may_be_lazy =
                self.pipeline.len() > 0 && self.has_room() && !self.group.is_eager() && !self.is_held();
            if !may_be_lazy {
                match self.read(cx, now) {
                    Ok(false) => {}
                    Ok(true) => continue,
                    Err(stop) => return Poll::Ready(stop),
                }
            }
            match self.wait(cx, now, may_be_lazy) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(stop) => return Poll::Ready(stop),
            }
        }
    }

    /// Loads and writes until window, queue or socket end it.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Stop> {
        loop {
            if self.outbox.is_empty() && !self.load(now) {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.outbox.slices(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..used]) {
                Poll::Pending => break,
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.outbox.advance(written);
                    self.unflushed = true;
                    self.last_write = now;
                    self.link.stats.borrow_mut().sent_bytes_total += written as u64;
                }
                Poll::Ready(Ok(_)) => return Err(Stop::failed("closed", "the connection takes no bytes")),
                Poll::Ready(Err(e)) => return Err(Stop::failed("closed", format!("connection lost: {e}"))),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(e)) => return Err(Stop::failed("closed", format!("connection lost: {e}"))),
            }
        }
        Ok(())
    }

    /// Builds the next frame, or a heartbeat when the link has been silent; false when there is none.
    fn load(&mut self, now: Instant) -> bool {
        if self.may_take()
            && !self.waits_for_returns()
            && self.group.queue.offer(now, self.linger()) == Offer::Ready
        {
            let events = next_frame(
                &self.group.queue,
                self.session.id(),
                self.settings.batch_max_bytes,
                now,
                &mut self.outbox,
                &mut self.pipeline,
            );
            if events > 0 {
                self.group.queue.bell().leave(self.link.id);
                self.served = true;
                self.returns.sent();
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

    /// Registers for everything that can happen next; true when something already has.
    fn wait(&mut self, cx: &mut Context<'_>, now: Instant, lazy: bool) -> Result<bool, Stop> {
        let offer = self.group.queue.offer(now, self.linger());
        let takes = self.may_take() && self.outbox.is_empty();
        if takes && offer == Offer::Ready && self.waits_for_returns() {
            // The turn after this one looks again, whoever else is woken.
            self.returns.wait();
            self.group.queue.bell().leave(self.link.id);
            let turn = std::pin::pin!(tokio::task::yield_now());
            let _ = turn.poll(cx);
        } else if takes {
            let first = !std::mem::take(&mut self.served) && matches!(offer, Offer::Lingering(_));
            self.group.queue.bell().wait(self.link.id, cx.waker(), first);
        } else {
            self.group.queue.leave(self.link.id);
        }
        self.count_inflight(now);
        let linger_due = match offer {
            Offer::Lingering(due) if takes => Some(due),
            _ => None,
        };
        let reply_due = self.reply_due(now)?;
        let look_due = lazy.then(|| now + LAZY_READ);
        let due = [
            linger_due,
            reply_due,
            look_due,
            self.heartbeat_due(),
            self.renewal_due(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(due) = due else { return Ok(false) };
        // An alarm that rings too early costs one look, so it is only ever moved to an earlier time.
        if self.alarm.is_elapsed() || self.alarm.deadline() > due {
            self.alarm.as_mut().reset(due);
        }
        Ok(self.alarm.as_mut().poll(cx).is_ready())
    }

    /// The oldest frame is about to be answered, and with it gateways that wait for that.
    pub(super) fn expect_returns(&mut self) {
        let frames = |f: &Frame| f.parcels.iter().map(Parcel::frames).sum();
        let answered = self.pipeline.oldest().map_or(0, frames);
        self.returns.answered(answered, self.group.queue.frames());
    }

    /// Whether gateways that have just been answered may come before the next frame.
    fn waits_for_returns(&self) -> bool {
        self.returns.are_due()
            && self.pipeline.len() == 0
            && !self.settings.linger.is_zero()
            && !self.group.queue.has_gathered()
    }

    /// How long events may gather. Where gateways wait for the delivery, only behind a frame that is on its
    /// way: its reply ends the wait.
    fn linger(&self) -> Duration {
        if self.group.is_eager() && self.pipeline.len() == 0 {
            Duration::ZERO
        } else {
            self.settings.linger
        }
    }

    /// When the oldest unanswered frame needs a look, and the judgement when that was in vain.
    ///
    /// While weir itself or its machine stood still, replies have come that lie unread. So a late reply is first
    /// looked for once more, and for as long as weir was late to notice: that much it may have stood still.
    fn reply_due(&mut self, now: Instant) -> Result<Option<Instant>, Stop> {
        let Some(oldest) = self.pipeline.oldest() else {
            return Ok(None);
        };
        let (patience, sent_at) = (self.patience(oldest), oldest.sent_at);
        let due = sent_at + patience;
        if due > now {
            return Ok(Some(due));
        }
        let late = now.duration_since(due).min(patience);
        let last_look = *self.last_look.get_or_insert(now + LAST_LOOK + late);
        if last_look > now {
            return Ok(Some(last_look));
        }
        let (waited, frames) = (now.duration_since(sent_at), self.pipeline.len());
        let text = format!("no reply for {waited:.1?} ({frames} frames unanswered)");
        Err(Stop::failed("timeout", text))
    }

    /// When a silent link proves that it lives.
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

    /// How long the reply to a frame may take.
    fn patience(&self, frame: &Frame) -> Duration {
        match self.settings.heartbeat {
            Some(h) if frame.parcels.is_empty() => h.timeout().saturating_sub(h.delay),
            _ => self.settings.reply_timeout,
        }
    }

    fn has_room(&self) -> bool {
        self.pipeline.len() < self.settings.window_frames
    }

    fn may_take(&self) -> bool {
        self.has_room() && self.link.may_take() && !self.is_held()
    }

    /// Every frame that was begun is written and answered.
    pub(super) fn nothing_in_flight(&self) -> bool {
        self.pipeline.len() == 0 && self.outbox.is_empty()
    }

    pub(super) fn group(&self) -> &Rc<Shared> {
        &self.group
    }

    fn count_inflight(&mut self, now: Instant) {
        self.link.stats.borrow_mut().inflight_frames = self.pipeline.len() as u64;
        let oldest = self.pipeline.oldest().map(|f| f.sent_at);
        self.link.oldest_unanswered.set(oldest);
        self.link.oldest_accepted.set(self.pipeline.oldest_accepted_at());
        self.link.logging_in.set(self.is_held());
        if self.group.is_silent(&self.link, now) {
            self.pipeline.let_go();
        }
    }
}

/// How the poll ended.
pub(super) enum Stop {
    Released,
    Failed(Failure),
    /// An error reply that is not about the session: the verdict is the oldest frame's.
    Refused(Failure),
}

impl Stop {
    pub(super) fn failed(class: &'static str, message: impl Into<String>) -> Self {
        Stop::Failed(Failure::new(class, message))
    }
}
