//! PURE: the words of AMQP 0-9-1 that a broker and a gateway say to each other until decisions flow, and the frames
//! around them. Of its own, so that it shares no mistake with the relay.
//!
//! Section numbers are those of the AMQP 0-9-1 specification; numbers of methods are (class, method).

use bytes::{Buf, Bytes, BytesMut};

/// What a client opens with (4.2.2).
pub(super) const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// The topic that gateways subscribe to.
pub(super) const TOPIC: &str = "throttleData";
/// The one channel that is used.
const CHANNEL: u16 = 1;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
/// Type, channel and size.
const HEAD_BYTES: usize = 7;
/// What Andes offers; nobody here sends more.
const FRAME_MAX_BYTES: u32 = 65_535;
const CHANNEL_MAX: u16 = 256;
/// Class `basic`.
const BASIC: u16 = 60;

pub(super) const START: (u16, u16) = (10, 10);
pub(super) const START_OK: (u16, u16) = (10, 11);
pub(super) const TUNE: (u16, u16) = (10, 30);
pub(super) const TUNE_OK: (u16, u16) = (10, 31);
pub(super) const OPEN: (u16, u16) = (10, 40);
pub(super) const OPEN_OK: (u16, u16) = (10, 41);
pub(super) const CHANNEL_OPEN: (u16, u16) = (20, 10);
pub(super) const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
pub(super) const DECLARE: (u16, u16) = (50, 10);
pub(super) const DECLARE_OK: (u16, u16) = (50, 11);
pub(super) const BIND: (u16, u16) = (50, 20);
pub(super) const BIND_OK: (u16, u16) = (50, 21);
pub(super) const CONSUME: (u16, u16) = (60, 20);
pub(super) const CONSUME_OK: (u16, u16) = (60, 21);
pub(super) const DELIVER: (u16, u16) = (60, 60);

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    kind: u8,
    payload: Bytes,
}

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A method and its arguments.
    Method((u16, u16), Bytes),
    /// A message of so many bytes begins.
    Message(u64),
    /// Some of its bytes.
    Body(Bytes),
    /// Proof of life.
    Heartbeat,
}

/// Takes a whole frame off the front; `None` = more bytes are needed.
pub(super) fn take(bytes: &mut BytesMut) -> Result<Option<Frame>, String> {
    let Some(&[kind, _, _, a, b, c, d]) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([a, b, c, d]);
    if size > FRAME_MAX_BYTES {
        return Err(format!("a frame of {size} bytes"));
    }
    let whole = HEAD_BYTES + size as usize + 1;
    if bytes.len() < whole {
        return Ok(None);
    }
    let mut frame = bytes.split_to(whole).freeze();
    if frame.last() != Some(&FRAME_END) {
        return Err("a frame without its end octet".into());
    }
    frame.truncate(whole - 1);
    frame.advance(HEAD_BYTES);
    Ok(Some(Frame { kind, payload: frame }))
}

impl Frame {
    /// What it says.
    pub(super) fn said(mut self) -> Result<Said, String> {
        let short = || "a frame is too short".to_owned();
        match self.kind {
            METHOD => {
                let class = self.payload.try_get_u16().map_err(|_| short())?;
                let method = self.payload.try_get_u16().map_err(|_| short())?;
                Ok(Said::Method((class, method), self.payload))
            }
            HEADER => {
                self.payload.try_get_u32().map_err(|_| short())?;
                self.payload.try_get_u64().map(Said::Message).map_err(|_| short())
            }
            BODY => Ok(Said::Body(self.payload)),
            HEARTBEAT => Ok(Said::Heartbeat),
            kind => Err(format!("a frame of type {kind}")),
        }
    }
}

/// The heartbeat in the arguments of Tune and Tune-Ok, in seconds (1.4.2.5).
pub(super) fn heartbeat_of(arguments: &[u8]) -> Option<u16> {
    arguments.get(6..8)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The consumer's tag in the arguments of Consume (1.8.3.3), behind a reserved short and the queue's name.
pub(super) fn tag_of_consume(arguments: &[u8]) -> Option<String> {
    let (_, rest) = short_text(arguments.get(2..)?)?;
    short_text(rest).map(|(tag, _)| tag)
}

/// A text of at most 255 bytes, and what stands behind it.
fn short_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

pub(super) fn heartbeat() -> Vec<u8> {
    frame(HEARTBEAT, 0, &[])
}

pub(super) fn start() -> Vec<u8> {
    let mut properties = Words::default();
    for (name, value) in [("product", "weir's stand-in broker"), ("version", "0")] {
        properties.short(name);
        properties.0.push(b'S');
        properties.long(value.as_bytes());
    }
    let mut words = Words(vec![0, 9]);
    words.long(&properties.0);
    words.long(b"PLAIN");
    words.long(b"en_US");
    words.method(0, START)
}

pub(super) fn start_ok(user: &str, password: &str) -> Vec<u8> {
    let mut words = Words::default();
    words.long(&[]);
    words.short("PLAIN");
    words.long(format!("\0{user}\0{password}").as_bytes());
    words.short("en_US");
    words.method(0, START_OK)
}

/// Tune or Tune-Ok, which have the same arguments.
pub(super) fn tuning(method: (u16, u16), heartbeat_seconds: u16) -> Vec<u8> {
    let mut words = Words::default();
    words.0.extend(CHANNEL_MAX.to_be_bytes());
    words.0.extend(FRAME_MAX_BYTES.to_be_bytes());
    words.0.extend(heartbeat_seconds.to_be_bytes());
    words.method(0, method)
}

pub(super) fn open() -> Vec<u8> {
    let mut words = Words::default();
    words.short("carbon");
    words.short("");
    words.0.push(0);
    words.method(0, OPEN)
}

pub(super) fn open_ok() -> Vec<u8> {
    Words(vec![0]).method(0, OPEN_OK)
}

pub(super) fn channel_open() -> Vec<u8> {
    Words(vec![0]).method(CHANNEL, CHANNEL_OPEN)
}

pub(super) fn channel_open_ok() -> Vec<u8> {
    Words(vec![0; 4]).method(CHANNEL, CHANNEL_OPEN_OK)
}

/// Exclusive and gone with its connection, as a gateway's.
pub(super) fn declare(queue: &str) -> Vec<u8> {
    let mut words = Words(vec![0; 2]);
    words.short(queue);
    words.0.push(0b0_1100);
    words.long(&[]);
    words.method(CHANNEL, DECLARE)
}

pub(super) fn declare_ok(queue: &str) -> Vec<u8> {
    let mut words = Words::default();
    words.short(queue);
    words.0.extend([0; 8]);
    words.method(CHANNEL, DECLARE_OK)
}

pub(super) fn bind(queue: &str) -> Vec<u8> {
    let mut words = Words(vec![0; 2]);
    words.short(queue);
    words.short("amq.topic");
    words.short(TOPIC);
    words.0.push(0);
    words.long(&[]);
    words.method(CHANNEL, BIND)
}

pub(super) fn bind_ok() -> Vec<u8> {
    Words::default().method(CHANNEL, BIND_OK)
}

/// Without acknowledgements.
pub(super) fn consume(queue: &str, tag: &str) -> Vec<u8> {
    let mut words = Words(vec![0; 2]);
    words.short(queue);
    words.short(tag);
    words.0.push(0b0010);
    words.long(&[]);
    words.method(CHANNEL, CONSUME)
}

pub(super) fn consume_ok(tag: &str) -> Vec<u8> {
    let mut words = Words::default();
    words.short(tag);
    words.method(CHANNEL, CONSUME_OK)
}

/// A message for a consumer: Deliver, header, body.
pub(super) fn delivery(tag: &str, number: u64, body: &[u8]) -> Vec<u8> {
    let mut words = Words::default();
    words.short(tag);
    words.0.extend(number.to_be_bytes());
    words.0.push(0);
    words.short("amq.topic");
    words.short(TOPIC);
    let mut frames = words.method(CHANNEL, DELIVER);
    let mut header = Vec::new();
    header.extend(BASIC.to_be_bytes());
    header.extend([0; 2]);
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0; 2]);
    frames.extend(frame(HEADER, CHANNEL, &header));
    frames.extend(frame(BODY, CHANNEL, body));
    frames
}

/// Arguments in the making.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    /// At most 255 bytes of it.
    fn short(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.0.push(length);
        self.0.extend(text.bytes().take(length.into()));
    }

    fn long(&mut self, bytes: &[u8]) {
        self.0.extend(length(bytes).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn method(self, channel: u16, (class, method): (u16, u16)) -> Vec<u8> {
        let numbers = [class.to_be_bytes(), method.to_be_bytes()].concat();
        frame(METHOD, channel, &[numbers, self.0].concat())
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(length(payload).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(FRAME_END);
    bytes
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
