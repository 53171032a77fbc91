//! `max_age`: removes events that are too old from a batch. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::wire::events::{EVENT_PREFIX_BYTES, Event, iterate};

/// Age limits by stream id, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgeLimits {
    general_ms: Option<i64>,
    streams_ms: BTreeMap<Vec<u8>, Option<i64>>,
}

impl AgeLimits {
    /// The general limit, and limits of single streams, which override it; `None` = no limit.
    #[must_use]
    pub fn new(general: Option<Duration>, streams: &BTreeMap<String, Option<Duration>>) -> Self {
        let ms = |d: &Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        Self {
            general_ms: general.as_ref().map(ms),
            streams_ms: streams
                .iter()
                .map(|(s, d)| (s.clone().into_bytes(), d.as_ref().map(ms)))
                .collect(),
        }
    }

    /// The strictest limit: a batch whose oldest event is younger need not be scanned.
    pub(super) fn strictest_ms(&self) -> Option<i64> {
        self.streams_ms
            .values()
            .copied()
            .chain([self.general_ms])
            .flatten()
            .min()
    }

    fn over(&self, event: &Event<'_>, now_ms: i64) -> bool {
        let Some(at) = event.timestamp_ms() else {
            return false;
        };
        let limit = match event.stream_id().and_then(|s| self.streams_ms.get(s)) {
            Some(of_stream) => *of_stream,
            None => self.general_ms,
        };
        limit.is_some_and(|limit| now_ms.saturating_sub(at) > limit)
    }

    /// Removes the events of `bytes` that are over age: the bytes that are left, and how many events were dropped.
    pub(super) fn sift(&self, bytes: &Bytes, now_ms: i64) -> (Bytes, usize) {
        let mut kept = BytesMut::new();
        let mut dropped = 0;
        let mut at = 0;
        for event in iterate(bytes) {
            let end = at + EVENT_PREFIX_BYTES + event.bytes().len();
            if self.over(&event, now_ms) {
                dropped += 1;
            } else {
                kept.extend_from_slice(&bytes[at..end]);
            }
            at = end;
        }
        if dropped == 0 {
            (bytes.clone(), 0)
        } else {
            (kept.freeze(), dropped)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, stream: &str) -> Vec<u8> {
        let mut body = at.to_be_bytes().to_vec();
        body.extend_from_slice(&(stream.len() as i32).to_be_bytes());
        body.extend_from_slice(stream.as_bytes());
        [&(body.len() as i32).to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn events_over_the_limit_of_their_stream_are_removed() {
        let streams = BTreeMap::from([
            ("slow".to_owned(), None),
            ("fast".to_owned(), Some(Duration::from_millis(10))),
        ]);
        let limits = AgeLimits::new(Some(Duration::from_millis(100)), &streams);
        assert_eq!(limits.strictest_ms(), Some(10));
        let all = [
            event(900, "slow"),
            event(900, "other"),
            event(989, "fast"),
            event(990, "fast"),
            event(899, "other"),
        ];
        let (kept, dropped) = limits.sift(&Bytes::from(all.concat()), 1000);
        assert_eq!(dropped, 2);
        assert_eq!(&kept[..], [&all[0][..], &all[1], &all[3]].concat());
    }

    #[test]
    fn an_event_without_a_timestamp_has_no_age() {
        let limits = AgeLimits::new(Some(Duration::ZERO), &BTreeMap::new());
        let garbage = Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3]);
        assert_eq!(limits.sift(&garbage, i64::MAX), (garbage.clone(), 0));
    }
}
