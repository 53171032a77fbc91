//! SIGKILL and SIGSTOP: what a process cannot see coming.

use std::time::Duration;

use weir_lab::gateway::{Answer as Heard, Gateway, frame};
use weir_lab::load::TwinOptions;
use weir_lab::sink::Answer;
use weir_lab::{Events, Load, LoadOptions, Sizes};

use crate::support::stage::Stage;
use crate::support::{Plan, agent, dialer, story};

/// Long enough for a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

/// An agent that looks again soon for a weir that is away, as a gateway may be told (`reconnection_interval`): with the
/// default each restart would take 30 s. Not sooner than idle connections are closed: it would try a dead one for ever.
fn impatient() -> Option<TwinOptions> {
    let soon = Duration::from_millis(100);
    Some(TwinOptions {
        reconnection_interval: 3 * soon,
        ..agent().closing_idle(soon, soon)
    })
}

#[test]
fn with_ack_delivered_sigkill_loses_nothing_because_gateways_send_again_what_was_not_answered() {
    story(async {
        let mut stage = Stage::start(Plan {
            top: "ack = \"delivered\"",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 16,
            rate: Some(5_000.0),
            agent: impatient(),
            ..stage.agents()
        });
        let handle = load.handle();
        for _ in 0..3 {
            stage
                .weir
                .until("traffic", |s| s.of("two", "events/delivered") > 1_000)
                .await;
            stage.weir = stage.weir.again().await;
        }
        stage
            .weir
            .until("traffic", |s| s.of("two", "events/delivered") > 1_000)
            .await;
        handle.stop();
        let counts = load.finish().await.counts;
        assert_eq!((counts.acked_by_fin, counts.queue_full), (0, 0), "{counts:?}");
        let verdict = stage
            .judge
            .verdict(None)
            .witness("connections reset", counts.resets)
            .witness("events sent again", counts.events_resent);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.acked, verdict.issued, "all was answered in the end");
    });
}

#[test]
fn with_ack_accepted_sigkill_loses_at_most_what_was_queued() {
    story(async {
        let mut stage = Stage::start(Plan::groups(&["stalled", "alive"])).await;
        stage.sinks[0].set(|b| b.answer(Answer::Stall));
        let options = LoadOptions {
            connections: 8,
            count: Some(20_000),
            ..stage.load()
        };
        let counts = Load::start(options).finish().await.counts;
        assert_eq!((counts.events_acked, counts.events_resent), (20_000, 0));
        let status = stage
            .weir
            .until("the other group has all", |s| {
                s.of("alive", "events/delivered") == 20_000
            })
            .await;
        let (queued, inflight) = (
            status.of("stalled", "events/queued"),
            status.of("stalled", "events/inflight"),
        );
        assert_eq!(queued + inflight, 20_000);
        stage.weir = stage.weir.again().await;
        stage.sinks[0].set(|b| b.answer(Answer::Ok));
        stage.weir.until("at rest", |s| s.at_rest() && s.all_up()).await;
        let verdict = stage.judge.verdict(None);
        let missing = verdict.groups[0].missing.count;
        println!("SIGKILL with 20000 events held ({queued} queued, {inflight} in flight): {missing} lost");
        assert_eq!(missing, queued, "what was written had been read: {verdict}");
        assert_eq!(verdict.groups[1].missing.count, 0, "{verdict}");
        assert_eq!(verdict.groups[1].duplicated.count, 0, "{verdict}");
    });
}

#[test]
fn with_ack_accepted_sigkill_under_load_loses_at_most_what_a_queue_may_hold() {
    const HELD_MAX: u64 = 500;
    const KILLS: u64 = 3;
    story(async {
        let mut stage = Stage::start(Plan {
            queue: "max_events = 500\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            ..Plan::groups(&["slow", "fast"])
        })
        .await;
        // Slower than the gateways: the queue is full all the time.
        stage.sinks[0].set(|b| b.delay = Duration::from_millis(200));
        let load = Load::start(LoadOptions {
            connections: 16,
            rate: Some(8_000.0),
            agent: impatient(),
            ..stage.agents()
        });
        let handle = load.handle();
        for _ in 0..KILLS {
            stage
                .weir
                .until("gateways wait for room", |s| s.number("/ingress/blocked_now") > 0)
                .await;
            stage.weir = stage.weir.again().await;
        }
        stage.sinks[0].set(|b| b.delay = Duration::ZERO);
        stage.weir.until("links", |s| s.all_up()).await;
        handle.stop();
        let counts = load.finish().await.counts;
        stage.weir.until("at rest", |s| s.at_rest()).await;
        let verdict = stage.judge.verdict(None);
        for group in &verdict.groups {
            let missing = group.missing.count;
            println!(
                "{KILLS} x SIGKILL under load, a queue of {HELD_MAX}: {} lost {missing}",
                group.name
            );
            assert!(missing <= KILLS * HELD_MAX, "{verdict}");
            assert_eq!(
                (group.corrupted.count, group.unexpected.count),
                (0, 0),
                "{verdict}"
            );
        }
        assert!(
            verdict.groups[0].missing.count > 0,
            "the fault was felt: {verdict}"
        );
        assert_eq!((counts.acked_by_fin, counts.queue_full), (0, 0), "{counts:?}");
        assert_eq!(verdict.acked, verdict.issued, "all was answered in the end");
    });
}

#[test]
fn at_sigkill_every_gateway_is_reset_and_none_sees_the_end_of_the_stream() {
    story(async {
        let mut stage = Stage::start(Plan {
            top: "ack = \"delivered\"",
            ..Plan::groups(&["one"])
        })
        .await;
        stage.sinks[0].set(|b| b.answer(Answer::Stall));
        let events = Events::new(Sizes::Typical, 0);
        let (dialer, url) = (dialer(), stage.url());
        let mut gateways = Vec::new();
        for i in 0..48 {
            let mut gateway = Gateway::connect(&dialer, &url).await.unwrap();
            if i % 4 > 0 {
                let Heard::Session(session) = gateway.login("admin", "admin", LIMIT).await else {
                    panic!("no session");
                };
                let whole = frame(&session, &events, i, 0, 1);
                match i % 4 {
                    // In the middle of a frame, and waiting for an answer; the fourth is idle after its login.
                    1 => gateway.send(&whole[..whole.len() / 2]).await.unwrap(),
                    2 => gateway.send(&whole).await.unwrap(),
                    _ => {}
                }
            }
            gateways.push(gateway);
        }
        stage
            .weir
            .until("all are read", |s| {
                s.of("one", "events/accepted") == 12 && s.number("/ingress/connections_tcp") == 48
            })
            .await;
        stage.weir.kill().await;
        for (i, gateway) in gateways.iter_mut().enumerate() {
            let heard = gateway.answer(LIMIT).await;
            assert_eq!(
                heard,
                Heard::Reset(std::io::ErrorKind::ConnectionReset),
                "gateway {i}"
            );
        }
    });
}

/// A tenth of the real thing: 3 s instead of 30 s, and gateways as patient as the agent is in proportion.
#[test]
fn a_frozen_weir_goes_on_where_it_was_and_loses_nothing() {
    const FROZEN: Duration = Duration::from_secs(3);
    story(async {
        for (patience, again) in [(Duration::from_secs(30), false), (Duration::from_secs(1), true)] {
            let stage = Stage::start(Plan {
                link: "reply_timeout = \"1s\"\nheartbeat = { delay = 1, timeout_factor = 2.0 }",
                ..Plan::groups(&["one", "two"])
            })
            .await;
            let load = Load::start(LoadOptions {
                connections: 8,
                rate: Some(4_000.0),
                reply_timeout: patience,
                agent: impatient(),
                ..stage.agents()
            });
            let handle = load.handle();
            let before = stage
                .weir
                .until("traffic", |s| s.of("one", "events/delivered") > 1_000)
                .await;
            stage.weir.freeze().await;
            let acked = handle.counts().events_acked;
            tokio::time::sleep(FROZEN).await;
            let meanwhile = handle.counts().events_acked - acked;
            assert!(meanwhile <= 8 * 200, "it was frozen, but answered {meanwhile}");
            stage.weir.signal("CONT");
            stage
                .weir
                .until("traffic again", |s| {
                    s.of("one", "events/delivered") > before.of("one", "events/delivered") + 2_000
                })
                .await;
            handle.stop();
            let counts = load.finish().await.counts;
            assert_eq!(counts.reply_timeouts > 0, again, "{counts:?}");
            assert_eq!(counts.events_resent > 0, again, "{counts:?}");
            assert_eq!(counts.queue_full, 0, "{counts:?}");
            let verdict = stage.verdict().await;
            assert!(verdict.ok(), "{verdict}");
            assert_eq!(
                (verdict.acked, verdict.groups[0].missing.count),
                (verdict.issued, 0)
            );
        }
    });
}

#[test]
fn answers_that_lay_unread_while_weir_was_stopped_are_read_before_a_traffic_manager_is_judged() {
    const FROZEN: Duration = Duration::from_millis(1500);
    story(async {
        let stage = Stage::start(Plan {
            link: "reply_timeout = \"1s\"",
            ..Plan::groups(&["busy", "slow"])
        })
        .await;
        // Its answers leave while weir stands still.
        stage.sinks[1].set(|b| b.delay = Duration::from_millis(200));
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(500.0),
            ..stage.load()
        });
        let handle = load.handle();
        for _ in 0..4 {
            let before = stage
                .weir
                .until("frames are on their way", |s| s.of("slow", "events/inflight") > 0)
                .await
                .of("busy", "events/delivered");
            stage.weir.freeze().await;
            tokio::time::sleep(FROZEN).await;
            stage.weir.signal("CONT");
            stage
                .weir
                .until("traffic again", |s| {
                    s.of("busy", "events/delivered") > before + 200
                })
                .await;
        }
        handle.stop();
        load.finish().await;
        let verdict = stage.verdict().await;
        assert!(verdict.ok(), "{verdict}");
        let status = stage.weir.status();
        for group in ["busy", "slow"] {
            assert_eq!(
                (
                    status.of(group, "endpoints/0/connects_total"),
                    status.of(group, "resent_events_total")
                ),
                (1, 0),
                "{group}: {:#?}",
                stage.weir.lines("link down")
            );
        }
    });
}

#[test]
fn a_heartbeats_answer_that_lay_unread_while_weir_was_stopped_counts() {
    story(async {
        let stage = Stage::start(Plan {
            link: "heartbeat = { delay = 1, timeout_factor = 1.5 }",
            ..Plan::groups(&["idle"])
        })
        .await;
        let sink = &stage.sinks[0];
        sink.set(|b| b.delay = Duration::from_millis(200));
        for _ in 0..3 {
            let beats = sink.counts().zero_event_frames;
            stage
                .weir
                .until("a heartbeat is on its way", |_| {
                    sink.counts().zero_event_frames > beats
                })
                .await;
            stage.weir.freeze().await;
            tokio::time::sleep(Duration::from_millis(1000)).await;
            stage.weir.signal("CONT");
            stage
                .weir
                .until("another one is sent", |_| {
                    sink.counts().zero_event_frames > beats + 1
                })
                .await;
        }
        let status = stage.weir.status();
        assert_eq!(
            status.of("idle", "endpoints/0/connects_total"),
            1,
            "{:#?}",
            stage.weir.lines("link down")
        );
    });
}
