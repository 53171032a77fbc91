//! Replies that say no, or that say nothing a Traffic Manager should say.

use std::time::Duration;

use weir::lab::sink::Answer;
use weir::lab::{Load, LoadOptions};

use crate::faults::{Publisher, all_failures, failures, hurry, nothing_missing};
use crate::support::{Bed, Plan, story};

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
        let verdict = nothing_missing(&bed, "session errors", sink.counts().session_errors).await;
        let group = bed.group("expires").await;
        assert_eq!(
            (
                failures(&group.endpoints[0], "session"),
                group.resent_events_total
            ),
            (1, 8),
            "the whole window goes again"
        );
        assert_eq!(sink.counts().logins_ok, 2);
        assert_eq!(
            verdict.groups[0].copies_answered_ok, 28,
            "none of them counts twice"
        );
        assert_eq!(verdict.groups[1].copies, 28);
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
