//! The agent leaves Nagle's algorithm on: a part of a frame is sent when what went before is acknowledged. A kernel that
//! expects an answer to acknowledge along with waits 40 ms for it, and weir answers whole frames only.

use std::time::Duration;

use weir::lab::gateway::{Answer, frame};
use weir::lab::load::{TwinOptions, Version};
use weir::lab::{Load, LoadOptions, Sizes};
use weir::wire::reply::SESSION_TIMEOUT;

use crate::support::peer::Peer;
use crate::support::{Bed, Plan, agents_dialer, story};

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
        let load = Load::start(LoadOptions {
            dialer: agents_dialer(),
            rate: Some(20_000.0),
            duration: Some(Duration::from_secs(3)),
            agent: Some(TwinOptions::new(Version::V5_4)),
            ..bed.load()
        });
        let report = load.finish().await;
        let (counts, p50) = (report.counts, report.latency.p50());
        println!("p50 {p50:?}, {counts:?}");
        // With a stall in every frame no more than 5,000 events a second were answered, half of them after seconds.
        assert_eq!(counts.queue_full, 0, "{counts:?}");
        assert!(p50 < Duration::from_millis(500), "{p50:?}");
        bed.assert_clean(counts.events_acked).await;
    });
}
