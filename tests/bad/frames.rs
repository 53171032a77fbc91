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
                framed(2, &[&int(1), b"s", &max, &[0; 64]]),
                Some((UNDEFINED, "the event count is larger than the body holds")),
            ),
            (
                "publish, an event's the largest",
                framed(2, &[&int(1), b"s", &int(2), &max, &max]),
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
            (inputs.len() as u64, 2, 0)
        );
        bed.unharmed(load, ("failed handshakes", i.handshake_failed_total))
            .await;
    });
}

#[test]
fn session_user_and_password_lengths_are_checked_one_by_one() {
    story(async {
        let (bed, load, session) = ready(Plan::groups(&["one"])).await;
        const CREDENTIAL: &str = "user or password is empty or too long";
        let refused = |why| Some((AUTHENTICATION, why));
        let dropped = |why| Some((UNDEFINED, why));
        let long = vec![b'p'; 1025];
        let mebibyte = "p".repeat(1 << 20);
        let cases: Vec<Case> = vec![
            ("half a length", framed(0, &[&[0, 0]]), refused(SHORT)),
            ("one length", framed(0, &[&int(5)]), refused(SHORT)),
            (
                "user negative",
                framed(0, &[&int(-1), &int(5), b"adminadmin"]),
                refused(NEGATIVE),
            ),
            (
                "password negative",
                framed(0, &[&int(5), &int(-5), b"adminadmin"]),
                refused(NEGATIVE),
            ),
            (
                "user past the body",
                framed(0, &[&int(50), &int(5), b"adminadmin"]),
                refused(PAST),
            ),
            (
                "password past the body",
                framed(0, &[&int(5), &int(6), b"adminadmin"]),
                refused(PAST),
            ),
            (
                "bytes left over",
                framed(0, &[&int(5), &int(4), b"adminadmin"]),
                refused(LEFT_OVER),
            ),
            (
                "user not UTF-8",
                framed(0, &[&int(2), &int(1), b"\xc3\x28p"]),
                refused("user or password is not UTF-8"),
            ),
            (
                "password not UTF-8",
                framed(0, &[&int(1), &int(2), b"u\xff\xfe"]),
                refused("user or password is not UTF-8"),
            ),
            ("no user", login("", "admin"), refused(CREDENTIAL)),
            ("no password", login("admin", ""), refused(CREDENTIAL)),
            (
                "a long password",
                framed(0, &[&int(1), &int(1025), b"u", &long]),
                refused(CREDENTIAL),
            ),
            ("a password of 1 MiB", login("admin", &mebibyte), None),
            ("logout: half a length", framed(1, &[&[0, 0, 0]]), dropped(SHORT)),
            (
                "logout: negative",
                framed(1, &[&int(-36), b"x"]),
                dropped(NEGATIVE),
            ),
            (
                "logout: past the body",
                framed(1, &[&int(36), b"x"]),
                dropped(PAST),
            ),
            (
                "logout: bytes left over",
                framed(1, &[&int(1), b"xy"]),
                dropped(LEFT_OVER),
            ),
            ("publish: half a length", framed(2, &[&[0]]), dropped(SHORT)),
            (
                "publish: negative",
                framed(2, &[&int(-1), &int(0)]),
                dropped(NEGATIVE),
            ),
            (
                "publish: past the body",
                framed(2, &[&int(64), &int(0)]),
                dropped(PAST),
            ),
            ("publish: no count", framed(2, &[&int(1), b"s"]), dropped(SHORT)),
            (
                "publish: half a count",
                framed(2, &[&int(1), b"s", &[0, 0]]),
                dropped(SHORT),
            ),
        ];
        let seen = hold(&bed, &session, &cases).await;
        let i = bed.snapshot().await.ingress;
        assert_eq!(
            i.logins_failed_total, 0,
            "none of them was a login that could be checked"
        );
        bed.unharmed(load, ("answered", seen.malformed_total)).await;
    });
}

#[test]
fn counts_and_event_lengths_must_fit_the_bytes_exactly() {
    story(async {
        let (bed, load, session) = ready(Plan {
            listen: "event_max_bytes = 1000",
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let head = |count: i32| [&int(64)[..], &session, &int(count)].concat();
        let event = [&int(5)[..], b"event"].concat();
        let large = [&int(1001)[..], &[b'e'; 1001]].concat();
        let wrong = |why| Some((UNDEFINED, why));
        const OVER: &str = "the event count is larger than the body holds";
        const PAST_END: &str = "an event runs past the body";
        let cases: Vec<Case> = vec![
            (
                "count negative",
                framed(2, &[&head(-1), &event]),
                wrong("the event count is negative"),
            ),
            (
                "count least",
                framed(2, &[&head(i32::MIN), &event]),
                wrong("the event count is negative"),
            ),
            (
                "count over the bytes",
                framed(2, &[&head(3), &event]),
                wrong(OVER),
            ),
            ("count without bytes", framed(2, &[&head(1)]), wrong(OVER)),
            (
                "one event more than there are",
                framed(2, &[&head(2), &event]),
                wrong(PAST_END),
            ),
            (
                "bytes left over",
                framed(2, &[&head(1), &event, &event]),
                wrong(LEFT_OVER),
            ),
            (
                "one byte left over",
                framed(2, &[&head(1), &event, b"x"]),
                wrong(LEFT_OVER),
            ),
            (
                "bytes and no event",
                framed(2, &[&head(0), b"x"]),
                wrong(LEFT_OVER),
            ),
            (
                "event negative",
                framed(2, &[&head(1), &int(-5), b"event"]),
                wrong("an event length is negative"),
            ),
            (
                "event past the end",
                framed(2, &[&head(1), &int(6), b"event"]),
                wrong(PAST_END),
            ),
            (
                "the second past the end",
                framed(2, &[&head(2), &event, &int(6), b"event"]),
                wrong(PAST_END),
            ),
            (
                "event too large",
                framed(2, &[&head(1), &large]),
                wrong("an event is larger than event_max_bytes"),
            ),
        ];
        let seen = hold(&bed, &session, &cases).await;
        bed.unharmed(load, ("answered", seen.malformed_total)).await;
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
