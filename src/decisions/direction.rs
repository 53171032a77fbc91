//! PURE: one direction of a connection: bytes in, whole frames out.
//!
//! Bytes wait in the inbox until a frame is complete and leave through the outbox. The outbox therefore always ends at
//! a frame border, where a heartbeat may be added even while the sender stalls in mid-frame. The sender's own
//! heartbeats end here. The only bytes ever changed are the heartbeat in the first Tune (towards the client) or
//! Tune-Ok (towards the broker).

use std::fmt;

use bytes::{Buf, BytesMut};

use super::frame::{self, Fault, HEADER_BYTES, HEARTBEAT, Kind, Protocol, Scan};
use super::status::Side;

/// The outbox takes no more once it holds this many bytes; its sender is not read meanwhile.
const OUTBOX_BYTES_HIGH: usize = 256 * 1024;

/// Least capacity given to a read, in bytes: also what an idle direction costs.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Most capacity given to a read, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// An empty buffer larger than this is freed.
const KEEP_BYTES: usize = 16 * 1024;

/// One direction.
#[derive(Debug)]
pub struct Direction {
    /// Bytes read and not yet a whole frame.
    pub inbox: BytesMut,
    /// Whole frames not yet written.
    pub outbox: BytesMut,
    protocol: Protocol,
    towards: Side,
    /// The delay to write into the tuning frame, until it has passed.
    retune_seconds: Option<u16>,
    /// Offset of the inbox's first byte in the stream.
    offset_bytes: u64,
    closing: bool,
}

/// What one [`Direction::forward`] moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarded {
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

impl Direction {
    /// A direction that begins with `inbox`; towards the broker behind the protocol header, which has been sent.
    #[must_use]
    pub fn new(protocol: Protocol, towards: Side, delay_seconds: u16, inbox: BytesMut) -> Self {
        let offset_bytes = match towards {
            Side::Client => 0,
            Side::Broker => HEADER_BYTES as u64,
        };
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
    pub fn forward(&mut self) -> Result<Forwarded, BadStream> {
        let mut forwarded = Forwarded::default();
        let Protocol::Framed(version) = self.protocol else {
            forwarded.bytes = self.inbox.len() as u64;
            self.outbox.extend_from_slice(&self.inbox);
            self.inbox.clear();
            return Ok(forwarded);
        };
        let mut at = 0;
        let result = loop {
            match frame::scan(self.inbox.get(at..).unwrap_or_default()) {
                Ok(Scan::Partial(_)) => break Ok(()),
                Err(fault) => break Err(fault),
                Ok(Scan::Whole(frame)) => {
                    let (kind, bytes) = (frame.kind(version), frame.bytes());
                    at += bytes.len();
                    if kind == Kind::Heartbeat {
                        forwarded.heartbeats += 1;
                        continue;
                    }
                    let start = self.outbox.len();
                    self.outbox.extend_from_slice(bytes);
                    forwarded.frames += 1;
                    forwarded.bytes += bytes.len() as u64;
                    match (kind, self.towards) {
                        (Kind::Deliver, _) => forwarded.deliveries += 1,
                        (Kind::Close | Kind::CloseOk, _) => self.closing = true,
                        (Kind::Tune(seconds), Side::Client) | (Kind::TuneOk(seconds), Side::Broker) => {
                            if let Some(delay_seconds) = self.retune_seconds.take() {
                                forwarded.tuned_seconds = Some(seconds);
                                let frame = self.outbox.get_mut(start..).unwrap_or_default();
                                frame::retune(frame, delay_seconds);
                            }
                        }
                        _ => {}
                    }
                }
            }
        };
        self.inbox.advance(at);
        self.offset_bytes += at as u64;
        result.map(|()| forwarded).map_err(|fault| BadStream {
            offset_bytes: self.offset_bytes + fault.at() as u64,
            fault,
        })
    }

    /// Adds a heartbeat of weir's own, unless other bytes wait or Close has passed; whether it did.
    pub fn inject_heartbeat(&mut self) -> bool {
        let allowed = self.outbox.is_empty() && !self.closing;
        if allowed {
            self.outbox.extend_from_slice(&HEARTBEAT);
        }
        allowed
    }

    /// Whether Close or Close-Ok has passed.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// Whether the sender may be read.
    #[must_use]
    pub fn has_capacity(&self) -> bool {
        self.outbox.len() < OUTBOX_BYTES_HIGH
    }

    /// Whether no byte is on its way here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inbox.is_empty() && self.outbox.is_empty()
    }

    /// Reserves capacity for the next read, fitted to the frame under way, and frees large empty buffers.
    pub fn reserve(&mut self) {
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decisions::frame::{FRAME_BYTES_MAX, Version};

    fn direction(towards: Side) -> Direction {
        Direction::new(Protocol::Framed(Version::V0_9_1), towards, 30, BytesMut::new())
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1], &size[..], payload, &[0xCE]].concat()
    }

    fn push(direction: &mut Direction, bytes: &[u8]) -> Forwarded {
        direction.inbox.extend_from_slice(bytes);
        direction.forward().unwrap()
    }

    const TUNE_OK_0: [u8; 20] = [
        1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 7, 0xFF, 0, 2, 0, 0, 0, 0, 0xCE,
    ];

    /// The stream without its heartbeats, by a scan of its own.
    fn without_heartbeats(mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let size = u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize + 8;
            if bytes[..size] != HEARTBEAT {
                out.extend_from_slice(&bytes[..size]);
            }
            bytes = &bytes[size..];
        }
        out
    }

    #[test]
    fn only_the_first_tune_ok_is_rewritten_and_its_old_value_returned() {
        let mut direction = direction(Side::Broker);
        assert_eq!(push(&mut direction, &TUNE_OK_0).tuned_seconds, Some(0));
        let mut expected = TUNE_OK_0;
        expected[18] = 30;
        assert_eq!(direction.outbox[..], expected);
        assert_eq!(push(&mut direction, &TUNE_OK_0).tuned_seconds, None);
        assert_eq!(direction.outbox[20..], TUNE_OK_0);
    }

    #[test]
    fn a_tune_ok_from_the_broker_is_not_rewritten() {
        let mut direction = direction(Side::Client);
        push(&mut direction, &TUNE_OK_0);
        assert_eq!(direction.outbox[..], TUNE_OK_0);
    }

    #[test]
    fn a_sender_that_stalls_mid_frame_does_not_stop_heartbeats_and_its_frame_stays_whole() {
        let mut direction = direction(Side::Broker);
        let body = frame(3, &[7; 500]);
        push(&mut direction, &body[..300]);
        assert!(direction.outbox.is_empty(), "half a frame never leaves");
        assert!(direction.inject_heartbeat());
        assert!(!direction.inject_heartbeat(), "one is enough while it waits");
        push(&mut direction, &body[300..]);
        assert_eq!(direction.outbox[..], [&HEARTBEAT[..], &body].concat());
    }

    #[test]
    fn heartbeats_of_the_sender_end_here() {
        let mut direction = direction(Side::Broker);
        let body = frame(3, b"x");
        let bytes = [&HEARTBEAT[..], &body, &HEARTBEAT, &HEARTBEAT].concat();
        let moved = push(&mut direction, &bytes);
        assert_eq!((moved.heartbeats, moved.frames, moved.bytes), (3, 1, 9));
        assert_eq!(direction.outbox[..], body);
    }

    #[test]
    fn bad_framing_names_the_offset_in_the_stream_and_keeps_what_came_before() {
        let mut direction = direction(Side::Broker);
        let good = frame(3, b"good");
        let mut bad = frame(3, b"bad");
        *bad.last_mut().unwrap() = b'!';
        direction.inbox.extend_from_slice(&[&good[..], &bad].concat());
        let error = direction.forward().unwrap_err();
        assert_eq!(error.offset_bytes, 8 + 12 + 10);
        assert_eq!(
            error.to_string(),
            "frame ends with 0x21 where 0xce belongs (byte 30 of the stream)"
        );
        assert_eq!(direction.outbox[..], good);
    }

    #[test]
    fn a_frame_over_the_cap_ends_the_stream_with_its_offset() {
        let mut direction = direction(Side::Broker);
        direction.inbox.extend_from_slice(&[3, 0, 1, 0, 4, 0, 0]);
        let error = direction.forward().unwrap_err();
        assert_eq!(error.offset_bytes, 11);
        assert!(error.to_string().contains("262144"), "{error}");
    }

    #[test]
    fn opaque_bytes_pass_as_they_come() {
        let mut direction = Direction::new(Protocol::Opaque, Side::Broker, 30, BytesMut::new());
        let moved = push(&mut direction, &HEARTBEAT);
        assert_eq!((moved.bytes, moved.heartbeats), (8, 0));
        assert_eq!(direction.outbox[..], HEARTBEAT);
    }

    #[test]
    fn buffers_are_bounded_and_freed_when_empty() {
        let mut direction = direction(Side::Client);
        direction.inbox.extend_from_slice(&[3, 0, 1, 0, 3, 0xFF, 0xF8]);
        direction.reserve();
        assert!(
            direction.inbox.capacity() < 80 * 1024,
            "an announced 256 KiB is not reserved at once"
        );
        direction.inbox.extend_from_slice(&vec![0; FRAME_BYTES_MAX - 8]);
        direction.inbox.extend_from_slice(&[0xCE]);
        direction.forward().unwrap();
        assert!(!direction.has_capacity(), "{} bytes wait", direction.outbox.len());
        direction.outbox.clear();
        direction.reserve();
        assert!(direction.inbox.capacity() + direction.outbox.capacity() <= 2 * KEEP_BYTES);
    }

    proptest! {
        #[test]
        fn any_slicing_with_heartbeats_injected_anywhere_changes_nothing_but_heartbeats(
            frames in prop::collection::vec((1u8..9, prop::collection::vec(any::<u8>(), 0..300)), 0..12),
            cuts in prop::collection::vec(1usize..200, 1..40),
            beats in prop::collection::vec(any::<bool>(), 1..40),
        ) {
            // On channel 1, so that no payload is taken for Tune-Ok or Close.
            let input: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let mut direction = direction(Side::Broker);
            let (mut at, mut out, mut turn) = (0, Vec::new(), 0);
            while at < input.len() {
                let end = input.len().min(at + cuts[turn % cuts.len()]);
                push(&mut direction, &input[at..end]);
                at = end;
                out.extend_from_slice(&direction.outbox.split());
                if beats[turn % beats.len()] && direction.inject_heartbeat() {
                    out.extend_from_slice(&direction.outbox.split());
                }
                turn += 1;
            }
            prop_assert_eq!(without_heartbeats(&out), without_heartbeats(&input));
            prop_assert!(direction.is_empty());
        }
    }
}
