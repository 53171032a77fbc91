//! What bad peers may write into the log: one line at most, and nothing that steers a terminal.

use super::*;
use crate::support::{log, story_alone};

#[test]
fn credentials_with_newlines_and_escapes_stay_on_one_line() {
    story_alone(async {
        log::keep();
        let nasty = [
            "admin\n2026-01-01T00:00:00Z ERROR weir: forged",
            "admin\r\x1b[2J\x1b]0;owned\x07",
            "\u{9b}31m\u{202e}nimda\u{2028}x\0",
        ];
        for (user, password) in nasty.into_iter().zip(["a\nb", "\x1b[31m", "pass\0word"]) {
            // A bed each: within ten seconds a worker warns once.
            let (bed, load, _) = ready(Plan::groups(&["one"])).await;
            let mut peer = Peer::tcp(&bed).await;
            assert_eq!(
                error(&peer.ask(&login(user, password)).await),
                (AUTHENTICATION, "wrong userName or password")
            );
            let lines = log::lines(peer.address);
            let [line] = &lines[..] else { panic!("{lines:?}") };
            assert!(line.contains("login failed") && line.contains("(user "), "{line}");
            assert!(
                line.starts_with("20") && line.contains(" WARN "),
                "a line of weir's own: {line}"
            );
            let steers = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}');
            assert!(!line.contains(steers), "{line:?}");
            assert!(!line.contains(password), "a password has no place in a log");
            let i = bed.snapshot().await.ingress;
            bed.unharmed(load, ("failed logins", i.logins_failed_total)).await;
        }
    });
}

#[test]
fn a_session_id_that_steers_is_answered_harmlessly_and_is_not_logged() {
    story_alone(async {
        log::keep();
        let (bed, load, _) = ready(Plan::groups(&["one"])).await;
        let mut peer = Peer::tcp(&bed).await;
        let nasty = frame(b"a\nb\x1b[2J\xff", bed.judge.oracle().events(), SCRIPTED, 0, 1);
        let answer = peer.ask(&nasty).await;
        assert_eq!(
            error(&answer),
            ("SessionTimeoutException", "a\\nb\\x1b[2J\\xff expired")
        );
        assert!(log::lines(peer.address).is_empty());
        let i = bed.snapshot().await.ingress;
        bed.unharmed(load, ("session errors", i.session_errors_total))
            .await;
    });
}

#[test]
fn a_thousand_bad_peers_write_one_line_in_ten_seconds() {
    story_alone(async {
        log::keep();
        const BAD: u64 = 1000;
        let (bed, load, _) = ready(Plan::groups(&["one"])).await;
        let mut written = Vec::new();
        for _ in 0..BAD {
            let mut peer = Peer::tcp(&bed).await;
            peer.send(b"\xffnonsense").await.unwrap();
            written.push(peer.address);
            assert_eq!(peer.end().await, RESET);
        }
        // A port may be used twice.
        written.sort();
        written.dedup();
        let lines: usize = written.iter().map(|p| log::lines(*p).len()).sum();
        assert!((1..=6).contains(&lines), "{lines} lines");
        let i = bed.snapshot().await.ingress;
        assert_eq!(i.unknown_type_total, BAD);
        bed.unharmed(load, ("bad peers", i.unknown_type_total)).await;
    });
}
