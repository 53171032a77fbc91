//! Events as they lie in a publish frame: `eventLen i32` and that many bytes, one after the other.
//!
//! The wire carries no schema, so an event is opaque but for its timestamp and stream id.

use super::request::Malformed;
use super::{stream, take_i32};

/// Bytes of the length in front of every event.
pub const EVENT_PREFIX_BYTES: usize = 4;

/// A checked run of events: every length is valid and the run ends where the last event ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Events<'a> {
    /// Checks that `bytes` are exactly `count` events, none over `event_max_bytes`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: &'a [u8], count: i32, event_max_bytes: usize) -> Result<Self, Malformed> {
        let events = usize::try_from(count).map_err(|_| Malformed::NegativeCount)?;
        // Each event costs at least its prefix: a count the bytes cannot hold is refused before the walk.
        if events > bytes.len() / EVENT_PREFIX_BYTES {
            return Err(Malformed::CountOverBytes);
        }
        let mut rest = bytes;
        for _ in 0..events {
            let (length, after) = take_i32(rest).ok_or(Malformed::EventPastEnd)?;
            let length = usize::try_from(length).map_err(|_| Malformed::NegativeEventLength)?;
            if length > event_max_bytes {
                return Err(Malformed::EventTooLarge);
            }
            (_, rest) = after.split_at_checked(length).ok_or(Malformed::EventPastEnd)?;
        }
        if rest.is_empty() {
            Ok(Self { bytes, count: events })
        } else {
            Err(Malformed::BytesLeftOver)
        }
    }

    /// The events with their prefixes, as they lie on the wire.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Cuts off the longest front that may leave in one frame: events of one stream, at most `bytes_max` bytes of them
    /// but at least one. An event that no receiver can decode makes others of its frame go with it, so it
    /// stands alone.
    #[must_use]
    pub fn split(self, bytes_max: usize) -> (Run<'a>, Self) {
        let (mut cut, mut events) = (0_usize, 0_usize);
        let (mut stream_id, mut is_throttle) = (self.bytes, false);
        let (mut oldest_ms, mut alone) = (i64::MAX, false);
        for event in iterate(self.bytes) {
            let end = cut
                .saturating_add(EVENT_PREFIX_BYTES)
                .saturating_add(event.bytes.len());
            let decodable = event.head().is_some_and(|head| {
                if events == 0 {
                    stream_id = head.stream_id;
                    is_throttle = stream::is_throttle(&head);
                } else if head.stream_id != stream_id {
                    return false;
                }
                !is_throttle || stream::fits_throttle(head.attributes)
            });
            if events > 0 && (!decodable || end > bytes_max) {
                break;
            }
            cut = end;
            events = events.saturating_add(1);
            oldest_ms = oldest_ms.min(event.timestamp_ms().unwrap_or(i64::MAX));
            if !decodable {
                alone = true;
                break;
            }
        }
        let (front, rest) = self.bytes.split_at_checked(cut).unwrap_or((self.bytes, &[]));
        let run = Run {
            events: Self {
                bytes: front,
                count: events,
            },
            is_throttle,
            alone,
            oldest_ms,
        };
        let rest = Self {
            bytes: rest,
            count: self.count.saturating_sub(events),
        };
        (run, rest)
    }
}

/// Events that may leave in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The events; all of one stream.
    pub events: Events<'a>,
    /// It is the throttle stream.
    pub is_throttle: bool,
    /// It is one event that cannot be decoded: too short for timestamp and stream id, or of a stream whose definition is
    /// known and with attributes that do not fit it.
    pub alone: bool,
    /// The smallest timestamp; `i64::MAX` where there is none.
    pub oldest_ms: i64,
}

/// The stream id of the first of these events; `None` for garbage.
#[must_use]
pub fn stream_of(events: &[u8]) -> Option<&[u8]> {
    iterate(events).next()?.stream_id()
}

/// Walks over events that were checked before; stops at the first invalid length.
pub fn iterate(bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, after) = take_i32(rest)?;
        let (event, next) = after.split_at_checked(usize::try_from(length).ok()?)?;
        rest = next;
        Some(Event { bytes: event })
    })
}

/// One event, without its length prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    bytes: &'a [u8],
}

impl<'a> Event<'a> {
    /// The whole event.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Milliseconds since the epoch, as the gateway wrote it; `None` for garbage.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.bytes
            .split_first_chunk::<8>()
            .map(|(head, _)| i64::from_be_bytes(*head))
    }

    /// The stream id, e.g. `org.wso2.throttle.request.stream:1.0.0`; `None` for garbage.
    #[must_use]
    pub fn stream_id(&self) -> Option<&'a [u8]> {
        self.head().map(|head| head.stream_id)
    }

    fn head(&self) -> Option<Head<'a>> {
        let (_, rest) = self.bytes.split_first_chunk::<8>()?;
        let (length, rest) = take_i32(rest)?;
        let (stream_id, attributes) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        Some(Head {
            stream_id,
            attributes,
        })
    }
}

/// What stands behind the timestamp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) stream_id: &'a [u8],
    /// All that follows.
    pub(super) attributes: &'a [u8],
}

#[cfg(test)]
#[allow(clippy::as_conversions, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(events: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for e in events {
            super::super::put_length(&mut out, e.len());
            out.extend_from_slice(e);
        }
        out
    }

    /// The last byte of every event that cannot be decoded, and of no other.
    const BAD: u8 = 0xbd;

    fn with_head(at: i64, stream: &str, rest: &[u8]) -> Vec<u8> {
        let mut out = at.to_be_bytes().to_vec();
        super::super::put_length(&mut out, stream.len());
        [&out, stream.as_bytes(), rest].concat()
    }

    fn event() -> impl Strategy<Value = Vec<u8>> {
        let throttle = |at, rest: &[u8]| with_head(at, stream::THROTTLE_STREAM, rest);
        prop_oneof![
            4 => (0_i64..9).prop_map(move |at| throttle(at, &[0; 17 * 4])),
            1 => (0_i64..9).prop_map(move |at| throttle(at, &[&[0; 17 * 4][..], &[BAD]].concat())),
            2 => (0_i64..9, 0_usize..9).prop_map(|(at, n)| with_head(at, "another:1.0.0", &vec![7; n])),
            1 => prop::collection::vec(Just(BAD), 1..15),
        ]
    }

    proptest! {
        #[test]
        fn checked_events_are_walked_over_as_they_were_encoded(events in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..30)) {
            let bytes = encode(&events);
            let checked = Events::check(&bytes, events.len() as i32, 1000).unwrap();
            let back: Vec<Vec<u8>> = iterate(checked.bytes()).map(|e| e.bytes().to_vec()).collect();
            prop_assert_eq!(back, events);
        }

        #[test]
        fn split_cuts_at_event_borders_keeps_streams_apart_and_loses_nothing(
            events in prop::collection::vec(event(), 1..30), max in 1_usize..800) {
            let bytes = encode(&events);
            let mut rest = Events::check(&bytes, events.len() as i32, 1000).unwrap();
            let mut joined = Vec::new();
            let mut count = 0;
            while rest.count() > 0 {
                let (run, after) = rest.split(max);
                let front = run.events;
                prop_assert!(front.count() == 1 || front.bytes().len() <= max);
                prop_assert!(Events::check(front.bytes(), front.count() as i32, 1000).is_ok());
                let own: Vec<Event<'_>> = iterate(front.bytes()).collect();
                prop_assert!(own.iter().all(|e| e.stream_id() == stream_of(front.bytes())));
                let bad = own.iter().any(|e| e.bytes().last() == Some(&BAD));
                prop_assert_eq!(run.alone, bad);
                prop_assert!(!run.alone || own.len() == 1);
                prop_assert_eq!(run.oldest_ms, own.iter().filter_map(Event::timestamp_ms).min().unwrap_or(i64::MAX));
                if let (false, Some(next)) = (run.alone, iterate(after.bytes()).next()) {
                    let joins = next.stream_id() == stream_of(front.bytes()) && next.bytes().last() != Some(&BAD);
                    prop_assert!(!joins || front.bytes().len() + 4 + next.bytes().len() > max, "cut too early");
                }
                joined.extend_from_slice(front.bytes());
                count += front.count();
                rest = after;
            }
            prop_assert_eq!(joined, bytes);
            prop_assert_eq!(count, events.len());
        }

        #[test]
        fn any_bytes_and_any_count_are_events_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), count in any::<i32>()) {
            if let Ok(events) = Events::check(&bytes, count, 100) {
                prop_assert_eq!(iterate(&bytes).count(), events.count());
            }
            for e in iterate(&bytes) {
                prop_assert_eq!(e.timestamp_ms().is_some(), e.bytes().len() >= 8);
                prop_assert!(e.stream_id().is_none_or(|id| id.len() + 12 <= e.bytes().len()));
            }
        }
    }

    #[test]
    fn each_fault_is_named() {
        let two = encode(&[vec![1; 5], vec![2; 6]]);
        assert_eq!(Events::check(&two, -1, 10), Err(Malformed::NegativeCount));
        assert_eq!(Events::check(&two, 1, 10), Err(Malformed::BytesLeftOver));
        assert_eq!(Events::check(&two, 3, 10), Err(Malformed::EventPastEnd));
        assert_eq!(Events::check(&two, i32::MAX, 10), Err(Malformed::CountOverBytes));
        assert_eq!(Events::check(&two, 2, 5), Err(Malformed::EventTooLarge));
        assert_eq!(
            Events::check(&(-1_i32).to_be_bytes(), 1, 5),
            Err(Malformed::NegativeEventLength)
        );
        assert_eq!(Events::check(&[], 0, 5).unwrap().count(), 0);
    }
}
