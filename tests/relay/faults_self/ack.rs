//! `ack = "delivered"` when a group is away, and drains that are finished, or taken back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::time::Instant;
use weir::lifecycle::Phase;
use weir::wire::reply::SESSION_TIMEOUT;
use weir_lab::gateway::Answer as Reply;
use weir_lab::sink::Answer;
use weir_lab::{Close, Load, LoadOptions};

use crate::support::faults::{Publisher, eventually, nothing_missing};
use crate::support::{Bed, Plan, noticed_nothing, story};

/// A call that changes something; the body of its 200.
fn call(bed: &Bed, method: &str, path: &str) -> String {
    let address = bed.weir.addresses().admin.unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

#[test]
fn a_group_that_becomes_unavailable_lets_go_of_replies_it_held_back() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            queue: "unavailable_after = \"300ms\"",
            ..Plan::groups(&["dies", "alive"])
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(5).await;
        bed.sinks[0][0].kill(Close::Rst).await;
        bed.until("its link is down", |s| s.groups[0].endpoints[0].links_up == 0)
            .await;
        let asked = Instant::now();
        gateway.publish_ok(1).await;
        let waited = asked.elapsed();
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        assert!(!bed.group("dies").await.available);
        let asked = Instant::now();
        gateway.publish_ok(20).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "nobody waits for it");
        let queued = bed.group("dies").await.events.queued;
        assert_eq!(queued, 21);
        bed.sinks[0][0].revive().await;
        let verdict = nothing_missing(&bed, "waited for it", queued).await;
        assert_eq!(verdict.acked, 26);
        bed.until("available again", |s| s.groups[0].available).await;
        gateway.publish_ok(1).await;
        assert_eq!(bed.judge.oracle().received(0), 27, "an ok means delivered again");
    });
}

#[test]
fn when_all_groups_are_unavailable_the_answer_to_a_single_event_waits_for_none() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            queue: "unavailable_after = \"300ms\"",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        for sinks in &bed.sinks {
            sinks[0].kill(Close::Rst).await;
        }
        bed.until("both links are down", |s| {
            s.groups.iter().all(|g| g.endpoints[0].links_up == 0)
        })
        .await;
        // The first is in the open batch when they become unavailable, the second comes later.
        for (frame, what) in [(1, "accepted before"), (2, "accepted after")] {
            let asked = Instant::now();
            let answer = gateway.publish(1).await;
            let waited = asked.elapsed();
            println!("{what}: {answer:?} after {waited:?}");
            assert_eq!(answer, Reply::Ok, "{what}, after {waited:?}");
            assert!(waited < Duration::from_secs(5), "{what}: {waited:?}");
            let seen = bed.snapshot().await;
            assert!(
                seen.groups
                    .iter()
                    .all(|g| !g.available && g.events.queued == frame)
            );
        }
        for sinks in &bed.sinks {
            sinks[0].revive().await;
        }
        let verdict = nothing_missing(&bed, "queued", 2).await;
        assert_eq!(verdict.acked, 2);
    });
}

#[test]
fn a_group_that_is_up_and_silent_holds_answers_for_unavailable_after_and_no_longer() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            queue: "unavailable_after = \"500ms\"",
            link: "reply_timeout = \"30s\"",
            ..Plan::groups(&["hangs", "alive"])
        })
        .await;
        let sink = &bed.sinks[0][0];
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(1).await;
        sink.set(|b| b.answer(Answer::Stall));
        let asked = Instant::now();
        gateway.publish_ok(1).await;
        let waited = asked.elapsed();
        println!("the first answer after {waited:?}");
        assert!(waited >= Duration::from_millis(500), "held: {waited:?}");
        assert!(waited < Duration::from_secs(5), "and let go: {waited:?}");
        let asked = Instant::now();
        gateway.publish_ok(50).await;
        let waited = asked.elapsed();
        println!("50 more after {waited:?}");
        assert!(waited < Duration::from_secs(5), "held again: {waited:?}");
        let hangs = bed.group("hangs").await;
        assert_eq!((hangs.available, hangs.endpoints[0].links_up), (true, 1));
        assert_eq!(bed.group("alive").await.events.delivered, 52);
        sink.set(|b| b.answer(Answer::Ok));
        bed.until("it answers", |s| s.groups[0].events.delivered == 52)
            .await;
        // An ok means delivered again.
        sink.set(|b| b.delay = Duration::from_millis(200));
        gateway.publish_ok(1).await;
        assert_eq!(bed.group("hangs").await.events.delivered, 53);
        nothing_missing(&bed, "let go", 51).await;
    });
}

#[test]
fn a_silent_endpoint_lets_go_of_its_window_while_its_neighbour_holds_answers_until_delivery() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            queue: "unavailable_after = \"500ms\"",
            link: "reply_timeout = \"30s\"\nwindow_frames = 1",
            groups: vec![("pair", "loadbalance", 2)],
            ..Plan::default()
        })
        .await;
        for sink in &bed.sinks[0] {
            sink.set(|b| b.answer(Answer::Stall));
        }
        let mut gateway = Publisher::connect(&bed, 0).await;
        let first = gateway.send(1).await;
        bed.until("one endpoint has it", |s| s.groups[0].events.inflight == 1)
            .await;
        let hung = usize::from(bed.sinks[0][1].counts().events == 1);
        bed.sinks[0][1 - hung].set(|b| {
            b.answer(Answer::Ok);
            b.delay = Duration::from_millis(200);
        });
        assert_eq!(gateway.answer(first, 1).await, Reply::Ok);
        assert_eq!(bed.group("pair").await.events.delivered, 0, "let go");
        for n in 1..=3 {
            gateway.publish_ok(1).await;
            assert_eq!(
                bed.group("pair").await.events.delivered,
                n,
                "an ok means delivered"
            );
        }
        bed.sinks[0][hung].set(|b| b.answer(Answer::Ok));
        nothing_missing(&bed, "let go", 1).await;
    });
}

#[test]
fn with_unavailable_after_never_a_silent_group_holds_every_answer() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            listen: "reply_timeout = \"1s\"",
            queue: "unavailable_after = \"never\"",
            ..Plan::groups(&["hangs", "alive"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let mut gateway = Publisher::connect(&bed, 0).await;
        for _ in 0..2 {
            assert!(matches!(gateway.publish(1).await, Reply::Error { .. }));
        }
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        gateway.publish_ok(1).await;
        nothing_missing(&bed, "held", 2).await;
    });
}

#[test]
fn with_unavailable_after_never_an_ok_means_delivered_to_the_dead_one_too() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            listen: "reply_timeout = \"300ms\"",
            queue: "unavailable_after = \"never\"",
            ..Plan::groups(&["dead", "alive"])
        })
        .await;
        bed.sinks[0][0].kill(Close::Rst).await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        let Reply::Error { class, .. } = gateway.publish(1).await else {
            panic!("ok without delivery")
        };
        assert_eq!(class, SESSION_TIMEOUT);
        let refused = bed.snapshot().await.ingress.publishes_refused_total;
        bed.sinks[0][0].revive().await;
        bed.until("up again", |s| s.groups[0].endpoints[0].links_up == 1)
            .await;
        gateway.publish_ok(1).await;
        assert_eq!(bed.judge.oracle().received(0), 2);
        nothing_missing(&bed, "refused", refused).await;
    });
}

#[test]
fn an_answer_that_is_due_does_not_wait_behind_a_frame_that_finds_no_room() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            listen: "reply_timeout = \"1s\"",
            queue: "max_events = 1\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            ..Plan::groups(&["stalled", "alive"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
        let mut gateway = Publisher::connect(&bed, 0).await;
        let asked = Instant::now();
        let first = gateway.send(1).await;
        bed.until("it has waited for most of its time", |s| {
            s.groups[0].endpoints[0].oldest_inflight_ms > 700
        })
        .await;
        let second = gateway.send(1).await;
        bed.until("the next one finds no room", |s| s.ingress.blocked_now == 1)
            .await;
        assert!(matches!(gateway.answer(first, 1).await, Reply::Error { .. }));
        let waited = asked.elapsed();
        assert!(waited < Duration::from_millis(1500), "{waited:?}");
        bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
        assert_eq!(gateway.answer(second, 1).await, Reply::Ok);
        let refused = bed.snapshot().await.ingress.publishes_refused_total;
        let verdict = nothing_missing(&bed, "refused", refused).await;
        assert_eq!((verdict.acked, verdict.groups[0].distinct), (1, 2));
    });
}

#[test]
fn a_drain_with_ack_delivered_answers_everything_it_delivered() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        for sinks in &bed.sinks {
            sinks[0].set(|b| b.delay = Duration::from_millis(5));
        }
        let load = Load::start(LoadOptions {
            connections: 32,
            rate: Some(4_000.0),
            ..bed.agents()
        });
        eventually("traffic", || bed.judge.oracle().received(0) > 300).await;
        bed.sinks[1][0].set(|b| b.answer(Answer::Stall));
        let waiting = bed
            .until("answers are owed", |s| s.groups[1].events.inflight >= 20)
            .await
            .groups[1]
            .events
            .inflight;
        let release = async {
            let mut phase = bed.weir.lifecycle().watch();
            let draining = |p: &Phase| matches!(p, Phase::Draining { .. });
            phase.wait_for(draining).await.unwrap();
            bed.sinks[1][0].set(|b| b.answer(Answer::Ok));
        };
        let (drained, ()) = tokio::join!(bed.weir.drain(), release);
        assert!(drained);
        let last = bed.weir.stop();
        assert!(last.groups.iter().all(|g| g.events.dropped.total() == 0));
        eventually("gateways are told", || {
            let resets = load.counts().resets;
            resets + load.counts().connect_failures >= 32
        })
        .await;
        let counts = load.counts();
        assert_eq!(
            (counts.acked_by_fin, counts.queue_full),
            (0, 0),
            "reset, never FIN"
        );
        drop(load);
        let verdict = bed.judge.verdict(None).witness("owed", waiting);
        for group in &verdict.groups {
            assert_eq!(
                (group.missing.count, group.distinct),
                (0, verdict.acked),
                "every delivered event was answered ok: {verdict}"
            );
        }
    });
}

#[test]
fn an_operators_drain_serves_on_beyond_its_time() {
    story(async {
        let bed = Bed::start(Plan {
            top: "drain_timeout = \"300ms\"",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(2_000.0),
            ..bed.agents()
        });
        eventually("traffic", || bed.judge.oracle().received(0) > 200).await;
        let asked = Instant::now();
        assert!(call(&bed, "POST", "/drain").contains("draining"));
        bed.until("every gateway is sent away", |s| {
            s.ingress.publishes_sent_away_total == 8
        })
        .await;
        tokio::time::sleep_until(asked + Duration::from_millis(1_500)).await;
        let seen = bed.judge.oracle().received(0);
        eventually("they are served", || bed.judge.oracle().received(0) > seen + 200).await;
        assert!(matches!(bed.weir.lifecycle().phase(), Phase::Draining { .. }));
        assert!(call(&bed, "DELETE", "/drain").contains("ready"));
        load.stop();
        let counts = load.finish().await.counts;
        let sent_away = bed.snapshot().await.ingress.publishes_sent_away_total;
        assert_eq!(
            (counts.resets, counts.queue_full, sent_away),
            (0, 0, 8),
            "once each: {counts:?}"
        );
        let verdict = nothing_missing(&bed, "sent away", counts.events_resent).await;
        assert_eq!(verdict.acked, verdict.issued);
        assert!(
            verdict.groups.iter().all(|g| g.duplicated.count == 0),
            "{verdict}"
        );
    });
}

#[test]
fn a_drain_that_is_taken_back_has_cost_nothing() {
    story(async {
        for top in [
            "ack = \"accepted\"\ndrain_notice = \"1m\"",
            "ack = \"delivered\"\ndrain_notice = \"1m\"",
        ] {
            let bed = Bed::start(Plan {
                top,
                ..Plan::groups(&["one", "two"])
            })
            .await;
            let load = Load::start(LoadOptions {
                connections: 8,
                rate: Some(4_000.0),
                ..bed.agents()
            });
            for _ in 0..3 {
                for (method, phase) in [("POST", "draining"), ("DELETE", "ready")] {
                    assert!(call(&bed, method, "/drain").contains(phase));
                    let seen = bed.judge.oracle().received(0);
                    eventually("traffic", || bed.judge.oracle().received(0) > seen + 500).await;
                }
            }
            load.stop();
            let report = load.finish().await;
            noticed_nothing(&report);
            bed.assert_clean(report.counts.events_acked).await;
        }
    });
}

#[test]
fn a_gateway_that_waits_for_the_delivery_does_not_wait_for_company_too() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            link: "linger = \"1s\"",
            ..Plan::groups(&["a", "b"])
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        let asked = Instant::now();
        for _ in 0..20 {
            gateway.publish_ok(1).await;
        }
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(5), "20 answers took {took:?}");
        let verdict = nothing_missing(&bed, "all answered", 20).await;
        assert_eq!(verdict.acked, 20);
    });
}

#[test]
fn behind_a_frame_whose_delivery_is_waited_for_events_gather_no_longer_than_for_its_answer() {
    story(async {
        let bed = Bed::start(Plan {
            top: "ack = \"delivered\"",
            link: "linger = \"1s\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let delay = Duration::from_millis(20);
        bed.sinks[0][0].set(|b| b.delay = delay);
        let mut gateways = (
            Publisher::connect(&bed, 0).await,
            Publisher::connect(&bed, 1).await,
        );
        let asked = Instant::now();
        // Five events: alone behind a frame they would wait for a second.
        let publish = async |gateway: &mut Publisher| {
            for _ in 0..10 {
                assert_eq!(gateway.publish(5).await, Reply::Ok);
            }
        };
        tokio::join!(publish(&mut gateways.0), publish(&mut gateways.1));
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(5), "10 answers took {took:?}");
        let verdict = nothing_missing(&bed, "all answered", 100).await;
        assert_eq!(verdict.acked, 100);
    });
}
