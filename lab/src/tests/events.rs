//! Events and their ids.

use weir::wire;

use crate::event::*;

fn made(events: &Events, id: Id) -> Vec<u8> {
    let mut out = Vec::new();
    events.append(&mut out, id);
    assert_eq!(wire::Events::check(&out, 1, 1 << 20).unwrap().count(), 1);
    out.split_off(4)
}

#[test]
fn an_event_is_read_back_and_its_strings_are_seventeen() {
    let events = Events::new(Sizes::Typical, 1_700_000_000_000);
    let id = Id {
        origin: 0xabc,
        sequence: 0x1234_5678_9abc,
    };
    let bytes = made(&events, id);
    assert_eq!(events.verify(&bytes), Ok(id));
    let mut rest = &bytes[8..];
    let mut strings = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (text, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        strings.push(text);
        rest = after;
    }
    assert_eq!(strings.len(), 18, "the stream id and 17 payload strings");
    assert_eq!(strings[0], THROTTLE_STREAM.as_bytes());
    assert_eq!(strings[1], b"urn:uuid:77656972-00000abc-0000123456789abc");
    assert!(rest.is_empty());
}

#[test]
fn the_default_average_is_604_bytes() {
    let events = Events::new(Sizes::Typical, 0);
    let sum: usize = (0..20_000)
        .map(|sequence| events.length(Id { origin: 1, sequence }))
        .sum();
    assert!((600..608).contains(&(sum / 20_000)), "{}", sum / 20_000);
    assert!(events.bytes_min() <= 448, "{}", events.bytes_min());
}

#[test]
fn lengths_lie_on_both_sides_of_an_edge() {
    let events = Events::new(Sizes::Edges(32 * 1024), 0);
    let mut seen = std::collections::BTreeSet::new();
    for sequence in 0..200 {
        let id = Id { origin: 3, sequence };
        let bytes = made(&events, id);
        assert_eq!(events.verify(&bytes), Ok(id));
        seen.insert(bytes.len());
    }
    let least = events.bytes_min();
    let edge = 32 * 1024;
    let all = [least, least + 1, edge - 1, edge, edge + 1, 3 * edge + 7];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn no_byte_can_change_unseen() {
    let events = Events::new(Sizes::Typical, 1_700_000_000_000);
    let id = Id {
        origin: 7,
        sequence: 99,
    };
    let bytes = made(&events, id);
    for at in 0..bytes.len() {
        let mut lie = bytes.clone();
        lie[at] ^= 1;
        // Where the id itself was hit the bytes belong to another id, and differ from that one's.
        assert!(events.verify(&lie).is_err(), "byte {at}");
    }
    assert!(events.verify(&bytes[..bytes.len() - 1]).is_err());
    assert_eq!(events.verify(b"short"), Err(Corrupt::Unreadable));
}

#[test]
fn properties_of_one_event_do_not_pass_for_those_of_another() {
    let events = Events::new(Sizes::Fixed(604), 0);
    let (a, b) = (
        Id {
            origin: 1,
            sequence: 0,
        },
        Id {
            origin: 1,
            sequence: 1,
        },
    );
    let mut lie = made(&events, a);
    let tail = made(&events, b).split_off(events.bytes_min());
    lie.truncate(events.bytes_min());
    lie.extend_from_slice(&tail);
    assert_eq!(events.verify(&lie), Err(Corrupt::Differs(a)));
}
