//! PURE: AMQP frames: where one begins and ends, and which of the few that weir acts upon it is.
//!
//! A frame of 0-8, 0-9 and 0-9-1 is `type u8, channel u16, size u32, payload, 0xCE` (AMQP 0-9-1, 4.2.3; the
//! older two agree). The scanner borrows and allocates nothing. It does not enforce the negotiated `frame_max`, which
//! Andes exceeds by seven bytes, but a cap of its own, so that a false length cannot claim memory.
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

/// How the bytes behind a protocol header are framed.
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
        Some(match header.strip_prefix(b"AMQP")? {
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

/// What [`scan`] finds.
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
    /// Swallowed.
    Heartbeat,
    /// The broker's answer to the protocol header (10.10).
    Start,
    /// The client's credentials (10.11). Never logged.
    StartOk,
    /// The broker's limits and heartbeat (10.30): the delay in seconds.
    Tune(u16),
    /// The client's choice among them (10.31): the delay in seconds.
    TuneOk(u16),
    /// Ends the connection (10.50; in 0-8 10.60).
    Close,
    /// The answer to it (10.51; in 0-8 10.61).
    CloseOk,
    /// A message for a consumer (60.60).
    Deliver,
    /// Everything else: relayed as it is.
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
mod tests {
    use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
    use amq_protocol::protocol::{AMQPClass, basic, connection};
    use amq_protocol::types::ShortString;
    use proptest::prelude::*;

    use super::*;

    fn encode(frame: &AMQPFrame) -> Vec<u8> {
        gen_frame(frame)(WriteContext::from(Vec::new()))
            .unwrap()
            .into_inner()
            .0
    }

    fn whole(bytes: &[u8]) -> Frame<'_> {
        match scan(bytes).unwrap() {
            Scan::Whole(frame) => frame,
            Scan::Partial(n) => panic!("{n} bytes missing"),
        }
    }

    fn method(class: AMQPClass) -> AMQPFrame {
        AMQPFrame::Method(0, class)
    }

    fn tune(heartbeat: u16) -> AMQPFrame {
        method(AMQPClass::Connection(connection::AMQPMethod::Tune(
            connection::Tune {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat,
            },
        )))
    }

    fn tune_ok(heartbeat: u16) -> AMQPFrame {
        method(AMQPClass::Connection(connection::AMQPMethod::TuneOk(
            connection::TuneOk {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat,
            },
        )))
    }

    #[test]
    fn retuning_changes_two_bytes_of_tune_and_tune_ok() {
        let bytes = |method: u8, heartbeat: [u8; 2]| {
            let [high, low] = heartbeat;
            [
                1, 0, 0, 0, 0, 0, 12, 0, 10, 0, method, 0x07, 0xFF, 0, 2, 0, 0, high, low, 0xCE,
            ]
        };
        let mut frame = encode(&tune(0));
        assert_eq!(frame, bytes(30, [0, 0]));
        assert_eq!(whole(&frame).kind(Version::V0_9_1), Kind::Tune(0));
        retune(&mut frame, 30);
        assert_eq!(frame, bytes(30, [0, 30]));
        assert_eq!(frame, encode(&tune(30)));

        let mut frame = encode(&tune_ok(0x1234));
        assert_eq!(frame, bytes(31, [0x12, 0x34]));
        for version in [Version::V0_8, Version::V0_9, Version::V0_9_1] {
            assert_eq!(whole(&frame).kind(version), Kind::TuneOk(0x1234));
        }
        retune(&mut frame, 0xABCD);
        assert_eq!(frame, bytes(31, [0xAB, 0xCD]));
    }

    #[test]
    fn the_heartbeat_frame_is_the_one_amq_protocol_writes() {
        assert_eq!(encode(&AMQPFrame::Heartbeat), HEARTBEAT);
        assert_eq!(whole(&HEARTBEAT).kind(Version::V0_9_1), Kind::Heartbeat);
        let odd = encode(&AMQPFrame::InvalidHeartbeat(7));
        assert_eq!(whole(&odd).kind(Version::V0_9_1), Kind::Other, "relayed");
    }

    #[test]
    fn close_has_the_method_number_of_its_version() {
        let on =
            |class: u8, method: u8, channel: u8| vec![1, 0, channel, 0, 0, 0, 4, 0, class, 0, method, 0xCE];
        let kind = |method, version| whole(&on(10, method, 0)).kind(version);
        for version in [Version::V0_9, Version::V0_9_1] {
            assert_eq!(kind(50, version), Kind::Close);
            assert_eq!(kind(51, version), Kind::CloseOk);
            assert_eq!(kind(60, version), Kind::Other, "RabbitMQ's Blocked is no Close");
        }
        assert_eq!(kind(50, Version::V0_8), Kind::Other, "0-8's Redirect is no Close");
        assert_eq!(kind(60, Version::V0_8), Kind::Close);
        assert_eq!(kind(61, Version::V0_8), Kind::CloseOk);
        assert_eq!(
            whole(&on(10, 50, 1)).kind(Version::V0_9_1),
            Kind::Other,
            "not on channel 0"
        );
    }

    #[test]
    fn protocol_headers_are_distinguished() {
        let of = |v: [u8; 4]| {
            let mut header = *b"AMQP\0\0\0\0";
            header[4..].copy_from_slice(&v);
            Protocol::of(&header)
        };
        assert_eq!(
            Protocol::of(&HEADER_0_9_1),
            Some(Protocol::Framed(Version::V0_9_1))
        );
        assert_eq!(of([1, 1, 0, 9]), Some(Protocol::Framed(Version::V0_9)));
        assert_eq!(of([1, 1, 8, 0]), Some(Protocol::Framed(Version::V0_8)));
        assert_eq!(of([1, 1, 0, 10]), Some(Protocol::Opaque), "0-10");
        assert_eq!(of([0, 1, 0, 0]), Some(Protocol::Opaque), "1.0");
        assert_eq!(Protocol::of(b"GET / HT"), None);
    }

    #[test]
    fn a_frame_over_the_cap_is_refused_by_its_header_and_one_at_the_cap_is_not() {
        let at_cap = u32::try_from(FRAME_BYTES_MAX - 8).unwrap();
        let head = |size: u32| [&[3, 0, 1][..], &size.to_be_bytes()].concat();
        assert_eq!(scan(&head(at_cap)), Ok(Scan::Partial(FRAME_BYTES_MAX - 7)));
        for payload_bytes in [at_cap + 1, u32::MAX] {
            assert_eq!(scan(&head(payload_bytes)), Err(Fault::TooLong { payload_bytes }));
        }
    }

    #[test]
    fn a_wrong_end_octet_is_reported_with_its_offset() {
        let mut bytes = encode(&tune(0));
        *bytes.last_mut().unwrap() = 0x0A;
        assert_eq!(scan(&bytes), Err(Fault::BadEnd { at: 19, found: 0x0A }));
    }

    fn any_frame() -> impl Strategy<Value = AMQPFrame> {
        let channel = 0..=u16::MAX;
        let word = "[a-z_.]{0,40}";
        prop_oneof![
            Just(AMQPFrame::Heartbeat),
            any::<u16>().prop_map(tune),
            any::<u16>().prop_map(tune_ok),
            (channel.clone(), prop::collection::vec(any::<u8>(), 0..3000))
                .prop_map(|(id, body)| AMQPFrame::Body(id, body)),
            (channel, word, any::<u64>(), word).prop_map(|(id, tag, delivery_tag, key)| {
                AMQPFrame::Method(
                    id,
                    AMQPClass::Basic(basic::AMQPMethod::Deliver(basic::Deliver {
                        consumer_tag: ShortString::from(tag),
                        delivery_tag,
                        redelivered: false,
                        exchange: "x".into(),
                        routing_key: ShortString::from(key),
                    })),
                )
            }),
            (any::<u16>(), word).prop_map(|(reply_code, text)| {
                method(AMQPClass::Connection(connection::AMQPMethod::Close(
                    connection::Close {
                        reply_code,
                        reply_text: ShortString::from(text),
                        class_id: 0,
                        method_id: 0,
                    },
                )))
            }),
        ]
    }

    fn kind_by_amq_protocol(frame: &AMQPFrame) -> Kind {
        use connection::AMQPMethod as C;
        match frame {
            AMQPFrame::Heartbeat => Kind::Heartbeat,
            AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Deliver(_))) => Kind::Deliver,
            AMQPFrame::Method(0, AMQPClass::Connection(c)) => match c {
                C::Tune(t) => Kind::Tune(t.heartbeat),
                C::TuneOk(t) => Kind::TuneOk(t.heartbeat),
                C::Close(_) => Kind::Close,
                _ => Kind::Other,
            },
            _ => Kind::Other,
        }
    }

    proptest! {
        #[test]
        fn valid_frames_are_found_whole_and_classified_as_by_amq_protocol(
            frames in prop::collection::vec(any_frame(), 0..20),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(encode).collect();
            let mut rest = &stream[..];
            for expected in &frames {
                let found = whole(rest);
                prop_assert_eq!(found.kind(Version::V0_9_1), kind_by_amq_protocol(expected));
                let (left, parsed) = parse_frame(rest).unwrap();
                prop_assert_eq!(&parsed, expected);
                prop_assert_eq!(found.bytes().len(), rest.len() - left.len());
                rest = &rest[found.bytes().len()..];
            }
            prop_assert_eq!(rest.len(), 0);
        }

        #[test]
        fn a_partial_frame_never_asks_for_more_than_is_missing(frame in any_frame(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&frame);
            let cut = cut.index(bytes.len());
            match scan(&bytes[..cut]) {
                Ok(Scan::Partial(more)) => prop_assert!(more >= 1 && more <= bytes.len() - cut),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn any_bytes_at_all_neither_panic_nor_read_past_the_end(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let mut rest = &bytes[..];
            while let Ok(Scan::Whole(frame)) = scan(rest) {
                let _ = frame.kind(Version::V0_8);
                prop_assert!(frame.bytes().len() >= 8);
                rest = &rest[frame.bytes().len()..];
            }
        }
    }
}
