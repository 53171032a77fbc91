//! Traffic Managers that take a connection and then do not do their part.

use std::time::Duration;

use tokio::time::Instant;
use weir_lab::sink::Answer;
use weir_lab::{Load, LoadOptions};

use crate::support::faults::{Publisher, all_failures, eventually, failures, nothing_missing};
use crate::support::{Bed, Plan, noticed_nothing, story};

fn with_a_second(link: &'static str) -> Plan {
    Plan {
        groups: vec![("one", "failover", 2), ("two", "failover", 1)],
        link,
        ..Plan::default()
    }
}

#[test]
fn a_peer_that_reads_and_never_answers_is_left_after_reply_timeout() {
    story(async {
        let bed = Bed::start(with_a_second(
            "reply_timeout = \"300ms\"\nwindow_frames = 4\nfailback_after = \"1h\"",
        ))
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            count: Some(10_000),
            ..bed.load()
        });
        eventually("traffic", || bed.sinks[0][0].counts().events > 500).await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let stalled = Instant::now();
        let left = bed
            .until("it is left", |s| {
                failures(&s.groups[0].endpoints[0], "timeout") == 1
            })
            .await;
        assert!(stalled.elapsed() < Duration::from_secs(5));
        assert_eq!(all_failures(&left, 1), 0);
        load.finish().await;
        eventually("the second serves", || bed.sinks[0][1].counts().events > 0).await;
        let verdict = nothing_missing(&bed, "taken by the second", bed.sinks[0][1].counts().events).await;
        let resent = bed.group("one").await.resent_events_total;
        assert!(
            resent > 0 && verdict.groups[0].duplicated.count == resent,
            "it had read them: {verdict}"
        );
    });
}

#[test]
fn a_peer_that_stops_reading_is_left_after_reply_timeout() {
    story(async {
        let bed = Bed::start(with_a_second(
            "reply_timeout = \"300ms\"\nfailback_after = \"1h\"",
        ))
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            events_per_frame: 50,
            count: Some(40_000),
            ..bed.load()
        });
        eventually("traffic", || bed.sinks[0][0].counts().events > 500).await;
        bed.sinks[0][0].set(|b| b.reading = false);
        load.finish().await;
        eventually("the second serves", || bed.sinks[0][1].counts().events > 0).await;
        let verdict = nothing_missing(&bed, "taken by the second", bed.sinks[0][1].counts().events).await;
        assert_eq!(verdict.groups[1].copies, 40_000);
        let snapshot = bed.snapshot().await;
        assert_eq!(failures(&snapshot.groups[0].endpoints[0], "timeout"), 1);
        assert!(
            verdict.groups[0].duplicated.count <= snapshot.groups[0].resent_events_total,
            "{verdict}"
        );
    });
}

#[test]
fn an_endpoint_ten_times_slower_takes_less_and_holds_nobody_up() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("pair", "loadbalance", 2), ("other", "failover", 1)],
            link: "window_frames = 2\nlinger = \"0s\"\nbatch_max_bytes = \"4KiB\"",
            ..Plan::default()
        })
        .await;
        bed.sinks[0][0].set(|b| b.delay = Duration::from_millis(50));
        bed.sinks[0][1].set(|b| b.delay = Duration::from_millis(5));
        let report = Load::start(LoadOptions {
            connections: 8,
            count: Some(5000),
            rate: Some(10_000.0),
            ..bed.agents()
        })
        .finish()
        .await;
        noticed_nothing(&report);
        bed.assert_clean(5000).await;
        let [slow, fast] = [0, 1].map(|i| bed.sinks[0][i].counts().events);
        assert!(slow > 0 && fast > 4 * slow, "slow {slow}, fast {fast}");
        assert_eq!(
            bed.group("pair").await.blocked_incidents_total,
            0,
            "nobody waited"
        );
    });
}

#[test]
fn a_stalled_endpoint_beside_a_live_one_holds_at_most_one_window() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("pair", "loadbalance", 2), ("other", "failover", 1)],
            link: "window_frames = 3\nlinger = \"0s\"\nbatch_max_bytes = \"4KiB\"",
            ..Plan::default()
        })
        .await;
        let stalled = &bed.sinks[0][0];
        stalled.set(|b| b.answer(Answer::Stall));
        Load::start(LoadOptions {
            connections: 8,
            count: Some(5000),
            ..bed.load()
        })
        .finish()
        .await;
        let rest = bed
            .until("only what the stalled one holds is left", |s| {
                s.groups[0].events.queued == 0
                    && s.groups[0].endpoints[1].inflight_frames == 0
                    && s.groups[0].events.accepted == 5000
            })
            .await;
        let group = &rest.groups[0];
        assert_eq!(group.endpoints[0].inflight_frames, 3, "a whole window, no more");
        // Nine events of 448 bytes fill 4 KiB.
        assert!(
            (3..=3 * 9).contains(&group.events.inflight),
            "{}",
            group.events.inflight
        );
        assert_eq!(group.events.delivered + group.events.inflight, 5000);
        stalled.set(|b| b.answer(Answer::Ok));
        bed.assert_clean(5000).await;
    });
}

#[test]
fn a_window_that_stalls_and_recovers_in_time_costs_nothing() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(50).await;
        bed.until("it is in flight", |s| s.groups[0].events.inflight > 0)
            .await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        bed.assert_clean(50).await;
        assert_eq!(bed.group("one").await.resent_events_total, 0);
    });
}

#[test]
fn the_oldest_undelivered_event_ages_in_flight_while_nothing_is_queued() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(50).await;
        let held_up = bed
            .until("it is in flight for a while", |s| {
                s.groups[0].endpoints[0].oldest_inflight_ms > 500
            })
            .await;
        let group = &held_up.groups[0];
        assert_eq!(group.events.queued, 0);
        assert!(group.oldest_undelivered_ms >= group.endpoints[0].oldest_inflight_ms);
        assert_eq!(group.oldest_queued_ms, 0);
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        bed.assert_clean(50).await;
        assert_eq!(bed.group("one").await.oldest_undelivered_ms, 0);
    });
}

#[test]
fn an_endpoint_that_is_up_again_says_why_it_was_not() {
    story(async {
        let bed = Bed::start(with_a_second("reply_timeout = \"300ms\"")).await;
        assert_eq!(bed.group("two").await.endpoints[0].last_failure, None);
        bed.sinks[1][0].set(|b| b.answer_times(Answer::Stall, 1));
        Publisher::connect(&bed, 0).await.publish_ok(1).await;
        let again = bed
            .until("it has failed and is up again", |s| {
                s.groups[1].endpoints[0].connects_total == 2 && s.groups[1].endpoints[0].links_up == 1
            })
            .await;
        let endpoint = &again.groups[1].endpoints[0];
        assert_eq!(endpoint.reason, None);
        let why = endpoint.last_failure.as_deref().unwrap_or_default();
        assert!(why.starts_with("timeout: no reply for "), "{why}");
    });
}
