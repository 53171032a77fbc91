//! Golden bytes, the oracle, and fuzz.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use amq_protocol::types::{FieldTable, ShortString};
use proptest::prelude::*;

use super::*;

fn encode(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new()))
        .unwrap()
        .into_inner()
        .0
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match scan(bytes).unwrap() {
        Scan::Whole(frame) => frame,
        Scan::Partial(n) => panic!("{n} bytes missing"),
    }
}

fn method(class: AMQPClass) -> AMQPFrame {
    AMQPFrame::Method(0, class)
}

fn tune(heartbeat: u16) -> AMQPFrame {
    method(AMQPClass::Connection(connection::AMQPMethod::Tune(
        connection::Tune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat,
        },
    )))
}

fn tune_ok(heartbeat: u16) -> AMQPFrame {
    method(AMQPClass::Connection(connection::AMQPMethod::TuneOk(
        connection::TuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat,
        },
    )))
}

#[test]
fn the_bytes_of_tune_and_tune_ok_are_golden_and_only_two_of_them_are_rewritten() {
    let mut bytes = encode(&tune(0));
    assert_eq!(
        bytes,
        [
            1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 30, 0x07, 0xFF, 0, 2, 0, 0, 0, 0, 0xCE
        ]
    );
    assert_eq!(whole(&bytes).kind(Version::V0_9_1), Kind::Tune(0));
    retune(&mut bytes, 30);
    assert_eq!(
        bytes,
        [
            1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 30, 0x07, 0xFF, 0, 2, 0, 0, 0, 30, 0xCE
        ]
    );
    assert_eq!(bytes, encode(&tune(30)));

    let mut bytes = encode(&tune_ok(0x1234));
    assert_eq!(
        bytes,
        [
            1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 0x07, 0xFF, 0, 2, 0, 0, 0x12, 0x34, 0xCE
        ]
    );
    for version in [Version::V0_8, Version::V0_9, Version::V0_9_1] {
        assert_eq!(whole(&bytes).kind(version), Kind::TuneOk(0x1234));
    }
    retune(&mut bytes, 0xABCD);
    assert_eq!(
        bytes,
        [
            1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 0x07, 0xFF, 0, 2, 0, 0, 0xAB, 0xCD, 0xCE
        ]
    );
}

#[test]
fn the_heartbeat_frame_is_the_one_the_oracle_writes() {
    assert_eq!(encode(&AMQPFrame::Heartbeat), HEARTBEAT);
    assert_eq!(whole(&HEARTBEAT).kind(Version::V0_9_1), Kind::Heartbeat);
    let odd = encode(&AMQPFrame::InvalidHeartbeat(7));
    assert_eq!(
        whole(&odd).kind(Version::V0_9_1),
        Kind::Other,
        "not weir's to judge: relayed"
    );
}

#[test]
fn close_is_recognised_by_the_numbers_of_its_version() {
    let on = |class: u8, method: u8, channel: u8| vec![1, 0, channel, 0, 0, 0, 4, 0, class, 0, method, 0xCE];
    let kind = |method, version| whole(&on(10, method, 0)).kind(version);
    for version in [Version::V0_9, Version::V0_9_1] {
        assert_eq!(kind(50, version), Kind::Close);
        assert_eq!(kind(51, version), Kind::CloseOk);
        assert_eq!(kind(60, version), Kind::Other, "RabbitMQ's Blocked is no Close");
    }
    assert_eq!(kind(50, Version::V0_8), Kind::Other, "0-8's Redirect is no Close");
    assert_eq!(kind(60, Version::V0_8), Kind::Close);
    assert_eq!(kind(61, Version::V0_8), Kind::CloseOk);
    assert_eq!(
        whole(&on(10, 50, 1)).kind(Version::V0_9_1),
        Kind::Other,
        "on a channel: no"
    );
}

#[test]
fn start_start_ok_and_deliver_are_recognised() {
    let start = method(AMQPClass::Connection(connection::AMQPMethod::Start(
        connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: FieldTable::default(),
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
        },
    )));
    assert_eq!(whole(&encode(&start)).kind(Version::V0_9_1), Kind::Start);
    let start_ok = method(AMQPClass::Connection(connection::AMQPMethod::StartOk(
        connection::StartOk {
            client_properties: FieldTable::default(),
            mechanism: "PLAIN".into(),
            response: "\0admin\0admin".into(),
            locale: "en_US".into(),
        },
    )));
    assert_eq!(whole(&encode(&start_ok)).kind(Version::V0_9_1), Kind::StartOk);
    let deliver = AMQPFrame::Method(
        3,
        AMQPClass::Basic(basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag: 1,
            redelivered: false,
            exchange: "amq.topic".into(),
            routing_key: "throttleData".into(),
        })),
    );
    assert_eq!(whole(&encode(&deliver)).kind(Version::V0_9_1), Kind::Deliver);
    let flow = AMQPFrame::Method(
        3,
        AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: false })),
    );
    assert_eq!(whole(&encode(&flow)).kind(Version::V0_9_1), Kind::Other);
}

#[test]
fn protocol_headers_are_told_apart() {
    let of = |v: [u8; 4]| {
        let mut header = *b"AMQP\0\0\0\0";
        header[4..].copy_from_slice(&v);
        Protocol::of(&header)
    };
    assert_eq!(
        Protocol::of(&HEADER_0_9_1),
        Some(Protocol::Framed(Version::V0_9_1))
    );
    assert_eq!(of([1, 1, 0, 9]), Some(Protocol::Framed(Version::V0_9)));
    assert_eq!(of([1, 1, 8, 0]), Some(Protocol::Framed(Version::V0_8)));
    assert_eq!(of([1, 1, 0, 10]), Some(Protocol::Opaque), "0-10");
    assert_eq!(of([0, 1, 0, 0]), Some(Protocol::Opaque), "1.0");
    assert_eq!(Protocol::of(b"GET / HT"), None);
}

#[test]
fn a_frame_over_the_cap_is_refused_before_its_bytes_come_and_one_at_the_cap_is_not() {
    let at_cap = u32::try_from(FRAME_BYTES_MAX - 8).unwrap();
    let head = |size: u32| [&[3, 0, 1][..], &size.to_be_bytes()].concat();
    assert_eq!(scan(&head(at_cap)), Ok(Scan::Partial(FRAME_BYTES_MAX - 7)));
    for payload_bytes in [at_cap + 1, u32::MAX] {
        assert_eq!(scan(&head(payload_bytes)), Err(Fault::TooLong { payload_bytes }));
    }
}

#[test]
fn a_wrong_end_octet_is_named_with_its_place() {
    let mut bytes = encode(&tune(0));
    *bytes.last_mut().unwrap() = 0x0A;
    assert_eq!(scan(&bytes), Err(Fault::BadEnd { at: 19, found: 0x0A }));
}

fn any_frame() -> impl Strategy<Value = AMQPFrame> {
    let channel = 0..=u16::MAX;
    let word = "[a-z_.]{0,40}";
    prop_oneof![
        Just(AMQPFrame::Heartbeat),
        any::<u16>().prop_map(tune),
        any::<u16>().prop_map(tune_ok),
        (channel.clone(), prop::collection::vec(any::<u8>(), 0..3000))
            .prop_map(|(id, body)| AMQPFrame::Body(id, body)),
        (channel, word, any::<u64>(), word).prop_map(|(id, tag, delivery_tag, key)| {
            AMQPFrame::Method(
                id,
                AMQPClass::Basic(basic::AMQPMethod::Deliver(basic::Deliver {
                    consumer_tag: ShortString::from(tag),
                    delivery_tag,
                    redelivered: false,
                    exchange: "x".into(),
                    routing_key: ShortString::from(key),
                })),
            )
        }),
        (any::<u16>(), word).prop_map(|(reply_code, text)| {
            method(AMQPClass::Connection(connection::AMQPMethod::Close(
                connection::Close {
                    reply_code,
                    reply_text: ShortString::from(text),
                    class_id: 0,
                    method_id: 0,
                },
            )))
        }),
    ]
}

fn kind_by_the_oracle(frame: &AMQPFrame) -> Kind {
    use connection::AMQPMethod as C;
    match frame {
        AMQPFrame::Heartbeat => Kind::Heartbeat,
        AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Deliver(_))) => Kind::Deliver,
        AMQPFrame::Method(0, AMQPClass::Connection(c)) => match c {
            C::Tune(t) => Kind::Tune(t.heartbeat),
            C::TuneOk(t) => Kind::TuneOk(t.heartbeat),
            C::Close(_) => Kind::Close,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

proptest! {
    #[test]
    fn valid_frames_are_found_whole_and_named_as_the_oracle_names_them(
        frames in prop::collection::vec(any_frame(), 0..20),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(encode).collect();
        let mut rest = &stream[..];
        for expected in &frames {
            let found = whole(rest);
            prop_assert_eq!(found.kind(Version::V0_9_1), kind_by_the_oracle(expected));
            let (left, parsed) = parse_frame(rest).unwrap();
            prop_assert_eq!(&parsed, expected);
            prop_assert_eq!(found.bytes().len(), rest.len() - left.len());
            rest = &rest[found.bytes().len()..];
        }
        prop_assert_eq!(rest.len(), 0);
    }

    #[test]
    fn every_cut_of_a_frame_asks_for_at_most_what_is_missing(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&frame);
        let cut = cut.index(bytes.len());
        match scan(&bytes[..cut]) {
            Ok(Scan::Partial(more)) => prop_assert!(more >= 1 && more <= bytes.len() - cut),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn any_bytes_at_all_neither_panic_nor_read_past_the_end(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let mut rest = &bytes[..];
        while let Ok(Scan::Whole(frame)) = scan(rest) {
            let _ = frame.kind(Version::V0_8);
            prop_assert!(frame.bytes().len() >= 8);
            rest = &rest[frame.bytes().len()..];
        }
    }

    #[test]
    fn noise_behind_a_sound_head_is_whole_or_named(size in 0u32..2000, kind in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 2001)) {
        let mut bytes = vec![kind, 0, 0];
        bytes.extend(size.to_be_bytes());
        bytes.extend(&noise);
        let end = noise[size as usize];
        match scan(&bytes) {
            Ok(Scan::Whole(frame)) => {
                prop_assert_eq!(end, 0xCE);
                prop_assert_eq!(frame.bytes().len(), size as usize + 8);
            }
            other => prop_assert_eq!(other, Err(Fault::BadEnd { at: size as usize + 7, found: end })),
        }
    }
}
