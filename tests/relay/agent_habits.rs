//! The gateways' agent as it is (docs/PROTOCOL.md), and what weir must do so that it loses nothing: answer every
//! frame with a class the agent understands, never a byte too many, and never end a connection with FIN.

mod ends;
mod stalls;

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir::config::Config;
use weir::lifecycle::{End, Phase};
use weir::wire::reply::{AUTHENTICATION, SESSION_TIMEOUT, TRANSPORT, UNDEFINED_EVENT_TYPE};
use weir_lab::gateway::{Answer, frame};
use weir_lab::load::{TwinOptions, Version};
use weir_lab::sink::Answer as TmAnswer;
use weir_lab::{Close, Load, LoadOptions};

use crate::support::peer::{Peer, RESET, error, login, logout, tls_url};
use crate::support::{Bed, Plan, noticed_nothing, story};

const SCRIPTED: u32 = 1000;

/// As sites are: logins with TLS only.
fn no_plaintext(config: &mut Config) {
    config.auth.allow_plaintext_login = false;
}

fn over_tls(bed: &Bed) -> LoadOptions {
    LoadOptions {
        dialer: bed.tls_dialer(),
        auth: Some(tls_url(bed)),
        ..bed.agents()
    }
}

#[test]
fn an_agent_logs_in_over_tls_publishes_in_lock_step_in_clear_and_logs_out() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            tune: Some(no_plaintext),
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 3,
            count: Some(20_000),
            rate: Some(10_000.0),
            ..over_tls(&bed)
        });
        let report = load.finish().await;
        noticed_nothing(&report);
        assert_eq!(report.counts.logins, 3, "a gateway logs in once");
        let i = bed.snapshot().await.ingress;
        assert_eq!((i.logins_ok_total, i.session_errors_total), (3, 0));
        assert_eq!(i.publishes_ok_total, report.counts.frames_acked);
        bed.assert_clean(20_000).await;
        let mut auth = Peer::tls(&bed).await;
        let session = auth.login().await;
        assert_eq!(auth.ask(&logout(&session)).await, Answer::Ok);
        let logouts = bed.snapshot().await.ingress.logouts_total;
        assert_eq!(logouts - i.logouts_total, 1);
    });
}

#[test]
fn a_login_in_clear_is_refused_with_a_class_the_agent_knows_and_nothing_is_learnt_from_it() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            tune: Some(no_plaintext),
            ..Plan::groups(&["one"])
        })
        .await;
        let mut plain = Peer::tcp(&bed).await;
        let (right, wrong) = (
            plain.ask(&login("admin", "admin")).await,
            plain.ask(&login("admin", "wrong")).await,
        );
        assert_eq!(right, wrong);
        assert!(
            matches!(&right, Answer::Error { class, .. } if class == AUTHENTICATION),
            "{right:?}"
        );
        let i = bed.snapshot().await.ingress;
        assert_eq!((i.logins_plaintext_refused_total, i.logins_failed_total), (2, 0));
        // The connection goes on: a session of the TLS port is good here.
        let session = Peer::tls(&bed).await.login().await;
        assert_eq!(plain.ask(&bed.issue(&session, SCRIPTED, 0, 1)).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        bed.assert_clean(1).await;
    });
}

#[test]
fn every_class_weir_answers_with_is_one_of_the_three_the_agent_understands() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let mut peer = Peer::tcp(&bed).await;
        let session = peer.login().await;
        let unknown = frame(b"unknown", bed.judge.oracle().events(), SCRIPTED, 0, 1);
        let cases = [
            (login("admin", "wrong"), AUTHENTICATION),
            (vec![0, 0, 0, 0, 0], AUTHENTICATION),
            (unknown, SESSION_TIMEOUT),
            // With any other class the agent would send the same wrong bytes for ever.
            (vec![2, 0, 0, 0, 0], UNDEFINED_EVENT_TYPE),
        ];
        for (bytes, wanted) in &cases {
            let answer = peer.ask(bytes).await;
            assert!(
                matches!(&answer, Answer::Error { class, .. } if class == wanted),
                "{answer:?}"
            );
            assert!(error(&answer).1.is_ascii() && peer.ahead().is_empty());
        }
        assert_eq!(peer.ask(&bed.issue(&session, SCRIPTED, 0, 1)).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        bed.assert_clean(1).await;
    });
}

#[test]
fn a_session_that_ends_costs_the_agent_a_login_over_tls_and_the_batch_once_more() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            tune: Some(|c| {
                no_plaintext(c);
                c.auth.session_ttl = Duration::from_millis(300);
            }),
            ..Plan::groups(&["one"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 2,
            rate: Some(2000.0),
            ..over_tls(&bed)
        });
        bed.until("four sessions have ended", |s| s.ingress.session_errors_total > 3)
            .await;
        load.stop();
        let counts = load.finish().await.counts;
        assert_eq!(
            (counts.queue_full, counts.resets, counts.login_failures),
            (0, 0, 0),
            "{counts:?}"
        );
        let ended = bed.snapshot().await.ingress.session_errors_total;
        assert!(counts.logins <= 2 + ended, "{counts:?}");
        assert!(
            (1..=200 * ended).contains(&counts.events_resent),
            "a batch each: {counts:?}"
        );
        let verdict = bed.verdict().await.witness("sessions ended", ended);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(
            verdict.groups[0].copies, verdict.issued,
            "each once, though sent twice: {verdict}"
        );
    });
}

#[test]
fn the_gentle_no_makes_the_agent_send_again_and_nothing_counts_twice() {
    story(async {
        let bed = Bed::start(Plan {
            listen: "reply_timeout = \"200ms\"",
            queue: "max_events = 1000\nblock_timeout = \"never\"\nunavailable_after = \"never\"",
            ..Plan::groups(&["stalled", "alive"])
        })
        .await;
        bed.sinks[0][0].set(|b| b.answer(TmAnswer::Stall));
        let load = Load::start(LoadOptions {
            connections: 4,
            count: Some(8000),
            rate: Some(8000.0),
            ..bed.agents()
        });
        bed.until("weir has said no", |s| s.ingress.publishes_refused_total >= 8)
            .await;
        bed.sinks[0][0].set(|b| b.answer(TmAnswer::Ok));
        let counts = load.finish().await.counts;
        assert_eq!(
            (counts.events_acked, counts.queue_full, counts.resets),
            (8000, 0, 0),
            "{counts:?}"
        );
        let said = bed.snapshot().await.ingress.publishes_refused_total;
        let verdict = bed.verdict().await.witness("gentle noes", said);
        assert!(verdict.ok(), "{verdict}");
        for group in &verdict.groups {
            assert_eq!((group.distinct, group.copies), (8000, 8000), "{verdict}");
        }
    });
}

#[test]
fn no_byte_comes_ahead_of_a_reply_whatever_happens_meanwhile() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            link: "heartbeat = { delay = 1, timeout_factor = 2.0 }",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let mut peers = [Peer::tcp(&bed).await, Peer::tls(&bed).await];
        let session = peers[0].login().await;
        for (n, peer) in peers.iter_mut().enumerate() {
            let origin = SCRIPTED + n as u32;
            assert_eq!(peer.ask(&bed.issue(&session, origin, 0, 1)).await, Answer::Ok);
            bed.acked(origin, 0, 1);
        }
        // Links end and come back, sessions end, others log in and out and send garbage.
        bed.sinks[0][0].kill(Close::Rst).await;
        let mut other = Peer::tcp(&bed).await;
        let foreign = other.login().await;
        assert_eq!(other.ask(&logout(&foreign)).await, Answer::Ok);
        assert_eq!(other.ask(b"\xff").await, RESET);
        bed.sinks[0][0].revive().await;
        bed.until("the link is back", |s| {
            s.groups[0].endpoints[0].connects_total == 2
        })
        .await;
        for (n, peer) in peers.iter_mut().enumerate() {
            let origin = SCRIPTED + n as u32;
            assert_eq!(
                peer.answer_within(Duration::from_millis(100)).await,
                Answer::Nothing
            );
            assert!(peer.ahead().is_empty());
            assert_eq!(peer.ask(&bed.issue(&session, origin, 1, 1)).await, Answer::Ok);
            bed.acked(origin, 1, 1);
        }
        let verdict = bed.verdict().await;
        assert!(verdict.ok() && verdict.acked == 4, "{verdict}");
    });
}

#[test]
fn idle_connections_are_not_hurried_and_those_idle_for_too_long_are_reset() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            listen: "frame_timeout = \"100ms\"\nreply_timeout = \"100ms\"\nhandshake_timeout = \"5s\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let hours = Duration::from_secs(3600);
        assert_eq!(
            bed.config.ingress.idle_timeout,
            Some(16 * hours),
            "longer than any site's 15 hours"
        );
        let mut peers = [Peer::tcp(&bed).await, Peer::tls(&bed).await];
        let session = peers[0].login().await;
        // Every other timeout passes several times.
        assert_eq!(
            peers[0].answer_within(Duration::from_millis(500)).await,
            Answer::Nothing
        );
        for (n, peer) in peers.iter_mut().enumerate() {
            let origin = SCRIPTED + n as u32;
            assert_eq!(peer.ask(&bed.issue(&session, origin, 0, 1)).await, Answer::Ok);
            bed.acked(origin, 0, 1);
        }
        assert_eq!(bed.snapshot().await.ingress.reset_idle_total, 0);
        bed.assert_clean(2).await;

        let bed = Bed::start(Plan {
            listen: "idle_timeout = \"1s\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let mut peer = Peer::tcp(&bed).await;
        peer.login().await;
        assert_eq!(peer.end().await, RESET, "never FIN");
        assert_eq!(bed.snapshot().await.ingress.reset_idle_total, 1);
    });
}
