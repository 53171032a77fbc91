//! One gateway connection from its first byte to its last: read → act → reply, in order.
//!
//! A connection is never ended with FIN while its gateway may still publish on it: it is answered, or
//! reset (docs/PROTOCOL.md). It keeps memory only for a partial frame with a valid session, out of a budget that all
//! sessions share; whole frames are handled in a buffer that they share.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::act::{Known, Skip, Stop};
use super::budget::{Claim, FREE_BYTES, Wait};
use super::gate::Gate;
use super::listener::warn;
use super::replies::Replies;
use crate::net::Stream;
use crate::relay::Place;
use crate::wire::request::HEADER_BYTES;

/// A partial frame's buffer grows by at most this much ahead of the bytes that have arrived.
const GROW_MAX_BYTES: usize = 256 * 1024;

/// Room behind the end of the frame that is awaited: a read that does not fill its buffer needs no second
/// one to learn that nothing is left.
const SLACK_BYTES: usize = 4096;

/// Reads of one connection before the others have a turn: a gateway that sends without a pause must not keep
/// them waiting.
const READS_AT_ONCE: u32 = 4;

pub(super) struct Session {
    pub(super) gate: Rc<Gate>,
    pub(super) peer: SocketAddr,
    pub(super) known: Option<Known>,
    pub(super) replies: Replies,
    stream: Option<Stream>,
    partial: BytesMut,
    /// Bytes that the frame at the front of `partial` needs in all.
    pub(super) needed: usize,
    /// There may be whole frames in `partial`.
    pub(super) resume: bool,
    /// Since when the frame at the front has found no room.
    pub(super) blocked_since: Option<Instant>,
    /// The place of the frame at the front among those that wait for room.
    pub(super) place: Option<Place>,
    /// The frame at the front has waited long enough: answer it with the gentle no.
    pub(super) refuse_front: bool,
    /// The incomplete frame at the front has shown a valid session.
    pub(super) judged: bool,
    /// The bytes that come next belong to a frame that is not kept.
    pub(super) skip: Option<Box<Skip>>,
    /// What [`Session::partial`] may hold.
    pub(super) memory: Memory,
    /// The last byte, or the end of weir's last wait: from then on the peer is silent.
    silent_since: Instant,
    /// Since when there has been neither a login nor a valid session.
    unproven_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// The right to keep a partial frame.
pub(super) enum Memory {
    /// [`FREE_BYTES`] at most.
    Free,
    Claimed(Claim),
    /// None yet: nothing is read meanwhile.
    Wanted(Wait),
}

/// Until when the next byte must have come, and the first login or valid session.
type Deadlines = (Option<Instant>, Option<Instant>);

/// Why the turn ended.
enum Turn {
    Stop(Stop),
    /// The peer has closed, or reset.
    Gone,
    /// Silent for too long.
    Idle,
    /// Neither a login nor a valid session for too long.
    Unproven,
    /// There may be more to read, but it is the others' turn.
    Enough,
}

impl Session {
    pub(super) fn new(gate: Rc<Gate>, stream: Stream, peer: SocketAddr) -> Self {
        let now = Instant::now();
        let number = gate.number_of_new();
        Self {
            gate,
            peer,
            known: None,
            replies: Replies::new(number),
            stream: Some(stream),
            partial: BytesMut::new(),
            needed: HEADER_BYTES,
            resume: false,
            blocked_since: None,
            place: None,
            refuse_front: false,
            judged: false,
            skip: None,
            memory: Memory::Free,
            silent_since: now,
            unproven_since: Some(now),
            alarm: None,
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_tls)
    }

    pub(super) async fn serve(&mut self) {
        loop {
            match poll_fn(|cx| self.turn(cx)).await {
                // Apart: they are rare and large, and an idle connection keeps room for what is not.
                Turn::Stop(Stop::Full(full)) => Box::pin(self.wait_for_room(full)).await,
                Turn::Stop(Stop::Login { user, password }) => Box::pin(self.login(user, password)).await,
                Turn::Stop(Stop::Lost(error)) => {
                    self.gate.stats().reset_bad_input_total += 1;
                    warn(
                        &self.gate,
                        Some(self.peer),
                        &format!("bad input, connection reset: {error}"),
                    );
                    return;
                }
                Turn::Gone => {
                    let mut stats = self.gate.stats();
                    if self.is_between_frames() {
                        stats.closed_by_peer_total += 1;
                    } else {
                        stats.closed_mid_frame_total += 1;
                    }
                    return;
                }
                Turn::Idle => {
                    self.gate.stats().reset_idle_total += 1;
                    return;
                }
                Turn::Unproven => {
                    self.gate.stats().reset_no_session_total += 1;
                    return;
                }
                Turn::Enough => {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            self.resume = true;
            // It was weir that let the peer wait.
            self.silent_since = Instant::now();
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut reads = 0;
        loop {
            let now = Instant::now();
            let refused = self.replies.settle(cx.waker(), now);
            if refused != (0, 0, 0) {
                self.silent_since = now;
                let mut stats = self.gate.stats();
                stats.publishes_ok_total += refused.0;
                stats.events_ok_total += refused.1;
                stats.publishes_refused_total += refused.2;
            }
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Turn::Gone);
            };
            match self.replies.poll_flush(stream, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Turn::Gone),
                // A gateway that does not read its replies is not read from.
                Poll::Pending => return self.rest(cx, now),
            }
            if self.replies.waiting_are_many() {
                return self.rest(cx, now);
            }
            if let Memory::Wanted(_) = self.memory
                && !self.poll_memory(cx, now)
            {
                return self.rest(cx, now);
            }
            if reads == READS_AT_ONCE {
                let overdue = Self::overdue(now, self.deadlines());
                return Poll::Ready(overdue.unwrap_or(Turn::Enough));
            }
            reads += 1;
            let stop = if std::mem::take(&mut self.resume) {
                let held = std::mem::take(&mut self.partial);
                self.consume_partial(held, now)
            } else if self.gate.is_closing() {
                // The end of the process is near, and resets this connection.
                return self.rest(cx, now);
            } else {
                match self.poll_read(cx, now) {
                    Poll::Pending => {
                        // WSO2's agent leaves Nagle's algorithm on: the last part of its frame comes when what it
                        // sent before is acknowledged. Never while weir itself has no room.
                        let is_mid_frame = !self.is_between_frames();
                        if let Some(stream) = &mut self.stream {
                            stream.wait_for_rest(is_mid_frame);
                        }
                        return self.rest(cx, now);
                    }
                    Poll::Ready(Ok(stop)) => stop,
                    Poll::Ready(Err(())) => return Poll::Ready(Turn::Gone),
                }
            };
            if let Some(stop) = stop {
                // What was answered before must not wait with what comes now.
                if let Some(stream) = &mut self.stream
                    && let Poll::Ready(Err(_)) = self.replies.poll_flush(stream, cx)
                {
                    return Poll::Ready(Turn::Gone);
                }
                return Poll::Ready(Turn::Stop(stop));
            }
        }
    }

    /// Reads once and handles what is whole. `Err` at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Option<Stop>, ()>> {
        if !self.partial.is_empty() {
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Err(()));
            };
            let mut held = std::mem::take(&mut self.partial);
            let missing = self.needed.saturating_sub(held.len());
            held.reserve(missing.min(held.len().max(GROW_MAX_BYTES)) + SLACK_BYTES);
            // An allocation may be larger than what was asked for.
            let mut room = (&mut held).limit(missing + SLACK_BYTES);
            let read = tokio_util::io::poll_read_buf(Pin::new(stream), cx, &mut room);
            let Poll::Ready(read) = read else {
                self.partial = held;
                return Poll::Pending;
            };
            if !matches!(read, Ok(n) if n > 0) {
                self.partial = held;
                return Poll::Ready(Err(()));
            }
            self.received(read.unwrap_or_default(), now);
            return Poll::Ready(Ok(self.consume_partial(held, now)));
        }
        let gate = Rc::clone(&self.gate);
        let mut scratch = gate.scratch.borrow_mut();
        // What is left of a read must be kept: little of a peer that has shown no session, and little while
        // there is no room for more. What is skipped is not kept.
        let most = match self.known.is_some() && !gate.budget().is_tight(scratch.len()) {
            true => scratch.len(),
            false => scratch.len().min(self.skips() + FREE_BYTES),
        };
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(()));
        };
        let mut buffer = ReadBuf::new(scratch.get_mut(..most).unwrap_or_default());
        if ready!(Pin::new(stream).poll_read(cx, &mut buffer)).is_err() || buffer.filled().is_empty() {
            return Poll::Ready(Err(()));
        }
        let bytes = buffer.filled();
        self.received(bytes.len(), now);
        let bytes = bytes.get(self.skip(bytes.len())..).unwrap_or_default();
        let (used, stop) = self.consume(bytes, now);
        let rest = bytes.get(used..).unwrap_or_default();
        if !rest.is_empty() {
            self.partial.extend_from_slice(rest);
            self.keep();
        }
        Poll::Ready(Ok(stop))
    }

    fn received(&mut self, bytes: usize, now: Instant) {
        self.gate.stats().received_bytes_total += bytes as u64;
        self.silent_since = now;
    }

    fn consume_partial(&mut self, mut held: BytesMut, now: Instant) -> Option<Stop> {
        let (used, stop) = self.consume(&held, now);
        let allocated = held.capacity();
        held.advance(used);
        if held.is_empty() {
            self.memory = Memory::Free;
            return stop;
        }
        // A little of the next frame must not pin what the last one needed.
        if used > 0 && held.len() < allocated / 4 {
            held = BytesMut::from(&held[..]);
        }
        self.partial = held;
        self.keep();
        stop
    }

    /// What was read and cannot be handled now takes part in the budget, too.
    fn keep(&mut self) {
        let bytes = self.partial.len();
        match &self.memory {
            Memory::Wanted(_) => {}
            Memory::Claimed(claim) if self.judged || claim.num_permits() >= bytes => {}
            _ if bytes > FREE_BYTES => {
                let claim = self.gate.budget().claim(bytes, 0);
                self.memory = claim.map_or(Memory::Free, Memory::Claimed);
            }
            _ => self.memory = Memory::Free,
        }
    }

    /// Whether reading may go on: there is room for the frame at the front, or it was refused.
    fn poll_memory(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Memory::Wanted(wait) = &mut self.memory else {
            return true;
        };
        match wait.as_mut().poll(cx) {
            Poll::Ready(Ok(claim)) => self.memory = Memory::Claimed(claim),
            _ if self.refused_at().is_some_and(|at| at > now) => return false,
            _ => {
                let kept = std::mem::take(&mut self.partial);
                self.refuse_partial(kept.len());
            }
        }
        self.silent_since = now;
        true
    }

    /// When the frame at the front has waited long enough for memory.
    fn refused_at(&self) -> Option<Instant> {
        match self.memory {
            Memory::Wanted(_) => self
                .blocked_since
                .map(|at| at + self.gate.settings().reply_timeout),
            _ => None,
        }
    }

    /// Whether no part of a frame has come of which more is to come.
    fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && self.skip.is_none()
    }

    /// Whether the peer has kept weir waiting for too long.
    fn overdue(now: Instant, (silent_until, unproven_until): Deadlines) -> Option<Turn> {
        if unproven_until.is_some_and(|at| at <= now) {
            Some(Turn::Unproven)
        } else if silent_until.is_some_and(|at| at <= now) {
            Some(Turn::Idle)
        } else {
            None
        }
    }

    /// None while it is weir that lets the peer wait.
    fn deadlines(&mut self) -> Deadlines {
        if self.known.is_some() || self.replies.has_logged_in() {
            self.unproven_since = None;
        }
        let waits = self.replies.is_waiting() || matches!(self.memory, Memory::Wanted(_));
        if waits || self.gate.is_closing() {
            return (None, None);
        }
        let settings = self.gate.settings();
        let silence = if self.is_between_frames() || self.resume {
            settings.idle_timeout
        } else {
            Some(settings.frame_timeout)
        };
        let unproven_until = self.unproven_since.zip(settings.first_frame_timeout);
        (
            silence.map(|d| self.silent_since + d),
            unproven_until.map(|(since, d)| since + d),
        )
    }

    /// Nothing to do but wait: for a byte, a reply, or the end of patience.
    fn rest(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Turn> {
        // Those behind its frame must not wait for a gateway that does not read its replies.
        self.place = None;
        let (silent_until, unproven_until) = self.deadlines();
        if let Some(turn) = Self::overdue(now, (silent_until, unproven_until)) {
            return Poll::Ready(turn);
        }
        let due = [
            silent_until,
            unproven_until,
            self.refused_at(),
            self.replies.due(),
        ];
        let Some(due) = due.into_iter().flatten().min() else {
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // An alarm that rings too early costs one look, so it is only ever moved to an earlier time.
        if alarm.is_elapsed() || alarm.deadline() > due {
            alarm.as_mut().reset(due);
        }
        match alarm.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort();
        }
    }
}
