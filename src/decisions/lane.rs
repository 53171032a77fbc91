//! PURE: one direction of one connection: bytes in, whole frames out.
//!
//! Bytes wait in the inbox until a frame is complete and leave through the outbox, so whatever is appended to
//! the outbox lands on a frame border: a heartbeat is legal there at any time, even while the sender stalls
//! in the middle of a frame. Heartbeats of the sender end here. Of all bytes only two are ever changed: the
//! heartbeat in the first Tune (towards the client) or the first Tune-Ok (towards the broker).

use std::fmt;

use bytes::{Buf, BytesMut};

use super::frame::{self, Fault, Frame, HEARTBEAT, Kind, Protocol, Scan, Version};

/// The outbox takes no more once it holds this many bytes; its sender is not read meanwhile.
pub const OUTBOX_BYTES_HIGH: usize = 256 * 1024;

/// Least room given to a read, in bytes: also what an idle direction costs.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Most room given to a read, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// An empty buffer larger than this is given back.
const KEEP_BYTES: usize = 16 * 1024;

/// Which of the two tuning frames travels in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// From the broker: Tune.
    Client,
    /// From the client: Tune-Ok.
    Broker,
}

/// One direction.
#[derive(Debug)]
pub struct Lane {
    /// Bytes read and not yet a whole frame.
    pub inbox: BytesMut,
    /// Whole frames not yet written.
    pub outbox: BytesMut,
    protocol: Protocol,
    towards: Towards,
    /// The delay to write into the tuning frame, until it has passed.
    retune_seconds: Option<u16>,
    /// Distance of the inbox's first byte from the stream's.
    offset_bytes: u64,
    closing: bool,
}

/// What passed in one [`Lane::sort`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames moved to the outbox.
    pub frames: u64,
    /// Bytes moved to the outbox.
    pub bytes: u64,
    /// Heartbeats of the sender, swallowed.
    pub heartbeats: u64,
    /// Basic.Deliver among the frames.
    pub deliveries: u64,
    /// The delay the tuning frame carried before it was rewritten, in seconds.
    pub tuned_seconds: Option<u16>,
}

/// A stream that cannot be relayed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadStream {
    /// Offset of the offending byte in the stream, its protocol header included.
    pub offset_bytes: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for BadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {} of the stream)", self.fault, self.offset_bytes)
    }
}

impl Lane {
    /// A direction that begins with `inbox`, at `offset_bytes` of its stream.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        towards: Towards,
        delay_seconds: u16,
        inbox: BytesMut,
        offset_bytes: u64,
    ) -> Self {
        Self {
            inbox,
            outbox: BytesMut::new(),
            protocol,
            towards,
            retune_seconds: Some(delay_seconds),
            offset_bytes,
            closing: false,
        }
    }

    /// Moves every whole frame from the inbox to the outbox.
    ///
    /// # Errors
    /// [`BadStream`] when the framing is lost; the frames before it are in the outbox.
    pub fn sort(&mut self) -> Result<Passed, BadStream> {
        let mut passed = Passed::default();
        let Protocol::Framed(version) = self.protocol else {
            passed.bytes = self.inbox.len() as u64;
            self.outbox.extend_from_slice(&self.inbox);
            self.consume(self.inbox.len());
            return Ok(passed);
        };
        let mut at = 0;
        let verdict = loop {
            match frame::scan(self.inbox.get(at..).unwrap_or_default()) {
                Ok(Scan::Partial(_)) => break Ok(()),
                Ok(Scan::Whole(frame)) => {
                    let length = frame.bytes().len();
                    let kind = frame.kind(version);
                    append(&mut self.outbox, &frame, kind, &mut passed);
                    self.act_on(kind, length, &mut passed);
                    at += length;
                }
                Err(fault) => break Err(fault),
            }
        };
        self.consume(at);
        verdict.map(|()| passed).map_err(|fault| BadStream {
            offset_bytes: self.offset_bytes + fault.at() as u64,
            fault,
        })
    }

    /// Adds a heartbeat of weir's own, when nothing else waits and nothing forbids it.
    pub fn inject(&mut self) -> bool {
        let may = self.outbox.is_empty() && !self.closing;
        if may {
            self.outbox.extend_from_slice(&HEARTBEAT);
        }
        may
    }

    /// Whether Close or Close-Ok has passed.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// Whether the sender may be read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_BYTES_HIGH
    }

    /// Whether no byte is on its way here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inbox.is_empty() && self.outbox.is_empty()
    }

    /// Makes room for the next read, fitted to the frame under way, and lets large empty buffers go.
    pub fn make_room(&mut self) {
        for buffer in [&mut self.inbox, &mut self.outbox] {
            if buffer.is_empty() && buffer.capacity() > KEEP_BYTES {
                *buffer = BytesMut::new();
            }
        }
        let missing = match (self.protocol, frame::scan(&self.inbox)) {
            (Protocol::Framed(_), Ok(Scan::Partial(bytes))) => bytes,
            _ => 0,
        };
        self.inbox.reserve(missing.clamp(READ_BYTES_MIN, READ_BYTES_MAX));
    }

    fn act_on(&mut self, kind: Kind, length: usize, passed: &mut Passed) {
        match (kind, self.towards) {
            (Kind::Tune(seconds), Towards::Client) | (Kind::TuneOk(seconds), Towards::Broker) => {
                if let Some(delay_seconds) = self.retune_seconds.take() {
                    passed.tuned_seconds = Some(seconds);
                    let start = self.outbox.len().saturating_sub(length);
                    frame::retune(self.outbox.get_mut(start..).unwrap_or_default(), delay_seconds);
                }
            }
            (Kind::Close | Kind::CloseOk, _) => self.closing = true,
            _ => {}
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.inbox.advance(bytes);
        self.offset_bytes += bytes as u64;
    }

    /// The version in force, `None` where bytes are relayed without looking.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self.protocol {
            Protocol::Framed(version) => Some(version),
            Protocol::Opaque => None,
        }
    }
}

fn append(outbox: &mut BytesMut, frame: &Frame<'_>, kind: Kind, passed: &mut Passed) {
    if kind == Kind::Heartbeat {
        passed.heartbeats += 1;
        return;
    }
    outbox.extend_from_slice(frame.bytes());
    passed.frames += 1;
    passed.bytes += frame.bytes().len() as u64;
    passed.deliveries += u64::from(kind == Kind::Deliver);
}

#[cfg(test)]
mod tests;
