//! The agent leaves Nagle's algorithm on: a part of a frame is sent when what went before is acknowledged. A kernel that
//! expects an answer to acknowledge along with waits 40 ms for it, and weir answers whole frames only.

use std::time::Duration;

use weir::wire::reply::SESSION_TIMEOUT;
use weir_lab::Sizes;
use weir_lab::gateway::{Answer, frame};

use crate::support::peer::Peer;
use crate::support::{Bed, Plan, refuses_none_at_20_000_a_second, story};

/// Less than a delayed acknowledgement, more than an answer takes on a busy machine.
const NO_STALL: Duration = Duration::from_millis(25);
const FRAMES: u64 = 50;
const ORIGIN: u32 = 1000;

async fn answers_come_without_a_stall(bed: &Bed, mut peer: Peer) {
    let session = Peer::tcp(bed).await.login().await;
    let frames: Vec<_> = (0..FRAMES).map(|n| bed.issue(&session, ORIGIN, n, 1)).collect();
    let median = peer.median(&frames, |answer| *answer == Answer::Ok).await;
    bed.acked(ORIGIN, 0, FRAMES);
    bed.assert_clean(FRAMES).await;
    assert!(median < NO_STALL, "{median:?}");
}

#[test]
fn the_rest_of_a_frame_waits_for_no_delayed_acknowledgement() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let peer = Peer::tcp(&bed).await.in_pieces();
        answers_come_without_a_stall(&bed, peer).await;
    });
}

#[test]
fn the_rest_of_a_tls_record_waits_for_no_delayed_acknowledgement() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            ..Plan::groups(&["one"])
        })
        .await;
        let peer = Peer::below_tls(&bed).await.in_pieces().with_tls(&bed).await;
        answers_come_without_a_stall(&bed, peer).await;
    });
}

#[test]
fn the_rest_of_a_frame_that_is_thrown_away_waits_for_no_delayed_acknowledgement() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let events = bed.judge.oracle().events().clone();
        let unknown = |n| frame(b"unknown", &events, ORIGIN, n, 1);
        let frames: Vec<_> = (0..FRAMES).map(unknown).collect();
        let expired = |a: &Answer| matches!(a, Answer::Error { class, .. } if class == SESSION_TIMEOUT);
        let median = Peer::tcp(&bed).await.in_pieces().median(&frames, expired).await;
        assert!(median < NO_STALL, "{median:?}");
    });
}

#[test]
fn an_agent_at_20_000_events_a_second_over_one_connection_refuses_none() {
    story(async {
        let bed = Bed::start(Plan {
            sizes: Some(Sizes::Fixed(600)),
            ..Plan::groups(&["one"])
        })
        .await;
        let acked = refuses_none_at_20_000_a_second(bed.load()).await;
        bed.assert_clean(acked).await;
    });
}
