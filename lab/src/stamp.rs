//! PURE but for one clock: events that carry when they were sent, so that the far end can say how long they took.
//!
//! An event begins with its date in milliseconds. A load that stamps writes microseconds there, by the clock of
//! the machine: a sink of the same machine reads the same clock. No Traffic Manager would take such a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In front of each event.
const LENGTH_BYTES: usize = 4;
const STAMP_BYTES: usize = 8;

/// Microseconds since the epoch.
pub(super) fn now_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Dates every event of a publish frame. `events` is what follows the frame's header.
pub(super) fn put(mut events: &mut [u8], micros: i64) {
    while let Some(length) = length(events) {
        let (event, rest) = events.split_at_mut(length);
        if let Some(stamp) = event.get_mut(LENGTH_BYTES..LENGTH_BYTES + STAMP_BYTES) {
            stamp.copy_from_slice(&micros.to_be_bytes());
        }
        events = rest;
    }
}

/// Hands out how old each event is at `micros`; one from the future is new.
pub(super) fn ages(mut events: &[u8], micros: i64, mut age: impl FnMut(Duration)) {
    while let Some(length) = length(events) {
        let (event, rest) = events.split_at(length);
        let stamp = event.get(LENGTH_BYTES..).and_then(|e| e.first_chunk());
        if let Some(stamp) = stamp {
            let spent = micros.saturating_sub(i64::from_be_bytes(*stamp));
            age(Duration::from_micros(u64::try_from(spent).unwrap_or(0)));
        }
        events = rest;
    }
}

/// Of the first event with its length; `None` at the end, and where the bytes make no sense.
fn length(events: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(*events.first_chunk()?);
    let whole = usize::try_from(length).ok()? + LENGTH_BYTES;
    (whole <= events.len()).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Events, Id, Sizes};

    #[test]
    fn a_stamped_event_tells_its_age_and_is_else_unchanged() {
        let events = Events::new(Sizes::Typical, 1_700_000_000_000);
        let mut bytes = Vec::new();
        for sequence in 0..5 {
            events.append(&mut bytes, Id { origin: 3, sequence });
        }
        let before = bytes.clone();
        put(&mut bytes, 1_000);
        let mut found = Vec::new();
        ages(&bytes, 1_250, |age| found.push(age.as_micros()));
        assert_eq!(found, [250; 5]);
        ages(&bytes, 900, |age| assert_eq!(age, Duration::ZERO));
        let changed = before.iter().zip(&bytes).filter(|(a, b)| a != b).count();
        assert!(
            bytes.len() == before.len() && changed <= 5 * STAMP_BYTES,
            "{changed}"
        );
    }

    #[test]
    fn bytes_that_are_no_events_are_left_alone() {
        for bad in [
            &b""[..],
            b"abc",
            b"\xff\xff\xff\xff",
            b"\0\0\0\x09short",
            b"\0\0\0\x02ab",
        ] {
            let mut bytes = bad.to_vec();
            put(&mut bytes, -1);
            assert_eq!(bytes, bad);
            ages(bad, 1, |age| panic!("{age:?}"));
        }
    }
}
