//! The databridge binary protocol: bytes in, values out. No clock, no I/O, no log, no allocation on the
//! way in.
//!
//! A connection's bytes go through the [`Decoder`] ([`decoder`]), which finds frame borders and hands out
//! borrowed [`Request`]s ([`request`]); a publish carries its events as [`Events`] ([`events`]), an
//! opaque, already checked byte range that is copied whole, and cut where streams change ([`stream`]). Replies are [`Reply`]s ([`reply`]).
//!
//! The protocol: docs/PROTOCOL.md. All integers on the wire are big-endian, lengths are Java `int`s.
#![warn(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects
)]

pub mod decoder;
pub mod events;
pub mod reply;
pub mod request;
pub mod stream;

pub use decoder::{Decoded, Decoder, FrameError};
pub use events::{Event, Events};
pub use reply::{Reply, ReplyError};
pub use request::{Front, Malformed, Request, front};

/// Splits a Java `int` off the front; `None` when there are fewer than four bytes.
fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*head), rest))
}

/// A length as the wire writes it. Lengths above `i32::MAX` cannot be written and saturate; callers keep
/// frames below [`decoder::FRAME_MAX_BYTES_LIMIT`], so that does not happen.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
}
