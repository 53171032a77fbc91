//! A session captured from a real client: lapin 4.12 with RabbitMQ 3.10.8, no heartbeat on either side.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::decisions::Side;
use weir::decisions::direction::Direction;
use weir::decisions::frame::{HEADER_BYTES, HEARTBEAT, Kind, Protocol, Scan, Version, retune, scan};

use super::node::{Rabbit, publish, subscribe, turn};
use super::support::*;

const CLIENT: &[u8] = include_bytes!("../../vectors/amqp-lapin-4.12.client.bin");
const BROKER: &[u8] = include_bytes!("../../vectors/amqp-lapin-4.12.server.bin");
const DELAY_SECONDS: u16 = 30;

fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let Ok(Scan::Whole(frame)) = scan(bytes) else {
            panic!("{} bytes left", bytes.len())
        };
        frames.push(frame.bytes());
        bytes = &bytes[frame.bytes().len()..];
    }
    frames
}

fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let whole = frames(bytes);
    let kind = |bytes: &&[u8]| match scan(bytes) {
        Ok(Scan::Whole(frame)) => frame.kind(Version::V0_9_1),
        other => panic!("{other:?}"),
    };
    whole.iter().map(kind).filter(|k| *k != Kind::Other).collect()
}

/// What a direction must become: heartbeats out, the heartbeat of its tuning frame rewritten, all else as is.
fn expected(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames(input).into_iter().filter(|f| *f != HEARTBEAT) {
        let mut frame = frame.to_vec();
        if frame.len() == 20 && matches!(frame[7..11], [0, 10, 0, 30 | 31]) {
            retune(&mut frame, DELAY_SECONDS);
        }
        out.extend(frame);
    }
    out
}

#[test]
fn the_capture_holds_what_the_tests_need_of_it() {
    assert_eq!(
        Protocol::of(CLIENT.first_chunk().unwrap()),
        Some(Protocol::Framed(Version::V0_9_1))
    );
    assert_eq!(
        kinds(&CLIENT[HEADER_BYTES..]),
        [Kind::StartOk, Kind::TuneOk(0), Kind::Close]
    );
    let mut broker = kinds(BROKER);
    assert_eq!(broker.iter().filter(|k| **k == Kind::Deliver).count(), 3);
    broker.retain(|k| *k != Kind::Deliver);
    assert_eq!(broker, [Kind::Start, Kind::Tune(0), Kind::CloseOk]);
}

#[test]
fn a_captured_session_split_at_every_byte_with_heartbeats_injected_is_itself_less_heartbeats() {
    for (towards, input) in [(Side::Broker, &CLIENT[HEADER_BYTES..]), (Side::Client, BROKER)] {
        let expected = expected(input);
        for cut in 0..=input.len() {
            let new = || {
                Direction::new(
                    Protocol::Framed(Version::V0_9_1),
                    towards,
                    DELAY_SECONDS,
                    BytesMut::new(),
                )
            };
            let (mut direction, mut out, mut injected) = (new(), Vec::new(), 0);
            for part in [&input[..cut], &input[cut..]] {
                direction.inbox.extend_from_slice(part);
                direction.forward().unwrap();
                out.extend_from_slice(&direction.outbox.split());
                injected += usize::from(direction.inject_heartbeat());
                out.extend_from_slice(&direction.outbox.split());
            }
            let less: Vec<u8> = frames(&out)
                .into_iter()
                .filter(|f| *f != HEARTBEAT)
                .flatten()
                .copied()
                .collect();
            assert!(less == expected, "cut at {cut}, {towards:?}");
            let beats = frames(&out).into_iter().filter(|f| *f == HEARTBEAT).count();
            assert_eq!(beats, injected);
            // One between the parts; none after the last frame, Close or Close-Ok, so none at the end.
            assert_eq!(injected, usize::from(cut < input.len()), "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn the_captured_session_passes_through_a_running_weir_in_slices_of_every_size() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    for slice in [1, 2, 3, 5, 7, 8, 13, 64, 1000] {
        let gateway = TcpStream::connect(weir.addr()).await.unwrap();
        let (mut from_weir, mut to_weir) = gateway.into_split();
        to_weir.write_all(&CLIENT[..HEADER_BYTES]).await.unwrap();
        let broker = stub.accept().await.stream;
        let (mut at_broker, of_broker) = broker.into_split();
        let play = |bytes: &'static [u8], mut to: tokio::net::tcp::OwnedWriteHalf| async move {
            for part in bytes.chunks(slice) {
                to.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            to
        };
        let hear = async |from: &mut tokio::net::tcp::OwnedReadHalf, bytes: usize| {
            let mut got = vec![0; bytes];
            soon("the session", from.read_exact(&mut got)).await.unwrap();
            got
        };
        let (to_broker, to_client) = (expected(&CLIENT[HEADER_BYTES..]), expected(BROKER));
        let (_a, _b, got_broker, got_client) = tokio::join!(
            play(&CLIENT[HEADER_BYTES..], to_weir),
            play(BROKER, of_broker),
            hear(&mut at_broker, HEADER_BYTES + to_broker.len()),
            hear(&mut from_weir, to_client.len()),
        );
        assert!(
            got_broker == [&CLIENT[..HEADER_BYTES], &to_broker].concat(),
            "slices of {slice}"
        );
        assert!(got_client == to_client, "slices of {slice}");
    }
}

/// Makes the vectors anew: `cargo test --test relay -- --ignored decisions::captured`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes tests/vectors/amqp-lapin-*.bin"]
async fn capture_a_session() {
    let Some(_turn) = turn().await else { return };
    let rabbit = Rabbit::without_heartbeat().await;
    let tap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tap.local_addr().unwrap();
    let upstream = rabbit.addr;
    let recorded = tokio::spawn(async move {
        let (client, _) = tap.accept().await.unwrap();
        let broker = TcpStream::connect(upstream).await.unwrap();
        let (client, broker) = (client.into_split(), broker.into_split());
        tokio::join!(record(client.0, broker.1), record(broker.0, client.1))
    });
    let mut subscriber = subscribe(addr, "throttleData").await.unwrap();
    let channel = subscriber.connection.create_channel().await.unwrap();
    for data in [
        &b"{\"throttleKey\":\"/pizza:1.0:admin\",\"isThrottled\":true}"[..],
        b"",
        &[b'x'; 300],
    ] {
        publish(&channel, "throttleData", data).await;
        assert_eq!(subscriber.next().await, data);
    }
    subscriber.connection.close(200, "bye".into()).await.unwrap();
    drop((subscriber, channel));
    let (client, broker) = soon("the end", recorded).await.unwrap();
    std::fs::write("tests/vectors/amqp-lapin-4.12.client.bin", client).unwrap();
    std::fs::write("tests/vectors/amqp-lapin-4.12.server.bin", broker).unwrap();
}

async fn record(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
) -> Vec<u8> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = from.read(&mut part).await {
        all.extend_from_slice(&part[..n]);
        to.write_all(&part[..n]).await.unwrap();
    }
    let _ = to.shutdown().await;
    all
}
