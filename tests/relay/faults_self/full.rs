//! Full queues: exactly which events go, under each policy.

use weir::wire::reply::SESSION_TIMEOUT;
use weir_lab::gateway::Answer as Reply;
use weir_lab::sink::Answer;
use weir_lab::{Id, Load, LoadOptions, Verdict};

use crate::support::faults::Publisher;
use crate::support::{Bed, Plan, story};

const STALLED: usize = 0;

/// A group that takes one frame and stalls, with room for ten events, beside one that lives.
async fn stalled(queue: &'static str, listen: &'static str) -> Bed {
    let bed = Bed::start(Plan {
        queue,
        listen,
        link: "window_frames = 1\nlinger = \"0s\"",
        ..Plan::groups(&["stalled", "alive"])
    })
    .await;
    bed.sinks[STALLED][0].set(|b| b.answer(Answer::Stall));
    bed
}

/// One event in a batch of its own; how it was answered.
async fn one(bed: &Bed, gateway: &mut Publisher) -> Reply {
    let answer = gateway.publish(1).await;
    if answer == Reply::Ok {
        let all = gateway.published();
        bed.until("the other group has it", |s| s.groups[1].events.delivered == all)
            .await;
        bed.until("the window is full", |s| {
            s.groups[0].endpoints[0].inflight_frames == 1
        })
        .await;
    }
    answer
}

async fn publish(bed: &Bed, gateway: &mut Publisher, events: u64) {
    for _ in 0..events {
        assert_eq!(one(bed, gateway).await, Reply::Ok);
    }
}

async fn released(bed: &Bed) -> Verdict {
    let shed = bed.group("stalled").await.events.dropped.total();
    bed.sinks[STALLED][0].set(|b| b.answer(Answer::Ok));
    let verdict = bed.verdict().await.witness("shed", shed);
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(verdict.groups[1].missing.count, 0, "the other group has all");
    verdict
}

/// Sequences of the first gateway that the stalled group never got.
fn missing(bed: &Bed, of: u64) -> Vec<u64> {
    let oracle = bed.judge.oracle();
    let arrived = |sequence| oracle.has(STALLED, Id { origin: 0, sequence });
    (0..of).filter(|s| !arrived(*s)).collect()
}

/// Thirty events, one by one, to a group that takes the first and holds nine more; which ones it never got.
async fn shed(queue: &'static str) -> Vec<u64> {
    let bed = stalled(queue, "").await;
    let mut gateway = Publisher::connect(&bed, 0).await;
    publish(&bed, &mut gateway, 30).await;
    let group = bed.group("stalled").await;
    assert_eq!(
        (
            group.events.queued,
            group.events.inflight,
            group.events.dropped.queue_full
        ),
        (9, 1, 20)
    );
    assert_eq!(
        (group.blocked_incidents_total, group.shed_incidents_total),
        (1, 1)
    );
    released(&bed).await;
    missing(&bed, 30)
}

#[test]
fn shed_oldest_blocks_once_and_then_loses_exactly_the_oldest_that_wait() {
    story(async {
        let missing = shed(
            "max_events = 10\nblock_timeout = \"50ms\"\nunavailable_after = \"never\"\nshed = \"oldest\"",
        )
        .await;
        let oldest: Vec<_> = (1..=20).collect();
        assert_eq!(missing, oldest, "the first is in flight, the nine newest stay");
    });
}

#[test]
fn shed_newest_blocks_once_and_then_loses_exactly_what_comes() {
    story(async {
        let missing = shed(
            "max_events = 10\nblock_timeout = \"50ms\"\nunavailable_after = \"never\"\nshed = \"newest\"",
        )
        .await;
        let newest: Vec<_> = (10..30).collect();
        assert_eq!(missing, newest, "the oldest stay");
    });
}

#[test]
fn overflow_shed_never_makes_a_gateway_wait() {
    story(async {
        let bed = stalled(
            "max_events = 10\noverflow = \"shed\"\nunavailable_after = \"never\"",
            "",
        )
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        publish(&bed, &mut gateway, 25).await;
        let group = bed.group("stalled").await;
        assert_eq!(
            (group.blocked_incidents_total, group.shed_incidents_total),
            (0, 1)
        );
        assert_eq!(bed.snapshot().await.ingress.blocked_nanos_total, 0);
        released(&bed).await;
        assert_eq!(missing(&bed, 25), (1..=15).collect::<Vec<_>>());
    });
}

#[test]
fn an_unavailable_group_sheds_at_once_under_that_name() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "max_events = 10\nblock_timeout = \"never\"\nunavailable_after = \"50ms\"",
            link: "linger = \"0s\"",
            ..Plan::groups(&["dead", "alive"])
        })
        .await;
        bed.sinks[0][0].kill(weir_lab::Close::Rst).await;
        bed.until("unavailable", |s| !s.groups[0].available).await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        for n in 1..=25 {
            gateway.publish_ok(1).await;
            bed.until("the other group has it", |s| s.groups[1].events.delivered == n)
                .await;
        }
        let group = bed.group("dead").await;
        assert_eq!(
            (group.events.dropped.unavailable, group.events.dropped.total()),
            (15, 15)
        );
        assert_eq!(group.blocked_incidents_total, 0);
        bed.sinks[0][0].revive().await;
        let verdict = bed.verdict().await.witness("dropped", 15);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(missing(&bed, 25), (0..15).collect::<Vec<_>>(), "the newest stay");
    });
}

#[test]
fn the_strict_mode_answers_the_gentle_no_and_loses_nothing() {
    story(async {
        let bed = stalled(
            "max_events = 10\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            "reply_timeout = \"200ms\"",
        )
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        publish(&bed, &mut gateway, 10).await;
        for _ in 0..2 {
            let Reply::Error { class, .. } = one(&bed, &mut gateway).await else {
                panic!("no room, but taken")
            };
            assert_eq!(class, SESSION_TIMEOUT);
        }
        assert_eq!(bed.snapshot().await.ingress.publishes_refused_total, 2);
        bed.sinks[STALLED][0].set(|b| b.answer(Answer::Ok));
        bed.until("there is room", |s| s.groups[0].events.delivered == 10)
            .await;
        assert_eq!(gateway.publish(1).await, Reply::Ok);
        let verdict = bed.verdict().await.witness("refused", 2);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!((verdict.acked, verdict.groups[0].distinct), (11, 11));
        assert_eq!(missing(&bed, 13), [10, 11], "exactly those that were not taken");
        assert_eq!(bed.group("stalled").await.events.dropped.total(), 0);
    });
}

#[test]
fn a_frame_larger_than_a_queue_enters_when_it_is_alone() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "max_events = 10\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let options = LoadOptions {
            connections: 3,
            events_per_frame: 50,
            count: Some(3000),
            ..bed.load()
        };
        Load::start(options).finish().await;
        let waited = bed.snapshot().await.ingress.blocked_nanos_total;
        assert!(waited > 0, "frames waited for an empty queue");
        bed.assert_clean(3000).await;
    });
}

#[test]
fn a_frame_larger_than_a_stalled_queue_is_shed_whole() {
    story(async {
        let bed = stalled(
            "max_events = 10\nblock_timeout = \"50ms\"\nunavailable_after = \"never\"",
            "",
        )
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        publish(&bed, &mut gateway, 3).await;
        assert_eq!(gateway.publish(50).await, Reply::Ok);
        let group = bed.group("stalled").await;
        assert_eq!(group.events.dropped.queue_full, 50, "in or out, never half");
        released(&bed).await;
        assert_eq!(missing(&bed, 53), (3..53).collect::<Vec<_>>());
    });
}

#[test]
fn a_frame_of_most_of_a_queue_gets_in_beside_gateways_that_fill_every_gap() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "max_events = 100\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            listen: "reply_timeout = \"5s\"",
            link: "window_frames = 1",
            ..Plan::groups(&["slow", "fast"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.delay = std::time::Duration::from_millis(20));
        let load = Load::start(LoadOptions {
            connections: 120,
            origin_first: 10,
            ..bed.load()
        });
        bed.until("gateways wait", |s| s.ingress.blocked_now > 10).await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        let asked = tokio::time::Instant::now();
        let answer = gateway.publish(90).await;
        println!("{answer:?} after {:?}", asked.elapsed());
        assert_eq!(answer, Reply::Ok);
        load.stop();
        load.finish().await;
        let waited = bed.snapshot().await.ingress.blocked_nanos_total;
        let verdict = bed.verdict().await.witness("waited", waited);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(bed.group("slow").await.events.dropped.total(), 0);
    });
}
