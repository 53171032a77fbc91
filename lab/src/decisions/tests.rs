//! The stand-ins against an oracle of the protocol, the judge against streams that went wrong, and both together.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use bytes::BytesMut;
use proptest::prelude::*;
use weir::config::{Scheme, Url};
use weir::net::{ClientTls, Dialer, SocketOptions};

use super::frames::{self, Said};
use super::tally::BACK_WITHIN;
use super::*;

/// The frames in `bytes`, as the oracle reads them.
fn read(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).unwrap();
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn method(bytes: &[u8]) -> AMQPClass {
    match &read(bytes)[..] {
        [AMQPFrame::Method(_, class)] => class.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_word_is_what_the_oracle_reads() {
    use AMQPClass::{Basic, Channel, Connection, Queue};
    let start = method(&frames::start());
    let Connection(connection::AMQPMethod::Start(start)) = start else {
        panic!("{start:?}")
    };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(start.mechanisms.as_bytes(), b"PLAIN");
    let ok = method(&frames::start_ok("u", "p"));
    let Connection(connection::AMQPMethod::StartOk(ok)) = ok else {
        panic!("{ok:?}")
    };
    assert_eq!(ok.response.as_bytes(), b"\0u\0p");
    let tune = method(&frames::tuning(frames::TUNE, 7));
    assert!(
        matches!(&tune, Connection(connection::AMQPMethod::Tune(t)) if (t.channel_max, t.frame_max, t.heartbeat) == (256, 65_535, 7)),
        "{tune:?}"
    );
    let tune_ok = method(&frames::tuning(frames::TUNE_OK, 7));
    assert!(
        matches!(&tune_ok, Connection(connection::AMQPMethod::TuneOk(t)) if t.heartbeat == 7),
        "{tune_ok:?}"
    );
    let open = method(&frames::open());
    assert!(
        matches!(&open, Connection(connection::AMQPMethod::Open(o)) if o.virtual_host.as_str() == "carbon"),
        "{open:?}"
    );
    let open_ok = method(&frames::open_ok());
    assert!(
        matches!(open_ok, Connection(connection::AMQPMethod::OpenOk(_))),
        "{open_ok:?}"
    );
    let opened = [frames::channel_open(), frames::channel_open_ok()].map(|b| method(&b));
    assert!(
        matches!(
            &opened,
            [
                Channel(channel::AMQPMethod::Open(_)),
                Channel(channel::AMQPMethod::OpenOk(_))
            ]
        ),
        "{opened:?}"
    );
    let declare = method(&frames::declare("q"));
    assert!(
        matches!(&declare, Queue(queue::AMQPMethod::Declare(d)) if d.queue.as_str() == "q" && d.exclusive && d.auto_delete && !d.durable),
        "{declare:?}"
    );
    let declared = method(&frames::declare_ok("q"));
    assert!(
        matches!(&declared, Queue(queue::AMQPMethod::DeclareOk(d)) if d.queue.as_str() == "q"),
        "{declared:?}"
    );
    let bind = method(&frames::bind("q"));
    assert!(
        matches!(&bind, Queue(queue::AMQPMethod::Bind(b)) if b.routing_key.as_str() == "throttleData" && b.exchange.as_str() == "amq.topic"),
        "{bind:?}"
    );
    let bound = method(&frames::bind_ok());
    assert!(matches!(bound, Queue(queue::AMQPMethod::BindOk(_))), "{bound:?}");
    let consume = method(&frames::consume("q", "t"));
    assert!(
        matches!(&consume, Basic(basic::AMQPMethod::Consume(c)) if c.consumer_tag.as_str() == "t" && c.no_ack && !c.no_local),
        "{consume:?}"
    );
    let consumed = method(&frames::consume_ok("t"));
    assert!(
        matches!(&consumed, Basic(basic::AMQPMethod::ConsumeOk(c)) if c.consumer_tag.as_str() == "t"),
        "{consumed:?}"
    );
    assert_eq!(read(&frames::heartbeat()), [AMQPFrame::Heartbeat]);
    let delivery = read(&frames::delivery("t", 3, b"abc"));
    assert!(
        matches!(&delivery[..], [
            AMQPFrame::Method(1, Basic(basic::AMQPMethod::Deliver(d))),
            AMQPFrame::Header(1, AMQPContentHeader { class_id: 60, body_size: 3, .. }),
            AMQPFrame::Body(1, body),
        ] if d.delivery_tag == 3 && d.consumer_tag.as_str() == "t" && body == b"abc"),
        "{delivery:?}"
    );
}

#[test]
fn what_the_oracle_writes_is_read_at_every_cut() {
    let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: "some queue".into(),
        consumer_tag: "weir-lab-12".into(),
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: Default::default(),
    }));
    let mut bytes = Vec::new();
    for frame in [
        AMQPFrame::Method(1, consume),
        AMQPFrame::Heartbeat,
        AMQPFrame::Body(1, b"x".to_vec()),
    ] {
        bytes.extend(
            gen_frame(&frame)(WriteContext::from(Vec::new()))
                .unwrap()
                .into_inner()
                .0,
        );
    }
    for cut in 0..=bytes.len() {
        let (mut inbox, mut said) = (BytesMut::new(), Vec::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            inbox.extend_from_slice(part);
            while let Some(frame) = frames::take(&mut inbox).unwrap() {
                said.push(frame.said().unwrap());
            }
        }
        let [
            Said::Method(frames::CONSUME, arguments),
            Said::Heartbeat,
            Said::Body(body),
        ] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert_eq!(frames::tag_of_consume(arguments).as_deref(), Some("weir-lab-12"));
        assert_eq!(&body[..], b"x");
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_frames_or_an_error(bytes: Vec<u8>) {
        let mut inbox = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = frames::take(&mut inbox) {
            let _ = frame.said();
        }
        let _ = (frames::tag_of_consume(&bytes), frames::heartbeat_of(&bytes));
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A stream with ten decisions sent, all received, an outage, and the gateway back in time.
fn good() -> Tally {
    let mut tally = Tally::default();
    for _ in 0..12 {
        tally.published();
    }
    tally.subscribed(0, 1, SECOND);
    tally.began(0, 1);
    tally.returned(2 * SECOND);
    tally.began(1, 8);
    tally.subscribed(1, 1, 2 * SECOND + SECOND / 4);
    for (subscription, numbers) in [(0, 1..=5), (1, 8..=12)] {
        for number in numbers {
            tally.offered(subscription, number);
            tally.sent(subscription, number);
            tally.received(subscription, decision(number).as_bytes());
        }
    }
    tally
}

#[test]
fn a_stream_that_missed_only_what_nobody_could_have_sent_is_right() {
    let verdict = good().verdict(None);
    assert_eq!(verdict.violations(), Vec::<String>::new());
    assert_eq!(
        (verdict.published, verdict.delivered, verdict.missed),
        (12, 10, 2)
    );
    assert_eq!(verdict.back_after, Some(SECOND / 4));
}

#[test]
fn each_fault_of_a_stream_is_found() {
    let faulty = |spoil: &dyn Fn(&mut Tally)| {
        let mut tally = good();
        spoil(&mut tally);
        let verdict = tally.verdict(None);
        let [one] = &verdict.violations()[..] else {
            panic!("{verdict}")
        };
        one.clone()
    };
    let sent = |tally: &mut Tally, number| {
        tally.published();
        tally.offered(1, number);
        tally.sent(1, number);
    };
    assert!(faulty(&|t| sent(t, 13)).contains("lost: 1"));
    assert!(faulty(&|t| t.received(1, decision(12).as_bytes())).contains("twice: 1"));
    assert!(faulty(&|t| t.received(1, decision(99).as_bytes())).contains("never sent: 1"));
    assert!(faulty(&|t| t.received(1, b"{\"number\":9}")).contains("other bytes: 1"));
    assert!(faulty(&|t| t.returned(9 * SECOND)).contains("never subscribed again"));
    let out_of_order = faulty(&|t| {
        sent(t, 13);
        sent(t, 14);
        t.received(1, decision(14).as_bytes());
        t.received(1, decision(13).as_bytes());
    });
    assert!(out_of_order.contains("out of order"), "{out_of_order}");
    let late = faulty(&|t| {
        t.returned(9 * SECOND);
        t.subscribed(2, 1, 9 * SECOND + BACK_WITHIN * 2);
    });
    assert!(late.contains("more than 5s"), "{late}");
    let again = faulty(&|t| {
        t.returned(9 * SECOND);
        t.subscribed(2, 2, 9 * SECOND);
    });
    assert!(again.contains("needed 2 connections"), "{again}");
    let miscounted = good().verdict(Some(9)).violations();
    assert_eq!(miscounted.len(), 1, "{miscounted:?}");
    assert_eq!(good().verdict(Some(10)).violations(), Vec::<String>::new());
    assert_eq!(
        Tally::default().verdict(None).violations().len(),
        1,
        "nothing is not right"
    );
}

/// What was being written when a connection broke may have arrived or not: neither is a fault.
#[test]
fn a_decision_that_was_on_its_way_when_the_connection_broke_may_arrive_or_not() {
    for arrives in [false, true] {
        let mut tally = good();
        tally.published();
        tally.offered(1, 13);
        if arrives {
            tally.received(1, decision(13).as_bytes());
        }
        assert_eq!(
            tally.verdict(None).violations(),
            Vec::<String>::new(),
            "{arrives}"
        );
    }
}

/// Without a relay between them: a stop loses nothing that was sent, and who is not held comes back late.
#[tokio::test]
async fn a_gateway_that_nobody_holds_gets_every_decision_and_sleeps_when_the_broker_is_away() {
    let book = Book::open();
    let broker = Broker::start(&book, Duration::from_millis(2)).unwrap();
    let url = Url {
        scheme: Scheme::Tcp,
        host: broker.address().ip().to_string(),
        port: broker.address().port(),
    };
    let dialer = Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default());
    let gateway = tokio::spawn(subscribe(dialer, url, book.clone()));
    let until = async |what: &str, is: &dyn Fn(&Tally) -> bool| {
        crate::thread::until(what, 20 * SECOND, || is(&book.tally()))
            .await
            .unwrap();
    };
    until("decisions", &|t| t.delivered() >= 20).await;
    broker.stop().await;
    until("the rest", &Tally::at_rest).await;
    let verdict = book.tally().verdict(None);
    assert_eq!(verdict.violations(), Vec::<String>::new());
    assert!(verdict.delivered >= 20);
    // Longer than its quick retries take.
    tokio::time::sleep(SECOND).await;
    broker.restart().await;
    tokio::time::sleep(SECOND / 2).await;
    assert!(!book.tally().is_back());
    let verdict = book.tally().verdict(None);
    assert!(
        verdict.violations().join(" ").contains("never subscribed again"),
        "{verdict}"
    );
    gateway.abort();
}
