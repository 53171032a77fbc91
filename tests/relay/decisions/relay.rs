//! Frames through weir.

use std::time::Duration;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel};
use tokio::time::Instant;
use weir::decisions::frame::{HEADER_0_9_1, HEARTBEAT};

use super::support::*;

pub(crate) async fn pair(weir: &Weir, broker: &StubBroker, heartbeat: u16) -> (Wire, Wire) {
    let (gateway, broker) = tokio::join!(Wire::gateway(weir.addr(), heartbeat), broker.open());
    weir.until("an open connection", |s| s.client.connections[3] > 0)
        .await;
    (gateway, broker)
}

#[tokio::test]
async fn two_bytes_of_tune_and_two_of_tune_ok_are_all_that_changes_in_a_handshake() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.heartbeat = beat(30, 2.0);
    config.client_heartbeat = beat(0x0102, 2.0);
    let weir = Weir::new(config);
    let mut gateway = Wire::connect(weir.addr()).await;
    let (offered, demanded) = tokio::join!(gateway.open_as_gateway(17), async {
        let mut wire = stub.accept().await;
        wire.serve_handshake(0).await
    });
    println!("broker's Tune   {:02x?}\nas forwarded    {offered:02x?}", tune(0));
    println!(
        "client's Tune-Ok {:02x?}\nas forwarded     {demanded:02x?}",
        tune_ok(17)
    );
    let differs = |a: &[u8], b: &[u8]| -> Vec<(usize, u8)> {
        assert_eq!(a.len(), b.len());
        (0..a.len())
            .filter(|i| a[*i] != b[*i])
            .map(|i| (i, b[i]))
            .collect()
    };
    assert_eq!(differs(&tune(0), &offered), [(17, 1), (18, 2)]);
    assert_eq!(differs(&tune_ok(17), &demanded), [(18, 30)]);
}

#[tokio::test]
async fn a_frame_of_65542_bytes_at_frame_max_65535_passes_both_ways() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    let frame = body(65_534, 7);
    assert_eq!(frame.len(), FRAME_MAX as usize + 7);
    broker.send(&frame).await;
    gateway.expect(&frame).await;
    gateway.send(&frame).await;
    broker.expect(&frame).await;
}

#[tokio::test]
async fn channel_flow_and_deliveries_pass_untouched_and_are_counted() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    let flow = |active| {
        let flow = channel::AMQPMethod::Flow(channel::Flow { active });
        encode(&AMQPFrame::Method(1, AMQPClass::Channel(flow)))
    };
    let deliver = basic::AMQPMethod::Deliver(basic::Deliver {
        consumer_tag: "1".into(),
        delivery_tag: 1,
        redelivered: false,
        exchange: "amq.topic".into(),
        routing_key: "throttleData".into(),
    });
    let deliver = encode(&AMQPFrame::Method(1, AMQPClass::Basic(deliver)));
    for frame in [&flow(false), &flow(true), &deliver] {
        broker.send(frame).await;
        gateway.expect(frame).await;
    }
    gateway.send(&flow(false)).await;
    broker.expect(&flow(false)).await;
    let status = weir.handle.status();
    assert_eq!(status.deliveries_total, 1);
    // Start, Tune and three; Start-Ok, Tune-Ok and one.
    assert_eq!(
        (status.to_client.frames_total, status.to_broker.frames_total),
        (5, 3)
    );
    let bytes = start_frame().len() + 20 + flow(true).len() * 2 + deliver.len();
    assert_eq!(status.to_client.bytes_total, bytes as u64);
}

#[tokio::test]
async fn a_broker_that_offers_zero_is_kept_alive_and_a_client_that_chose_zero_is_left_alone() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.heartbeat = beat(2, 10.0);
    config.client_heartbeat = beat(1, 10.0);
    let weir = Weir::new(config);
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    let began = Instant::now();
    broker.expect(&HEARTBEAT).await;
    broker.expect(&HEARTBEAT).await;
    assert!(
        (1900..3500).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    broker.send(&HEARTBEAT).await;
    assert!(
        gateway.silent_for(Duration::from_millis(300)).await,
        "neither weir's nor the broker's"
    );
    let status = weir
        .until("the broker's heartbeat", |s| {
            s.broker.heartbeats_received_total == 1
        })
        .await;
    assert_eq!(
        (
            status.broker.heartbeats_sent_total,
            status.client.heartbeats_sent_total
        ),
        (2, 0)
    );
}

#[tokio::test]
async fn heartbeats_go_on_while_a_sender_stalls_mid_frame() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.heartbeat = beat(1, 30.0);
    let weir = Weir::new(config);
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    let frame = body(5000, 3);
    gateway.send(&frame[..2500]).await;
    for _ in 0..3 {
        broker.expect(&HEARTBEAT).await;
    }
    gateway.send(&frame[2500..]).await;
    assert_eq!(broker.frame_past_heartbeats().await.0, frame);
}

#[tokio::test]
async fn amqp_0_10_is_spliced_raw() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.heartbeat = beat(1, 1.5);
    config.client_heartbeat = beat(1, 1.5);
    let weir = Weir::new(config);
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(b"AMQP\x01\x01\x00\x0A").await;
    let mut broker = stub.accept().await;
    assert_eq!(broker.exactly(8).await, b"AMQP\x01\x01\x00\x0A");
    broker.send(b"AMQP\x01\x01\x00\x0A\x0f\x01").await;
    assert_eq!(gateway.exactly(10).await, b"AMQP\x01\x01\x00\x0A\x0f\x01");
    gateway.send(&HEARTBEAT).await;
    assert_eq!(broker.exactly(8).await, HEARTBEAT, "bytes, not frames");
    assert!(
        gateway.silent_for(Duration::from_secs(2)).await,
        "no heartbeat, and no death after 1.5 s"
    );
    assert_eq!(weir.client_connections(), [0, 0, 0, 0, 1, 0]);
    drop(broker);
    assert!(gateway.closed().await);
}

#[tokio::test]
async fn a_proper_close_passes_to_its_last_byte() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    gateway.send(&close_frame()).await;
    broker.expect(&close_frame()).await;
    broker.send(&close_ok_frame()).await;
    drop(broker);
    gateway.expect(&close_ok_frame()).await;
    assert!(gateway.closed().await);
    drop(gateway);
    weir.until("nobody", |s| s.client.connections == [0; 6]).await;
}

#[tokio::test]
async fn a_brokers_close_arrives_although_the_gateway_was_still_sending() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    broker.send(&close_frame()).await;
    gateway.send(&body(50_000, 1)).await;
    // Bytes unread: the drop is a reset.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(broker);
    let frame = gateway.frame().await;
    assert_eq!(frame, close_frame());
    assert!(gateway.closed().await);
}

#[tokio::test]
async fn the_header_of_a_broker_that_refuses_the_version_reaches_the_gateway() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(&HEADER_0_9_1).await;
    let mut broker = stub.accept().await;
    broker.exactly(8).await;
    broker.send(b"AMQP\x01\x01\x00\x0A").await;
    drop(broker);
    assert_eq!(gateway.exactly(8).await, b"AMQP\x01\x01\x00\x0A");
    assert!(gateway.closed().await);
    drop(gateway);
    weir.until("the failure", |s| s.handshake_failures_total[5] == 1)
        .await;
}

#[tokio::test]
async fn bytes_that_are_not_amqp_get_a_protocol_header_and_no_broker() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    assert_eq!(gateway.exactly(8).await, HEADER_0_9_1);
    assert!(gateway.closed().await);
    weir.until("the failure", |s| s.handshake_failures_total[1] == 1)
        .await;
    assert_eq!(weir.handle.status().brokers[0].connects_total, 0);
}
