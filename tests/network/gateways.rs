//! Gateways beyond a wire whose packets carry 1,500 bytes, so that a frame is many segments.

use std::time::Duration;

use tokio::net::TcpStream;
use weir_lab::Sizes;
use weir_lab::gateway::{Answer, frame};

use crate::namespaces::{Net, within};
use crate::support::peer::Peer;
use crate::support::stage::Stage;
use crate::support::{Plan, refuses_none_at_20_000_a_second};

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
            let acked = refuses_none_at_20_000_a_second(stage.load()).await;
            stage.assert_clean(acked).await;
        },
    );
}
