//! A side that dies, stalls, or sends what is no frame.

use std::time::Duration;

use tokio::time::Instant;
use weir::decisions::frame::{FRAME_BYTES_MAX, HEARTBEAT};

use super::relay::pair;
use super::support::*;

#[tokio::test]
async fn a_dead_broker_is_reset_and_its_gateway_closed_properly() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.heartbeat = beat(1, 1.5);
    let weir = Weir::new(config);
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    let began = Instant::now();
    assert!(gateway.closed().await, "FIN: the signal that starts its failover");
    assert!(
        (1400..2900).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    assert!(!broker.closed().await, "reset");
    assert_eq!(weir.handle.status().broker.dead_total, 1);
    assert_eq!(weir.handle.status().client.dead_total, 0);
}

#[tokio::test]
async fn a_dead_gateway_is_reset_and_its_broker_closed_properly() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    // The gateway chose 1 s of the 30 it was offered, and then says nothing.
    let (mut gateway, mut broker) = pair(&weir, &stub, 1).await;
    let began = Instant::now();
    assert!(broker.closed().await);
    assert!(
        (1900..3500).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    assert!(!gateway.closed().await);
    assert_eq!(weir.handle.status().client.dead_total, 1);
}

#[tokio::test]
async fn a_gateway_that_reads_nothing_stops_the_broker_and_loses_nothing() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    // Death after 1.5 s: were the broker's timer not paused with its reading, it would strike.
    config.heartbeat = beat(1, 1.5);
    let weir = Weir::new(config);
    let (mut gateway, broker) = pair(&weir, &stub, 0).await;
    let (mut from_broker, mut to_gateway) = broker.stream.into_split();
    let frames = 400;
    let sender = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for n in 0..frames {
            to_gateway
                .write_all(&body(65_000, u8::try_from(n % 251).unwrap()))
                .await
                .unwrap();
        }
        to_gateway
    });
    weir.until("a pause", |s| s.broker.paused_nanos_total > 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        !sender.is_finished(),
        "26 MB do not fit anywhere: the broker must be waiting"
    );
    let status = weir.handle.status();
    assert!(status.broker.paused_nanos_total > 2_500_000_000, "{status:?}");
    assert_eq!(status.broker.dead_total, 0);
    assert!(
        status.broker.heartbeats_sent_total >= 4,
        "injecting towards the broker goes on"
    );
    for n in 0..frames {
        gateway
            .expect(&body(65_000, u8::try_from(n % 251).unwrap()))
            .await;
    }
    soon("the sender", sender).await.unwrap();
    let beats = {
        use tokio::io::AsyncReadExt;
        let mut scrap = [0; 64];
        soon("heartbeats", from_broker.read(&mut scrap)).await.unwrap()
    };
    assert_eq!(beats % HEARTBEAT.len(), 0);
}

#[tokio::test]
async fn a_broken_frame_or_one_over_the_cap_closes_both_sides_and_is_counted() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let mut without_end = body(10, 2);
    *without_end.last_mut().unwrap() = 0;
    // Announced, and never to come.
    let over_the_cap = body(FRAME_BYTES_MAX, 2)[..8].to_vec();
    for (bad, from_gateway) in [
        (&without_end, true),
        (&without_end, false),
        (&over_the_cap, true),
        (&over_the_cap, false),
    ] {
        let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
        let good = body(10, 1);
        let (from, to) = if from_gateway {
            (&mut gateway, &mut broker)
        } else {
            (&mut broker, &mut gateway)
        };
        from.send(&[&good[..], bad].concat()).await;
        to.expect(&good).await;
        assert!(to.closed().await, "what was whole came, then the end");
        from.closed().await;
    }
    assert_eq!(weir.handle.status().bad_frames_total, 4);
}
