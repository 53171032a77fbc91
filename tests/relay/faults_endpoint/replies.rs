//! Replies that say no, that say nothing a Traffic Manager should say, or that say ok to what is dropped.

use std::time::Duration;

use weir::wire::reply::Reply;
use weir::wire::request::encode_publish_header;
use weir_lab::gateway::{Answer as Said, Gateway};
use weir_lab::sink::{Answer, Login};
use weir_lab::{Events, Id, Load, LoadOptions, Sizes};

use crate::support::faults::{Publisher, all_failures, eventually, failures, hurry, nothing_missing};
use crate::support::{Bed, Plan, dialer, story};

const PACKAGE: &str = "org.wso2.carbon.databridge.commons.exception";

fn error(class: &str, message: &str) -> Answer {
    Answer::Error {
        class: class.into(),
        message: message.into(),
    }
}

/// One frame for each event, reconnects at once.
async fn hasty(plan: Plan) -> Bed {
    let bed = Bed::start_adjusted(plan, |config, _, _| {
        hurry(config);
        config.link.linger = Duration::ZERO;
    })
    .await;
    bed.links_up().await;
    bed
}

/// So many unanswered frames of one event each on both groups' links.
async fn fill_window(bed: &Bed, gateway: &mut Publisher, frames: u64) {
    for n in 1..=frames {
        gateway.publish_ok(1).await;
        bed.until("one frame for each event", |s| {
            s.groups[0].endpoints[0].inflight_frames == n
        })
        .await;
    }
}

#[test]
fn a_session_that_expires_under_a_full_window_costs_one_login_and_no_event() {
    story(async {
        let bed = hasty(Plan {
            link: "window_frames = 8",
            ..Plan::groups(&["expires", "stays"])
        })
        .await;
        let sink = &bed.sinks[0][0];
        sink.set(|b| b.reading = false);
        let mut gateway = Publisher::connect(&bed, 0).await;
        fill_window(&bed, &mut gateway, 8).await;
        gateway.publish_ok(20).await;
        sink.expire_sessions();
        sink.set(|b| b.reading = true);
        bed.until("all is delivered", |s| s.groups[0].events.delivered == 28)
            .await;
        bed.assert_clean(28).await;
        let group = bed.group("expires").await;
        assert_eq!(
            (sink.counts().session_errors, group.resent_events_total),
            (8, 8),
            "the whole window goes again"
        );
        assert_eq!(sink.counts().logins_ok, 2);
        assert_eq!(group.endpoints[0].connects_total, 1, "on the same connection");
        assert_eq!(all_failures(&bed.snapshot().await, 0), 0);
    });
}

#[test]
fn sessions_that_expire_under_load_move_nobody_to_the_standby() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("pair", "failover", 2), ("both", "loadbalance", 2)],
            ..Plan::default()
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            ..bed.load()
        });
        let handle = load.handle();
        for n in 1..=5 {
            let seen = bed.judge.oracle().acked();
            eventually("traffic", || bed.judge.oracle().acked() > seen + 1000).await;
            for sink in bed.sinks.iter().flatten() {
                sink.expire_sessions();
            }
            eventually("a new login", || {
                let mut taking = [&bed.sinks[0][0], &bed.sinks[1][0], &bed.sinks[1][1]].into_iter();
                taking.all(|s| s.counts().logins_ok == 1 + n)
            })
            .await;
        }
        handle.stop();
        load.finish().await;
        let acked = bed.judge.oracle().acked();
        bed.assert_clean(acked).await;
        let snapshot = bed.snapshot().await;
        for group in &snapshot.groups {
            assert!(group.resent_events_total > 0);
            for endpoint in &group.endpoints {
                assert_eq!((endpoint.connects_total, endpoint.links_up), (1, 1));
                assert_eq!(endpoint.failures_total.iter().sum::<u64>(), 0, "{endpoint:?}");
            }
        }
        assert_eq!(bed.sinks[0][1].counts().events, 0, "the standby");
    });
}

#[test]
fn a_session_that_expires_again_right_after_a_login_is_a_failure_and_backs_off() {
    story(async {
        let bed = Bed::start(Plan::groups(&["denies", "takes"])).await;
        let sink = &bed.sinks[0][0];
        sink.set(|b| b.answer(error(&format!("{PACKAGE}.SessionTimeoutException"), "x expired")));
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(20).await;
        let seen = bed
            .until("it fails again and again", |s| {
                failures(&s.groups[0].endpoints[0], "session") >= 4
            })
            .await;
        let endpoint = &seen.groups[0].endpoints[0];
        // Two logins for each connection: before it, and on the side.
        assert!(sink.counts().logins_ok <= 2 * (endpoint.connects_total + 1));
        assert_eq!(all_failures(&seen, 0), failures(endpoint, "session"));
        sink.set(|b| b.answer(Answer::Ok));
        let ended = failures(endpoint, "session");
        nothing_missing(&bed, "ended", ended).await;
    });
}

#[test]
fn a_login_on_the_side_that_fails_is_a_failure_and_the_standby_takes_over_in_order() {
    story(async {
        let bed = hasty(Plan {
            groups: vec![("pair", "failover", 2)],
            link: "window_frames = 8\nfailback_after = \"1h\"",
            ..Plan::default()
        })
        .await;
        let (first, standby) = (&bed.sinks[0][0], &bed.sinks[0][1]);
        first.set(|b| b.reading = false);
        let mut gateway = Publisher::connect(&bed, 0).await;
        fill_window(&bed, &mut gateway, 8).await;
        gateway.publish_ok(20).await;
        first.set(|b| b.login = Login::Refuse);
        first.expire_sessions();
        first.set(|b| b.reading = true);
        let seen = bed
            .until("the standby has all", |s| s.groups[0].events.delivered == 28)
            .await;
        assert_eq!(failures(&seen.groups[0].endpoints[0], "authentication"), 1);
        assert_eq!(all_failures(&seen, 0), 1);
        assert_eq!(standby.counts().events, 28);
        bed.assert_clean(28).await;
    });
}

#[test]
fn a_session_error_that_is_not_an_expiry_ends_the_connection() {
    story(async {
        let bed = hasty(Plan::groups(&["full", "takes"])).await;
        let sink = &bed.sinks[0][0];
        let mut gateway = Publisher::connect(&bed, 0).await;
        // What another weir without room says; and one whose length, in characters, is short.
        for (n, message) in (1..).zip(["the events were not taken, send them again", "séance expired"]) {
            sink.set(|b| b.answer_times(error(&format!("{PACKAGE}.SessionTimeoutException"), message), 1));
            gateway.publish_ok(5).await;
            let seen = bed
                .until("all is delivered", |s| s.groups[0].events.delivered == 5 * n)
                .await;
            assert_eq!(failures(&seen.groups[0].endpoints[0], "session"), n);
        }
        nothing_missing(&bed, "errors", sink.counts().frames_error).await;
    });
}

#[test]
fn frames_of_an_expired_session_keep_their_place_before_a_frame_that_is_refused() {
    story(async {
        let bed = hasty(Plan {
            link: "window_frames = 8",
            ..Plan::groups(&["refuses"])
        })
        .await;
        let sink = &bed.sinks[0][0];
        sink.set(|b| b.reading = false);
        let mut gateway = Publisher::connect(&bed, 0).await;
        fill_window(&bed, &mut gateway, 8).await;
        // To the first three frames: expired, expired, refused.
        let mut bytes = Vec::new();
        for (class, message) in [
            ("SessionTimeoutException", "x expired"),
            ("SessionTimeoutException", "x expired"),
            ("DataBridgeException", "no"),
        ] {
            let class = format!("{PACKAGE}.{class}");
            Reply::Error {
                class: &class,
                message: message.into(),
            }
            .encode(&mut bytes);
        }
        sink.set(|b| {
            b.answer_times(Answer::Raw(bytes), 1);
            b.reading = true;
        });
        bed.until("all is delivered", |s| s.groups[0].events.delivered == 8)
            .await;
        let verdict = nothing_missing(&bed, "refused", all_failures(&bed.snapshot().await, 0)).await;
        assert_eq!(verdict.groups[0].reordered.count, 0, "{verdict}");
        let group = bed.group("refuses").await;
        assert_eq!((group.events.rejected, group.resent_events_total), (0, 8));
    });
}

#[test]
fn an_error_reply_is_the_oldest_frames_verdict_whatever_its_lengths_and_class() {
    story(async {
        // Lengths in characters, as the real receiver writes them: short by the non-ASCII ones.
        let answers = [
            error("java.lang.IllegalStateException", "größer als erlaubt: ÄÖÜ"),
            error("com.example.NobodyKnows", ""),
            error(
                &format!("{PACKAGE}.EventConversionException"),
                "Fehler im Strom \u{1F600}",
            ),
            error(
                &format!("{PACKAGE}.UndefinedEventTypeException"),
                "no such stream",
            ),
            error(&format!("{PACKAGE}.AuthenticationException"), "not now"),
        ];
        let bed = hasty(Plan::groups(&["refuses", "takes"])).await;
        let sink = &bed.sinks[0][0];
        let mut gateway = Publisher::connect(&bed, 0).await;
        for (n, answer) in (1..).zip(&answers) {
            sink.set(|b| b.reading = false);
            fill_window(&bed, &mut gateway, 8).await;
            sink.set(|b| {
                b.answer_times(answer.clone(), 1);
                b.reading = true;
            });
            bed.until("the window is delivered after all", |s| {
                s.groups[0].events.delivered == 8 * n && s.groups[0].endpoints[0].links_up == 1
            })
            .await;
            let group = bed.group("refuses").await;
            assert_eq!(
                (group.events.rejected, group.endpoints[0].replies_error_total),
                (0, n)
            );
            assert_eq!(failures(&group.endpoints[0], "rejected"), n, "{answer:?}");
        }
        nothing_missing(&bed, "errors", sink.counts().frames_error).await;
        assert_eq!(all_failures(&bed.snapshot().await, 1), 0);
    });
}

#[test]
fn an_undefined_stream_rejects_exactly_the_events_that_were_refused_three_times() {
    story(async {
        let bed = hasty(Plan::groups(&["refuses", "takes"])).await;
        let sink = &bed.sinks[0][0];
        let mut gateway = Publisher::connect(&bed, 0).await;
        sink.set(|b| {
            b.answer_times(
                error(
                    &format!("{PACKAGE}.UndefinedEventTypeException"),
                    "no such stream",
                ),
                3,
            );
        });
        gateway.publish_ok(1).await;
        bed.until("the poison is out of the way", |s| {
            s.groups[0].events.rejected == 1
        })
        .await;
        gateway.publish_ok(30).await;
        let verdict = bed.verdict().await.witness("errors", sink.counts().frames_error);
        assert!(verdict.ok(), "{verdict}");
        let group = bed.group("refuses").await;
        assert_eq!((group.events.rejected, group.events.delivered), (1, 30));
        assert_eq!(verdict.groups[1].copies, 31, "the other group has all");
    });
}

#[test]
fn bytes_that_are_no_reply_end_the_connection_and_the_frames_go_again() {
    story(async {
        let negative = [&[1][..], &(-1_i32).to_be_bytes(), &5_i32.to_be_bytes(), b"abcde"].concat();
        let endless = [&[1][..], &i32::MAX.to_be_bytes(), &i32::MAX.to_be_bytes(), b"abc"].concat();
        let login = [&[2][..], &3_i32.to_be_bytes(), b"abc"].concat();
        let unknown = vec![7, 7, 7];
        let mut too_many = vec![0];
        too_many.extend([0; 40]);
        let bed = hasty(Plan {
            link: "reply_timeout = \"300ms\"",
            ..Plan::groups(&["babbles", "takes"])
        })
        .await;
        let sink = &bed.sinks[0][0];
        let mut gateway = Publisher::connect(&bed, 0).await;
        let cases = [negative, endless, login, unknown, too_many];
        for (n, bytes) in (1..).zip(&cases) {
            sink.set(|b| b.answer_times(Answer::Raw(bytes.clone()), 1));
            gateway.publish_ok(1).await;
            let seen = bed
                .until("the connection has ended", |s| all_failures(s, 0) == n)
                .await;
            let endpoint = &seen.groups[0].endpoints[0];
            let known = failures(endpoint, "protocol") + failures(endpoint, "timeout");
            assert_eq!(known, n, "{bytes:?}: {:?}", endpoint.failures_total);
            gateway.publish_ok(1).await;
            bed.until("it goes on", |s| {
                s.groups[0].events.delivered == 2 * n && s.groups[0].endpoints[0].links_up == 1
            })
            .await;
        }
        nothing_missing(&bed, "ended", all_failures(&bed.snapshot().await, 0)).await;
        assert_eq!(bed.group("babbles").await.events.rejected, 0);
        assert_eq!(all_failures(&bed.snapshot().await, 1), 0);
    });
}

#[test]
fn an_error_reply_under_load_neither_loses_nor_rejects_what_is_fine() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("pair", "loadbalance", 2), ("other", "failover", 1)],
            ..Plan::default()
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            count: Some(20_000),
            ..bed.load()
        });
        for turn in 1..=4_u64 {
            let sink = &bed.sinks[0][usize::from(turn % 2 == 0)];
            sink.set(|b| b.answer_times(error("java.lang.RuntimeException", "voll"), 1));
            let refused = bed.until("refused", |s| all_failures(s, 0) >= turn).await;
            // Else the same events might meet the next refusal.
            let seen = refused.groups[0].events.delivered;
            bed.until("they are delivered elsewhere", |s| {
                s.groups[0].events.delivered > seen + 1000
            })
            .await;
        }
        load.finish().await;
        nothing_missing(&bed, "refused", all_failures(&bed.snapshot().await, 0)).await;
        assert_eq!(bed.group("pair").await.events.rejected, 0);
    });
}

#[test]
fn one_bad_event_among_those_of_other_gateways_is_rejected_alone() {
    story(async {
        for ack in ["", "ack = \"delivered\""] {
            let bed = hasty(Plan {
                top: ack,
                link: "window_frames = 1",
                ..Plan::groups(&["refuses", "takes"])
            })
            .await;
            let sink = &bed.sinks[0][0];
            let mut gateways = Vec::new();
            for origin in 0..3 {
                gateways.push(Publisher::connect(&bed, origin).await);
            }
            // Behind one frame that waits for its answer the others gather, and are merged.
            sink.set(|b| {
                b.answer(Answer::Stall);
                // The third event of the second gateway.
                b.refused_bytes = Some(b"00000001-0000000000000002".to_vec());
            });
            let first = gateways[0].send(1).await;
            bed.until("the window is full", |s| s.groups[0].events.inflight == 1)
                .await;
            let mut sent = Vec::new();
            for gateway in &mut gateways {
                for _ in 0..4 {
                    sent.push(gateway.send(5).await);
                }
            }
            bed.until("all wait behind it", |s| s.groups[0].events.queued == 60)
                .await;
            sink.set(|b| b.answer(Answer::Ok));
            let mut sent = sent.into_iter();
            assert_eq!(gateways[0].answer(first, 1).await, Said::Ok);
            for gateway in &mut gateways {
                for _ in 0..4 {
                    assert_eq!(gateway.answer(sent.next().unwrap(), 5).await, Said::Ok);
                }
            }
            let verdict = bed.verdict().await.witness("errors", sink.counts().frames_error);
            assert!(verdict.ok(), "{verdict}");
            let group = bed.group("refuses").await;
            assert_eq!((group.events.rejected, group.events.delivered), (1, 60));
            assert_eq!(verdict.groups[1].distinct, 61);
        }
    });
}

/// A frame of one event that the real receiver answers ok and cannot decode.
fn poison(session: &[u8], n: u64) -> Vec<u8> {
    let (throttle, mut event) = (Events::new(Sizes::Typical, 0), Vec::new());
    let id = Id {
        origin: 9_999,
        sequence: n,
    };
    match n % 3 {
        0 => Events::on_stream("unknown.stream:1.0.0", Sizes::Typical, 0).append(&mut event, id),
        1 => throttle.append(&mut event, id),
        _ => event.extend_from_slice(&[0, 0, 0, 3, 1, 2, 3]),
    }
    if n % 3 == 1 {
        // Its last string ends before its length says so.
        event.truncate(event.len() - 1);
        let length = u32::try_from(event.len() - 4).unwrap();
        event[..4].copy_from_slice(&length.to_be_bytes());
    }
    let mut frame = Vec::new();
    encode_publish_header(&mut frame, session, 1, event.len());
    frame.extend_from_slice(&event);
    frame
}

#[test]
fn events_that_a_receiver_drops_with_their_whole_frame_take_no_good_ones_with_them() {
    const GOOD: u64 = 6_000;
    story(async {
        let bed = Bed::start(Plan {
            link: "linger = \"5ms\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let sink = &bed.sinks[0][0];
        sink.set(|b| b.decodes = true);
        let load = Load::start(LoadOptions {
            connections: 10,
            rate: Some(2_000.0),
            count: Some(GOOD),
            ..bed.load()
        });
        let mut poisoner = Gateway::connect(&dialer(), &bed.url()).await.unwrap();
        let limit = Duration::from_secs(10);
        let Said::Session(session) = poisoner.login("admin", "admin", limit).await else {
            panic!("no session")
        };
        let mut poisoned = 0;
        let good = async {
            while bed.judge.verdict(None).acked < GOOD {
                let answer = poisoner.ask(&poison(&session, poisoned), limit).await;
                assert_eq!(answer, Said::Ok);
                poisoned += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        good.await;
        load.finish().await;
        bed.until("all has left", |s| {
            s.groups[0].events.queued + s.groups[0].events.inflight == 0
        })
        .await;
        let (verdict, counts) = (bed.judge.verdict(None), sink.counts());
        let lost = verdict.groups[0].missing.count;
        println!("{lost} of {GOOD} good events lost beside {poisoned} bad ones");
        assert!(poisoned > 30, "{poisoned}");
        assert_eq!(lost, 0, "beside {poisoned} bad ones: {counts:?}");
        assert_eq!(counts.events_dropped, poisoned, "each was dropped");
        assert_eq!(counts.frames_dropped, poisoned, "in a frame of its own");
        assert!(
            counts.frames - poisoned < GOOD / 2,
            "good ones still share frames: {counts:?}"
        );
    });
}
