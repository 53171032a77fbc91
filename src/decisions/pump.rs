//! Two streams and two lanes: reads, sorts, writes, and keeps both hearts.
//!
//! One task drives both directions, and one turn gives each of the four doors (two to read, two to write) one
//! chance, so no direction can starve the other. A side is read only while the other side's outbox has room: that
//! is the back-pressure, and the bound of memory.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::end::End;
use super::heart::Due;
use super::lane::Passed;
use super::ledger::Ticket;
use super::pair::{Moved, Pair};
use super::stage::{Leave, Stage};
use super::status::Side;

/// Without a frame in either direction for this long a moment is quiet.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// An alarm without a time.
const NEVER: Duration = Duration::from_secs(86_400);

/// What was agreed for this connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// When Tune-Ok must have been forwarded; `None` = there is none to wait for.
    pub(super) handshake_deadline: Option<Instant>,
    /// The heartbeat delay towards the broker.
    pub(super) broker_delay: Duration,
    /// Dead after delay × this, broker's side.
    pub(super) broker_timeout_factor: f64,
    /// The same towards the client, whose delay the client chooses.
    pub(super) client_timeout_factor: f64,
}

pub(super) struct Pump<'a, C, B> {
    pub(super) pair: Pair<C, B>,
    terms: Terms,
    /// The client's heartbeat delay, from its Tune-Ok until that has been written to the broker.
    chosen_seconds: Option<u16>,
    frame_at: Instant,
    ticket: &'a Ticket,
}

impl<'a, C, B> Pump<'a, C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    /// Relays between two streams; what the lanes hold already goes first.
    pub(super) fn new(pair: Pair<C, B>, terms: Terms, ticket: &'a Ticket) -> Self {
        Self {
            pair,
            terms,
            chosen_seconds: None,
            frame_at: Instant::now(),
            ticket,
        }
    }

    /// Relays until an end.
    pub(super) async fn run(
        &mut self,
        over: impl Future<Output = ()>,
        wishes: &mut watch::Receiver<Leave>,
    ) -> End {
        let mut over = pin!(over);
        let mut alarm = pin!(sleep_until(Instant::now() + NEVER));
        for side in Side::BOTH {
            if let Err(end) = self.sort(side, Instant::now()) {
                return end;
            }
        }
        loop {
            let wish = *wishes.borrow_and_update();
            if let Some(end) = self.on_time(Instant::now(), wish).await {
                return end;
            }
            let wake = self.wakes_at(wish, Instant::now());
            // Only ever set earlier: an alarm that comes too soon costs one look, a reset costs every turn.
            if wake < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(wake);
            }
            tokio::select! {
                // An order to end comes first, and time before data, so that a busy peer starves neither.
                biased;
                () = &mut over => return End::Over,
                changed = wishes.changed() => if changed.is_err() { return End::Over },
                () = alarm.as_mut() => {}
                moved = std::future::poll_fn(|cx| self.pair.poll_turn(cx)) => {
                    if let Err(end) = self.settle(moved) {
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

    /// What the clock demands.
    async fn on_time(&mut self, now: Instant, wish: Leave) -> Option<End> {
        if self.terms.handshake_deadline.is_some_and(|at| at <= now) {
            return Some(End::HandshakeTimeout);
        }
        if self.leaves_at(wish, now).is_some_and(|at| at <= now) {
            let quiet = self.quiet_at().is_some_and(|at| at <= now);
            return Some(End::Left { quiet });
        }
        for side in Side::BOTH {
            match self.pair.heart(side).due(now) {
                Due::Nothing => {}
                Due::Beat => {
                    let lane = self.pair.lane_to(side);
                    // What waits in the outbox is proof enough once it leaves; either way the next beat is
                    // due half a delay from now.
                    let injected = lane.inject();
                    self.pair.heart(side).wrote(now);
                    if injected {
                        self.ticket.note(|s| s.side(side).heartbeats_sent_total += 1);
                    }
                }
                Due::Dead => match self.last_look(side).await {
                    Ok(true) => {}
                    Ok(false) => return Some(End::Dead(side)),
                    Err(end) => return Some(end),
                },
            }
        }
        None
    }

    /// Whether a side that seems dead has bytes waiting: the process itself may have been stopped, or its
    /// machine, while they came.
    async fn last_look(&mut self, side: Side) -> Result<bool, End> {
        let look = std::future::poll_fn(|cx| Poll::Ready(self.pair.poll_read(side, cx)));
        // Without tokio's budget, which would make a readable socket look silent to a busy task.
        match tokio::task::unconstrained(look).await {
            Poll::Pending => Ok(false),
            Poll::Ready(read) => {
                let mut moved = Moved::default();
                *side.of(&mut moved.read) = Some(read);
                self.settle(moved).map(|()| true)
            }
        }
    }

    /// Draws the consequences of a turn. What was read is sorted even where a write failed: it may hold the
    /// side's last word, a Close with its reason.
    fn settle(&mut self, moved: Moved) -> Result<(), End> {
        let now = Instant::now();
        let mut end = Ok(());
        for (side, read) in Side::BOTH.into_iter().zip(moved.read) {
            end = end.and(match read {
                None => Ok(()),
                Some(Ok(0)) => Err(End::Closed(side)),
                Some(Ok(_)) => {
                    self.pair.heart(side).read(now);
                    self.ticket.read(side, now);
                    self.sort(side, now)
                }
                Some(Err(e)) => Err(End::Failed(side, e)),
            });
        }
        for (side, wrote) in Side::BOTH.into_iter().zip(moved.wrote) {
            match wrote {
                None => {}
                Some(Ok(_)) => self.pair.heart(side).wrote(now),
                Some(Err(e)) => end = end.and(Err(End::Failed(side, e))),
            }
        }
        if self.pair.to_broker.outbox.is_empty()
            && let Some(seconds) = self.chosen_seconds.take()
        {
            self.start_hearts(now, seconds);
        }
        for side in Side::BOTH {
            let paused = !self.pair.lane_from(side).has_room();
            self.pair.heart(side).pause(now, paused);
            self.ticket.pause(side, paused, now);
            if self.pair.lane_to(side).closing() {
                self.pair.heart(side).hush();
            }
        }
        end
    }

    fn sort(&mut self, from: Side, now: Instant) -> Result<(), End> {
        let passed = match self.pair.lane_from(from).sort() {
            Ok(passed) => passed,
            Err(bad) => return Err(End::Bad(from, bad)),
        };
        let Passed {
            frames,
            bytes,
            heartbeats,
            deliveries,
            tuned_seconds,
        } = passed;
        if bytes > 0 {
            self.frame_at = now;
        }
        if from == Side::Client && tuned_seconds.is_some() {
            self.chosen_seconds = tuned_seconds;
        }
        let towards = if from == Side::Client {
            Side::Broker
        } else {
            Side::Client
        };
        self.ticket.note(|s| {
            s.side(from).heartbeats_received_total += heartbeats;
            s.deliveries_total += deliveries;
            let direction = s.towards(towards);
            direction.frames_total += frames;
            direction.bytes_total += bytes;
        });
        Ok(())
    }

    /// Tune-Ok has been forwarded: the broker has weir's delay, the client its own.
    fn start_hearts(&mut self, now: Instant, client_seconds: u16) {
        let terms = self.terms;
        self.terms.handshake_deadline = None;
        self.pair
            .broker
            .heart
            .start(now, terms.broker_delay, terms.broker_timeout_factor);
        self.pair.client.heart.start(
            now,
            Duration::from_secs(client_seconds.into()),
            terms.client_timeout_factor,
        );
        self.ticket.enter(Stage::Open, now);
    }

    fn wakes_at(&self, wish: Leave, now: Instant) -> Instant {
        let times = [
            self.terms.handshake_deadline,
            self.pair.client.heart.wakes_at(),
            self.pair.broker.heart.wakes_at(),
            self.leaves_at(wish, now),
        ];
        times.into_iter().flatten().min().unwrap_or_else(|| now + NEVER)
    }

    /// When the session leaves as it was asked to, if nothing moves until then.
    fn leaves_at(&self, wish: Leave, now: Instant) -> Option<Instant> {
        let (at_latest, proven_until) = match wish {
            Leave::No => return None,
            Leave::Failback {
                at_latest,
                proven_until,
            } => (at_latest, Some(proven_until)),
            Leave::Removed { at_latest } => (at_latest, None),
        };
        let at = self.quiet_at().map_or(at_latest, |quiet| quiet.min(at_latest));
        // A wish that is not proven any more says nothing until it is renewed, which wakes this session.
        proven_until.is_none_or(|until| at.max(now) < until).then_some(at)
    }

    /// When the moment becomes quiet, if no frame comes until then; never before the session is open, because a
    /// client whose first handshake is cut off does not recover by itself.
    fn quiet_at(&self) -> Option<Instant> {
        let still = self.opened() && self.pair.to_client.is_empty() && self.pair.to_broker.is_empty();
        still.then(|| self.frame_at + QUIET)
    }
}

#[cfg(test)]
mod tests;
