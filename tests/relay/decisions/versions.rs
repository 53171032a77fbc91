//! The versions whose framing is that of 0-9-1, and how often a held gateway's brokers are asked.

use std::time::Duration;

use tokio::time::Instant;
use weir::decisions::frame::{HEADER_0_9_1, HEARTBEAT};

use super::support::*;

/// Close as 0-8 numbers it: 10.60.
fn close_of_0_8() -> Vec<u8> {
    let mut frame = close_frame();
    frame[10] = 60;
    frame
}

#[tokio::test]
async fn a_client_of_0_8_or_0_9_is_kept_alive_like_one_of_0_9_1_until_its_own_close() {
    for (header, close) in [
        (*b"AMQP\x01\x01\x08\x00", close_of_0_8()),
        (*b"AMQP\x01\x01\x00\x09", close_frame()),
        (HEADER_0_9_1, close_frame()),
    ] {
        let stub = StubBroker::new().await;
        let mut config = config(&[stub.addr()]);
        config.heartbeat = beat(1, 10.0);
        let weir = Weir::new(config);
        let mut gateway = Wire::connect(weir.addr()).await;
        gateway.send(&header).await;
        let mut broker = stub.accept().await;
        assert_eq!(broker.exactly(8).await, header, "as it came");
        broker.send(&start_frame()).await;
        gateway.expect(&start_frame()).await;
        gateway.send(&start_ok_frame()).await;
        broker.expect(&start_ok_frame()).await;
        broker.send(&tune(0)).await;
        gateway.expect(&tune(30)).await;
        gateway.send(&tune_ok(0)).await;
        broker.expect(&tune_ok(1)).await;
        broker.expect(&HEARTBEAT).await;
        broker.expect(&HEARTBEAT).await;
        gateway.send(&close).await;
        assert_eq!(broker.frame_past_heartbeats().await.0, close);
        assert!(
            broker.silent_for(Duration::from_millis(1_200)).await,
            "{header:?}: no heartbeat after Close"
        );
    }
}

#[tokio::test]
async fn while_a_gateway_is_held_its_brokers_are_asked_four_times_a_second() {
    let (_reserved, addr) = reserved();
    let weir = Weir::new(config(&[addr]));
    let began = Instant::now();
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(&HEADER_0_9_1).await;
    let refused = |s: &weir::decisions::Status| s.brokers[0].failures_total[1];
    // The gateway's own try, a probe at once, and eight more.
    weir.until("ten looks", |s| refused(s) >= 10).await;
    let took = began.elapsed();
    assert!(
        (2_000..5_000).contains(&took.as_millis()),
        "eight pauses of 250 ms took {took:?}"
    );
}

#[tokio::test]
async fn no_connection_moves_back_to_a_broker_that_wants_another_version() {
    let on_second = OnSecond::new().await;
    let weir = &on_second.weir;
    let other = StubBroker::at(on_second.first).await;
    // Asked every 250 ms, so for longer than it takes to be believed.
    for _ in 0..8 {
        let mut wire = other.accept().await;
        assert_eq!(wire.exactly(8).await, HEADER_0_9_1);
        wire.send(b"AMQP\x01\x01\x00\x0A").await;
        wire.closed().await;
    }
    let status = weir.handle.status();
    assert_eq!(status.failbacks_total, 0);
    assert_eq!(status.brokers[0].up, Some(false));
    let reason = status.brokers[0].reason.clone().unwrap();
    assert!(reason.contains("does not speak AMQP 0-9-1"), "{reason}");
    assert_eq!(status.client.connections[3], 1, "where it was");
}
