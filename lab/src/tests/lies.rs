//! A mutation test of the oracle: an honest relay in miniature, and one lie at a time.

use weir::status;
use weir::wire::decoder::{Decoded, Decoder};
use weir::wire::{Event, Request, events};

use super::*;
use crate::gateway::frame;

const FRAMES: u64 = 20;
const PER_FRAME: u64 = 5;

/// The frames a relay delivered to its two groups, as they were issued, and what it says of itself.
struct Run {
    oracle: Oracle,
    delivered: [Vec<Vec<u8>>; 2],
    weir: WeirCounts,
}

fn honest() -> Run {
    let events = Events::new(Sizes::Typical, 0);
    let mut oracle = Oracle::new(events.clone(), &["a", "b"], false);
    let mut frames = Vec::new();
    for i in 0..FRAMES {
        oracle.issue(7, i * PER_FRAME, PER_FRAME, Duration::ZERO);
        oracle.ack(7, i * PER_FRAME, PER_FRAME);
        frames.push(body(&frame(b"s", &events, 7, i * PER_FRAME, PER_FRAME)));
    }
    let total = FRAMES * PER_FRAME;
    let group = |name: &str| GroupCounts {
        name: name.into(),
        events: status::Events {
            accepted: total,
            delivered: total,
            ..Default::default()
        },
        ..Default::default()
    };
    Run {
        oracle,
        delivered: [frames.clone(), frames],
        weir: WeirCounts {
            groups: vec![group("a"), group("b")],
        },
    }
}

fn body(frame: &[u8]) -> Vec<u8> {
    let decoder = Decoder {
        frame_max_bytes: 1 << 20,
        event_max_bytes: 1 << 20,
    };
    match decoder.decode(frame) {
        Ok(Decoded::Frame {
            request: Ok(Request::Publish { events, .. }),
            ..
        }) => events.bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Takes the events of a frame apart and puts some of them together again.
fn rebuild(frame: &[u8], change: impl FnOnce(&mut Vec<Event<'_>>)) -> Vec<u8> {
    let mut events: Vec<Event<'_>> = events::iterate(frame).collect();
    change(&mut events);
    let mut out = Vec::new();
    for event in events {
        out.extend_from_slice(&u32::try_from(event.bytes().len()).unwrap().to_be_bytes());
        out.extend_from_slice(event.bytes());
    }
    out
}

impl Run {
    fn verdict(mut self, weir: bool) -> Verdict {
        for (group, frames) in self.delivered.iter().enumerate() {
            for events in frames {
                self.oracle
                    .take(group, group as u64, events, true, Duration::ZERO);
            }
        }
        self.oracle.verdict(weir.then_some(&self.weir))
    }
}

/// The lie must be found with and without weir's own counts, and called by its name.
fn found(word: &str, lie: impl Fn(&mut Run)) {
    for weir in [true, false] {
        let mut run = honest();
        lie(&mut run);
        let verdict = run.verdict(weir);
        let named = verdict.violations.iter().any(|v| v.contains(word));
        assert!(!verdict.ok() && named, "{word}, weir {weir}: {verdict}");
    }
}

#[test]
fn an_honest_run_is_found_honest() {
    for weir in [true, false] {
        let verdict = honest().verdict(weir);
        assert!(verdict.ok(), "{verdict}");
    }
}

#[test]
fn a_lost_event_is_found_and_named() {
    found("missing 1", |run| {
        let frame = &mut run.delivered[1][3];
        *frame = rebuild(frame, |events| {
            events.remove(2);
        });
    });
    let mut run = honest();
    run.delivered[0].remove(2);
    let verdict = run.verdict(true);
    assert!(
        verdict.violations.iter().any(|v| v.contains("7:10, 7:11, 7:12")),
        "{verdict}"
    );
}

#[test]
fn a_lost_event_that_weir_counts_as_delivered_is_found_even_when_another_is_doubled() {
    found("missing 1", |run| {
        let frame = &mut run.delivered[0][3];
        *frame = rebuild(frame, |events| events[1] = events[0]);
    });
}

#[test]
fn a_duplicate_is_found() {
    found("duplicated 5", |run| {
        let frame = run.delivered[0][4].clone();
        run.delivered[0].insert(5, frame);
    });
}

#[test]
fn a_flipped_bit_is_found() {
    for at in [0, 11, 60, 70, 80, 400] {
        found("corrupted 1", |run| {
            let frame = &mut run.delivered[0][9];
            frame[4 + at] ^= 1;
        });
    }
}

#[test]
fn two_swapped_frames_and_two_swapped_events_are_found() {
    found("reordered 5", |run| run.delivered[1].swap(6, 7));
    found("reordered 1", |run| {
        let frame = &mut run.delivered[1][6];
        *frame = rebuild(frame, |events| events.swap(0, 1));
    });
}

#[test]
fn an_event_nobody_issued_is_found() {
    let events = Events::new(Sizes::Typical, 0);
    for (origin, first) in [(7, FRAMES * PER_FRAME), (8, 0)] {
        found("unexpected 1", |run| {
            run.delivered[0].push(body(&frame(b"s", &events, origin, first, 1)));
        });
    }
}

#[test]
fn a_frame_that_reached_one_group_only_is_found_though_it_was_never_acknowledged() {
    found("split", |run| {
        let first = FRAMES * PER_FRAME;
        run.oracle.issue(7, first, 1, Duration::ZERO);
        let events = run.oracle.events().clone();
        run.delivered[0].push(body(&frame(b"s", &events, 7, first, 1)));
        let a = &mut run.weir.groups[0].events;
        (a.accepted, a.delivered) = (first + 1, first + 1);
        let b = &mut run.weir.groups[1].events;
        b.accepted = first + 1;
        b.delivered = first + 1;
    });
}

#[test]
fn drops_must_be_counted_exactly() {
    let dropped = |lost: u64, counted: u64| {
        let mut run = honest();
        for _ in 0..lost {
            run.delivered[1].pop();
        }
        let events = &mut run.weir.groups[1].events;
        events.dropped.queue_full = counted * PER_FRAME;
        events.delivered -= counted * PER_FRAME;
        run.verdict(true)
    };
    let exact = dropped(3, 3);
    assert!(exact.ok(), "{exact}");
    for (lost, counted) in [(3, 2), (2, 3), (0, 1), (1, 0)] {
        assert!(!dropped(lost, counted).ok(), "{lost} lost, {counted} counted");
    }
}

#[test]
fn numbers_that_do_not_add_up_are_found() {
    let changed = |change: fn(&mut status::Events)| {
        let mut run = honest();
        change(&mut run.weir.groups[0].events);
        run.verdict(true)
    };
    for (word, change) in [
        ("out of balance", (|e| e.accepted += 1) as fn(&mut status::Events)),
        ("not at rest", |e| (e.delivered, e.queued) = (e.delivered - 1, 1)),
        ("lost", |e| (e.delivered, e.dropped.lost) = (e.delivered - 1, 1)),
        ("accepted by weir", |e| {
            (e.accepted, e.delivered) = (e.accepted - 1, e.delivered - 1)
        }),
        ("answered ok by endpoints", |e| {
            (e.accepted, e.delivered) = (e.accepted + 1, e.delivered + 1)
        }),
    ] {
        let verdict = changed(change);
        assert!(
            verdict.violations.iter().any(|v| v.contains(word)),
            "{word}: {verdict}"
        );
    }
}

#[test]
fn what_was_sent_again_may_arrive_twice_and_late_but_not_more_often() {
    let again = |copies: usize, resent: u64| {
        let mut run = honest();
        for _ in 0..copies {
            let frame = run.delivered[0][4].clone();
            run.delivered[0].push(frame);
        }
        run.weir.groups[0].resent = resent;
        run.weir.groups[0].failures = 1;
        run.verdict(true)
    };
    let allowed = again(1, PER_FRAME);
    assert!(allowed.ok(), "{allowed}");
    assert!(!again(2, PER_FRAME).ok());
    assert!(!again(1, PER_FRAME - 1).ok());
}

#[test]
fn what_a_gateway_sent_again_has_two_right_places() {
    let mut run = honest();
    run.oracle.issue(7, 10, 5, Duration::ZERO);
    let frame = run.delivered[0][2].clone();
    for (delivered, counts) in run.delivered.iter_mut().zip(&mut run.weir.groups) {
        delivered.push(frame.clone());
        counts.events.accepted += PER_FRAME;
        counts.events.delivered += PER_FRAME;
    }
    let verdict = run.verdict(true);
    assert!(verdict.ok(), "{verdict}");
}
