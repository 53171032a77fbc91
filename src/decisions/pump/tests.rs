//! Virtual time over in-memory streams: no socket, no sleep.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::decisions::frame::{HEARTBEAT, Protocol, Version};
use crate::decisions::lane::{Lane, Towards};
use crate::decisions::ledger::Ledger;
use crate::decisions::status::Status;

const S: Duration = Duration::from_secs(1);
/// The broker's Tune, heartbeat 0 as in every WSO2 distribution, and the client's answer.
const TUNE: [u8; 20] = [
    1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 30, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0xCE,
];
const TUNE_OK: [u8; 20] = [
    1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0xCE,
];
const CLOSE: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 50, 0xCE];
const CLOSE_OK: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE];

fn with_heartbeat(mut frame: [u8; 20], seconds: u8) -> [u8; 20] {
    frame[18] = seconds;
    frame
}

fn body(bytes: usize) -> Vec<u8> {
    let mut frame = vec![3, 0, 1];
    frame.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    frame.resize(7 + bytes, 0x55);
    frame.push(0xCE);
    frame
}

fn terms(framed: bool) -> Terms {
    Terms {
        handshake_deadline: framed.then(|| Instant::now() + S * 30),
        broker_delay: S * 30,
        broker_timeout_factor: 2.0,
        client_timeout_factor: 2.0,
    }
}

/// A relay with `delay` 30 and factor 2 on both sides, between a gateway and a broker the test plays.
struct Scene {
    gateway: DuplexStream,
    broker: DuplexStream,
    ledger: Arc<Ledger>,
    end: JoinHandle<End>,
}

impl Scene {
    fn new(protocol: Protocol) -> Self {
        let (gateway, client) = duplex(64 * 1024);
        let (broker, upstream) = duplex(64 * 1024);
        // As TLS may, these hold back what was written until they are flushed.
        let (client, upstream) = (BufWriter::new(client), BufWriter::new(upstream));
        let ledger = Ledger::new(std::iter::empty());
        let (ticket, mut wishes) = ledger.open(Instant::now());
        ticket.placed("b".into());
        let terms = terms(protocol != Protocol::Opaque);
        let end = tokio::spawn(async move {
            let to_client = Lane::new(protocol, Towards::Client, 30, BytesMut::new(), 0);
            let to_broker = Lane::new(protocol, Towards::Broker, 30, BytesMut::new(), 8);
            let mut pump = Pump::new(Pair::new(client, upstream, to_client, to_broker), terms, &ticket);
            pump.run(std::future::pending(), &mut wishes).await
        });
        Self {
            gateway,
            broker,
            ledger,
            end,
        }
    }

    /// Through Tune and Tune-Ok; the client chooses `client_seconds`.
    async fn open(client_seconds: u8) -> Self {
        let mut scene = Self::new(Protocol::Framed(Version::V0_9_1));
        scene.broker.write_all(&TUNE).await.unwrap();
        assert_eq!(
            read(&mut scene.gateway, 20).await,
            with_heartbeat(TUNE, 30),
            "weir's offer"
        );
        scene
            .gateway
            .write_all(&with_heartbeat(TUNE_OK, client_seconds))
            .await
            .unwrap();
        assert_eq!(
            read(&mut scene.broker, 20).await,
            with_heartbeat(TUNE_OK, 30),
            "weir's demand"
        );
        scene
    }

    fn status(&self) -> Status {
        self.ledger.status(Instant::now())
    }
}

async fn read(from: &mut DuplexStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    // Virtual time: a day without bytes is a test that hangs.
    let read = tokio::time::timeout(S * 86_400, from.read_exact(&mut buffer));
    read.await.expect("bytes").unwrap();
    buffer
}

/// Whether nothing comes for `time`.
async fn silent(from: &mut DuplexStream, time: Duration) -> bool {
    tokio::time::timeout(time, from.read_u8()).await.is_err()
}

/// Sends a heartbeat every 20 s, for ever: life of a side that is not under test.
async fn stay_alive(side: &mut DuplexStream) {
    loop {
        side.write_all(&HEARTBEAT).await.unwrap();
        tokio::time::sleep(S * 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_side_gets_its_own_heartbeat_at_half_its_delay() {
    let mut scene = Scene::open(8).await;
    let began = Instant::now();
    scene.gateway.write_all(&body(10)).await.unwrap();
    assert_eq!(read(&mut scene.broker, 18).await, body(10));
    assert_eq!(read(&mut scene.gateway, 8).await, HEARTBEAT);
    assert_eq!(began.elapsed().as_secs(), 4, "the client chose 8");
    // Both played sides stay alive while the broker's beat is awaited.
    scene.gateway.write_all(&HEARTBEAT).await.unwrap();
    assert_eq!(read(&mut scene.broker, 8).await, HEARTBEAT);
    assert_eq!(
        began.elapsed().as_secs(),
        15,
        "the broker was told 30; the client's own was swallowed"
    );
    let status = scene.status();
    assert_eq!(status.client.heartbeats_received_total, 1);
    assert_eq!(status.broker.heartbeats_sent_total, 1);
    assert_eq!(status.client.heartbeats_sent_total, 3);
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_a_byte_for_delay_times_factor_is_dead() {
    let scene = Scene::open(0).await;
    let began = Instant::now();
    assert!(matches!(scene.end.await.unwrap(), End::Dead(Side::Broker)));
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_byte_for_its_own_delay_times_factor_is_dead() {
    let mut scene = Scene::open(5).await;
    let began = Instant::now();
    tokio::select! {
        biased;
        end = &mut scene.end => assert!(matches!(end.unwrap(), End::Dead(Side::Client))),
        () = stay_alive(&mut scene.broker) => {}
    }
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_chose_zero_gets_no_heartbeats_and_lives_in_silence() {
    let mut scene = Scene::open(0).await;
    tokio::select! {
        biased;
        silent = silent(&mut scene.gateway, S * 3600) => assert!(silent),
        () = stay_alive(&mut scene.broker) => {}
        end = &mut scene.end => panic!("{end:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn any_frame_is_life_not_only_heartbeats() {
    let mut scene = Scene::open(0).await;
    for _ in 0..10 {
        tokio::time::sleep(S * 50).await;
        scene.broker.write_all(&body(1)).await.unwrap();
        assert_eq!(read(&mut scene.gateway, 9).await, body(1));
    }
    assert!(!scene.end.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_sender_stalling_mid_frame_does_not_silence_the_other_side() {
    let mut scene = Scene::open(0).await;
    let frame = body(1000);
    scene.gateway.write_all(&frame[..500]).await.unwrap();
    for _ in 0..6 {
        assert_eq!(read(&mut scene.broker, 8).await, HEARTBEAT);
        scene.broker.write_all(&HEARTBEAT).await.unwrap();
    }
    scene.gateway.write_all(&frame[500..]).await.unwrap();
    assert_eq!(
        read(&mut scene.broker, 1008).await,
        frame,
        "whole, after 90 s of stalling"
    );
}

#[tokio::test(start_paused = true)]
async fn no_timer_runs_before_tune_ok_and_one_deadline_ends_the_handshake() {
    let mut scene = Scene::new(Protocol::Framed(Version::V0_9_1));
    let began = Instant::now();
    assert!(silent(&mut scene.broker, S * 29).await);
    assert!(matches!(scene.end.await.unwrap(), End::HandshakeTimeout));
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn after_close_in_a_direction_nothing_is_injected_there() {
    let mut scene = Scene::open(10).await;
    scene.gateway.write_all(&CLOSE).await.unwrap();
    assert_eq!(read(&mut scene.broker, 12).await, CLOSE);
    scene.gateway.write_all(&HEARTBEAT).await.unwrap();
    assert!(
        silent(&mut scene.broker, S * 19).await,
        "15 s is when a beat would come"
    );
    assert_eq!(
        read(&mut scene.gateway, 8).await,
        HEARTBEAT,
        "the other direction still beats"
    );
}

#[tokio::test(start_paused = true)]
async fn after_close_ok_in_a_direction_nothing_is_injected_there() {
    let mut scene = Scene::open(10).await;
    scene.broker.write_all(&CLOSE_OK).await.unwrap();
    assert_eq!(read(&mut scene.gateway, 12).await, CLOSE_OK);
    assert!(silent(&mut scene.gateway, S * 19).await);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_pauses_the_broker_bounds_memory_and_stops_the_brokers_dead_timer() {
    let mut scene = Scene::open(0).await;
    let frame = body(8192);
    let mut sent = 0;
    // The gateway reads nothing: pushes until nothing moves for a while.
    while tokio::time::timeout(S, scene.broker.write_all(&frame))
        .await
        .is_ok()
    {
        sent += frame.len();
    }
    assert!(
        sent > 256 * 1024 && sent < 800 * 1024,
        "{sent} bytes taken, then no more"
    );
    let beats_before = scene.status().broker.heartbeats_sent_total;
    // Three times what would be death: the pause is weir's own, and beats towards the broker go on.
    tokio::time::sleep(S * 180).await;
    assert!(!scene.end.is_finished());
    let status = scene.status();
    assert!(status.broker.paused_nanos_total >= 180_000_000_000);
    assert_eq!(status.broker.heartbeats_sent_total - beats_before, 12);
    // The gateway reads again: everything arrives, in order.
    let mut got = 0;
    while got + frame.len() <= sent {
        assert_eq!(read(&mut scene.gateway, frame.len()).await, frame);
        got += frame.len();
    }
    assert!(
        !scene.end.is_finished(),
        "and the broker's clock goes on where it stood"
    );
}

mod ends;
