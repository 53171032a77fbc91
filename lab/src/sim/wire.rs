//! One simulated connection: two ways, each a line of bytes with the times at which they arrive.
//!
//! Bytes of one way arrive in order. A way that has lost a byte is dead: TCP never delivers what lies behind
//! a hole. Time and conditions are arguments.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::Trouble;
use crate::sink::Close;

/// The way from the side that connected, and the way back.
#[derive(Debug)]
pub(super) struct Wire {
    /// The host that was connected to.
    pub(super) host: usize,
    /// `ways[side]` carries what that side writes.
    pub(super) ways: [Way; 2],
    /// Which sides somebody still holds.
    pub(super) held: [bool; 2],
    /// Something between the sides has ended it.
    pub(super) is_cut: bool,
}

#[derive(Debug)]
pub(super) struct Way {
    /// Bytes that are on their way or have arrived, and when they arrive.
    line: VecDeque<(Instant, VecDeque<u8>)>,
    /// Bytes in `line` and bytes that vanished: the sender's and the receiver's buffers hold no more.
    held_bytes: usize,
    held_bytes_max: usize,
    /// Nothing arrives before what was written before it.
    last: Instant,
    written: u64,
    dead: bool,
    fin: Option<Instant>,
    reset: Option<Instant>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// What a read finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Bytes(Vec<u8>),
    Fin,
    Reset,
    /// Nothing now; perhaps something then.
    Nothing(Option<Instant>),
}

/// What a write meets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many bytes; so many of them vanished.
    Bytes { taken: usize, vanished: usize },
    /// These, and with them the connection has come to the place where it is cut.
    Cut(usize, Close),
    /// The buffer is full.
    Full,
}

impl Wire {
    pub(super) fn new(host: usize, held_bytes_max: usize, now: Instant) -> Self {
        let way = || Way {
            line: VecDeque::new(),
            held_bytes: 0,
            held_bytes_max,
            last: now,
            written: 0,
            dead: false,
            fin: None,
            reset: None,
            reader: None,
            writer: None,
        };
        Self {
            host,
            ways: [way(), way()],
            held: [true, true],
            is_cut: false,
        }
    }

    /// Wakes everybody who waits for something on it.
    pub(super) fn wake(&mut self) {
        for way in &mut self.ways {
            way.reader.take().into_iter().for_each(Waker::wake);
            way.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Something between the sides ends the connection for both.
    pub(super) fn cut(&mut self, how: Close, now: Instant) {
        self.is_cut = true;
        for way in &mut self.ways {
            way.end(how, Duration::ZERO, now);
            way.dead = true;
        }
        self.wake();
    }
}

impl Way {
    pub(super) fn read(&mut self, bytes_max: usize, conditions: &Trouble, now: Instant) -> Found {
        if conditions.stopped {
            return Found::Nothing(None);
        }
        let mut bytes = Vec::new();
        let most = bytes_max.min(conditions.slice_bytes.unwrap_or(usize::MAX)).max(1);
        while let Some((at, piece)) = self.line.front_mut()
            && *at <= now
            && bytes.len() < most
        {
            let n = piece.len().min(most - bytes.len());
            bytes.extend(piece.drain(..n));
            if piece.is_empty() {
                self.line.pop_front();
            }
        }
        if !bytes.is_empty() {
            self.held_bytes -= bytes.len();
            self.writer.take().into_iter().for_each(Waker::wake);
            return Found::Bytes(bytes);
        }
        let next = self.line.front().map(|(at, _)| *at);
        match (next, self.reset, self.fin) {
            (None, Some(at), _) if at <= now => Found::Reset,
            (None, _, Some(at)) if at <= now => Found::Fin,
            (None, reset, fin) => Found::Nothing(reset.into_iter().chain(fin).min()),
            (Some(at), ..) => Found::Nothing(Some(at)),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], conditions: &Trouble, now: Instant) -> Taken {
        let room = self.held_bytes_max.saturating_sub(self.held_bytes);
        if room == 0 {
            return Taken::Full;
        }
        let mut taken = bytes
            .len()
            .min(room)
            .min(conditions.slice_bytes.unwrap_or(usize::MAX).max(1));
        let left = conditions
            .cut_at
            .map(|(at, how)| (at.saturating_sub(self.written), how));
        if let Some((left, _)) = left {
            taken = taken.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.written += u64::try_from(taken).unwrap_or(0);
        self.held_bytes += taken;
        self.dead |= conditions.black_hole && taken > 0;
        if !self.dead {
            let send = Duration::from_secs_f64(match conditions.bandwidth {
                #[allow(clippy::cast_precision_loss)]
                Some(per_second) => taken as f64 / per_second.max(1) as f64,
                None => 0.0,
            });
            self.last = self.last.max(now + conditions.latency) + send;
            let piece = bytes.get(..taken).unwrap_or(bytes).iter().copied().collect();
            self.line.push_back((self.last, piece));
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        match left {
            Some((left, how)) if usize::try_from(left) == Ok(taken) => Taken::Cut(taken, how),
            _ => Taken::Bytes {
                taken,
                vanished: if self.dead { taken } else { 0 },
            },
        }
    }

    /// Bytes nobody is charged for, behind those that were written last.
    pub(super) fn slip_in(&mut self, bytes: &[u8], latency: Duration, now: Instant) {
        if !self.dead && !bytes.is_empty() {
            self.held_bytes += bytes.len();
            self.last = self.last.max(now + latency);
            self.line.push_back((self.last, bytes.iter().copied().collect()));
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    /// The writing side ends; false where the other side is gone.
    pub(super) fn end(&mut self, how: Close, latency: Duration, now: Instant) -> bool {
        if self.dead {
            return false;
        }
        let at = self.last.max(now + latency);
        match how {
            Close::Fin => self.fin = self.fin.or(Some(at)),
            Close::Rst => self.reset = self.reset.or(Some(at)),
        }
        self.reader.take().into_iter().for_each(Waker::wake);
        true
    }

    /// What is on its way, or has arrived unread, is lost.
    pub(super) fn lose(&mut self, now: Instant) {
        self.line.clear();
        self.last = now;
    }

    /// Nothing more arrives.
    pub(super) fn kill(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_reset(&self, now: Instant) -> bool {
        self.reset.is_some_and(|at| at <= now)
    }

    pub(super) fn reset_at(&self) -> Option<Instant> {
        self.reset
    }

    /// Whether there are unread bytes, arrived or on their way.
    pub(super) fn has_unread(&self) -> bool {
        !self.line.is_empty()
    }
}
