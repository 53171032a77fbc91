//! The worker's end of a tap: counts what passes and copies some of it, and never waits.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::wire::events::iterate;
use crate::wire::{Event, Events};

/// Of a longer event only the beginning is copied.
pub const EVENT_COPY_MAX_BYTES: usize = 16 * 1024;

/// The open taps of one worker.
#[derive(Debug, Default)]
pub struct Taps {
    are_open: Cell<bool>,
    feeds: RefCell<Vec<Feed>>,
}

impl Taps {
    /// Opens one more. It ends when its receiving end is dropped.
    pub fn open(&self, feed: Feed) {
        self.feeds.borrow_mut().push(feed);
        self.are_open.set(true);
    }

    /// Passes a frame's events to the open taps; without one this is one branch.
    #[inline]
    pub fn pass(&self, events: Events<'_>, now: Instant) {
        if self.are_open.get() {
            self.feed(events, now);
        }
    }

    /// Whether a tap was open when the last frame passed, or has been opened since.
    #[must_use]
    pub fn are_open(&self) -> bool {
        self.are_open.get()
    }

    #[cold]
    fn feed(&self, events: Events<'_>, now: Instant) {
        let mut feeds = self.feeds.borrow_mut();
        feeds.retain_mut(|feed| feed.take(events, now));
        self.are_open.set(!feeds.is_empty());
    }
}

/// A copy of an event's beginning; it does not hold the memory of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// At most [`EVENT_COPY_MAX_BYTES`].
    pub bytes: Vec<u8>,
    /// The length of the whole event.
    pub length: usize,
}

impl Sample {
    /// Copies the beginning of an event.
    #[must_use]
    pub fn of(event: Event<'_>) -> Self {
        let bytes = event.bytes();
        Self {
            bytes: bytes.get(..EVENT_COPY_MAX_BYTES).unwrap_or(bytes).to_vec(),
            length: bytes.len(),
        }
    }
}

/// What the workers have counted for one tap.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that passed.
    pub seen: AtomicU64,
    /// Those of another stream than the one asked for.
    pub other_streams: AtomicU64,
}

/// One worker's end of one tap.
#[derive(Debug, Clone)]
pub struct Feed {
    stream: Option<Vec<u8>>,
    every: u64,
    /// Events to let pass before the next one is taken.
    pass: u64,
    budget: Budget,
    counts: Arc<Counts>,
    out: mpsc::Sender<Sample>,
}

impl Feed {
    /// Takes every `every`th event of `stream` (with its version or without; `None` = of all), at most
    /// `per_second` of them.
    #[must_use]
    pub fn new(
        stream: Option<&str>,
        every: u64,
        per_second: u32,
        counts: Arc<Counts>,
        out: mpsc::Sender<Sample>,
    ) -> Self {
        Self {
            stream: stream.map(|s| s.as_bytes().to_vec()),
            every: every.max(1),
            pass: 0,
            budget: Budget::new(per_second),
            counts,
            out,
        }
    }

    /// Returns false when the tap is closed.
    fn take(&mut self, events: Events<'_>, now: Instant) -> bool {
        if self.out.is_closed() {
            return false;
        }
        let count = events.count() as u64;
        self.counts.seen.fetch_add(count, Ordering::Relaxed);
        if self.stream.is_none() && self.pass >= count {
            self.pass -= count;
            return true;
        }
        if !self.budget.has_some(now) {
            return true;
        }
        let mut others = 0;
        for event in iterate(events.bytes()) {
            if !self.is_wanted(event) {
                others += 1;
            } else if self.pass > 0 {
                self.pass -= 1;
            } else {
                self.pass = self.every - 1;
                // Full: the reader is slow, and the rest of the frame is skipped.
                if !self.budget.take(now) || self.out.try_send(Sample::of(event)).is_err() {
                    break;
                }
            }
        }
        self.counts.other_streams.fetch_add(others, Ordering::Relaxed);
        true
    }

    fn is_wanted(&self, event: Event<'_>) -> bool {
        let Some(wanted) = &self.stream else {
            return true;
        };
        let rest = event
            .stream_id()
            .and_then(|id| id.strip_prefix(wanted.as_slice()));
        rest.is_some_and(|rest| rest.is_empty() || (rest.first() == Some(&b':') && !wanted.contains(&b':')))
    }
}

/// A token bucket: this many a second, and at most as many at once.
#[derive(Debug, Clone)]
pub struct Budget {
    per_second: f64,
    left: f64,
    filled: Option<Instant>,
}

impl Budget {
    /// Full.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.into(),
            left: per_second.into(),
            filled: None,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let some = self.has_some(now);
        if some {
            self.left -= 1.0;
        }
        some
    }

    fn has_some(&mut self, now: Instant) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let since = now.saturating_duration_since(filled).as_secs_f64();
        self.left = (self.left + since * self.per_second).min(self.per_second.max(1.0));
        self.filled = Some(now);
        self.left >= 1.0
    }
}
