//! Borders that are sound around fields that are not.

use super::*;

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
                framed(2, &[&int(session.len() as i32), &int(0)]),
                dropped(PAST),
            ),
            (
                "publish: no count",
                framed(2, &[&int(session.len() as i32), &session]),
                dropped(SHORT),
            ),
            (
                "publish: half a count",
                framed(2, &[&int(session.len() as i32), &session, &[0, 0]]),
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
        let head = |count: i32| [&int(session.len() as i32)[..], &session, &int(count)].concat();
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
