//! Brokers that are away, and the way back: what gateways see meanwhile, and what brokers do.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use weir::decisions::frame::HEADER_0_9_1;

use super::support::*;

/// Sends a decision every 50 ms until the gateway's connection ends; returns how long that took.
async fn busy_until_closed(gateway: &mut Wire, broker: &mut Wire, at_most: Duration) -> Option<Duration> {
    let began = Instant::now();
    let busy = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if broker.try_send(&body(10, 1)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        _ = gateway.closed() => Some(began.elapsed()),
        () = busy => None,
        () = tokio::time::sleep(at_most) => None,
    }
}

#[tokio::test]
async fn a_connection_moves_back_within_ten_seconds_although_decisions_never_pause() {
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
    let took = busy_until_closed(&mut gateway, &mut broker, Duration::from_secs(16)).await;
    let took = took.expect("20 decisions a second kept it on the second broker");
    assert!(
        took > Duration::from_secs(10),
        "{took:?}: a quiet moment was waited for"
    );
    let _gateway = Wire::gateway(weir.addr(), 0).await;
    weir.until("back", |s| s.brokers[0].connections == 1).await;
}

#[tokio::test]
async fn a_request_to_go_back_is_withdrawn_when_the_preferred_broker_stops_answering() {
    let OnSecond {
        weir,
        mut gateway,
        mut broker,
        second,
        first,
        reserved: _reserved,
    } = OnSecond::new().await;
    let first = StubBroker::at(first).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    // The first broker answers until the session has been asked to go back, and then accepts without a word.
    let mut busy = async |until: &dyn Fn() -> bool| {
        while !until() {
            ticks.tick().await;
            broker.send(&body(10, 1)).await;
            gateway.expect(&body(10, 1)).await;
        }
    };
    let asked = || weir.handle.status().failbacks_total == 1;
    let mut answering = Box::pin(first.answer_start());
    tokio::select! {
        biased;
        () = &mut answering => {}
        () = busy(&asked) => {}
    }
    drop(answering);
    let mute = Instant::now();
    busy(&|| mute.elapsed() > Duration::from_millis(1_100)).await;
    assert!(
        gateway.silent_for(Duration::from_millis(2_500)).await,
        "a quiet moment came, and the preferred broker did not answer any more"
    );
    let status = weir
        .until("its silence seen", |s| s.brokers[0].up == Some(false))
        .await;
    assert_eq!(status.client.connections[3], 1);
    // What the probe saw counts for the next gateway, too: it does not wait for the mute broker.
    let began = Instant::now();
    let (_gateway, _broker) = tokio::join!(Wire::gateway(weir.addr(), 0), second.open());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// What WSO2's client does with a connection object that was never open: five tries, 50 ms apart. Returns how many
/// of them failed after TCP had accepted, which spoils the object, and how many were refused.
async fn five_tries(weir: std::net::SocketAddr) -> (usize, usize) {
    let (mut spoilt, mut refused) = (0, 0);
    for _ in 0..5 {
        match TcpStream::connect(weir).await {
            Err(_) => refused += 1,
            Ok(stream) => {
                let mut gateway = Wire { stream };
                gateway.send(&HEADER_0_9_1).await;
                gateway.closed().await;
                spoilt += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (spoilt, refused)
}

#[tokio::test]
async fn after_a_hold_without_a_broker_a_gateway_that_was_never_open_is_refused_until_a_broker_answers() {
    let (_reserved, addr) = reserved();
    let mut config = config(&[addr]);
    config.hold = Duration::from_secs(1);
    let weir = Weir::new(config);
    let (first, second) = (five_tries(weir.addr()).await, five_tries(weir.addr()).await);
    println!("tries that failed after accept, refused: {first:?}, then {second:?}");
    assert_eq!((first, second), ((1, 4), (0, 5)));
    let stub = StubBroker::at(addr).await;
    let back = Instant::now();
    tokio::spawn(stub.serve_handshakes());
    soon("an open port", async {
        while TcpStream::connect(weir.addr()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    let _gateway = Wire::gateway(weir.addr(), 0).await;
}

#[tokio::test]
async fn a_gateway_that_was_open_lately_is_held_again_and_again() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.hold = Duration::from_secs(1);
    let weir = Weir::new(config);
    let (mut gateway, broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
    drop((stub, broker));
    assert!(gateway.closed().await);
    for _ in 0..3 {
        let began = Instant::now();
        let mut gateway = Wire::connect(weir.addr()).await;
        gateway.send(&HEADER_0_9_1).await;
        assert!(gateway.closed().await, "held, then FIN");
        assert!(
            began.elapsed() > Duration::from_millis(600),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_hundred_and_fifty_held_gateways_share_one_probe() {
    const GATEWAYS: u64 = 150;
    let (_reserved, addr) = reserved();
    let weir = Weir::new(config(&[addr]));
    let began = Instant::now();
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        let mut gateway = Wire::connect(weir.addr()).await;
        gateway.send(&HEADER_0_9_1).await;
        gateways.push(gateway);
    }
    weir.until("all held", |s| s.client.connections[1] == GATEWAYS)
        .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let refused = weir.handle.status().brokers[0].failures_total[1];
    let rounds = u64::try_from(began.elapsed().as_millis()).unwrap() / 250;
    println!(
        "{refused} refused connects in {:?} for {GATEWAYS} held gateways",
        began.elapsed()
    );
    assert!(
        refused >= GATEWAYS + 10,
        "each tries once, and the probe goes on: {refused}"
    );
    assert!(refused <= GATEWAYS + rounds + 5, "{refused} in {rounds} rounds");
    let stub = StubBroker::at(addr).await;
    tokio::spawn(stub.serve_handshakes());
    for gateway in &mut gateways {
        gateway.expect(&start_frame()).await;
    }
}

#[tokio::test]
async fn brokers_are_probed_before_any_gateway_connects() {
    let (_reserved, down) = reserved();
    let stub = StubBroker::new().await;
    let weir = Weir::watching(config(&[stub.addr(), down]));
    tokio::spawn(stub.serve_handshakes());
    let status = weir
        .until("both looked at", |s| s.brokers.iter().all(|b| b.up.is_some()))
        .await;
    let up: Vec<_> = status.brokers.iter().map(|b| b.up).collect();
    assert_eq!(up, [Some(true), Some(false)]);
    assert_eq!(status.brokers[0].connects_total, 0, "a probe is no gateway");
    let samples = (weir.handle.metrics().samples)();
    let up = |name: &str| {
        let of = |s: &&weir::metrics::Sample| s.metric == "weir_decisions_broker_up" && s.labels == [name];
        samples.iter().find(of).map(|s| s.value > 0.5)
    };
    assert_eq!(up(&status.brokers[0].name), Some(true));
    assert_eq!(
        up(&status.brokers[1].name),
        Some(false),
        "WeirBrokerDown can fire"
    );
}

#[tokio::test]
async fn an_attempt_that_ends_after_its_broker_was_removed_does_not_restore_its_counters() {
    let (mute, stub) = (StubBroker::new().await, StubBroker::new().await);
    let weir = Weir::new(config(&[mute.addr()]));
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(&HEADER_0_9_1).await;
    let mut tried = mute.accept().await;
    tried.exactly(8).await;
    let (mut changed, stays) = (weir.config.clone(), url(stub.addr()));
    changed.brokers = vec![stays.clone()];
    weir.handle.apply(changed).unwrap();
    drop(tried);
    tokio::spawn(stub.serve_handshakes());
    gateway.expect(&start_frame()).await;
    let names: Vec<String> = weir.handle.status().brokers.into_iter().map(|b| b.name).collect();
    assert_eq!(names, [stays.to_string()]);
}
