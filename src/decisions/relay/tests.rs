//! Paused time over in-memory streams.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::decisions::connections::Connections;
use crate::decisions::frame::{HEARTBEAT, Protocol, Version};
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
        timeout_factor: Sides::both(2.0),
    }
}

fn directions(protocol: Protocol) -> Sides<Direction> {
    let direction = |towards| Direction::new(protocol, towards, 30, BytesMut::new());
    Sides {
        client: direction(Side::Client),
        broker: direction(Side::Broker),
    }
}

/// A relay with `delay` 30 and factor 2 on both sides, between a gateway and a broker the test plays.
struct Scene {
    gateway: DuplexStream,
    broker: DuplexStream,
    connections: Arc<Connections>,
    end: JoinHandle<End>,
}

impl Scene {
    fn new(protocol: Protocol) -> Self {
        let (gateway, client) = duplex(64 * 1024);
        let (broker, upstream) = duplex(64 * 1024);
        // As TLS may, these hold back what was written until they are flushed.
        let streams = Sides {
            client: BufWriter::new(client),
            broker: BufWriter::new(upstream),
        };
        let connections = Connections::new(std::iter::empty());
        let (registration, mut requests) = connections.register_now();
        registration.placed("b".into());
        let terms = terms(protocol != Protocol::Opaque);
        let end = tokio::spawn(async move {
            let mut relay = Relay::new(streams, directions(protocol), terms, &registration);
            relay.run(std::future::pending(), &mut requests).await
        });
        Self {
            gateway,
            broker,
            connections,
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
            "weir's delay"
        );
        scene
    }

    fn status(&self) -> Status {
        self.connections.status(Instant::now())
    }
}

async fn read(from: &mut DuplexStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    // Paused time: a day without bytes is a test that hangs.
    let read = tokio::time::timeout(S * 86_400, from.read_exact(&mut buffer));
    read.await.expect("bytes").unwrap();
    buffer
}

/// Whether nothing comes for `time`.
async fn silent(from: &mut DuplexStream, time: Duration) -> bool {
    tokio::time::timeout(time, from.read_u8()).await.is_err()
}

/// Sends a heartbeat every 20 s, for ever: for a side that is not under test.
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
async fn a_client_that_chose_zero_gets_no_heartbeats_and_is_never_dead() {
    let mut scene = Scene::open(0).await;
    tokio::select! {
        biased;
        silent = silent(&mut scene.gateway, S * 3600) => assert!(silent),
        () = stay_alive(&mut scene.broker) => {}
        end = &mut scene.end => panic!("{end:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn any_frame_resets_the_dead_timer() {
    let mut scene = Scene::open(0).await;
    for _ in 0..10 {
        tokio::time::sleep(S * 50).await;
        scene.broker.write_all(&body(1)).await.unwrap();
        assert_eq!(read(&mut scene.gateway, 9).await, body(1));
    }
    assert!(!scene.end.is_finished());
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
    // Three times the dead timer: weir itself does not read, and heartbeats to the broker go on.
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
    assert!(!scene.end.is_finished(), "the dead timer goes on where it stood");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_waited_while_the_process_was_suspended_count_before_the_dead_timer() {
    let (mut gateway, client) = duplex(1024);
    let (mut broker, upstream) = duplex(1024);
    let connections = Connections::new(std::iter::empty());
    let (registration, mut requests) = connections.register_now();
    let streams = Sides {
        client,
        broker: upstream,
    };
    let towards = directions(Protocol::Framed(Version::V0_9_1));
    let mut relay = Relay::new(streams, towards, terms(true), &registration);
    gateway.write_all(&TUNE_OK).await.unwrap();
    let end = relay.run(tokio::time::sleep(S), &mut requests).await;
    assert!(matches!(end, End::Stopped));
    assert!(relay.opened());
    // The whole process stops for ten minutes, while a frame arrives in the kernel: its timers are the first
    // thing it sees when it goes on.
    broker.write_all(&body(5)).await.unwrap();
    tokio::time::advance(S * 600).await;
    let end = relay.run(tokio::time::sleep(S), &mut requests).await;
    assert!(matches!(end, End::Stopped));
    assert_eq!(read(&mut gateway, 13).await, body(5));
    // Without such a frame it is dead.
    tokio::time::advance(S * 600).await;
    let end = relay.run(tokio::time::sleep(S), &mut requests).await;
    assert!(matches!(end, End::Dead(Side::Broker)));
}

#[tokio::test(start_paused = true)]
async fn a_splice_passes_every_byte_and_injects_none() {
    let mut scene = Scene::new(Protocol::Opaque);
    scene.gateway.write_all(&HEARTBEAT).await.unwrap();
    assert_eq!(read(&mut scene.broker, 8).await, HEARTBEAT);
    scene.broker.write_all(b"half a 0-10 fra").await.unwrap();
    assert_eq!(read(&mut scene.gateway, 15).await, b"half a 0-10 fra");
    assert!(silent(&mut scene.gateway, S * 3600).await);
    assert!(silent(&mut scene.broker, S * 3600).await);
    assert!(!scene.end.is_finished());
}

fn failback(at_latest: Instant, proven_until: Instant) -> LeaveRequest {
    LeaveRequest {
        reason: Reason::Failback {
            to: "a".into(),
            proven_until,
        },
        asked_at: Instant::now(),
        at_latest,
    }
}

fn removed(at_latest: Instant) -> LeaveRequest {
    LeaveRequest {
        reason: Reason::Removed,
        asked_at: Instant::now(),
        at_latest,
    }
}

impl Scene {
    fn ask_to_leave(&self, request: LeaveRequest) -> bool {
        let (id, _) = self.connections.placements().remove(0);
        self.connections.ask_to_leave(id, request)
    }

    /// Decisions twice a second, until the relay ends or for `time`; the end.
    async fn busy_for(&mut self, time: Duration) -> Option<End> {
        let busy = async {
            loop {
                self.broker.write_all(&body(1)).await.unwrap();
                read(&mut self.gateway, 9).await;
                tokio::time::sleep(QUIET / 2).await;
            }
        };
        tokio::select! {
            biased;
            end = &mut self.end => Some(end.unwrap()),
            () = busy => None,
            () = tokio::time::sleep(time) => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_asked_to_leave_waits_for_a_quiet_moment() {
    let mut scene = Scene::open(0).await;
    let at_latest = Instant::now() + S * 60;
    scene.ask_to_leave(failback(at_latest, at_latest + S));
    assert!(scene.busy_for(S * 10).await.is_none(), "never quiet");
    let left = tokio::time::timeout(QUIET * 2, &mut scene.end).await.unwrap();
    assert!(matches!(left.unwrap(), End::Left { quiet: true }));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_never_quiet_leaves_at_the_latest_time() {
    let began = Instant::now();
    let mut scene = Scene::open(0).await;
    scene.ask_to_leave(failback(began + S * 10, began + S * 3600));
    let end = scene.busy_for(S * 60).await;
    assert!(matches!(end, Some(End::Left { quiet: false })), "{end:?}");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_leave_for_a_broker_that_has_not_answered_lately() {
    let began = Instant::now();
    let mut scene = Scene::open(0).await;
    scene.ask_to_leave(failback(began + S * 10, began + QUIET / 2));
    // Quiet from 1 s on, and the latest time passes as well.
    assert!(silent(&mut scene.gateway, S * 14).await);
    assert!(!scene.end.is_finished());
    // It answers again: the request holds, and its time has come.
    let renewed = scene
        .connections
        .review_failbacks(|to| (to == "a").then(|| Instant::now() + S));
    assert_eq!(renewed, 0, "none was withdrawn");
    assert!(matches!(scene.end.await.unwrap(), End::Left { .. }));
    assert_eq!(began.elapsed().as_secs(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_leave_a_removed_broker_replaces_a_request_to_go_back() {
    let began = Instant::now();
    let mut scene = Scene::open(0).await;
    let later = began + S * 3600;
    assert!(scene.ask_to_leave(failback(later, later)));
    assert!(scene.ask_to_leave(removed(began + S * 30)));
    assert!(!scene.ask_to_leave(failback(began, later)), "the weaker reason");
    assert_eq!(
        scene.connections.review_failbacks(|_| None),
        0,
        "not to be withdrawn"
    );
    let end = scene.busy_for(S * 60).await;
    assert!(matches!(end, Some(End::Left { quiet: false })), "{end:?}");
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_not_cut_off_at_a_quiet_moment() {
    let began = Instant::now();
    let mut scene = Scene::new(Protocol::Framed(Version::V0_9_1));
    scene.ask_to_leave(removed(began + S * 25));
    // A broker that takes its time to check a password.
    assert!(silent(&mut scene.gateway, S * 20).await);
    assert!(!scene.end.is_finished());
    assert!(matches!(scene.end.await.unwrap(), End::Left { quiet: false }));
    assert_eq!(began.elapsed().as_secs(), 25);
}
