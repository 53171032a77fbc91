//! The replies of one connection, in the order of its frames: bytes to be written, and with `ack = "delivered"`
//! publishes whose receipt is not resolved yet.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::net::Stream;
use crate::relay::{Receipt, Verdict};
use crate::wire::reply::{OK, Reply, SESSION_TIMEOUT};

/// Unresolved replies after which a connection is not read from: a gateway that pipelines without end.
const WAITING_MAX: usize = 1024;

/// Unsent bytes of replies after which no further frame is handled: an error is longer than the frame it
/// answers, so a gateway that never reads could make weir hold many times what it sends.
const UNSENT_MAX_BYTES: usize = 16 * 1024;

/// A buffer that has grown beyond this is freed when it is empty.
const KEPT_MAX_BYTES: usize = 4 * 1024;

#[derive(Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// A login was accepted.
    logged_in: bool,
    waiting: VecDeque<Waiting>,
}

enum Waiting {
    Ready(Vec<u8>),
    Publish {
        receipt: Receipt,
        events: u64,
        due: Instant,
    },
}

/// Publishes whose receipts have resolved.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) publishes_ok: u64,
    /// Events of those.
    pub(super) events_ok: u64,
    /// Answered with the retry reply.
    pub(super) publishes_refused: u64,
}

impl Settled {
    pub(super) fn is_empty(&self) -> bool {
        self.publishes_ok + self.publishes_refused == 0
    }
}

impl Replies {
    /// A publish or logout was accepted.
    pub(super) fn ok(&mut self) {
        if self.waiting.is_empty() {
            self.bytes.push(OK);
        } else {
            self.waiting.push_back(Waiting::Ready(vec![OK]));
        }
    }

    /// Any other reply.
    pub(super) fn send(&mut self, reply: &Reply<'_>) {
        self.logged_in |= matches!(reply, Reply::LoginOk { .. });
        if self.waiting.is_empty() {
            reply.encode(&mut self.bytes);
        } else {
            let mut bytes = Vec::new();
            reply.encode(&mut bytes);
            self.waiting.push_back(Waiting::Ready(bytes));
        }
    }

    /// A publish that is answered when its receipt resolves, at the latest at `due`.
    pub(super) fn wait(&mut self, receipt: Receipt, events: u64, due: Instant) {
        self.waiting.push_back(Waiting::Publish { receipt, events, due });
    }

    /// Turns resolved receipts into replies, in order.
    pub(super) fn settle(&mut self, waker: &Waker, now: Instant) -> Settled {
        let mut settled = Settled::default();
        while let Some(front) = self.waiting.front_mut() {
            match front {
                Waiting::Ready(bytes) => self.bytes.append(bytes),
                Waiting::Publish { receipt, events, due } => match receipt.poll(waker) {
                    Some(Verdict::Settled) => {
                        self.bytes.push(OK);
                        settled.publishes_ok += 1;
                        settled.events_ok += *events;
                    }
                    None if *due > now => break,
                    Some(Verdict::GivenUp) | None => {
                        retry_reply().encode(&mut self.bytes);
                        settled.publishes_refused += 1;
                    }
                },
            }
            self.waiting.pop_front();
        }
        settled
    }

    /// Writes what is ready. `Pending` only while the peer takes nothing more.
    pub(super) fn poll_flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.unflushed = true;
        }
        if self.bytes.capacity() > KEPT_MAX_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn has_logged_in(&self) -> bool {
        self.logged_in
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn waiting_are_many(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Whether replies must leave before more frames are handled.
    pub(super) fn are_many(&self) -> bool {
        self.bytes.len() >= UNSENT_MAX_BYTES || self.waiting_are_many()
    }

    /// When the oldest unresolved reply must be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.waiting.front()? {
            Waiting::Ready(_) => None,
            Waiting::Publish { due, .. } => Some(*due),
        }
    }
}

/// "Not accepted, send again": the agent logs in again at once and sends the batch once more, and logs no
/// error (docs/PROTOCOL.md).
pub(super) fn retry_reply() -> Reply<'static> {
    Reply::Error {
        class: SESSION_TIMEOUT,
        message: "the events were not taken, send them again".into(),
    }
}
