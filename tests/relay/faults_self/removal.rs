//! Groups that leave the configuration: they drain first, and what they cannot deliver is counted.

use std::time::Duration;

use weir::status::Events;
use weir_lab::sink::Answer;
use weir_lab::{Close, Load, LoadOptions};

use crate::support::faults::{Publisher, eventually};
use crate::support::{Bed, Plan, scrape, story};

async fn remove_first(bed: &Bed, drain_timeout: Duration) {
    let mut config = bed.config.clone();
    config.drain_timeout = drain_timeout;
    config.groups.remove(0);
    bed.weir.apply(config, Vec::new()).await.unwrap();
}

fn dropped_by_metrics(bed: &Bed, group: &str) -> Option<f64> {
    let series = format!("weir_events_dropped_total{{group=\"{group}\",reason=\"group_removed\"}}");
    scrape(bed.weir.addresses().admin.unwrap()).get(&series).copied()
}

#[test]
fn a_group_that_is_removed_under_load_delivers_what_it_holds_and_nothing_is_lost() {
    story(async {
        let bed = Bed::start(Plan::groups(&["goes", "stays"])).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            ..bed.load()
        });
        eventually("traffic", || bed.judge.oracle().received(0) > 1000).await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        bed.until("it holds something", |s| s.groups[0].events.queued > 500)
            .await;
        remove_first(&bed, Duration::from_secs(30)).await;
        let held = bed.group("goes").await.events;
        assert!(held.queued > 500);
        let others = bed.judge.oracle().received(1);
        eventually("the other goes on", || {
            bed.judge.oracle().received(1) > others + 1000
        })
        .await;
        assert_eq!(
            bed.group("goes").await.events.accepted,
            held.accepted,
            "it gets nothing more"
        );
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        bed.until("it is gone", |s| {
            s.groups
                .iter()
                .all(|g| g.name != "goes" || g.endpoints.is_empty())
        })
        .await;
        load.stop();
        load.finish().await;
        assert_eq!(
            bed.judge.oracle().received(0),
            held.accepted,
            "all that was accepted"
        );
        let group = bed.group("stays").await;
        assert_eq!(group.endpoints[0].connects_total, 1);
        eventually("its links are closed", || bed.sinks[0][0].open_connections() == 0).await;
        let verdict = bed.verdict_of("stays").await.witness("held", held.queued);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[1].copies, verdict.acked);
    });
}

#[test]
fn what_a_removed_group_cannot_deliver_in_time_is_counted_to_the_event() {
    story(async {
        let bed = Bed::start(Plan {
            link: "window_frames = 2\nlinger = \"0s\"",
            ..Plan::groups(&["goes", "stays"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(40).await;
        let before = bed
            .until("a window is in flight", |s| {
                s.groups[0].endpoints[0].inflight_frames == 2 && s.groups[1].events.delivered == 40
            })
            .await;
        let Events { queued, inflight, .. } = before.groups[0].events;
        remove_first(&bed, Duration::from_millis(200)).await;
        let after = bed
            .until("the queued ones are given up", |s| {
                s.groups
                    .iter()
                    .any(|g| g.name == "goes" && g.events.dropped.group_removed > 0)
            })
            .await;
        let gone = after.groups.iter().find(|g| g.name == "goes").unwrap();
        assert_eq!(
            (gone.events.dropped.group_removed, gone.events.inflight),
            (queued, inflight)
        );
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        bed.until("what was in flight is answered", |s| {
            s.groups
                .iter()
                .any(|g| g.name == "goes" && g.events.delivered == inflight)
        })
        .await;
        assert_eq!(
            dropped_by_metrics(&bed, "goes"),
            Some(queued as f64),
            "the count stays to be scraped"
        );
        let verdict = bed.verdict().await.witness("dropped", queued);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(
            (verdict.groups[0].missing.count, verdict.groups[1].copies),
            (queued, 40)
        );
    });
}

#[test]
fn a_removed_group_whose_last_window_is_never_answered_counts_that_too() {
    story(async {
        let bed = Bed::start(Plan {
            link: "window_frames = 2\nlinger = \"0s\"",
            ..Plan::groups(&["goes", "stays"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.reading = false);
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(40).await;
        bed.until("a window is in flight", |s| {
            s.groups[0].endpoints[0].inflight_frames == 2 && s.groups[1].events.delivered == 40
        })
        .await;
        remove_first(&bed, Duration::from_millis(100)).await;
        bed.until("the queued ones are given up", |s| {
            s.groups
                .iter()
                .any(|g| g.name == "goes" && g.events.dropped.group_removed > 0)
        })
        .await;
        bed.sinks[0][0].kill(Close::Rst).await;
        bed.until("all are given up", |s| {
            s.groups
                .iter()
                .any(|g| g.name == "goes" && g.events.dropped.group_removed == 40)
        })
        .await;
        let verdict = bed.verdict().await.witness("dropped", 40);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(
            (verdict.groups[0].missing.count, verdict.groups[1].copies),
            (40, 40)
        );
    });
}

#[test]
fn a_group_may_come_back_under_its_name() {
    story(async {
        let bed = Bed::start(Plan::groups(&["returns", "stays"])).await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(30).await;
        bed.until("delivered", |s| s.groups.iter().all(|g| g.events.delivered == 30))
            .await;
        remove_first(&bed, Duration::from_secs(5)).await;
        eventually("its links are closed", || bed.sinks[0][0].open_connections() == 0).await;
        bed.weir.apply(bed.config.clone(), Vec::new()).await.unwrap();
        gateway.publish_ok(30).await;
        let verdict = bed.verdict_of("stays").await;
        let verdict = verdict.witness("came back", bed.sinks[0][0].counts().logins_ok - 1);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!((verdict.groups[0].copies, verdict.groups[1].copies), (60, 60));
        let snapshot = bed.snapshot().await;
        let names: Vec<&str> = snapshot.groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["returns", "stays"], "once");
    });
}
