//! SIGTERM and SIGINT: what was accepted is delivered, or counted to the event.

use std::time::Duration;

use weir_lab::{Close, Load, LoadOptions};

use crate::support::stage::Stage;
use crate::support::{Plan, story};

#[test]
fn a_stop_signal_under_load_loses_nothing_while_every_group_lives() {
    story(async {
        for signal in ["TERM", "INT"] {
            let mut stage = Stage::start(Plan::groups(&["one", "two"])).await;
            let load = Load::start(LoadOptions {
                connections: 16,
                rate: Some(8_000.0),
                ..stage.agents()
            });
            stage
                .weir
                .until("traffic", |s| s.of("one", "events/delivered") > 2_000)
                .await;
            stage.weir.signal(signal);
            assert_eq!(stage.weir.end().await, Some(0), "{:#?}", stage.weir.log());
            assert_eq!(stage.weir.lines("weir has ended")[0]["not_delivered"], 0);
            weir_lab::thread::until("all have noticed", Duration::from_secs(20), || {
                let counts = load.counts();
                counts.resets + counts.connect_failures + counts.acked_by_fin >= 16
            })
            .await
            .unwrap();
            let counts = load.counts();
            drop(load);
            assert_eq!(counts.acked_by_fin, 0, "gateways are answered or reset");
            assert_eq!(counts.queue_full, 0, "{counts:?}");
            let verdict = stage.judge.verdict(None).witness("gateways reset", counts.resets);
            assert!(verdict.ok(), "{verdict}");
            assert_eq!(
                verdict.groups[0].distinct, verdict.groups[1].distinct,
                "all or none"
            );
        }
    });
}

#[test]
fn a_stop_signal_with_a_dead_group_delivers_to_the_others_and_counts_the_exact_remainder() {
    story(async {
        let mut stage = Stage::start(Plan {
            top: "drain_timeout = \"700ms\"",
            ..Plan::groups(&["dead", "alive"])
        })
        .await;
        stage.sinks[0].kill(Close::Rst).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(4_000.0),
            ..stage.agents()
        });
        stage
            .weir
            .until("traffic", |s| s.of("alive", "events/delivered") > 1_000)
            .await;
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(1));
        drop(load);
        let lines = stage.weir.lines("not delivered before the end");
        assert_eq!(lines.len(), 1, "one group: {lines:?}");
        assert_eq!(lines[0]["group"], "dead");
        let left = lines[0]["events"].as_u64().unwrap();
        assert_eq!(stage.weir.lines("weir has ended")[0]["not_delivered"], left);
        let verdict = stage.judge.verdict(None);
        let (dead, alive) = (&verdict.groups[0], &verdict.groups[1]);
        assert_eq!(alive.missing.count, 0, "{verdict}");
        // The dead group had its first events before it died: none, the load began after.
        assert_eq!(dead.distinct, 0);
        assert_eq!(left, alive.distinct, "whatever entered entered both: {verdict}");
        assert_eq!(dead.missing.count + dead.split.count, left, "{verdict}");
    });
}

#[test]
fn a_second_signal_ends_at_once_and_still_counts() {
    story(async {
        let mut stage = Stage::start(Plan {
            top: "drain_timeout = \"10m\"",
            ..Plan::groups(&["dead", "alive"])
        })
        .await;
        stage.sinks[0].kill(Close::Rst).await;
        let report = Load::start(LoadOptions {
            connections: 4,
            count: Some(500),
            ..stage.load()
        })
        .finish()
        .await;
        assert_eq!(report.counts.events_acked, 500);
        stage.weir.signal("TERM");
        stage.weir.logged("draining").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            stage.weir.status().of("dead", "events/queued"),
            500,
            "one signal waits for the group"
        );
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(1));
        let line = &stage.weir.lines("not delivered before the end")[0];
        assert_eq!((&line["group"], &line["events"]), (&"dead".into(), &500.into()));
        let verdict = stage.judge.verdict(None);
        assert_eq!(
            (verdict.groups[0].missing.count, verdict.groups[1].missing.count),
            (500, 0)
        );
    });
}
