//! Relays between a gateway and its broker: two connections, two [`Direction`]s, and the timers of each side.
//!
//! One task drives both directions. Each turn gives each of the two reads and two writes one chance, so no direction
//! starves the other. A side is read only while the outbox towards the other side has capacity: that is the
//! back-pressure, and the bound of memory.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::connections::{LeaveRequest, Reason, Registration};
use super::direction::{BadStream, Direction};
use super::heartbeat::{Due, Timers};
use super::status::{Side, Sides, State};

/// A moment is quiet when no frame has passed in either direction for this long.
const QUIET: Duration = Duration::from_secs(1);

/// The timer's deadline when nothing is due.
const NEVER: Duration = Duration::from_secs(86_400);

/// What was agreed for this connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// When Tune-Ok must have been forwarded; `None` = there is none to wait for.
    pub(super) handshake_deadline: Option<Instant>,
    /// The heartbeat delay towards the broker. The client chooses its own.
    pub(super) broker_delay: Duration,
    /// A side is dead after its delay × this.
    pub(super) timeout_factor: Sides<f64>,
}

/// Why the relaying ended.
#[derive(Debug)]
pub(super) enum End {
    /// This side closed.
    Closed(Side),
    /// This side's connection broke.
    Failed(Side, io::Error),
    /// This side was silent for too long.
    Dead(Side),
    /// This side lost the framing.
    Bad(Side, BadStream),
    /// No Tune-Ok in time.
    HandshakeTimeout,
    /// As it was asked to.
    Left {
        /// At a quiet moment; else at the latest time.
        quiet: bool,
    },
    /// Weir stops.
    Stopped,
}

/// A gateway and its broker, and the bytes between them.
pub(super) struct Relay<'a, S> {
    pub(super) peers: Sides<Peer<S>>,
    /// By destination.
    pub(super) towards: Sides<Direction>,
    terms: Terms,
    /// The client's heartbeat delay, from its Tune-Ok until that has been written to the broker.
    chosen_seconds: Option<u16>,
    frame_at: Instant,
    registration: &'a Registration,
}

/// One side's connection and timers.
pub(super) struct Peer<S> {
    pub(super) stream: S,
    timers: Timers,
    /// Written since the last flush: TLS may hold ciphertext back.
    unflushed: bool,
}

/// What one turn read and wrote at each side, in bytes; `None` = nothing could move.
#[derive(Debug, Default)]
struct Turn {
    wrote: Sides<Option<io::Result<usize>>>,
    read: Sides<Option<io::Result<usize>>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Relay<'a, S> {
    /// What the directions hold already goes first.
    pub(super) fn new(
        streams: Sides<S>,
        towards: Sides<Direction>,
        terms: Terms,
        registration: &'a Registration,
    ) -> Self {
        Self {
            peers: Sides {
                client: Peer::new(streams.client),
                broker: Peer::new(streams.broker),
            },
            towards,
            terms,
            chosen_seconds: None,
            frame_at: Instant::now(),
            registration,
        }
    }

    /// Relays until an end; `stop` is one.
    pub(super) async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        requests: &mut watch::Receiver<Option<LeaveRequest>>,
    ) -> End {
        let mut stop = pin!(stop);
        let mut timer = pin!(sleep_until(Instant::now() + NEVER));
        for side in Side::BOTH {
            if let Err(end) = self.forward(side, Instant::now()) {
                return end;
            }
        }
        loop {
            let leave = requests.borrow_and_update().clone();
            if let Some(end) = self.on_time(Instant::now(), leave.as_ref()).await {
                return end;
            }
            let wake = self.next_at(leave.as_ref(), Instant::now());
            // Only ever set earlier: to fire too soon costs one turn of this loop, a reset costs every turn.
            if wake < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                // An order to end comes first, and time before data, so that a busy peer starves neither.
                biased;
                () = &mut stop => return End::Stopped,
                changed = requests.changed() => if changed.is_err() { return End::Stopped },
                () = timer.as_mut() => {}
                turn = poll_fn(|cx| self.poll_turn(cx)) => {
                    if let Err(end) = self.finish_turn(turn) {
                        return end;
                    }
                }
            }
        }
    }

    /// Whether Tune-Ok has been forwarded (or there is none to wait for).
    pub(super) fn opened(&self) -> bool {
        self.terms.handshake_deadline.is_none()
    }

    /// Does what is due.
    async fn on_time(&mut self, now: Instant, leave: Option<&LeaveRequest>) -> Option<End> {
        if self.terms.handshake_deadline.is_some_and(|at| at <= now) {
            return Some(End::HandshakeTimeout);
        }
        if self.leaves_at(leave, now).is_some_and(|at| at <= now) {
            let quiet = self.quiet_at().is_some_and(|at| at <= now);
            return Some(End::Left { quiet });
        }
        for side in Side::BOTH {
            match self.peers[side].timers.due(now) {
                Due::Nothing => {}
                Due::Heartbeat => {
                    // Bytes that wait in the outbox serve as well; either way the next heartbeat is due half a
                    // delay from now.
                    if self.towards[side].inject_heartbeat() {
                        self.registration
                            .note(|s| s.side(side).heartbeats_sent_total += 1);
                    }
                    self.peers[side].timers.wrote(now);
                }
                Due::Dead => match self.read_once_more(side).await {
                    Ok(true) => {}
                    Ok(false) => return Some(End::Dead(side)),
                    Err(end) => return Some(end),
                },
            }
        }
        None
    }

    /// Whether a side that seems dead has bytes waiting: the process, or its machine, may have been suspended while
    /// they came.
    async fn read_once_more(&mut self, side: Side) -> Result<bool, End> {
        let read = poll_fn(|cx| Poll::Ready(self.poll_read(side, cx)));
        // Without tokio's budget, which would make a readable socket look silent to a busy task.
        match tokio::task::unconstrained(read).await {
            Poll::Pending => Ok(false),
            Poll::Ready(read) => {
                let mut turn = Turn::default();
                turn.read[side] = Some(read);
                self.finish_turn(turn).map(|()| true)
            }
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut turn = Turn::default();
        let mut moved = false;
        // Writes first: capacity freed now can be read into in the same turn.
        for side in Side::BOTH {
            if let Poll::Ready(wrote) = self.peers[side].poll_write(&mut self.towards[side], cx) {
                turn.wrote[side] = Some(wrote);
                moved = true;
            }
        }
        for side in Side::BOTH {
            if let Poll::Ready(read) = self.poll_read(side, cx) {
                turn.read[side] = Some(read);
                moved = true;
            }
        }
        if moved { Poll::Ready(turn) } else { Poll::Pending }
    }

    fn poll_read(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.peers[side].poll_read(&mut self.towards[side.other()], cx)
    }

    /// Acts on what a turn moved. What was read is forwarded even where a write failed: it may hold the side's Close
    /// with its reason.
    fn finish_turn(&mut self, turn: Turn) -> Result<(), End> {
        let now = Instant::now();
        let mut end = Ok(());
        let mut read = Sides::default();
        for (side, result) in [(Side::Client, turn.read.client), (Side::Broker, turn.read.broker)] {
            end = end.and(match result {
                None => Ok(()),
                Some(Ok(0)) => Err(End::Closed(side)),
                Some(Ok(_)) => {
                    read[side] = true;
                    self.peers[side].timers.read(now);
                    self.forward(side, now)
                }
                Some(Err(e)) => Err(End::Failed(side, e)),
            });
        }
        for (side, result) in [
            (Side::Client, turn.wrote.client),
            (Side::Broker, turn.wrote.broker),
        ] {
            match result {
                None => {}
                Some(Ok(_)) => self.peers[side].timers.wrote(now),
                Some(Err(e)) => end = end.and(Err(End::Failed(side, e))),
            }
        }
        if self.towards.broker.outbox.is_empty()
            && let Some(seconds) = self.chosen_seconds.take()
        {
            self.open(now, seconds);
        }
        let mut paused = Sides::default();
        for side in Side::BOTH {
            paused[side] = !self.towards[side.other()].has_capacity();
            let timers = &mut self.peers[side].timers;
            timers.pause(now, paused[side]);
            if self.towards[side].closing() {
                timers.close();
            }
        }
        self.registration.moved(read, paused, now);
        end
    }

    /// Moves whole frames of one side to the outbox of the other.
    fn forward(&mut self, from: Side, now: Instant) -> Result<(), End> {
        let forwarded = self.towards[from.other()].forward();
        let moved = forwarded.map_err(|bad| End::Bad(from, bad))?;
        if moved.bytes > 0 {
            self.frame_at = now;
        }
        if from == Side::Client && moved.tuned_seconds.is_some() {
            self.chosen_seconds = moved.tuned_seconds;
        }
        self.registration.note(|s| {
            s.side(from).heartbeats_received_total += moved.heartbeats;
            s.deliveries_total += moved.deliveries;
            let traffic = s.towards(from.other());
            traffic.frames_total += moved.frames;
            traffic.bytes_total += moved.bytes;
        });
        Ok(())
    }

    /// Tune-Ok has been forwarded: the broker has weir's delay, the client its own.
    fn open(&mut self, now: Instant, client_seconds: u16) {
        self.terms.handshake_deadline = None;
        let delays = Sides {
            client: Duration::from_secs(client_seconds.into()),
            broker: self.terms.broker_delay,
        };
        for side in Side::BOTH {
            let factor = self.terms.timeout_factor[side];
            self.peers[side].timers.start(now, delays[side], factor);
        }
        self.registration.enter(State::Open, now);
    }

    fn next_at(&self, leave: Option<&LeaveRequest>, now: Instant) -> Instant {
        let times = [
            self.terms.handshake_deadline,
            self.peers.client.timers.next_at(),
            self.peers.broker.timers.next_at(),
            self.leaves_at(leave, now),
        ];
        times.into_iter().flatten().min().unwrap_or_else(|| now + NEVER)
    }

    /// When the connection leaves as it was asked to, if nothing moves until then.
    fn leaves_at(&self, leave: Option<&LeaveRequest>, now: Instant) -> Option<Instant> {
        let LeaveRequest {
            reason, at_latest, ..
        } = leave?;
        let at = self.quiet_at().map_or(*at_latest, |quiet| quiet.min(*at_latest));
        match reason {
            // A request that has expired has no effect until it is renewed, which wakes this connection.
            Reason::Failback { proven_until, .. } => (at.max(now) < *proven_until).then_some(at),
            Reason::Removed => Some(at),
        }
    }

    /// When the moment becomes quiet, if no frame comes until then; never before the connection is open, because a
    /// client whose first handshake is cut off does not recover by itself.
    fn quiet_at(&self) -> Option<Instant> {
        let still = self.opened() && self.towards.client.is_empty() && self.towards.broker.is_empty();
        still.then(|| self.frame_at + QUIET)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            timers: Timers::default(),
            unflushed: false,
        }
    }

    /// Reads once, when the direction has capacity; 0 is the end of the stream.
    fn poll_read(&mut self, direction: &mut Direction, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !direction.has_capacity() {
            return Poll::Pending;
        }
        direction.reserve();
        // The future holds no state between polls: what it read is in the inbox.
        pin!(self.stream.read_buf(&mut direction.inbox)).poll(cx)
    }

    /// Writes once from the direction, or flushes what was written.
    fn poll_write(&mut self, direction: &mut Direction, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if direction.outbox.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Pending;
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &direction.outbox))?;
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        direction.outbox.advance(wrote);
        self.unflushed = true;
        Poll::Ready(Ok(wrote))
    }
}

#[cfg(test)]
mod tests;
