//! Sessions that are unknown, over or somebody else's, and probes that never open one.

use weir::config::Config;
use weir::ingress::token::Tokens;

use super::*;
use crate::support::{log, story_alone};

fn short_sessions(config: &mut Config) {
    config.auth.session_ttl = Duration::from_millis(400);
}

#[test]
fn sessions_that_expire_all_the_time_cost_logins_and_nothing_else() {
    story(async {
        let bed = Bed::start(Plan {
            tune: Some(short_sessions),
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 6,
            rate: Some(3000.0),
            ..bed.agents()
        });
        bed.until("each has seen three sessions expire", |s| {
            s.ingress.session_errors_total >= 3 * 6
        })
        .await;
        load.stop();
        let counts = load.finish().await.counts;
        let failures = [
            counts.resets,
            counts.reply_timeouts,
            counts.login_failures,
            counts.queue_full,
            counts.acked_by_fin,
            counts.given_up,
        ];
        assert_eq!(failures, [0; 6], "{counts:?}");
        let expired = bed.snapshot().await.ingress.session_errors_total;
        assert!(counts.logins <= 6 + expired, "at most a login each: {counts:?}");
        let verdict = bed.verdict().await.witness("sessions expired", expired);
        assert!(verdict.ok(), "{verdict}");
        for group in &verdict.groups {
            assert_eq!(
                (group.distinct, group.copies),
                (verdict.issued, verdict.issued),
                "{verdict}"
            );
        }
    });
}

#[test]
fn an_unknown_session_is_asked_to_log_in_and_its_events_are_not_taken() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = bed.healthy().await;
        let other = Tokens::new(Some("the secret of another weir"))
            .unwrap()
            .issue(&bed.config.auth.users[0], 0, i64::MAX)
            .unwrap();
        let mut peer = Peer::tcp(&bed).await;
        let unknown = [
            "5d7c1f3a-0000-4000-8000-000000000000".as_bytes(),
            other.as_bytes(),
            b"",
            b"x",
            b"\xff\xfe\n\x1b[2J",
            &[b'a'; 5000],
        ];
        for session in unknown {
            let frame = weir_lab::gateway::frame(session, bed.judge.oracle().events(), SCRIPTED, 0, 1);
            let answer = peer.ask(&frame).await;
            let (class, message) = error(&answer);
            assert_eq!(class, "SessionTimeoutException");
            let shown: String = session.escape_ascii().to_string().chars().take(64).collect();
            assert_eq!(message, format!("{shown} expired"));
            assert!(
                peer.ahead().is_empty(),
                "its length is right, whatever the session was"
            );
        }
        // What follows the session is not looked at: 1 byte of session, half a count.
        let answer = peer.ask(&[2, 0, 0, 0, 7, 0, 0, 0, 1, b'x', 0, 0]).await;
        assert_eq!(error(&answer), ("SessionTimeoutException", "x expired"));
        let session = peer.login().await;
        let frame = bed.issue(&session, SCRIPTED, 0, 1);
        assert_eq!(peer.ask(&frame).await, Answer::Ok, "the connection goes on");
        bed.acked(SCRIPTED, 0, 1);
        let refused = bed.snapshot().await.ingress.session_errors_total;
        assert_eq!(refused, unknown.len() as u64 + 1);
        bed.unharmed(load, ("refused", refused)).await;
    });
}

#[test]
fn a_logout_of_a_foreign_session_ends_no_other() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = bed.healthy().await;
        let mut peer = Peer::tcp(&bed).await;
        let (mine, again) = (peer.login().await, peer.login().await);
        assert_ne!(mine, again, "each login has a session of its own");
        let foreign = Tokens::new(None).unwrap();
        let foreign = foreign.issue(&bed.config.auth.users[0], 0, i64::MAX).unwrap();
        let mut turned = mine.clone();
        *turned.last_mut().unwrap() ^= 1;
        for session in [foreign.as_bytes(), &turned, b"", b"nobody"] {
            assert_eq!(
                peer.ask(&logout(session)).await,
                Answer::Ok,
                "as a Traffic Manager answers"
            );
        }
        for (n, session) in [&mine, &again].into_iter().enumerate() {
            let frame = bed.issue(session, SCRIPTED, n as u64, 1);
            assert_eq!(peer.ask(&frame).await, Answer::Ok);
            bed.acked(SCRIPTED, n as u64, 1);
        }
        let logouts = bed.snapshot().await.ingress.logouts_total;
        assert_eq!(logouts, 4);
        bed.unharmed(load, ("foreign logouts", logouts)).await;
    });
}

#[test]
fn a_logout_on_one_connection_ends_the_session_on_all_of_every_worker() {
    story(async {
        let bed = Bed::start_cold(Plan {
            top: "workers = 2",
            ..Plan::groups(&["one"])
        })
        .await;
        let load = bed.healthy().await;
        let mut login_connection = Peer::tcp(&bed).await;
        let session = login_connection.login().await;
        let other = login_connection.login().await;
        let mut data = Vec::new();
        for n in 0..8 {
            let mut peer = Peer::tcp(&bed).await;
            let frame = bed.issue(&session, SCRIPTED + n, 0, 1);
            assert_eq!(peer.ask(&frame).await, Answer::Ok);
            bed.acked(SCRIPTED + n, 0, 1);
            data.push((n, peer));
        }
        assert_eq!(login_connection.ask(&logout(&session)).await, Answer::Ok);
        for (n, peer) in &mut data {
            let frame = weir_lab::gateway::frame(&session, bed.judge.oracle().events(), SCRIPTED + *n, 1, 1);
            assert_eq!(error(&peer.ask(&frame).await).0, "SessionTimeoutException");
            let frame = bed.issue(&other, SCRIPTED + *n, 1, 1);
            assert_eq!(peer.ask(&frame).await, Answer::Ok, "the other session lives");
            bed.acked(SCRIPTED + *n, 1, 1);
        }
        let refused = bed.snapshot().await.ingress.session_errors_total;
        assert_eq!(refused, 8);
        bed.unharmed(load, ("publishes after the logout", refused)).await;
    });
}

#[test]
fn the_agents_probes_leave_no_line_and_no_error() {
    story_alone(async {
        log::keep();
        const PROBES: u64 = 200;
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = bed.healthy().await;
        let before = bed.snapshot().await.ingress;
        let connections = load.counts().connections;
        // The healthy gateways probe, too, every ten seconds.
        let own = || load.counts().connections - connections;
        let mut probes = Vec::new();
        for n in 0..PROBES {
            let peer = Peer::tcp(&bed).await;
            probes.push(peer.address);
            if n % 2 == 0 {
                peer.close().await
            } else {
                peer.abort()
            }
        }
        let after = bed
            .until("all are gone", |s| {
                s.ingress.closed_by_peer_total - before.closed_by_peer_total == PROBES + own()
            })
            .await
            .ingress;
        // What the healthy load moves apart, nothing else has moved.
        let mut quiet = before;
        quiet.accepted_total =
            before.accepted_total + after.closed_by_peer_total - before.closed_by_peer_total;
        quiet.closed_by_peer_total = after.closed_by_peer_total;
        quiet.received_bytes_total = after.received_bytes_total;
        quiet.frames_total = after.frames_total;
        quiet.publishes_ok_total = after.publishes_ok_total;
        quiet.events_ok_total = after.events_ok_total;
        assert_eq!(after, quiet);
        // The log is listened to: one bad peer has a line, none of the probes has.
        let mut bad = Peer::tcp(&bed).await;
        bad.send(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(bad.end().await, RESET);
        assert_eq!(log::lines(bad.address).len(), 1);
        assert!(probes.iter().all(|p| log::lines(*p).is_empty()));
        bed.unharmed(load, ("probes", PROBES)).await;
    });
}

#[test]
fn thirty_six_leaked_zero_bytes_get_seven_errors_and_are_reaped() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            listen: "frame_timeout = \"400ms\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let load = bed.healthy().await;
        let mut probes = Vec::new();
        for _ in 0..5 {
            let mut peer = Peer::tls(&bed).await;
            peer.send(&[0; 36]).await.unwrap();
            probes.push(peer);
        }
        for peer in &mut probes {
            for _ in 0..7 {
                let answer = peer.answer().await;
                assert_eq!(
                    error(&answer),
                    ("AuthenticationException", "the body ends before a length")
                );
            }
            assert_eq!(
                peer.end().await,
                RESET,
                "the lone byte is waited for no longer than frame_timeout"
            );
        }
        let i = bed
            .until("all are reaped", |s| s.ingress.reset_idle_total == 5)
            .await
            .ingress;
        assert_eq!(
            (i.malformed_total, i.logins_failed_total, i.connections_tls),
            (35, 0, 0)
        );
        bed.unharmed(load, ("leaked probes", i.reset_idle_total)).await;
    });
}
