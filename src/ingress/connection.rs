//! One gateway connection from its first byte to its last: reads, hands whole frames to its [`Handler`], writes replies.
//!
//! A connection is never ended with FIN while its gateway may still publish on it: it gets a reply, or a
//! reset (docs/PROTOCOL.md). It keeps memory only for a partial frame with a valid session, out of a budget that all
//! connections share; whole frames are handled in a buffer that they share.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Ingress;
use super::budget::{Claim, FREE_BYTES, Wait};
use super::handler::{Handler, Stop};
use crate::net::Stream;

/// A partial frame's buffer grows by at most this much ahead of the bytes that have arrived.
const GROW_MAX_BYTES: usize = 256 * 1024;

/// Capacity behind the end of the frame that is awaited: a read that does not fill its buffer needs no second
/// one to learn that nothing is left.
const SLACK_BYTES: usize = 4096;

/// Reads of one connection before the others have a turn: a gateway that sends without a pause must not keep
/// them waiting.
const READS_PER_TURN: u32 = 4;

pub(super) struct Connection {
    pub(super) handler: Handler,
    stream: Stream,
    /// Bytes that were read and are not handled yet, from the beginning of a frame.
    partial: BytesMut,
    /// There may be whole frames in `partial`.
    resume: bool,
    memory: Memory,
    /// The last byte, or the end of weir's last wait: from then on the peer is silent.
    silent_since: Instant,
    /// Since when there has been neither a login nor a valid session.
    unverified_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The right to keep a partial frame.
enum Memory {
    /// [`FREE_BYTES`] at most.
    Free,
    Claimed(Claim),
    /// None yet: nothing is read meanwhile.
    Wanted(Wait),
}

/// When the next byte must have come, and the first login or valid session.
struct Deadlines {
    silent: Option<Instant>,
    unverified: Option<Instant>,
}

/// Why a turn ended.
enum Turn {
    Stop(Stop),
    /// The peer has closed, or reset.
    Gone,
    /// Silent for too long.
    Idle,
    /// Neither a login nor a valid session for too long.
    NoSession,
    /// There may be more to read, but other connections are next.
    Yield,
}

impl Connection {
    pub(super) fn new(ingress: Rc<Ingress>, stream: Stream, peer: SocketAddr) -> Self {
        let now = Instant::now();
        Self {
            handler: Handler::new(ingress, peer, stream.is_tls()),
            stream,
            partial: BytesMut::new(),
            resume: false,
            memory: Memory::Free,
            silent_since: now,
            unverified_since: Some(now),
            timer: None,
        }
    }

    /// Serves the connection until it ends. Dropping its stream resets it (see [`super::listener`]).
    pub(super) async fn serve(&mut self) {
        loop {
            match poll_fn(|cx| self.turn(cx)).await {
                // Boxed: rare and large, and every idle connection would reserve space for them.
                Turn::Stop(Stop::Full(full)) => Box::pin(self.handler.wait_for_capacity(full)).await,
                Turn::Stop(Stop::Login { user, password }) => {
                    Box::pin(self.handler.login(user, password)).await;
                }
                Turn::Stop(Stop::Flush) => {}
                Turn::Stop(Stop::Lost(error)) => {
                    self.ingress().stats().reset_bad_input_total += 1;
                    self.handler
                        .warn(&format!("bad input, connection reset: {error}"));
                    return;
                }
                Turn::Gone => {
                    let mut stats = self.ingress().stats();
                    if self.is_between_frames() {
                        stats.closed_by_peer_total += 1;
                    } else {
                        stats.closed_mid_frame_total += 1;
                    }
                    return;
                }
                Turn::Idle => {
                    self.ingress().stats().reset_idle_total += 1;
                    return;
                }
                Turn::NoSession => {
                    self.ingress().stats().reset_no_session_total += 1;
                    return;
                }
                Turn::Yield => {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            self.resume = true;
            // Weir made the peer wait.
            self.silent_since = Instant::now();
        }
    }

    fn ingress(&self) -> &Ingress {
        &self.handler.ingress
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut reads = 0;
        loop {
            let now = Instant::now();
            if self.handler.settle_replies(cx.waker(), now) {
                self.silent_since = now;
            }
            match self.handler.replies.poll_flush(&mut self.stream, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Turn::Gone),
                // A gateway that does not read its replies is not read from.
                Poll::Pending => return self.rest(cx, now),
            }
            if self.handler.replies.waiting_are_many() {
                return self.rest(cx, now);
            }
            if let Memory::Wanted(_) = self.memory
                && !self.poll_memory(cx, now)
            {
                return self.rest(cx, now);
            }
            if reads == READS_PER_TURN {
                let overdue = self.deadlines().overdue(now);
                return Poll::Ready(overdue.unwrap_or(Turn::Yield));
            }
            reads += 1;
            let stop = if std::mem::take(&mut self.resume) {
                let held = std::mem::take(&mut self.partial);
                self.consume_partial(held, now)
            } else if self.ingress().closing.get() {
                // The process is about to end, which resets this connection.
                return self.rest(cx, now);
            } else {
                match self.poll_read(cx, now) {
                    Poll::Pending => {
                        // WSO2's agent leaves Nagle's algorithm on: the last part of its frame comes when what it
                        // sent before is acknowledged. Never while weir itself has no capacity.
                        let is_mid_frame = !self.is_between_frames();
                        self.stream.wait_for_rest(is_mid_frame);
                        return self.rest(cx, now);
                    }
                    Poll::Ready(Ok(stop)) => stop,
                    Poll::Ready(Err(())) => return Poll::Ready(Turn::Gone),
                }
            };
            match stop {
                None => {}
                Some(Stop::Flush) => self.resume = true,
                Some(stop) => {
                    // Earlier replies must not wait with what comes now.
                    if let Poll::Ready(Err(_)) = self.handler.replies.poll_flush(&mut self.stream, cx) {
                        return Poll::Ready(Turn::Gone);
                    }
                    return Poll::Ready(Turn::Stop(stop));
                }
            }
        }
    }

    /// Reads once and handles what is whole. `Err` at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Option<Stop>, ()>> {
        if !self.partial.is_empty() {
            let mut held = std::mem::take(&mut self.partial);
            let missing = self.handler.front.needed.saturating_sub(held.len());
            held.reserve(missing.min(held.len().max(GROW_MAX_BYTES)) + SLACK_BYTES);
            // An allocation may be larger than what was asked for.
            let mut space = (&mut held).limit(missing + SLACK_BYTES);
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut space);
            let Poll::Ready(Ok(bytes @ 1..)) = read else {
                self.partial = held;
                return read.map(|_| Err(()));
            };
            self.received(bytes, now);
            return Poll::Ready(Ok(self.consume_partial(held, now)));
        }
        let ingress = Rc::clone(&self.handler.ingress);
        let mut scratch = ingress.scratch.borrow_mut();
        // What is left of a read must be kept: little of a peer that has shown no session, and little while
        // the budget is tight. What is skipped is not kept.
        let most = match self.handler.is_verified() && !ingress.budget.borrow().is_tight(scratch.len()) {
            true => scratch.len(),
            false => scratch.len().min(self.handler.skips() + FREE_BYTES),
        };
        let mut buffer = ReadBuf::new(scratch.get_mut(..most).unwrap_or_default());
        if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).is_err()
            || buffer.filled().is_empty()
        {
            return Poll::Ready(Err(()));
        }
        let bytes = buffer.filled();
        self.received(bytes.len(), now);
        let bytes = bytes.get(self.handler.skip(bytes.len())..).unwrap_or_default();
        let (used, stop) = self.handler.consume(bytes, now);
        let rest = bytes.get(used..).unwrap_or_default();
        if !rest.is_empty() {
            self.partial.extend_from_slice(rest);
            self.keep(now);
        }
        Poll::Ready(Ok(stop))
    }

    fn received(&mut self, bytes: usize, now: Instant) {
        self.ingress().stats().received_bytes_total += bytes as u64;
        self.silent_since = now;
    }

    fn consume_partial(&mut self, mut held: BytesMut, now: Instant) -> Option<Stop> {
        let (used, stop) = self.handler.consume(&held, now);
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
        self.keep(now);
        stop
    }

    /// Claims memory for what is kept: for the whole frame at the front where its session is valid, else for what was
    /// read and cannot be handled now.
    fn keep(&mut self, now: Instant) {
        let bytes = self.partial.len();
        if let Some(needed) = self.handler.front.claim.take() {
            // What was kept so far may be the front of this frame, and is part of its claim.
            self.memory = Memory::Free;
            let claim = self.ingress().budget.borrow().claim(needed, bytes);
            self.memory = match claim {
                Ok(claim) => Memory::Claimed(claim),
                Err(wait) => {
                    self.handler.front.blocked_since.get_or_insert(now);
                    Memory::Wanted(wait)
                }
            };
            return;
        }
        match &self.memory {
            Memory::Wanted(_) => {}
            Memory::Claimed(claim) if self.handler.front.verified || claim.num_permits() >= bytes => {}
            _ if bytes > FREE_BYTES => {
                let claim = self.ingress().budget.borrow().claim(bytes, 0);
                self.memory = claim.map_or(Memory::Free, Memory::Claimed);
            }
            _ => self.memory = Memory::Free,
        }
    }

    /// Whether reading may go on: there is memory for the frame at the front, or it was refused.
    fn poll_memory(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Memory::Wanted(wait) = &mut self.memory else {
            return true;
        };
        match wait.as_mut().poll(cx) {
            Poll::Ready(Ok(claim)) => self.memory = Memory::Claimed(claim),
            _ if self.refused_at().is_some_and(|at| at > now) => return false,
            _ => {
                let kept = std::mem::take(&mut self.partial);
                self.memory = Memory::Free;
                self.handler.refuse_partial(kept.len());
            }
        }
        self.silent_since = now;
        true
    }

    /// When the frame at the front has waited long enough for memory.
    fn refused_at(&self) -> Option<Instant> {
        match self.memory {
            Memory::Wanted(_) => {
                let since = self.handler.front.blocked_since?;
                Some(since + self.ingress().settings().reply_timeout)
            }
            _ => None,
        }
    }

    /// Whether no part of a frame has come of which more is to come.
    fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && !self.handler.is_skipping()
    }

    /// None while weir makes the peer wait.
    fn deadlines(&mut self) -> Deadlines {
        if self.handler.is_verified() || self.handler.replies.has_logged_in() {
            self.unverified_since = None;
        }
        let waits = self.handler.replies.is_waiting() || matches!(self.memory, Memory::Wanted(_));
        if waits || self.ingress().closing.get() {
            return Deadlines {
                silent: None,
                unverified: None,
            };
        }
        let settings = self.ingress().settings();
        let silence = if self.is_between_frames() || self.resume {
            settings.idle_timeout
        } else {
            Some(settings.frame_timeout)
        };
        let unverified = self.unverified_since.zip(settings.first_frame_timeout);
        Deadlines {
            silent: silence.map(|d| self.silent_since + d),
            unverified: unverified.map(|(since, d)| since + d),
        }
    }

    /// Waits for a byte, a reply, or a deadline.
    fn rest(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Turn> {
        // Those behind its frame must not wait for a gateway that does not read its replies.
        self.handler.front.place = None;
        let deadlines = self.deadlines();
        if let Some(turn) = deadlines.overdue(now) {
            return Poll::Ready(turn);
        }
        let due = [
            deadlines.silent,
            deadlines.unverified,
            self.refused_at(),
            self.handler.replies.due(),
        ];
        let Some(due) = due.into_iter().flatten().min() else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // To fire too early costs one turn, so the timer is only ever moved to an earlier time.
        if timer.is_elapsed() || timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Deadlines {
    /// Whether the peer has kept weir waiting for too long.
    fn overdue(&self, now: Instant) -> Option<Turn> {
        if self.unverified.is_some_and(|at| at <= now) {
            Some(Turn::NoSession)
        } else if self.silent.is_some_and(|at| at <= now) {
            Some(Turn::Idle)
        } else {
            None
        }
    }
}
