//! Brokers that come and go, drain, reload, and what is said meanwhile.

use std::time::Duration;

use tokio::time::Instant;
use weir::config::Policy;
use weir::decisions::frame::HEADER_0_9_1;
use weir::decisions::{Greeting, Start, greet};
use weir::net::{ClientTls, Dialer, SocketOptions};

use super::support::*;

#[tokio::test]
async fn a_gateway_is_held_silent_until_a_broker_comes() {
    let (_reserved, addr) = reserved();
    let weir = Weir::new(config(&[addr]));
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(&HEADER_0_9_1).await;
    assert!(gateway.silent_for(Duration::from_millis(1200)).await, "held");
    assert_eq!(weir.client_connections(), [0, 1, 0, 0, 0, 0]);
    let stub = StubBroker::at(addr).await;
    let back = Instant::now();
    let (tune, _) = tokio::join!(
        async {
            gateway.expect(&start_frame()).await;
            let took = back.elapsed();
            gateway.send(&start_ok_frame()).await;
            gateway.frame().await;
            gateway.send(&tune_ok(0)).await;
            took
        },
        stub.open(),
    );
    assert!(
        tune < Duration::from_millis(600),
        "Start {tune:?} after the broker came"
    );
    let status = weir.until("open", |s| s.client.connections[3] == 1).await;
    assert_eq!(status.holds_total, 1);
    assert!(status.hold_nanos_total > 1_200_000_000);
    assert_eq!(status.brokers[0].up, Some(true));
}

#[tokio::test]
async fn when_the_hold_ends_the_gateway_is_closed() {
    let (_reserved, addr) = reserved();
    let mut config = config(&[addr]);
    config.hold = Duration::from_secs(1);
    let weir = Weir::new(config);
    let mut gateway = Wire::connect(weir.addr()).await;
    let began = Instant::now();
    gateway.send(&HEADER_0_9_1).await;
    assert!(gateway.closed().await, "FIN");
    assert!(
        (600..2000).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    weir.until("the failure", |s| s.handshake_failures_total[4] == 1)
        .await;
    let broker = &weir.handle.status().brokers[0];
    assert!(broker.failures_total[1] >= 3, "refused every 250 ms: {broker:?}");
    assert!(broker.reason.as_ref().unwrap().contains("refused"), "{broker:?}");
}

#[tokio::test]
async fn a_held_gateway_that_closes_is_released() {
    let (_reserved, addr) = reserved();
    let weir = Weir::new(config(&[addr]));
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(&HEADER_0_9_1).await;
    weir.until("held", |s| s.client.connections[1] == 1).await;
    drop(gateway);
    weir.until("nobody", |s| s.client.connections == [0; 6]).await;
    assert_eq!(weir.handle.status().handshake_failures_total[3], 1);
}

#[tokio::test]
async fn a_mute_broker_is_passed_over_after_three_seconds_and_then_tried_last() {
    let (mute, stub) = (StubBroker::new().await, StubBroker::new().await);
    let weir = Weir::new(config(&[mute.addr(), stub.addr()]));
    let began = Instant::now();
    let (_one, _broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
    assert!(
        (2900..4500).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    let (_two, _broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "the second gateway does not pay again"
    );
    let status = weir.handle.status();
    assert_eq!(
        (
            status.brokers[0].failovers_total,
            status.brokers[0].failures_total[5]
        ),
        (1, 1)
    );
    assert_eq!(
        (status.brokers[1].connects_total, status.brokers[1].connections),
        (2, 2)
    );
    assert_eq!(status.holds_total, 0);
}

#[tokio::test]
async fn round_robin_gives_each_gateway_the_next_broker() {
    let (a, b) = (StubBroker::new().await, StubBroker::new().await);
    let mut config = config(&[a.addr(), b.addr()]);
    config.policy = Policy::Loadbalance;
    let weir = Weir::new(config);
    tokio::spawn(a.serve_handshakes());
    tokio::spawn(b.serve_handshakes());
    let mut gateways = Vec::new();
    for _ in 0..6 {
        gateways.push(Wire::gateway(weir.addr(), 0).await);
    }
    let status = weir.until("all", |s| s.client.connections[3] == 6).await;
    assert_eq!(
        status.brokers.iter().map(|b| b.connections).collect::<Vec<_>>(),
        [3, 3]
    );
}

#[tokio::test]
async fn connections_move_back_to_the_preferred_broker_at_a_quiet_moment() {
    let OnSecond {
        weir,
        mut gateway,
        mut broker,
        second: _second,
        first,
        reserved: _reserved,
    } = OnSecond::new().await;
    let first = StubBroker::at(first).await;
    tokio::spawn(first.serve_handshakes());
    // Busy for two seconds after it came back: nobody is moved.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        broker.send(&body(10, 1)).await;
        gateway.expect(&body(10, 1)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gateway.closed().await, "quiet now");
    assert!(broker.closed().await);
    let _gateway = Wire::gateway(weir.addr(), 0).await;
    let status = weir.until("back", |s| s.brokers[0].connections == 1).await;
    assert_eq!(status.failbacks_total, 1);
    weir.until("the old one's end", |s| s.brokers[1].connections == 0)
        .await;
}

#[tokio::test]
async fn a_drain_closes_the_port_keeps_connections_to_its_deadline_and_can_be_taken_back() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut gateway, mut broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
    weir.life
        .drain(Instant::now(), Duration::ZERO, Duration::from_secs(3600));
    soon("a closed port", async {
        while tokio::net::TcpStream::connect(weir.addr()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    broker.send(&body(1, 1)).await;
    gateway.expect(&body(1, 1)).await;
    weir.life.ready();
    soon("an open port", async {
        while tokio::net::TcpStream::connect(weir.addr()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let began = Instant::now();
    weir.life.drain(began, Duration::ZERO, Duration::from_millis(700));
    assert!(gateway.closed().await, "FIN at the deadline");
    assert!(began.elapsed() >= Duration::from_millis(690));
    assert!(broker.closed().await);
    drop((gateway, broker));
    soon("the end", weir.handle.finished()).await;
}

#[tokio::test]
async fn a_stop_ends_held_and_open_connections_at_once() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut open, _broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
    drop(stub);
    let mut held = Wire::connect(weir.addr()).await;
    held.send(&HEADER_0_9_1).await;
    weir.until("held", |s| s.client.connections[1] == 1).await;
    weir.life.stop();
    assert!(open.closed().await);
    assert!(held.closed().await);
    drop((open, held));
    soon("the end", weir.handle.finished()).await;
}

#[tokio::test]
async fn a_reload_moves_connections_off_removed_brokers_and_leaves_the_others() {
    let (a, b) = (StubBroker::new().await, StubBroker::new().await);
    let mut config = config(&[a.addr(), b.addr()]);
    config.policy = Policy::Loadbalance;
    let weir = Weir::new(config);
    let (mut on_a, mut broker_a) = tokio::join!(Wire::gateway(weir.addr(), 0), a.open());
    let (mut on_b, mut broker_b) = tokio::join!(Wire::gateway(weir.addr(), 0), b.open());
    let mut changed = weir.config.clone();
    changed.brokers = vec![url(b.addr())];
    weir.handle.apply(changed).unwrap();
    assert!(on_a.closed().await, "at a quiet moment");
    assert!(broker_a.closed().await);
    broker_b.send(&body(3, 3)).await;
    on_b.expect(&body(3, 3)).await;
    let names: Vec<String> = weir.handle.status().brokers.into_iter().map(|b| b.name).collect();
    assert_eq!(names, [format!("tcp://{}", b.addr())]);
}

#[tokio::test]
async fn a_reload_moves_the_port_and_one_that_cannot_be_opened_changes_nothing() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let old = weir.addr();
    let taken = StubBroker::new().await;
    let mut bad = weir.config.clone();
    bad.listen = Some(taken.addr());
    let error = weir.handle.apply(bad).unwrap_err();
    assert!(error.to_string().contains(&taken.addr().to_string()), "{error}");
    assert_eq!(weir.addr(), old);
    let (mut gateway, mut broker) = tokio::join!(Wire::gateway(old, 0), stub.open());

    let mut moved = weir.config.clone();
    moved.listen = Some("127.0.0.2:0".parse().unwrap());
    weir.handle.apply(moved).unwrap();
    assert_ne!(weir.addr(), old);
    let (_gateway, _broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
    broker.send(&body(3, 3)).await;
    gateway.expect(&body(3, 3)).await;
    soon("the old port to close", async {
        while tokio::net::TcpStream::connect(old).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_check_reports_a_brokers_answer_without_logging_in() {
    let dialer = Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default());
    let stub = StubBroker::new().await;
    let target = url(stub.addr());
    let check = async || {
        let stream = dialer.dial(&target, PATIENCE, PATIENCE).await.unwrap();
        greet(stream, &target).await.map(|(greeting, _)| greeting)
    };
    let (checked, ()) = tokio::join!(check(), async {
        let mut wire = stub.accept().await;
        assert_eq!(wire.exactly(8).await, HEADER_0_9_1);
        wire.send(&start_frame()).await;
        assert!(wire.closed().await, "no Start-Ok: no password was sent");
    });
    let start = Start {
        version: (0, 9),
        mechanisms: "PLAIN".into(),
        ..Start::default()
    };
    assert_eq!(checked, Ok(Greeting::Start(start)));

    let (checked, ()) = tokio::join!(check(), async {
        let mut wire = stub.accept().await;
        wire.exactly(8).await;
        wire.send(b"AMQP\x01\x01\x00\x0A").await;
    });
    assert_eq!(checked, Ok(Greeting::OtherVersion([1, 1, 0, 10])));

    let (checked, ()) = tokio::join!(check(), async {
        let mut wire = stub.accept().await;
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        wire.closed().await;
    });
    assert_eq!(checked.unwrap_err().class, "protocol");

    let (checked, _mute) = tokio::join!(check(), stub.accept());
    assert_eq!(checked.unwrap_err().class, "mute");
}
