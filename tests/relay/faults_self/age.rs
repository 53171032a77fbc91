//! `max_age`: events over age are dropped where a limit says so, counted, and nowhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_lab::event::THROTTLE_STREAM;
use weir_lab::gateway::Answer as Reply;
use weir_lab::sink::Answer;
use weir_lab::{Events, Sizes};

use crate::support::faults::Publisher;
use crate::support::{Bed, Plan, story};

/// Events that were so old when the run began, and get no younger: the thousandth is a second younger.
fn seconds_old(seconds: i64) -> Events {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    Events::new(Sizes::Typical, now_ms - seconds * 1000)
}

/// `old` events against these limits: how many each group got, of how many.
async fn run(tables: String, queue: &'static str) -> Bed {
    let bed = Bed::start(Plan {
        events: Some(seconds_old(600)),
        queue,
        tables,
        ..Plan::groups(&["aged", "free"])
    })
    .await;
    let mut gateway = Publisher::connect(&bed, 0).await;
    for _ in 0..20 {
        assert_eq!(gateway.publish(10).await, Reply::Ok);
    }
    bed
}

async fn judged(bed: &Bed, dropped: [u64; 2]) {
    let verdict = bed.verdict().await;
    assert!(verdict.ok(), "{verdict}");
    let snapshot = bed.snapshot().await;
    for (i, dropped) in dropped.into_iter().enumerate() {
        let events = snapshot.groups[i].events;
        assert_eq!(
            (events.dropped.max_age, events.dropped.total()),
            (dropped, dropped),
            "{}",
            snapshot.groups[i].name
        );
        assert_eq!(verdict.groups[i].missing.count, dropped, "{verdict}");
    }
}

#[test]
fn the_general_limit_drops_what_is_over_it_in_every_group() {
    story(async {
        judged(&run(String::new(), "max_age = \"5m\"").await, [200, 200]).await;
        judged(&run(String::new(), "max_age = \"20m\"").await, [0, 0]).await;
    });
}

#[test]
fn a_groups_limit_is_its_own() {
    story(async {
        let bed = run("[group.aged]\nmax_age = \"5m\"\n".into(), "").await;
        judged(&bed, [200, 0]).await;
    });
}

#[test]
fn the_limit_of_a_stream_wins_over_the_general_one_both_ways() {
    story(async {
        let strict = format!("[group.aged.max_age_streams]\n\"{THROTTLE_STREAM}\" = \"5m\"\n");
        judged(&run(strict, "max_age = \"20m\"").await, [200, 0]).await;
        let never = format!("[group.free.max_age_streams]\n\"{THROTTLE_STREAM}\" = \"never\"\n");
        judged(&run(never, "max_age = \"5m\"").await, [200, 0]).await;
        let other = "[group.aged.max_age_streams]\n\"another.stream:1.0.0\" = \"1s\"\n";
        judged(&run(other.into(), "").await, [0, 0]).await;
    });
}

/// The first group has one event in flight, which its Traffic Manager does not answer, and 90 queued.
async fn ninety_behind_a_stall(plan: Plan) -> Bed {
    let bed = Bed::start(Plan {
        link: "window_frames = 1\nlinger = \"0s\"",
        ..plan
    })
    .await;
    bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
    let mut gateway = Publisher::connect(&bed, 0).await;
    assert_eq!(gateway.publish(1).await, Reply::Ok);
    bed.until("the window is full", |s| s.groups[0].events.inflight == 1)
        .await;
    for _ in 0..9 {
        assert_eq!(gateway.publish(10).await, Reply::Ok);
    }
    bed
}

#[test]
fn events_grow_too_old_while_a_traffic_manager_is_away_and_fresh_ones_are_kept() {
    story(async {
        let bed = ninety_behind_a_stall(Plan {
            // Fresh for another while: a hundred of them are dated before the rest by most of a second.
            events: Some(seconds_old(0)),
            tables: "[group.aged]\nmax_age = \"1500ms\"\n".into(),
            ..Plan::groups(&["aged", "free"])
        })
        .await;
        // Dated now and 90 ms later: over age 1.6 s from now.
        let aged = bed
            .until("they are over age", |s| s.groups[0].oldest_queued_ms > 1700)
            .await;
        assert_eq!(
            aged.groups[0].events.queued, 90,
            "looked at only when a link would take them"
        );
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        judged(&bed, [90, 0]).await;
        assert_eq!(bed.sinks[0][0].counts().events, 1);
    });
}

#[test]
fn a_limit_that_a_reload_brings_counts_for_what_waits_already() {
    story(async {
        let bed = ninety_behind_a_stall(Plan {
            events: Some(seconds_old(600)),
            ..Plan::groups(&["aged", "free"])
        })
        .await;
        let mut config = bed.config.clone();
        config.groups[0].queue.max_age = Some(Duration::from_secs(300));
        bed.weir.apply(config, Vec::new()).await.unwrap();
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        judged(&bed, [90, 0]).await;
    });
}
