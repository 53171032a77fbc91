//! The one stream whose definition is built in: throttle events (docs/PROTOCOL.md). No meta, no correlation, and strings
//! only, so where an attribute begins follows from the lengths before it.

use super::events::Head;

/// Its name.
pub const THROTTLE_NAME: &str = "org.wso2.throttle.request.stream";
/// Its version.
pub const THROTTLE_VERSION: &str = "1.0.0";
/// Its id, as it stands in an event.
pub const THROTTLE_STREAM: &str = "org.wso2.throttle.request.stream:1.0.0";
/// Its payload, all strings. Pairs of strings follow, to the end of the event.
pub const THROTTLE_ATTRIBUTES: [&str; 17] = [
    "messageID",
    "appKey",
    "appTier",
    "apiKey",
    "apiTier",
    "subscriptionKey",
    "subscriptionTier",
    "resourceKey",
    "resourceTier",
    "userId",
    "apiContext",
    "apiVersion",
    "appTenant",
    "apiTenant",
    "appId",
    "apiName",
    "properties",
];

/// Whether it is an event of this stream. Attributes of others are opaque.
pub(super) fn is_throttle(head: &Head<'_>) -> bool {
    head.stream_id == THROTTLE_STREAM.as_bytes()
}

/// Whether `attributes` are those of a throttle event: the strings, then whole pairs, and nothing left over.
pub(super) fn fits_throttle(attributes: &[u8]) -> bool {
    // By position, not by what is left: one check per attribute, for every event.
    let (mut at, mut strings) = (0_usize, 0_usize);
    while let Some(Ok(length)) = attributes.get(at..at.wrapping_add(4)).map(<[u8; 4]>::try_from) {
        // A negative length is larger than any event.
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        at = at.wrapping_add(4).saturating_add(length);
        strings = strings.wrapping_add(1);
    }
    let pairs = strings.checked_sub(THROTTLE_ATTRIBUTES.len());
    at == attributes.len() && pairs.is_some_and(|n| n.is_multiple_of(2))
}

#[cfg(test)]
#[allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(strings: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for s in strings {
            super::super::put_length(&mut out, s.len());
            out.extend_from_slice(s);
        }
        out
    }

    fn strings(count: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), count)
    }

    proptest! {
        #[test]
        fn seventeen_strings_and_whole_pairs_fit_and_nothing_else(all in (0_usize..26).prop_flat_map(strings)) {
            let n = all.len();
            prop_assert_eq!(fits_throttle(&encode(&all)), n >= 17 && (n - 17) % 2 == 0, "{}", n);
        }

        #[test]
        fn an_event_cut_anywhere_or_with_a_byte_too_many_does_not_fit(all in strings(17), at in any::<prop::sample::Index>()) {
            let mut bytes = encode(&all);
            prop_assert!(!fits_throttle(&bytes[..at.index(bytes.len())]));
            bytes.push(0);
            prop_assert!(!fits_throttle(&bytes));
        }

        #[test]
        fn any_false_length_is_detected(all in strings(17), which in 0_usize..17, by in prop_oneof![1_i32..i32::MAX, i32::MIN..0]) {
            let mut bytes = encode(&all);
            let at: usize = all[..which].iter().map(|s| 4 + s.len()).sum();
            let lie = (all[which].len() as i32).wrapping_add(by);
            bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
            // A false length may by chance make another valid event; as a model, decode it from the front.
            let (mut at, mut n) = (0_i64, 0);
            while at >= 0 && at + 4 <= bytes.len() as i64 {
                let length = i32::from_be_bytes(bytes[at as usize..at as usize + 4].try_into().unwrap());
                at = if length < 0 { -1 } else { at + 4 + i64::from(length) };
                n += 1;
            }
            prop_assert_eq!(fits_throttle(&bytes), at == bytes.len() as i64 && n >= 17 && (n - 17) % 2 == 0);
        }
    }

    #[test]
    fn the_id_is_name_and_version() {
        assert_eq!(THROTTLE_STREAM, format!("{THROTTLE_NAME}:{THROTTLE_VERSION}"));
    }
}
