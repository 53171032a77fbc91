//! Gateways beyond a wire whose packets carry 1,500 bytes, so that a frame is many segments.

use std::time::Duration;

use tokio::net::TcpStream;
use weir::lab::gateway::{Answer, frame};
use weir::lab::load::{TwinOptions, Version};
use weir::lab::{Load, LoadOptions, Sizes};

use crate::namespaces::{Net, within};
use crate::support::peer::Peer;
use crate::support::stage::Stage;
use crate::support::{Plan, agents_dialer};

async fn stage(net: &Net) -> Stage {
    for n in ["w", "t"] {
        net.ip(n, &["link", "set", "side", "mtu", "1500"]);
    }
    net.stage(Plan {
        sizes: Some(Sizes::Fixed(600)),
        ..Plan::groups(&["one"])
    })
    .await
}

#[test]
fn over_a_wire_the_rest_of_a_frame_waits_for_no_delayed_acknowledgement() {
    const FRAMES: u64 = 50;
    within(
        &over_a_wire_the_rest_of_a_frame_waits_for_no_delayed_acknowledgement,
        async |net: Net| {
            let stage = stage(&net).await;
            let connect = async || Peer::over(TcpStream::connect(stage.weir.tcp).await.unwrap());
            let session = connect().await.login().await;
            let frames: Vec<_> = {
                let mut oracle = stage.judge.oracle();
                oracle.issue(0, 0, FRAMES, stage.judge.now());
                let events = oracle.events();
                (0..FRAMES).map(|n| frame(&session, events, 0, n, 1)).collect()
            };
            let mut peer = connect().await.in_pieces();
            let median = peer.median(&frames, |answer| *answer == Answer::Ok).await;
            stage.judge.oracle().ack(0, 0, FRAMES);
            stage.assert_clean(FRAMES).await;
            assert!(median < Duration::from_millis(25), "{median:?}");
        },
    );
}

#[test]
fn over_a_wire_an_agent_at_20_000_events_a_second_refuses_none() {
    within(
        &over_a_wire_an_agent_at_20_000_events_a_second_refuses_none,
        async |net: Net| {
            let stage = stage(&net).await;
            let load = Load::start(LoadOptions {
                dialer: agents_dialer(),
                rate: Some(20_000.0),
                duration: Some(Duration::from_secs(3)),
                agent: Some(TwinOptions::new(Version::V5_4)),
                ..stage.load()
            });
            let report = load.finish().await;
            let (counts, p50) = (report.counts, report.latency.p50());
            println!("p50 {p50:?}, p99 {:?}, {counts:?}", report.latency.p99());
            assert_eq!(counts.queue_full, 0, "{counts:?}");
            assert!(p50 < Duration::from_millis(500), "{p50:?}");
            stage.assert_clean(counts.events_acked).await;
        },
    );
}
