//! One wrong frame at a time.

use super::*;

#[test]
fn a_frame_length_that_cannot_be_is_a_reset() {
    story(async {
        let (bed, load, session) = ready(Plan::groups(&["one", "two"])).await;
        let mut cases: Vec<Case> = Vec::new();
        for kind in 0..3 {
            for length in [-1, i32::MIN, (16 << 20) + 1, i32::MAX - 4, i32::MAX] {
                cases.push(("length", [&[kind], &int(length)[..]].concat(), None));
            }
        }
        for kind in 0..2 {
            let long = (64 << 10) + 1;
            cases.push((
                "a control frame over 64 KiB",
                [&[kind], &int(long)[..]].concat(),
                None,
            ));
        }
        let seen = hold(&bed, &session, &cases).await;
        assert_eq!(seen.unknown_type_total, 0);
        bed.unharmed(load, ("resets", seen.reset_bad_input_total)).await;
    });
}

#[test]
fn an_empty_body_or_lengths_that_overflow_their_sum_are_answered() {
    story(async {
        let (bed, load, session) = ready(Plan::groups(&["one"])).await;
        let max = int(i32::MAX);
        let cases: Vec<Case> = vec![
            ("login, length 0", framed(0, &[]), Some((AUTHENTICATION, SHORT))),
            ("logout, length 0", framed(1, &[]), Some((UNDEFINED, SHORT))),
            ("publish, length 0", framed(2, &[]), Some((UNDEFINED, SHORT))),
            (
                "login, both lengths the largest",
                framed(0, &[&max, &max, b"ab"]),
                Some((AUTHENTICATION, PAST)),
            ),
            (
                "login, the second length the largest",
                framed(0, &[&int(1), &max, b"ab"]),
                Some((AUTHENTICATION, PAST)),
            ),
            (
                "logout, the largest",
                framed(1, &[&max, b"a"]),
                Some((UNDEFINED, PAST)),
            ),
            (
                "publish, the session's the largest",
                framed(2, &[&max, &max]),
                Some((UNDEFINED, PAST)),
            ),
            (
                "publish, the count the largest",
                framed(2, &[&int(session.len() as i32), &session, &max, &[0; 64]]),
                Some((UNDEFINED, "the event count is larger than the body holds")),
            ),
            (
                "publish, an event's the largest",
                framed(2, &[&int(session.len() as i32), &session, &int(2), &max, &max]),
                Some((UNDEFINED, "an event is larger than event_max_bytes")),
            ),
        ];
        let seen = hold(&bed, &session, &cases).await;
        bed.unharmed(load, ("answered", seen.malformed_total)).await;
    });
}

#[test]
fn an_unknown_type_http_and_tls_on_the_plain_port_are_a_reset() {
    story(async {
        let (bed, load, session) = ready(Plan::groups(&["one"])).await;
        let mut cases: Vec<Case> = vec![
            (
                "HTTP",
                b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n".to_vec(),
                None,
            ),
            ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), None),
            ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], None),
            ("AMQP", b"AMQP\x00\x00\x09\x01".to_vec(), None),
            ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), None),
        ];
        cases.extend([3, 4, 0x7f, 0x80, 0xff].map(|kind| ("type", vec![kind], None)));
        let seen = hold(&bed, &session, &cases).await;
        assert_eq!(seen.unknown_type_total, cases.len() as u64);
        bed.unharmed(load, ("unknown types", seen.unknown_type_total))
            .await;
    });
}

#[test]
fn plain_bytes_on_the_tls_port_are_a_failed_handshake() {
    story(async {
        let (bed, load, session) = ready(Plan {
            tls: true,
            ..Plan::groups(&["one"])
        })
        .await;
        let inputs = [
            login("admin", "admin"),
            frame(&session, bed.judge.oracle().events(), SCRIPTED, 0, 1),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0; 36],
            vec![0xff; 20_000],
        ];
        for bytes in &inputs {
            let mut peer = Peer::below_tls(&bed).await;
            // The reset may come before everything is written.
            let _ = peer.send(bytes).await;
            // A TLS alert may come first; it is no reply.
            let mut waste = Vec::new();
            let end = tokio::io::AsyncReadExt::read_to_end(&mut peer.stream, &mut waste).await;
            assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
        let i = bed
            .until("all are gone", |s| s.ingress.connections_tls == 0)
            .await
            .ingress;
        assert_eq!(
            (i.handshake_failed_total, i.logins_ok_total, i.malformed_total),
            (inputs.len() as u64, 1 + 4, 0)
        );
        bed.unharmed(load, ("failed handshakes", i.handshake_failed_total))
            .await;
    });
}

#[test]
fn publish_before_login_is_asked_to_log_in_and_two_logins_are_two_sessions() {
    story(async {
        let (bed, load, _) = ready(Plan::groups(&["one"])).await;
        let mut peer = Peer::tcp(&bed).await;
        let early = frame(b"", bed.judge.oracle().events(), SCRIPTED, 0, 1);
        assert_eq!(
            error(&peer.ask(&early).await),
            ("SessionTimeoutException", " expired")
        );
        let (one, two) = (peer.login().await, peer.login().await);
        assert_ne!(one, two);
        for (n, session) in [&one, &two, &one].into_iter().enumerate() {
            assert_eq!(
                peer.ask(&bed.issue(session, SCRIPTED, n as u64, 1)).await,
                Answer::Ok
            );
            bed.acked(SCRIPTED, n as u64, 1);
        }
        assert_eq!(peer.ask(&logout(b"a foreign session")).await, Answer::Ok);
        let i = bed.snapshot().await.ingress;
        assert_eq!((i.session_errors_total, i.malformed_total), (1, 0));
        bed.unharmed(load, ("publishes before login", i.session_errors_total))
            .await;
    });
}

#[test]
fn garbage_behind_a_good_frame_costs_that_frame_nothing() {
    story(async {
        let (bed, load, session) = ready(Plan::groups(&["one", "two"])).await;
        for n in 0..20 {
            let mut peer = Peer::tcp(&bed).await;
            let mut bytes = bed.issue(&session, SCRIPTED + n, 0, 3);
            bytes.extend(b"\x17garbage");
            assert_eq!(
                peer.ask(&bytes).await,
                Answer::Ok,
                "the good frame is answered first"
            );
            bed.acked(SCRIPTED + n, 0, 3);
            assert_eq!(peer.answer().await, RESET);
        }
        let i = bed.snapshot().await.ingress;
        assert_eq!((i.reset_bad_input_total, i.unknown_type_total), (20, 20));
        bed.unharmed(load, ("resets", i.reset_bad_input_total)).await;
    });
}
