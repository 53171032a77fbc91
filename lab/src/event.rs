//! PURE: events whose bytes are a function of who they are.
//!
//! An [`Event`](weir::wire::Event) made here is a throttle event as a gateway sends it (17 payload strings,
//! docs/PROTOCOL.md); its messageID carries the [`Id`] at a fixed offset, its length and its `properties`
//! follow from the id. So a receiver can tell from the bytes alone which event it has, and compare every
//! byte with what was issued. Making one costs two copies and a patch: the load generator shares its cores
//! with what it measures.

use std::fmt;

pub use weir::wire::stream::THROTTLE_STREAM;

/// Who an event is: which gateway connection issued it, as its how many-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The gateway connection, unique in a run.
    pub origin: u32,
    /// From 0, without gaps.
    pub sequence: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.sequence)
    }
}

/// How long events are, in bytes without the length prefix. Never shorter than [`Events::bytes_min`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// 448 to 760, 604 on average: as gateways send them.
    Typical,
    /// All alike.
    Fixed(usize),
    /// Around a buffer of this many bytes: `properties` of 0 and 1 bytes, then events of edge-1, edge,
    /// edge+1 and three edges and a bit.
    Edges(usize),
}

/// Bytes that are no event of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrupt {
    /// Not even an id can be read.
    Unreadable,
    /// The id can be read but the bytes are not those of that event.
    Differs(Id),
}

/// The events of a run: a clone makes and verifies the same ones.
#[derive(Debug, Clone)]
pub struct Events {
    /// Everything from the event's first byte up to its `properties`, the length of those included.
    head: Vec<u8>,
    /// What `properties` are cut from.
    pattern: Vec<u8>,
    id_offset: usize,
    sizes: Sizes,
    timestamp_ms: i64,
}

/// In front of the id, and what makes it look like a message id.
const ID_PREFIX: &[u8] = b"urn:uuid:77656972-";
/// `oooooooo-ssssssssssssssss`, hexadecimal.
const ID_DIGITS: usize = 25;
const PATTERN_BYTES: usize = 16 * 1024;
/// Where a cut may begin; a prime, so that neighbours differ.
const PATTERN_STARTS: u64 = 4093;
/// The timestamp of an event is that of the run plus its sequence modulo this, in milliseconds.
const TIMESTAMP_SPREAD_MS: u64 = 1000;

impl Events {
    /// Throttle events dated around `timestamp_ms` (milliseconds since the epoch).
    #[must_use]
    pub fn new(sizes: Sizes, timestamp_ms: i64) -> Self {
        Self::on_stream(THROTTLE_STREAM, sizes, timestamp_ms)
    }

    /// The same payload under another stream id, for what depends on the stream.
    #[must_use]
    pub fn on_stream(stream: &str, sizes: Sizes, timestamp_ms: i64) -> Self {
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(&[0; 8]);
        put_string(&mut head, stream.as_bytes());
        let id_offset = head.len() + 4 + ID_PREFIX.len();
        let mut message_id = ID_PREFIX.to_vec();
        message_id.extend_from_slice(&[b'0'; ID_DIGITS]);
        put_string(&mut head, &message_id);
        for attribute in ATTRIBUTES {
            put_string(&mut head, attribute.as_bytes());
        }
        head.extend_from_slice(&[0; 4]);
        let mut state = 0x7765_6972_u64;
        let pattern = (0..PATTERN_BYTES)
            .map(|_| {
                state = mix(state);
                let at = usize::try_from(state % 64).unwrap_or(0);
                DIGITS.get(at).copied().unwrap_or(b'-')
            })
            .collect();
        Self {
            head,
            pattern,
            id_offset,
            sizes,
            timestamp_ms,
        }
    }

    /// The length of an event without `properties`.
    #[must_use]
    pub(crate) fn bytes_min(&self) -> usize {
        self.head.len()
    }

    /// The length of one event, without its prefix.
    #[must_use]
    pub fn length(&self, id: Id) -> usize {
        let hash = hash(id);
        let least = self.bytes_min();
        let wanted = match self.sizes {
            Sizes::Typical => 448 + usize::try_from(hash % 313).unwrap_or(0),
            Sizes::Fixed(bytes) => bytes,
            Sizes::Edges(edge) => match hash % 6 {
                0 => least,
                1 => least + 1,
                2 => edge.saturating_sub(1),
                3 => edge,
                4 => edge + 1,
                _ => 3 * edge + 7,
            },
        };
        wanted.max(least)
    }

    /// Appends the event behind its length prefix, as it lies in a publish frame.
    pub fn append(&self, out: &mut Vec<u8>, id: Id) {
        let length = self.length(id);
        out.reserve(length + 4);
        out.extend_from_slice(&be32(length));
        let start = out.len();
        out.extend_from_slice(&self.head);
        if let Some(head) = out.get_mut(start..) {
            self.patch(head, id, length);
        }
        let mut rest = length - self.head.len();
        let mut cut = self.cut(id);
        while rest > 0 {
            let piece = cut.get(..rest.min(cut.len())).unwrap_or(cut);
            out.extend_from_slice(piece);
            rest -= piece.len();
            cut = &self.pattern;
        }
    }

    /// Reads the id back; costs no more than its digits. Says nothing about the other bytes.
    #[must_use]
    pub(crate) fn id_of(&self, event: &[u8]) -> Option<Id> {
        let digits = event.get(self.id_offset..self.id_offset + ID_DIGITS)?;
        let (origin, sequence) = digits.split_at_checked(8)?;
        let (dash, sequence) = sequence.split_first()?;
        if *dash != b'-' {
            return None;
        }
        Some(Id {
            origin: u32::try_from(unhex(origin)?).ok()?,
            sequence: unhex(sequence)?,
        })
    }

    /// Compares every byte with what was issued under the id the bytes carry.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn verify(&self, event: &[u8]) -> Result<Id, Corrupt> {
        let id = self.id_of(event).ok_or(Corrupt::Unreadable)?;
        let length = self.length(id);
        let mut right = event.len() == length;
        // The head is compared around what the id patches, and that after patching a copy of it.
        if let (true, Some((head, properties))) = (right, event.split_at_checked(self.head.len())) {
            right = self.head_matches(head, id, length) && self.properties_match(properties, id);
        }
        if right { Ok(id) } else { Err(Corrupt::Differs(id)) }
    }

    fn head_matches(&self, head: &[u8], id: Id, length: usize) -> bool {
        let mut expected = [0_u8; 1024];
        match expected.get_mut(..self.head.len()) {
            Some(expected) => {
                expected.copy_from_slice(&self.head);
                self.patch(expected, id, length);
                expected == head
            }
            None => {
                let mut expected = self.head.clone();
                self.patch(&mut expected, id, length);
                expected == head
            }
        }
    }

    fn properties_match(&self, mut properties: &[u8], id: Id) -> bool {
        let mut cut = self.cut(id);
        while !properties.is_empty() {
            let n = properties.len().min(cut.len());
            if properties.get(..n) != cut.get(..n) {
                return false;
            }
            properties = properties.get(n..).unwrap_or_default();
            cut = &self.pattern;
        }
        true
    }

    fn patch(&self, head: &mut [u8], id: Id, length: usize) {
        let offset = i64::try_from(id.sequence % TIMESTAMP_SPREAD_MS).unwrap_or(0);
        put(head, 0, &(self.timestamp_ms + offset).to_be_bytes());
        let mut digits = [b'-'; ID_DIGITS];
        hex(&mut digits[..8], u64::from(id.origin));
        hex(&mut digits[9..], id.sequence);
        put(head, self.id_offset, &digits);
        let properties = length - self.head.len();
        put(head, self.head.len() - 4, &be32(properties));
    }

    fn cut(&self, id: Id) -> &[u8] {
        let start = usize::try_from(hash(id) / 313 % PATTERN_STARTS).unwrap_or(0);
        self.pattern.get(start..).unwrap_or_default()
    }
}

/// The attributes between messageID and properties, in the order of the stream definition.
const ATTRIBUTES: [&str; 15] = [
    "12:alice@carbon.super",
    "Unlimited",
    "/pizza/1.0.0:1.0.0",
    "Unlimited",
    "12:/pizza/1.0.0:1.0.0",
    "Gold",
    "/pizza/1.0.0/menu:GET",
    "Unlimited",
    "alice@carbon.super",
    "/pizza/1.0.0",
    "1.0.0",
    "carbon.super",
    "carbon.super",
    "12",
    "PizzaAPI",
];
const DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&be32(text.len()));
    out.extend_from_slice(text);
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

fn be32(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

fn hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        let nibble = usize::try_from(value & 0xf).unwrap_or(0);
        *digit = DIGITS.get(nibble).copied().unwrap_or(b'0');
        value >>= 4;
    }
}

fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

fn hash(id: Id) -> u64 {
    mix(id.sequence ^ u64::from(id.origin).rotate_left(40))
}

/// splitmix64: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
