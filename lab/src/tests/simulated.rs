//! Load and sink over a simulated network, in virtual time.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::*;
use crate::gateway::{Answer as Got, Gateway};
use crate::sink::Answer;

fn over(network: &Network) -> Dialer {
    Dialer::over(Arc::new(network.clone()), ClientTls::trusting_nobody().unwrap())
}

/// A minute with faults; returns what can be compared between two runs of the same seed.
async fn minute(seed: u64) -> (LoadCounts, u64, String) {
    let network = Network::seeded(seed);
    let judge = judge(&["tm"]);
    let sink = Sink::start(SinkOptions {
        data: network.opener(9611),
        ..SinkOptions::local().judged_by(&judge, 0)
    })
    .unwrap();
    sink.set(|b| b.frame_cost = Duration::from_micros(300));
    let load = Load::start(LoadOptions {
        dialer: over(&network),
        connections: 3,
        events_per_frame: 2,
        rate: Some(50.0),
        count: None,
        duration: Some(Duration::from_secs(60)),
        ..load(&judge, sink.data_address(), 0)
    });
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..5 {
        sleep(Duration::from_millis(random.u64(2_000..8_000))).await;
        match random.u8(0..4) {
            0 => sink.expire_sessions(),
            1 => sink.set(|b| b.answer_times(Answer::CloseBeforeOk(Close::Rst), 3)),
            2 => sink.cut(Close::Rst),
            _ => {
                sink.kill(Close::Rst).await;
                sleep(Duration::from_millis(random.u64(1..3_000))).await;
                sink.revive().await;
            }
        }
    }
    let report = load.finish().await;
    let verdict = judge.verdict(None).witness(
        "connections ended",
        report.counts.resets + report.counts.session_errors,
    );
    assert!(verdict.ok() && verdict.acked > 2_000, "seed {seed}: {verdict}");
    (report.counts, verdict.acked, verdict.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_faults_loses_nothing_and_a_seed_replays_it() {
    for seed in 0..10 {
        let before = Instant::now();
        let first = minute(seed).await;
        assert!(before.elapsed() >= Duration::from_secs(60), "virtual time");
        assert_eq!(minute(seed).await, first, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_in_memory_end_as_those_of_tcp_do() {
    let network = Network::new();
    let url = args::url("tcp://tm:9611").unwrap();
    assert!(
        Gateway::connect(&over(&network), &url).await.is_err(),
        "a closed port refuses"
    );
    let mut listener = network.listen(9611).unwrap();
    assert!(network.listen(9611).is_err(), "a port is opened once");
    let limit = Duration::from_secs(1);

    let mut gateway = Gateway::connect(&over(&network), &url).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    peer.abort();
    assert!(matches!(gateway.answer(limit).await, Got::Reset(_)));

    let mut gateway = Gateway::connect(&over(&network), &url).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    drop(peer);
    assert_eq!(gateway.ask(b"into the void", limit).await, Got::Fin);

    let mut gateway = Gateway::connect(&over(&network), &url).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    gateway.send(b"unread").await.unwrap();
    drop(peer);
    assert!(
        matches!(gateway.answer(limit).await, Got::Reset(_)),
        "closed with bytes unread"
    );

    let mut gateway = Gateway::connect(&over(&network), &url).await.unwrap();
    assert_eq!(
        gateway.flood(&[0; 1000], limit).await,
        262_000,
        "a full buffer makes the writer wait"
    );
    drop(listener);
    assert!(Gateway::connect(&over(&network), &url).await.is_err());
}
