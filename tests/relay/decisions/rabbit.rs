//! Against RabbitMQ, with lapin as the gateway's client.

use std::net::SocketAddr;
use std::time::Duration;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use lapin::types::FieldTable;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use weir::decisions::frame::{HEADER_0_9_1, HEARTBEAT};
use weir::decisions::{Greeting, greet};
use weir::net::{ClientTls, Dialer, SocketOptions};

use super::node::*;
use super::support::*;

/// A client that says nothing by itself, logged in at RabbitMQ, with this heartbeat in its Tune-Ok.
async fn raw_client(addr: SocketAddr, heartbeat: u16) -> Wire {
    let mut wire = Wire::connect(addr).await;
    wire.send(&HEADER_0_9_1).await;
    wire.frame().await;
    let start_ok = connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties: FieldTable::default(),
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
    });
    wire.send(&encode(&AMQPFrame::Method(0, AMQPClass::Connection(start_ok))))
        .await;
    wire.frame().await;
    wire.send(&tune_ok(heartbeat)).await;
    let open = connection::AMQPMethod::Open(connection::Open {
        virtual_host: "/".into(),
    });
    wire.send(&encode(&AMQPFrame::Method(0, AMQPClass::Connection(open))))
        .await;
    assert_eq!(
        wire.frame_past_heartbeats().await.0[7..11],
        [0, 10, 0, 41],
        "Open-Ok"
    );
    wire
}

/// Waits until no frame came for a moment; how many heartbeats came until the end, if it ended.
async fn lives_for(wire: &mut Wire, time: Duration) -> bool {
    let mut scrap = [0; 256];
    let end = Instant::now() + time;
    loop {
        match tokio::time::timeout_at(end, wire.stream.read(&mut scrap)).await {
            Err(_) => return true,
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "nightly: waits for a minute"]
async fn rabbitmq_and_lapin_consume_publish_and_stay_through_silence() {
    let Some(_turn) = turn().await else { return };
    let rabbit = Rabbit::new().await;
    let mut config = config(&[rabbit.addr]);
    config.heartbeat = beat(1, 4.0);
    config.client_heartbeat = beat(0, 2.0);
    let weir = Weir::new(config);

    let greeted = {
        let dialer = Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default());
        let stream = dialer.dial(&url(rabbit.addr), PATIENCE, PATIENCE).await.unwrap();
        greet(stream, &url(rabbit.addr)).await
    };
    assert!(
        matches!(&greeted, Ok((Greeting::Start(start), _)) if start.product.as_deref() == Some("RabbitMQ")),
        "{greeted:?}"
    );

    let mut subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    let publisher = connect(weir.addr()).await.unwrap();
    let channel = publisher.create_channel().await.unwrap();
    for n in 0..50_u8 {
        publish(&channel, "decisions", &[n; 300]).await;
        assert_eq!(subscriber.next().await, [n; 300]);
    }
    // Frames of 65,535 bytes: RabbitMQ's frame_max here.
    let large: Vec<u8> = (0..400_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for _ in 0..5 {
        publish(&channel, "decisions", &large).await;
        assert!(subscriber.next().await == large);
    }
    assert_eq!(weir.handle.status().deliveries_total, 55);

    // Silence. RabbitMQ was told 1 s and resets a client that does not keep to it …
    let mut direct = raw_client(rabbit.addr, 1).await;
    assert!(
        !lives_for(&mut direct, Duration::from_secs(10)).await,
        "the witness: RabbitMQ does check"
    );
    // … while clients that promised nothing live behind weir, which keeps the promise for them.
    let mut quiet = raw_client(weir.addr(), 0).await;
    assert!(lives_for(&mut quiet, Duration::from_secs(10)).await);
    publish(&channel, "decisions", b"after the silence").await;
    assert_eq!(subscriber.next().await, b"after the silence");
    let status = weir.handle.status();
    assert!(status.broker.heartbeats_sent_total >= 30, "{status:?}");
    assert!(status.broker.heartbeats_received_total >= 20, "{status:?}");
    assert_eq!(
        (status.client.heartbeats_sent_total, status.broker.dead_total),
        (0, 0)
    );

    publisher.close(200, "bye".into()).await.unwrap();
    subscriber.connection.close(200, "bye".into()).await.unwrap();
    drop(quiet);
    weir.until("nobody", |s| s.client.connections == [0; 6]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "nightly: waits for a minute"]
async fn rabbitmq_waits_for_a_consumer_that_does_not_read_and_loses_nothing() {
    let Some(_turn) = turn().await else { return };
    let rabbit = Rabbit::new().await;
    let mut config = config(&[rabbit.addr]);
    config.heartbeat = beat(2, 3.0);
    let weir = Weir::new(config);
    let mut consumer = raw_client(weir.addr(), 0).await;
    let on_channel = |class| encode(&AMQPFrame::Method(1, class));
    consumer
        .send(&on_channel(AMQPClass::Channel(channel::AMQPMethod::Open(
            channel::Open {},
        ))))
        .await;
    consumer.frame().await;
    let declare = queue::Declare {
        queue: "slow".into(),
        ..queue::Declare::default()
    };
    consumer
        .send(&on_channel(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))))
        .await;
    consumer.frame().await;
    let consume = basic::Consume {
        queue: "slow".into(),
        no_ack: true,
        ..basic::Consume::default()
    };
    consumer
        .send(&on_channel(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))))
        .await;
    consumer.frame().await;

    let publisher = connect(rabbit.addr).await.unwrap();
    let channel = publisher.create_channel().await.unwrap();
    let messages: u32 = 400;
    for n in 0..messages {
        publish(&channel, "slow", &vec![u8::try_from(n % 251).unwrap(); 60_000]).await;
    }
    weir.until("a pause", |s| s.broker.paused_nanos_total > 8_000_000_000)
        .await;
    let held_back = weir.handle.status();
    assert!(
        held_back.deliveries_total < u64::from(messages),
        "24 MB cannot all be under way"
    );
    // The consumer wakes up: method, header and body of each message, in order.
    for n in 0..messages {
        assert_eq!(consumer.frame_past_heartbeats().await.0[7..11], [0, 60, 0, 60]);
        consumer.frame_past_heartbeats().await;
        let body = consumer.frame_past_heartbeats().await.0;
        assert_eq!((body.len(), body[7]), (60_008, u8::try_from(n % 251).unwrap()));
    }
    let status = weir.handle.status();
    assert_eq!(
        (status.deliveries_total, status.broker.dead_total),
        (u64::from(messages), 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "nightly: waits for a minute"]
async fn a_broker_killed_and_back_after_18_s_is_resubscribed_at_once_by_a_held_client() {
    let Some(_turn) = turn().await else { return };
    let mut rabbit = Rabbit::new().await;
    // A gate before the node, so that the outage is 18 s however long a boot takes.
    let (_reserved, gate) = reserved();
    let opened = tokio::spawn(StubBroker::at(gate).await.pass_on_to(rabbit.addr));
    let weir = Weir::new(config(&[gate]));
    let subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    opened.abort();
    let _ = opened.await;
    rabbit.kill();
    let killed = Instant::now();
    // The client loses its connection, comes back at once, and is held.
    subscriber.lost().await;
    drop(subscriber);
    let addr = weir.addr();
    let again = tokio::spawn(async move {
        let subscriber = subscribe(addr, "decisions").await;
        (subscriber, Instant::now())
    });
    weir.until("held", |s| s.client.connections[1] == 1).await;
    rabbit.start().await;
    tokio::time::sleep_until(killed + Duration::from_secs(18)).await;
    let back = Instant::now();
    let _opened = tokio::spawn(StubBroker::at(gate).await.pass_on_to(rabbit.addr));
    let (subscriber, at) = soon("the subscription", again).await.unwrap();
    let mut subscriber = subscriber.expect("the held attempt itself succeeds: no exception at the client");
    println!(
        "broker away for {:.1} s; resubscribed {:.0} ms after it was back, in the same attempt",
        (back - killed).as_secs_f64(),
        at.saturating_duration_since(back).as_secs_f64() * 1000.0
    );
    assert!(at.saturating_duration_since(back) < Duration::from_secs(3));
    let publisher = connect(weir.addr()).await.unwrap();
    publish(
        &publisher.create_channel().await.unwrap(),
        "decisions",
        b"blocked=true",
    )
    .await;
    assert_eq!(subscriber.next().await, b"blocked=true");
    let status = weir.handle.status();
    assert_eq!(status.holds_total, 1);
    assert!(status.hold_nanos_total > 10_000_000_000, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_broker_is_killed_its_gateway_is_given_the_second_one() {
    let Some(_turn) = turn().await else { return };
    let (mut first, second) = tokio::join!(Rabbit::new(), Rabbit::new());
    let weir = Weir::new(config(&[first.addr, second.addr]));
    let subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    assert_eq!(weir.handle.status().brokers[0].connections, 1);
    first.kill();
    subscriber.lost().await;
    let lost = Instant::now();
    let mut subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    println!(
        "on the second broker {:.0} ms after the loss",
        lost.elapsed().as_secs_f64() * 1000.0
    );
    let publisher = connect(second.addr).await.unwrap();
    publish(
        &publisher.create_channel().await.unwrap(),
        "decisions",
        b"from the second",
    )
    .await;
    assert_eq!(subscriber.next().await, b"from the second");
    let status = weir.handle.status();
    assert_eq!(
        (status.brokers[0].failovers_total, status.brokers[1].connections),
        (1, 1)
    );
    assert_eq!(status.holds_total, 0);
}

#[test]
fn the_heartbeat_of_the_oracle_is_weirs() {
    assert_eq!(encode(&AMQPFrame::Heartbeat), HEARTBEAT);
}
