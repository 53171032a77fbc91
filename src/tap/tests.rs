//! Decoder, masks and feeds, on captured events and on any bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_lab::{Events, Sizes, gateway};

use super::*;
use crate::wire::{self, Decoded, Decoder, Request, events};

const OTHERS: &str = include_str!("../../tests/vectors/streams.json");
const DECODER: Decoder = Decoder {
    frame_max_bytes: 16 << 20,
    event_max_bytes: 1 << 20,
};

fn definitions() -> Definitions {
    let mut all = Definitions::built_in();
    all.add(OTHERS).unwrap();
    all
}

/// Every event that a real publisher sent.
fn captured() -> Vec<Sample> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/agent-5.4.9-publish.client.bin"
    );
    let bytes = std::fs::read(file).unwrap();
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    while let Ok(Decoded::Frame {
        request: Ok(Request::Publish {
            events: published, ..
        }),
        length,
    }) = DECODER.decode(rest)
    {
        events.extend(events::iterate(published.bytes()).map(Sample::of));
        rest = &rest[length..];
    }
    assert_eq!((events.len(), rest.len()), (607, 0));
    events
}

fn shown(sample: &Sample, definitions: &Definitions, mask: Option<&Mask>) -> Value {
    let decoded = event::decode(sample, |id| definitions.of(id)).unwrap();
    let line = show::line(&decoded, sample.length, mask);
    assert!(!line.contains('\n'));
    serde_json::from_str(&line).unwrap()
}

#[test]
fn every_captured_event_is_decoded_to_its_last_byte() {
    let definitions = definitions();
    for sample in captured() {
        let event = shown(&sample, &definitions, None);
        assert!(event.get("problem").is_none(), "{event}");
        let payload = event["payload"].as_object().unwrap();
        if event["stream"] == "org.wso2.throttle.request.stream:1.0.0" {
            assert_eq!(payload.len(), 17);
        }
    }
}

#[test]
fn the_first_captured_events_read_as_they_were_sent() {
    let definitions = definitions();
    let golden = include_str!("../../tests/vectors/agent-5.4.9-publish.jsonl");
    let lines: Vec<String> = captured()
        .iter()
        .take(7)
        .map(|sample| {
            let decoded = event::decode(sample, |id| definitions.of(id)).unwrap();
            show::line(&decoded, sample.length, None)
        })
        .collect();
    assert_eq!(lines.join("\n") + "\n", golden);
}

#[test]
fn personal_values_are_masked_and_equal_values_get_equal_marks() {
    let (definitions, mask) = (definitions(), Mask::new(&[7; 32]));
    let frame = gateway::frame(b"s", &Events::new(Sizes::Typical, 0), 0, 0, 2);
    let published = publish(&frame);
    let samples: Vec<Sample> = events::iterate(published.bytes()).map(Sample::of).collect();
    let [one, two] = [0, 1].map(|i| shown(&samples[i], &definitions, Some(&mask)));
    assert_eq!(one["payload"]["apiName"], "PizzaAPI");
    assert_eq!(one["payload"]["subscriptionKey"], "12:/pizza/1.0.0:1.0.0");
    for hidden in ["appKey", "userId", "properties"] {
        assert!(one["payload"][hidden].as_str().unwrap().starts_with('~'), "{one}");
    }
    assert_eq!(one["payload"]["userId"], two["payload"]["userId"]);
    assert!(!one.to_string().contains("alice"), "{one}");
    let other = shown(&samples[0], &definitions, Some(&Mask::new(&[8; 32])));
    assert_ne!(one["payload"]["userId"], other["payload"]["userId"]);
    for sample in captured() {
        let open = shown(&sample, &definitions, None);
        let line = shown(&sample, &definitions, Some(&mask)).to_string();
        for hidden in ["userId", "appKey"] {
            if let Some(value) = open["payload"][hidden].as_str() {
                assert!(!line.contains(value), "{value} in {line}");
            }
        }
    }
}

#[test]
fn masked_json_keeps_its_form_and_no_value() {
    let mask = Mask::new(&[1; 32]);
    let hidden = mask.hide_text(r#"{"ip":167772161,"claims":{"sub":"alice"},"roles":["a"],"none":null}"#);
    assert!(hidden["claims"]["sub"].as_str().unwrap().starts_with('~'));
    assert_eq!(hidden["ip"], mask.hide("167772161"));
    assert_eq!(hidden["roles"][0], mask.hide("a"));
    assert_eq!(hidden["none"], Value::Null);
    assert_eq!(mask.hide_text("{broken"), mask.hide("{broken"));
    assert_eq!(
        mask.hide_names("/pizza:GET_alice", &["alice"]),
        format!("/pizza:GET_{}", mask.hide("alice"))
    );
}

#[test]
fn a_stream_without_a_definition_shows_its_name_and_its_bytes_only_unmasked() {
    let event = captured().into_iter().find_map(|sample| {
        let bare = Definitions::built_in();
        let open = shown(&sample, &bare, None);
        (open["stream"] == "org.wso2.blocking.request.stream:1.0.0")
            .then(|| (open, shown(&sample, &bare, Some(&Mask::new(&[0; 32])))))
    });
    let (open, masked) = event.unwrap();
    assert!(masked["problem"].as_str().unwrap().contains("admin.tap_streams"));
    assert!(!open["body_hex"].as_str().unwrap().is_empty());
    assert!(masked.get("body_hex").is_none() && masked.get("payload").is_none());
}

#[test]
fn definitions_are_read_as_one_several_or_an_array_and_errors_have_a_place() {
    let one = r#"{"name":"a","version":"1","payloadData":[{"name":"x","type":"INT"}]}"#;
    for text in [
        one.to_owned(),
        format!("{one}\n{}", one.replace("\"a\"", "\"b\"")),
        format!("[{one}]"),
    ] {
        let mut all = Definitions::built_in();
        all.add(&text).unwrap();
        assert_eq!(all.of("a:1").unwrap().payload[0].kind, Kind::Int);
        assert!(all.of("a:1").unwrap().payload[0].masked);
    }
    for (bad, why) in [
        ("", "no stream definition"),
        ("[]", "no stream definition"),
        (r#"{"name":"a"}"#, "version"),
        (&one.replace("INT", "DATE"), "line 1"),
        (&one.replace("\"a\"", "\"\""), "empty"),
    ] {
        let error = Definitions::built_in().add(bad).unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

fn publish(frame: &[u8]) -> wire::Events<'_> {
    match DECODER.decode(frame) {
        Ok(Decoded::Frame {
            request: Ok(Request::Publish {
                events: published, ..
            }),
            ..
        }) => published,
        other => panic!("{other:?}"),
    }
}

fn feed(
    stream: Option<&str>,
    every: u64,
    rate: u32,
    capacity: usize,
) -> (Taps, mpsc::Receiver<Sample>, Arc<Counts>) {
    let (taps, counts) = (Taps::default(), Arc::<Counts>::default());
    let (out, samples) = mpsc::channel(capacity);
    taps.open(Feed::new(stream, every, rate, Arc::clone(&counts), out));
    (taps, samples, counts)
}

fn received(samples: &mut mpsc::Receiver<Sample>) -> usize {
    std::iter::from_fn(|| samples.try_recv().ok()).count()
}

#[test]
fn a_feed_samples_limits_and_never_waits() {
    let now = Instant::now();
    let frame = gateway::frame(b"s", &Events::new(Sizes::Typical, 0), 0, 0, 50);
    let (taps, mut samples, counts) = feed(None, 20, 2000, 1000);
    for _ in 0..4 {
        taps.pass(publish(&frame), now);
    }
    assert_eq!(received(&mut samples), 10, "every 20th of 200, across frames");
    assert_eq!(counts.seen.load(Ordering::Relaxed), 200);

    let (taps, mut samples, _) = feed(None, 1, 30, 1000);
    taps.pass(publish(&frame), now);
    assert_eq!(received(&mut samples), 30);
    taps.pass(publish(&frame), now + Duration::from_millis(500));
    assert_eq!(received(&mut samples), 15);
    taps.pass(publish(&frame), now + Duration::from_secs(60));
    assert_eq!(received(&mut samples), 30, "at most one second is saved up");

    let (taps, mut samples, counts) = feed(None, 1, 2000, 8);
    taps.pass(publish(&frame), now);
    assert_eq!(received(&mut samples), 8, "the channel is full");
    assert_eq!(counts.seen.load(Ordering::Relaxed), 50);
}

#[test]
fn a_feed_of_one_stream_takes_no_other() {
    let now = Instant::now();
    let mut frame = gateway::frame(b"s", &Events::on_stream("a.b:1.0", Sizes::Typical, 0), 0, 0, 3);
    for (wanted, taken) in [
        ("a.b:1.0", 3),
        ("a.b", 3),
        ("a", 0),
        ("a.b:1", 0),
        ("a.b:1.0.0", 0),
    ] {
        let (taps, mut samples, counts) = feed(Some(wanted), 1, 100, 10);
        taps.pass(publish(&frame), now);
        assert_eq!(received(&mut samples), taken, "{wanted}");
        assert_eq!(counts.other_streams.load(Ordering::Relaxed), 3 - taken as u64);
    }
    // An event that is garbage is of no stream.
    frame.truncate(frame.len() - 1);
    let (taps, _samples, _) = feed(Some("a.b"), 1, 100, 10);
    assert!(!matches!(DECODER.decode(&frame), Ok(Decoded::Frame { .. })));
    let garbage = [0, 0, 0, 2, 1, 1];
    taps.pass(wire::Events::check(&garbage, 1, 100).unwrap(), now);
}

#[test]
fn a_tap_without_a_reader_is_closed_by_the_next_frame() {
    let now = Instant::now();
    let frame = gateway::frame(b"s", &Events::new(Sizes::Typical, 0), 0, 0, 1);
    let (taps, samples, counts) = feed(None, 1, 100, 10);
    taps.pass(publish(&frame), now);
    assert!(taps.are_open());
    drop(samples);
    taps.pass(publish(&frame), now);
    assert!(!taps.are_open());
    assert_eq!(counts.seen.load(Ordering::Relaxed), 1);
}

#[test]
fn a_long_event_is_copied_in_part_and_says_so() {
    let frame = gateway::frame(b"s", &Events::new(Sizes::Fixed(100_000), 0), 0, 0, 1);
    let published = publish(&frame);
    let sample = Sample::of(events::iterate(published.bytes()).next().unwrap());
    assert_eq!(
        (sample.bytes.len(), sample.length),
        (EVENT_COPY_MAX_BYTES, 100_000)
    );
    let event = shown(&sample, &definitions(), None);
    assert_eq!(event["payload"]["apiName"], "PizzaAPI");
    assert_eq!(
        event["problem"],
        "only the first 16384 of 100000 bytes are decoded"
    );
}

proptest! {
    #[test]
    fn any_bytes_make_a_line_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), stream in 0..4_usize, length in 0..300_usize) {
        let ids = ["", "org.wso2.throttle.request.stream:1.0.0", "org.wso2.blocking.request.stream:1.0.0", "weir.every.type:1.0.0"];
        let mut event = bytes.clone();
        if stream > 0 {
            event = vec![0; 8];
            event.extend_from_slice(&u32::try_from(ids[stream].len()).unwrap().to_be_bytes());
            event.extend_from_slice(ids[stream].as_bytes());
            event.extend_from_slice(&bytes);
        }
        let sample = Sample { length: event.len().max(length), bytes: event };
        let (definitions, mask) = (definitions(), Mask::new(&[0; 32]));
        if let Some(decoded) = event::decode(&sample, |id| definitions.of(id)) {
            for mask in [None, Some(&mask)] {
                let line = show::line(&decoded, sample.length, mask);
                let value: Value = serde_json::from_str(&line).unwrap();
                prop_assert!(value.is_object());
                let is_tame = line.chars().all(|c| !c.is_control());
                prop_assert!(is_tame, "{}", line);
            }
        }
    }

    #[test]
    fn numbers_survive(long in any::<i64>(), double in any::<f64>()) {
        let mut definitions = Definitions::built_in();
        definitions.add(r#"{"name":"n","version":"1","payloadData":[{"name":"l","type":"LONG"},{"name":"d","type":"double"}]}"#).unwrap();
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, b'n', b':', b'1'];
        bytes.extend_from_slice(&long.to_be_bytes());
        bytes.extend_from_slice(&double.to_be_bytes());
        let sample = Sample { length: bytes.len(), bytes };
        let decoded = event::decode(&sample, |id| definitions.of(id)).unwrap();
        let line = show::line(&decoded, sample.length, None);
        let (_, payload) = line.split_once("\"l\":").unwrap();
        let (l, d) = payload.split_once(",\"d\":").unwrap();
        prop_assert_eq!(l.parse(), Ok(long));
        let back: f64 = d.trim_end_matches('}').trim_matches('"').parse().unwrap();
        prop_assert!(back == double || (back.is_nan() && double.is_nan()), "{} {}", back, double);
    }
}
