//! The relay in good health and with one thing wrong at a time, on real sockets, judged by the oracle.

use std::time::Duration;

use weir_lab::sink::Answer;
use weir_lab::{Close, Load, LoadOptions, Sizes};

use crate::support::{Bed, Plan, noticed_nothing, story};

#[test]
fn every_event_reaches_every_group_once_and_in_order() {
    story(async {
        for (connections, events_per_frame, window) in [(1, 1, 1), (16, 1, 1), (4, 200, 1), (8, 7, 16)] {
            let bed = Bed::start(Plan {
                groups: vec![
                    ("one", "failover", 1),
                    ("two", "loadbalance", 2),
                    ("three", "failover", 2),
                ],
                ..Plan::default()
            })
            .await;
            let options = LoadOptions {
                connections,
                events_per_frame,
                window,
                count: Some(20_000),
                ..bed.load()
            };
            let report = Load::start(options).finish().await;
            assert_eq!(
                (report.counts.events_acked, report.counts.events_resent),
                (20_000, 0)
            );
            bed.assert_clean(20_000).await;
            if connections > 1 {
                let halves: Vec<u64> = bed.sinks[1].iter().map(|s| s.counts().events).collect();
                assert!(
                    halves.iter().all(|n| *n > 2_000),
                    "load balance uses both: {halves:?}"
                );
            }
            assert_eq!(bed.sinks[2][1].counts().events, 0, "failover uses the first");
        }
    });
}

#[test]
fn events_of_every_length_around_a_buffer_arrive_whole() {
    story(async {
        let bed = Bed::start(Plan {
            sizes: Some(Sizes::Edges(128 * 1024)),
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let options = LoadOptions {
            connections: 3,
            events_per_frame: 3,
            count: Some(600),
            ..bed.load()
        };
        Load::start(options).finish().await;
        bed.assert_clean(600).await;
    });
}

#[test]
fn several_workers_share_the_work_and_the_numbers_add_up() {
    story(async {
        let bed = Bed::start_cold(Plan {
            top: "workers = 3",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        bed.until("every worker's link is up", |s| {
            s.groups
                .iter()
                .all(|g| g.endpoints.iter().all(|e| e.links_up == 3))
        })
        .await;
        let options = LoadOptions {
            connections: 24,
            count: Some(20_000),
            ..bed.load()
        };
        Load::start(options).finish().await;
        bed.assert_clean(20_000).await;
    });
}

#[test]
fn with_ack_delivered_an_ok_means_that_every_group_has_it() {
    story(async {
        // Agents, and publishers that have several frames in flight, as no agent has.
        for pipelines in [false, true] {
            let bed = Bed::start(Plan {
                top: "ack = \"delivered\"",
                ..Plan::groups(&["one", "two"])
            })
            .await;
            let load = match pipelines {
                false => LoadOptions {
                    rate: Some(10_000.0),
                    ..bed.agents()
                },
                true => LoadOptions {
                    window: 16,
                    ..bed.load()
                },
            };
            let options = LoadOptions {
                connections: 8,
                count: Some(5_000),
                ..load
            };
            let report = Load::start(options).finish().await;
            noticed_nothing(&report);
            let verdict = bed.judge.verdict(None);
            assert!(
                verdict.ok() && verdict.groups.iter().all(|g| g.distinct == 5_000),
                "{verdict}"
            );
            bed.assert_clean(5_000).await;
        }
    });
}

#[test]
fn an_expired_session_costs_nothing_but_a_login() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one", "two"])).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            count: Some(30_000),
            ..bed.load()
        });
        bed.until("some are delivered", |s| s.groups[0].events.delivered > 3_000)
            .await;
        bed.sinks[0][0].expire_sessions();
        load.finish().await;
        let sink = &bed.sinks[0][0];
        bed.assert_clean(30_000).await;
        let group = bed.group("one").await;
        let endpoint = &group.endpoints[0];
        assert!(endpoint.replies_error_total > 0, "the fault has happened");
        assert_eq!(endpoint.replies_error_total, sink.counts().session_errors);
        assert!(group.resent_events_total > 0);
        assert_eq!((sink.counts().logins_ok, endpoint.connects_total), (2, 1));
        assert_eq!(endpoint.failures_total.iter().sum::<u64>(), 0);
        let other = bed.group("two").await;
        assert_eq!(
            (other.endpoints[0].connects_total, other.resent_events_total),
            (1, 0),
            "the other group has not noticed"
        );
    });
}

#[test]
fn a_connection_that_ends_before_the_ok_loses_nothing() {
    story(async {
        for close in [Close::Rst, Close::Fin] {
            let bed = Bed::start(Plan::groups(&["one", "two"])).await;
            let load = Load::start(LoadOptions {
                connections: 8,
                count: Some(30_000),
                ..bed.load()
            });
            for _ in 0..5 {
                let seen = bed.sinks[0][0].counts().events;
                bed.sinks[0][0].set(|b| b.answer_times(Answer::CloseBeforeOk(close), 1));
                bed.until("traffic goes on", |_| {
                    bed.sinks[0][0].counts().events > seen + 500
                })
                .await;
            }
            load.finish().await;
            let verdict = bed
                .verdict()
                .await
                .witness("connections cut", bed.sinks[0][0].counts().cut);
            assert!(verdict.ok(), "{verdict}");
            assert_eq!(verdict.groups[0].missing.count, 0);
            assert_eq!(
                verdict.groups[1].copies, verdict.acked,
                "the other group has each once"
            );
        }
    });
}

#[test]
fn failover_goes_to_the_next_and_back() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("one", "failover", 2)],
            link: "failback_after = \"300ms\"",
            ..Plan::default()
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 4,
            rate: Some(5_000.0),
            ..bed.load()
        });
        let handle = load.handle();
        bed.until("the first one works", |_| bed.sinks[0][0].counts().events > 100)
            .await;
        bed.sinks[0][0].kill(Close::Rst).await;
        bed.until("the second one works", |_| bed.sinks[0][1].counts().events > 100)
            .await;
        bed.sinks[0][0].revive().await;
        let before = bed.sinks[0][0].counts().events;
        bed.until("the first one works again", |_| {
            bed.sinks[0][0].counts().events > before + 500
        })
        .await;
        handle.stop();
        load.finish().await;
        let verdict = bed.verdict().await;
        assert!(verdict.ok() && verdict.groups[0].missing.count == 0, "{verdict}");
    });
}

#[test]
fn a_dead_group_costs_the_others_nothing_and_its_events_wait() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "unavailable_after = \"200ms\"",
            ..Plan::groups(&["dead", "alive"])
        })
        .await;
        bed.sinks[0][0].kill(Close::Rst).await;
        bed.until("the group is unavailable", |s| !s.groups[0].available)
            .await;
        let report = Load::start(LoadOptions {
            connections: 4,
            count: Some(5_000),
            rate: Some(10_000.0),
            ..bed.agents()
        })
        .finish()
        .await;
        noticed_nothing(&report);
        bed.until("the other group has all", |s| {
            s.groups[1].events.delivered == 5_000
        })
        .await;
        assert_eq!(bed.group("dead").await.events.queued, 5_000);
        bed.sinks[0][0].revive().await;
        bed.assert_clean(5_000).await;
    });
}

#[test]
fn a_stalled_group_blocks_once_then_sheds_and_every_shed_event_is_counted() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "max_events = 2000\nblock_timeout = \"300ms\"\nunavailable_after = \"never\"",
            ..Plan::groups(&["stalled", "alive"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let report = Load::start(LoadOptions {
            connections: 8,
            count: Some(20_000),
            rate: Some(40_000.0),
            ..bed.agents()
        })
        .finish()
        .await;
        noticed_nothing(&report);
        assert_eq!(report.counts.events_acked, 20_000);
        let group = bed.group("stalled").await;
        assert_eq!(
            (group.blocked_incidents_total, group.shed_incidents_total),
            (1, 1)
        );
        assert!(group.events.dropped.queue_full >= 17_000, "{group:?}");
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        let verdict = bed
            .verdict()
            .await
            .witness("shed", group.events.dropped.queue_full);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[1].distinct, 20_000);
        let blocked = bed.snapshot().await.ingress.blocked_nanos_total;
        assert!(
            blocked > 0 && blocked < 8 * 1_000_000_000,
            "each of 8 waited once: {blocked}"
        );
    });
}

#[test]
fn the_strict_mode_drops_nothing_while_a_group_is_away() {
    story(async {
        let bed = Bed::start(Plan {
            queue: "max_events = 1000\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            ..Plan::groups(&["away", "alive"])
        })
        .await;
        bed.sinks[0][0].kill(Close::Rst).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            count: Some(20_000),
            rate: Some(40_000.0),
            ..bed.agents()
        });
        bed.until("gateways wait", |s| s.ingress.blocked_now == 8).await;
        bed.sinks[0][0].revive().await;
        let report = load.finish().await;
        noticed_nothing(&report);
        assert_eq!(report.counts.events_acked, 20_000);
        let verdict = bed.verdict().await;
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(
            (verdict.groups[0].distinct, verdict.groups[1].distinct),
            (20_000, 20_000)
        );
        assert_eq!(bed.group("away").await.events.dropped.total(), 0);
    });
}

#[test]
fn an_error_reply_that_stays_rejects_the_events_and_says_so() {
    story(async {
        let bed = Bed::start(Plan {
            tune: Some(|config| {
                config.link.backoff_min = Duration::from_millis(1);
                config.link.backoff_max = Duration::from_millis(2);
            }),
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let error = Answer::Error {
            class: "java.lang.IllegalStateException".into(),
            message: "größer".into(),
        };
        bed.sinks[0][0].set(|b| b.answer(error));
        let options = LoadOptions {
            connections: 1,
            count: Some(10),
            ..bed.load()
        };
        Load::start(options).finish().await;
        bed.until("all are rejected", |s| s.groups[0].events.rejected == 10)
            .await;
        let verdict = bed.verdict().await;
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[1].distinct, 10);
    });
}

#[test]
fn an_idle_link_proves_that_it_lives_and_notices_an_expired_session_before_an_event_does() {
    story(async {
        let bed = Bed::start(Plan {
            link: "heartbeat = { delay = 1, timeout_factor = 2.0 }",
            ..Plan::groups(&["one"])
        })
        .await;
        let sink = &bed.sinks[0][0];
        bed.until("two heartbeats", |_| sink.counts().zero_event_frames >= 2)
            .await;
        sink.expire_sessions();
        let beats = sink.counts().zero_event_frames;
        bed.until("a new login, and heartbeats with it", |_| {
            sink.counts().logins_ok == 2 && sink.counts().zero_event_frames > beats + 2
        })
        .await;
        assert_eq!(bed.group("one").await.endpoints[0].connects_total, 1);
        sink.set(|b| b.answer(Answer::Stall));
        let timeout = weir::status::FAILURES
            .iter()
            .position(|c| *c == "timeout")
            .unwrap();
        bed.until("a mute peer is found", |s| {
            s.groups[0].endpoints[0].failures_total[timeout] == 1
        })
        .await;
    });
}

#[test]
fn a_drain_delivers_everything_and_a_drain_without_a_traffic_manager_counts_the_rest() {
    story(async {
        let bed = Bed::start(Plan {
            top: "drain_timeout = \"500ms\"",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(8_000.0),
            ..bed.agents()
        });
        let handle = load.handle();
        bed.until("traffic", |s| s.groups[0].events.delivered > 2_000)
            .await;
        assert!(bed.weir.drain().await, "both groups live");
        let last = bed.weir.stop();
        assert!(last.ingress.publishes_sent_away_total >= 8, "{last:?}");
        handle.stop();
        assert_eq!((handle.counts().acked_by_fin, handle.counts().queue_full), (0, 0));
        assert!(
            last.groups
                .iter()
                .all(|g| g.events.dropped.total() == 0 && g.events.balanced())
        );
        drop(load);
        let verdict = bed.judge.verdict(None);
        assert!(verdict.groups.iter().all(|g| g.missing.count == 0), "{verdict}");

        let bed = Bed::start(Plan {
            top: "drain_timeout = \"300ms\"",
            ..Plan::groups(&["dead", "alive"])
        })
        .await;
        bed.sinks[0][0].kill(Close::Rst).await;
        Load::start(LoadOptions {
            connections: 2,
            count: Some(100),
            ..bed.load()
        })
        .finish()
        .await;
        assert!(!bed.weir.drain().await);
        let last = bed.weir.stop();
        let dropped: Vec<u64> = last
            .groups
            .iter()
            .map(|g| g.events.dropped.drain_timeout)
            .collect();
        assert_eq!(dropped, [100, 0], "the exact remainder");
        assert!(last.groups.iter().all(|g| g.events.balanced()));
    });
}
