//! Slices, heartbeats, and what may be changed.

use proptest::prelude::*;

use super::*;
use crate::decisions::frame::FRAME_BYTES_MAX;

fn lane(towards: Towards) -> Lane {
    Lane::new(Protocol::Framed(Version::V0_9_1), towards, 30, BytesMut::new(), 8)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 1];
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

fn push(lane: &mut Lane, bytes: &[u8]) -> Passed {
    lane.inbox.extend_from_slice(bytes);
    lane.sort().unwrap()
}

const TUNE_OK_0: [u8; 20] = [
    1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 7, 0xFF, 0, 2, 0, 0, 0, 0, 0xCE,
];
const CLOSE_OK: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE];

/// The stream less its heartbeats, by a scan of its own.
fn less_heartbeats(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize + 8;
        if bytes[..size] != HEARTBEAT {
            out.extend_from_slice(&bytes[..size]);
        }
        bytes = &bytes[size..];
    }
    out
}

#[test]
fn only_the_first_tune_ok_is_rewritten_and_its_old_value_told() {
    let mut lane = lane(Towards::Broker);
    let passed = push(&mut lane, &TUNE_OK_0);
    assert_eq!(passed.tuned_seconds, Some(0));
    let mut expected = TUNE_OK_0;
    expected[18] = 30;
    assert_eq!(lane.outbox[..], expected);
    let passed = push(&mut lane, &TUNE_OK_0);
    assert_eq!(passed.tuned_seconds, None);
    assert_eq!(lane.outbox[20..], TUNE_OK_0, "the second passes as it is");
}

#[test]
fn a_tune_ok_from_the_broker_is_none_of_ours() {
    let mut lane = lane(Towards::Client);
    push(&mut lane, &TUNE_OK_0);
    assert_eq!(lane.outbox[..], TUNE_OK_0);
}

#[test]
fn a_sender_that_stalls_mid_frame_does_not_stop_heartbeats_and_its_frame_stays_whole() {
    let mut lane = lane(Towards::Broker);
    let body = frame(3, &[7; 500]);
    push(&mut lane, &body[..300]);
    assert!(lane.outbox.is_empty(), "half a frame never leaves");
    assert!(lane.inject());
    assert!(!lane.inject(), "one is enough while it waits");
    push(&mut lane, &body[300..]);
    assert_eq!(lane.outbox[..], [&HEARTBEAT[..], &body].concat());
}

#[test]
fn heartbeats_of_the_sender_end_here() {
    let mut lane = lane(Towards::Broker);
    let body = frame(3, b"x");
    let passed = push(
        &mut lane,
        &[&HEARTBEAT[..], &body, &HEARTBEAT, &HEARTBEAT].concat(),
    );
    assert_eq!((passed.heartbeats, passed.frames, passed.bytes), (3, 1, 9));
    assert_eq!(lane.outbox[..], body);
}

#[test]
fn after_close_ok_nothing_is_injected_in_that_direction() {
    let mut lane = lane(Towards::Broker);
    push(&mut lane, &CLOSE_OK);
    assert!(lane.closing());
    lane.outbox.clear();
    assert!(!lane.inject());
}

#[test]
fn a_frame_of_65542_bytes_passes_whatever_frame_max_said() {
    // Andes exceeds a frame_max of 65,535 by seven bytes.
    let mut lane = lane(Towards::Client);
    let body = frame(3, &vec![1; 65_534]);
    assert_eq!(body.len(), 65_542);
    let passed = push(&mut lane, &body);
    assert_eq!(passed.frames, 1);
    assert_eq!(lane.outbox[..], body);
}

#[test]
fn bad_framing_names_the_offset_in_the_stream_and_keeps_what_came_before() {
    let mut lane = lane(Towards::Broker);
    let good = frame(3, b"good");
    let mut bad = frame(3, b"bad");
    *bad.last_mut().unwrap() = b'!';
    lane.inbox.extend_from_slice(&[&good[..], &bad].concat());
    let error = lane.sort().unwrap_err();
    assert_eq!(error.offset_bytes, 8 + 12 + 10);
    assert_eq!(
        error.to_string(),
        "frame ends with 0x21 where 0xce belongs (byte 30 of the stream)"
    );
    assert_eq!(lane.outbox[..], good);
}

#[test]
fn a_frame_over_the_cap_ends_the_stream_with_its_offset() {
    let mut lane = lane(Towards::Client);
    lane.inbox.extend_from_slice(&[3, 0, 1, 0, 4, 0, 0]);
    let error = lane.sort().unwrap_err();
    assert_eq!(error.offset_bytes, 11);
    assert!(error.to_string().contains("262144"), "{error}");
}

#[test]
fn opaque_bytes_pass_as_they_come() {
    let mut lane = Lane::new(Protocol::Opaque, Towards::Broker, 30, BytesMut::new(), 8);
    let passed = push(&mut lane, &HEARTBEAT);
    assert_eq!((passed.bytes, passed.heartbeats), (8, 0));
    assert_eq!(lane.outbox[..], HEARTBEAT);
    assert_eq!(lane.version(), None);
}

#[test]
fn buffers_are_bounded_and_given_back_when_empty() {
    let mut lane = lane(Towards::Client);
    lane.inbox.extend_from_slice(&[3, 0, 1, 0, 3, 0xFF, 0xF8]);
    lane.make_room();
    assert!(
        lane.inbox.capacity() < 80 * 1024,
        "a promise of 256 KiB is not memory yet"
    );
    let rest = FRAME_BYTES_MAX - 8;
    lane.inbox.extend_from_slice(&vec![0; rest]);
    lane.inbox.extend_from_slice(&[0xCE]);
    lane.sort().unwrap();
    assert!(!lane.has_room(), "{} bytes wait", lane.outbox.len());
    lane.outbox.clear();
    lane.make_room();
    assert!(lane.inbox.capacity() + lane.outbox.capacity() <= 2 * KEEP_BYTES);
}

proptest! {
    #[test]
    fn any_slicing_with_heartbeats_injected_anywhere_changes_nothing_but_heartbeats(
        frames in prop::collection::vec((1u8..9, prop::collection::vec(any::<u8>(), 0..300)), 0..12),
        cuts in prop::collection::vec(1usize..200, 1..40),
        beats in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        // Payloads that are the end of a handshake would be acted upon; channel 1 keeps them apart.
        let input: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
        let mut lane = lane(Towards::Broker);
        let (mut at, mut out, mut turn) = (0, Vec::new(), 0);
        while at < input.len() {
            let end = input.len().min(at + cuts[turn % cuts.len()]);
            push(&mut lane, &input[at..end]);
            at = end;
            out.extend_from_slice(&lane.outbox.split());
            if beats[turn % beats.len()] && lane.inject() {
                out.extend_from_slice(&lane.outbox.split());
            }
            turn += 1;
        }
        prop_assert_eq!(less_heartbeats(&out), less_heartbeats(&input));
        prop_assert!(lane.is_empty());
    }
}
