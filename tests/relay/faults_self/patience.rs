//! What one group's trouble costs the others, and the gateways: at most one `block_timeout`.

use std::time::Duration;

use tokio::time::Instant;
use weir_lab::sink::Answer;
use weir_lab::{Close, Load, LoadOptions};

use crate::support::faults::{Publisher, eventually, nothing_missing};
use crate::support::{Bed, Plan, noticed_nothing, story};

const BLOCK: Duration = Duration::from_millis(400);
/// For a loaded machine.
const MARGIN: Duration = Duration::from_millis(600);

/// A load to two stalled groups and one that is alive: how long the slowest event took.
async fn beside_two_stalled_groups(tables: String) -> (Bed, Duration) {
    let bed = Bed::start(Plan {
        queue: "max_events = 1000\nblock_timeout = \"400ms\"\nunavailable_after = \"never\"",
        tables,
        ..Plan::groups(&["a", "b", "alive"])
    })
    .await;
    for stalled in [0, 1] {
        bed.sinks[stalled][0].set(|b| b.answer(Answer::Stall));
    }
    let report = Load::start(LoadOptions {
        connections: 8,
        count: Some(8000),
        rate: Some(40_000.0),
        ..bed.agents()
    })
    .finish()
    .await;
    noticed_nothing(&report);
    (bed, report.latency.max())
}

#[test]
fn two_groups_blocked_at_the_same_time_cost_one_block_timeout() {
    story(async {
        let (bed, longest) = beside_two_stalled_groups(String::new()).await;
        assert!(longest >= BLOCK, "it did block: {longest:?}");
        assert!(longest < BLOCK + MARGIN, "the latest event: {longest:?}");
        let snapshot = bed.snapshot().await;
        for group in &snapshot.groups[..2] {
            assert_eq!(
                (group.blocked_incidents_total, group.shed_incidents_total),
                (1, 1)
            );
        }
        let shed = snapshot.groups[0].events.dropped.queue_full;
        for stalled in [0, 1] {
            bed.sinks[stalled][0].set(|b| b.answer(Answer::Ok));
        }
        let verdict = bed.verdict().await.witness("shed", shed);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[2].copies, 8000);
    });
}

#[test]
fn groups_that_fill_one_after_the_other_cost_one_block_timeout_each() {
    story(async {
        let (bed, longest) = beside_two_stalled_groups("[group.b]\nmax_events = 3000\n".into()).await;
        // Of an event that waited in its agent's queue both times.
        assert!((BLOCK..2 * (BLOCK + MARGIN)).contains(&longest), "{longest:?}");
        let snapshot = bed.snapshot().await;
        let waited = Duration::from_nanos(snapshot.ingress.blocked_nanos_total);
        assert!(
            waited >= 2 * BLOCK && waited < 8 * 2 * (BLOCK + MARGIN),
            "each gateway waited twice at most: {waited:?}"
        );
        for stalled in [0, 1] {
            bed.sinks[stalled][0].set(|b| b.answer(Answer::Ok));
        }
        let shed = snapshot.groups[1].events.dropped.queue_full;
        let verdict = bed.verdict().await.witness("shed by the second", shed);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[2].copies, 8000);
    });
}

#[test]
fn a_group_that_dies_under_load_costs_the_others_one_block_timeout() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "max_events = 1000\nblock_timeout = \"400ms\"\nunavailable_after = \"5s\"",
            ..Plan::groups(&["dies", "alive"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            count: Some(12_000),
            rate: Some(12_000.0),
            ..bed.agents()
        });
        eventually("traffic", || bed.sinks[0][0].counts().events > 500).await;
        bed.sinks[0][0].kill(Close::Rst).await;
        let report = load.finish().await;
        noticed_nothing(&report);
        let longest = report.latency.max();
        assert!((BLOCK..BLOCK + MARGIN).contains(&longest), "{longest:?}");
        let group = bed.group("dies").await;
        assert_eq!(
            (group.blocked_incidents_total, group.shed_incidents_total),
            (1, 1)
        );
        bed.sinks[0][0].revive().await;
        let verdict = bed
            .verdict()
            .await
            .witness("shed", group.events.dropped.queue_full);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[1].copies, 12_000);
    });
}

#[test]
fn patience_with_a_group_begins_when_its_link_goes_down_however_long_it_was_up() {
    const PATIENCE: Duration = Duration::from_millis(700);
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            queue: "unavailable_after = \"700ms\"",
            ..Plan::groups(&["dies", "alive"])
        })
        .await;
        // Nothing happens for longer than the patience lasts.
        bed.until("it was up for long", |s| {
            s.groups.iter().all(|g| g.endpoints[0].since_ms > 1_000)
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        let died = Instant::now();
        bed.sinks[0][0].kill(Close::Rst).await;
        gateway.publish_ok(1).await;
        assert!(died.elapsed() >= PATIENCE, "held back for {:?}", died.elapsed());
        assert!(!bed.group("dies").await.available);
        bed.sinks[0][0].revive().await;
        let verdict = nothing_missing(&bed, "held back", 1).await;
        assert_eq!(verdict.acked, 1);
    });
}
