//! The answers of one connection, in the order of its frames: bytes on their way out, and with
//! `ack = "delivered"` frames whose answer is still open.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::net::Stream;
use crate::relay::{Receipt, Verdict};
use crate::wire::reply::{OK, Reply, SESSION_TIMEOUT};

/// Open answers after which a connection is not read from: a gateway that pipelines without end.
const WAITING_MAX: usize = 1024;

/// Unsent bytes of answers after which no further frame is looked at: an error is longer than the frame it
/// answers, so a gateway that never reads could make weir hold many times what it sends.
const UNSENT_MAX_BYTES: usize = 16 * 1024;

/// A buffer that has grown beyond this is given back when it is empty.
const KEPT_MAX_BYTES: usize = 4 * 1024;

#[derive(Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// Some login was answered with a session.
    logged_in: bool,
    /// The connection's (see [`super::addresses`]). Here it takes no room.
    pub(super) number: u32,
    waiting: VecDeque<Waiting>,
}

enum Waiting {
    Known(Vec<u8>),
    Publish {
        receipt: Rc<Receipt>,
        events: u64,
        due: Instant,
    },
}

impl Replies {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// A publish or logout was taken.
    pub(super) fn ok(&mut self) {
        if self.waiting.is_empty() {
            self.bytes.push(OK);
        } else {
            self.waiting.push_back(Waiting::Known(vec![OK]));
        }
    }

    /// Any other answer.
    pub(super) fn send(&mut self, reply: &Reply<'_>) {
        self.logged_in |= matches!(reply, Reply::LoginOk { .. });
        if self.waiting.is_empty() {
            reply.encode(&mut self.bytes);
        } else {
            let mut bytes = Vec::new();
            reply.encode(&mut bytes);
            self.waiting.push_back(Waiting::Known(bytes));
        }
    }

    /// A publish that is answered when its receipt resolves, at the latest at `due`.
    pub(super) fn wait(&mut self, receipt: Rc<Receipt>, events: u64, due: Instant) {
        self.waiting.push_back(Waiting::Publish { receipt, events, due });
    }

    /// Turns resolved receipts into answers, in order. Returns publishes and events answered ok, and
    /// publishes answered with the gentle no.
    pub(super) fn settle(&mut self, waker: &Waker, now: Instant) -> (u64, u64, u64) {
        let mut counts = (0, 0, 0);
        while let Some(front) = self.waiting.front_mut() {
            match front {
                Waiting::Known(bytes) => self.bytes.append(bytes),
                Waiting::Publish { receipt, events, due } => match receipt.poll(waker) {
                    Some(Verdict::Settled) => {
                        self.bytes.push(OK);
                        counts = (counts.0 + 1, counts.1 + *events, counts.2);
                    }
                    None if *due > now => break,
                    Some(Verdict::GivenUp) | None => {
                        gentle_no().encode(&mut self.bytes);
                        counts.2 += 1;
                    }
                },
            }
            self.waiting.pop_front();
        }
        counts
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

    /// Whether what is answered must leave before more is asked.
    pub(super) fn are_many(&self) -> bool {
        self.bytes.len() >= UNSENT_MAX_BYTES || self.waiting_are_many()
    }

    /// When the oldest open answer must be given.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.waiting.front()? {
            Waiting::Known(_) => None,
            Waiting::Publish { due, .. } => Some(*due),
        }
    }
}

/// "Not taken, send again": the agent logs in again at once and sends the batch once more, and logs no
/// error (docs/PROTOCOL.md).
pub(super) fn gentle_no() -> Reply<'static> {
    Reply::Error {
        class: SESSION_TIMEOUT,
        message: "the events were not taken, send them again".into(),
    }
}
