//! PURE: where an AMQP frame begins and ends, and which of the few that matter to weir it is.
//!
//! A frame of 0-8, 0-9 and 0-9-1 is `type u8, channel u16, size u32, payload, 0xCE` (AMQP 0-9-1, 4.2.3; the
//! older two agree). The scanner borrows, allocates nothing, and never enforces the negotiated `frame_max`:
//! Andes exceeds it by seven bytes. It has a cap of its own, so that a lying length cannot claim memory.
//! Frame bodies are never logged: Start-Ok holds the password.

use std::fmt;

/// An empty frame of type 8 on channel 0: a heartbeat (AMQP 0-9-1, 4.2.7).
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// Largest frame weir relays, in bytes, frame header and end octet included.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Length of the protocol header a client opens with, in bytes.
pub const HEADER_BYTES: usize = 8;

/// The protocol header of 0-9-1; also what weir answers to bytes that are not AMQP (AMQP 0-9-1, 4.2.2).
pub const HEADER_0_9_1: [u8; HEADER_BYTES] = *b"AMQP\x00\x00\x09\x01";

/// Every frame ends with this octet.
const FRAME_END: u8 = 0xCE;
/// Type, channel and size.
const FRAME_HEAD_BYTES: usize = 7;
/// Offset of the heartbeat in a whole Tune or Tune-Ok frame: 7 of frame header, 4 of class and method,
/// 2 of channel-max, 4 of frame-max.
const TUNE_HEARTBEAT_AT: usize = 17;
/// Payload of Tune and Tune-Ok in bytes.
const TUNE_PAYLOAD_BYTES: usize = 12;

/// What a protocol header promises about the bytes that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Frames weir understands.
    Framed(Version),
    /// AMQP of another framing (0-10, 1.0): relayed as bytes, without heartbeats.
    Opaque,
}

/// The versions with the framing of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 0-8, in which Close is 10.60.
    V0_8,
    /// 0-9.
    V0_9,
    /// 0-9-1, what WSO2's client speaks.
    V0_9_1,
}

impl Protocol {
    /// Reads a protocol header; `None` when it is not AMQP at all.
    ///
    /// 0-8 and 0-9 are written as Qpid (and so Andes) writes them: class 1, instance 1, major, minor.
    #[must_use]
    pub fn of(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (magic, version) = header.split_first_chunk::<4>()?;
        if magic != b"AMQP" {
            return None;
        }
        Some(match version {
            [0, 0, 9, 1] => Protocol::Framed(Version::V0_9_1),
            [1, 1, 0, 9] => Protocol::Framed(Version::V0_9),
            [1, 1, 8, 0] | [0, 0, 8, 0] => Protocol::Framed(Version::V0_8),
            _ => Protocol::Opaque,
        })
    }
}

/// One whole frame, borrowed from the bytes it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    bytes: &'a [u8],
}

/// What a look at the front of a stream finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A whole frame.
    Whole(Frame<'a>),
    /// The beginning of one: at least this many bytes more are needed.
    Partial(usize),
}

/// Why a stream cannot be relayed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The octet at the frame's end is not 0xCE: the framing is lost.
    BadEnd {
        /// Its distance from the frame's first byte.
        at: usize,
        /// What stood there.
        found: u8,
    },
    /// The frame is larger than [`FRAME_BYTES_MAX`].
    TooLong {
        /// The size it announces, payload only, in bytes.
        payload_bytes: u32,
    },
}

impl Fault {
    /// Distance of the offending byte from the frame's first byte.
    #[must_use]
    pub fn at(&self) -> usize {
        match self {
            Fault::BadEnd { at, .. } => *at,
            Fault::TooLong { .. } => 3,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::BadEnd { found, .. } => write!(f, "frame ends with {found:#04x} where 0xce belongs"),
            Fault::TooLong { payload_bytes } => {
                write!(
                    f,
                    "frame announces {payload_bytes} bytes, more than the cap of {FRAME_BYTES_MAX}"
                )
            }
        }
    }
}

/// Looks for a frame at the front of `bytes`.
///
/// # Errors
/// [`Fault`] when no later byte could make this a frame weir relays.
pub fn scan(bytes: &[u8]) -> Result<Scan<'_>, Fault> {
    let Some(&[_, _, _, a, b, c, d]) = bytes.first_chunk::<FRAME_HEAD_BYTES>() else {
        return Ok(Scan::Partial(FRAME_HEAD_BYTES + 1 - bytes.len()));
    };
    let payload_bytes = u32::from_be_bytes([a, b, c, d]);
    let whole = (payload_bytes as usize).saturating_add(FRAME_HEAD_BYTES + 1);
    if whole > FRAME_BYTES_MAX {
        return Err(Fault::TooLong { payload_bytes });
    }
    let Some(bytes) = bytes.get(..whole) else {
        return Ok(Scan::Partial(whole - bytes.len()));
    };
    match bytes.last() {
        Some(&FRAME_END) => Ok(Scan::Whole(Frame { bytes })),
        found => Err(Fault::BadEnd {
            at: whole - 1,
            found: found.copied().unwrap_or_default(),
        }),
    }
}

/// The frames weir acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Proof of life; swallowed.
    Heartbeat,
    /// The broker's answer to the protocol header (10.10).
    Start,
    /// The client's credentials (10.11). Never logged.
    StartOk,
    /// The broker's limits and heartbeat (10.30): the delay in seconds.
    Tune(u16),
    /// The client's choice among them (10.31): the delay in seconds.
    TuneOk(u16),
    /// The last word of a side (10.50; in 0-8 10.60).
    Close,
    /// The answer to it (10.51; in 0-8 10.61).
    CloseOk,
    /// A message for a consumer (60.60).
    Deliver,
    /// Everything else: relayed unseen.
    Other,
}

impl<'a> Frame<'a> {
    /// The whole frame, header and end octet included.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Which frame it is, in the terms of `version`: Close moved between 0-8 and 0-9, and 0-9-1 uses the old
    /// number for RabbitMQ's Blocked.
    #[must_use]
    pub fn kind(&self, version: Version) -> Kind {
        if self.bytes == HEARTBEAT {
            return Kind::Heartbeat;
        }
        let Some((head, method)) = self.bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Kind::Other;
        };
        let (&[1, ch_high, ch_low, ..], Some(&[c_high, c_low, m_high, m_low])) = (head, method.first_chunk())
        else {
            return Kind::Other;
        };
        let on_connection = ch_high == 0 && ch_low == 0;
        let id = (
            u16::from_be_bytes([c_high, c_low]),
            u16::from_be_bytes([m_high, m_low]),
        );
        match (id, version) {
            ((60, 60), _) => Kind::Deliver,
            _ if !on_connection => Kind::Other,
            ((10, 10), _) => Kind::Start,
            ((10, 11), _) => Kind::StartOk,
            ((10, 30), _) => self.tuned().map_or(Kind::Other, Kind::Tune),
            ((10, 31), _) => self.tuned().map_or(Kind::Other, Kind::TuneOk),
            ((10, 60), Version::V0_8) | ((10, 50), Version::V0_9 | Version::V0_9_1) => Kind::Close,
            ((10, 61), Version::V0_8) | ((10, 51), Version::V0_9 | Version::V0_9_1) => Kind::CloseOk,
            _ => Kind::Other,
        }
    }

    /// The heartbeat of a frame with the size of Tune and Tune-Ok.
    fn tuned(&self) -> Option<u16> {
        if self.bytes.len() != FRAME_HEAD_BYTES + TUNE_PAYLOAD_BYTES + 1 {
            return None;
        }
        let delay = self.bytes.get(TUNE_HEARTBEAT_AT..)?.first_chunk()?;
        Some(u16::from_be_bytes(*delay))
    }
}

/// Writes another heartbeat into a whole Tune or Tune-Ok frame: these two bytes and no others.
pub fn retune(frame: &mut [u8], delay_seconds: u16) {
    if let Some(bytes) = frame.get_mut(TUNE_HEARTBEAT_AT..TUNE_HEARTBEAT_AT + 2) {
        bytes.copy_from_slice(&delay_seconds.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
