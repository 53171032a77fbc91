//! What the real receiver does behind its ok: it decodes a frame's events, and drops the whole frame for one that it
//! cannot decode. Written apart from weir's own look at events.

use weir::wire::events::iterate;

use crate::event::THROTTLE_STREAM;

/// Strings of a throttle event.
const STRINGS: usize = 17;

/// Whether all of these are throttle events.
pub(super) fn decodes(events: &[u8]) -> bool {
    iterate(events).all(|event| decode(event.bytes()).is_some())
}

fn decode(event: &[u8]) -> Option<()> {
    let mut rest = event.get(8..)?;
    if string(&mut rest)? != THROTTLE_STREAM.as_bytes() {
        return None;
    }
    for _ in 0..STRINGS {
        string(&mut rest)?;
    }
    while !rest.is_empty() {
        string(&mut rest)?;
        string(&mut rest)?;
    }
    Some(())
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(text)
}
