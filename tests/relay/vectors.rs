//! Captured bytes of the real Java client and server, read and written back by weir's wire.
//!
//! `tests/vectors/README.md` says where they come from and what is in them.

use std::collections::BTreeMap;
use std::path::Path;

use weir::wire::reply::{AUTHENTICATION, OK, Reply, SESSION_TIMEOUT};
use weir::wire::request::{encode_login, encode_logout, encode_publish_header};
use weir::wire::{Decoded, Decoder, Request, events};

const DECODER: Decoder = Decoder {
    frame_max_bytes: 16 << 20,
    event_max_bytes: 1 << 20,
};
const THROTTLE: &str = "org.wso2.throttle.request.stream:1.0.0";
const BLOCKING: &str = "org.wso2.blocking.request.stream:1.0.0";
const EVERY_TYPE: &str = "weir.every.type:1.0.0";

fn capture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every request of a capture, and that writing them again yields the same bytes.
fn requests(bytes: &[u8]) -> Vec<Request<'_>> {
    let (mut rest, mut found, mut written) = (bytes, Vec::new(), Vec::new());
    while !rest.is_empty() {
        match DECODER.decode(rest) {
            Ok(Decoded::Frame {
                request: Ok(request),
                length,
            }) => {
                encode(&mut written, &request);
                assert_eq!(
                    written,
                    &bytes[..bytes.len() - rest.len() + length],
                    "frame {}",
                    found.len()
                );
                found.push(request);
                rest = &rest[length..];
            }
            other => panic!("frame {}: {other:?}", found.len()),
        }
    }
    found
}

fn encode(out: &mut Vec<u8>, request: &Request<'_>) {
    match request {
        Request::Login { user, password } => encode_login(out, user, password),
        Request::Logout { session } => encode_logout(out, session),
        Request::Publish { session, events } => {
            encode_publish_header(out, session, events.count(), events.bytes().len());
            for event in events::iterate(events.bytes()) {
                let length = i32::try_from(event.bytes().len()).unwrap();
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(event.bytes());
            }
        }
    }
}

/// Every reply of a capture; written again it yields the same bytes.
fn replies(bytes: &[u8]) -> Vec<Reply<'_>> {
    let (mut rest, mut found, mut written) = (bytes, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (reply, length) = Reply::decode(rest).unwrap().expect("a whole reply");
        for cut in 0..length {
            assert_eq!(Reply::decode(&rest[..cut]), Ok(None), "cut at {cut}");
        }
        reply.encode(&mut written);
        found.push(reply);
        rest = &rest[length..];
    }
    assert_eq!(written, bytes);
    found
}

fn session(reply: &Reply<'_>) -> Vec<u8> {
    match reply {
        Reply::LoginOk { session } => {
            assert_eq!(session.len(), 36, "a UUID");
            session.to_vec()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_real_agent_logs_in_publishes_and_logs_out() {
    let login = capture("agent-5.4.9-login.client.bin");
    assert_eq!(
        requests(&login),
        [Request::Login {
            user: "admin",
            password: "admin"
        }]
    );
    let answer = capture("agent-5.4.9-login.server.bin");
    let id = session(&replies(&answer)[0]);
    let logout = capture("agent-5.4.9-logout.client.bin");
    assert_eq!(requests(&logout), [Request::Logout { session: &id }]);
    assert_eq!(replies(&capture("agent-5.4.9-logout.server.bin")), [Reply::Ok]);
    let publishes = capture("agent-5.4.9-publish.client.bin");
    for request in requests(&publishes) {
        assert!(matches!(request, Request::Publish { session, .. } if session == id));
    }

    let both = capture("agent-6.1.72-login-logout.client.bin");
    let answers = capture("agent-6.1.72-login-logout.server.bin");
    let answers = replies(&answers);
    let id = session(&answers[0]);
    assert_eq!(answers[1..], [Reply::Ok]);
    let expected = [
        Request::Login {
            user: "admin",
            password: "admin",
        },
        Request::Logout { session: &id },
    ];
    assert_eq!(requests(&both), expected);
}

#[test]
fn the_publish_captures_hold_607_events_of_three_streams() {
    for (version, frames) in [("5.4.9", 19), ("6.1.72", 21)] {
        let bytes = capture(&format!("agent-{version}-publish.client.bin"));
        let requests = requests(&bytes);
        assert_eq!(requests.len(), frames);
        let mut streams = BTreeMap::<String, usize>::new();
        let mut largest = 0;
        for request in &requests {
            let Request::Publish { events, .. } = request else {
                panic!("{request:?}")
            };
            largest = largest.max(events.count());
            for event in events::iterate(events.bytes()) {
                let stream = std::str::from_utf8(event.stream_id().unwrap()).unwrap();
                *streams.entry(stream.into()).or_default() += 1;
                let age = event.timestamp_ms().unwrap() - 1_700_000_000_000;
                assert!((0..1_000_000).contains(&age), "{age}");
            }
        }
        assert_eq!(streams.values().sum::<usize>(), 607, "{streams:?}");
        assert_eq!(
            streams.keys().collect::<Vec<_>>(),
            [BLOCKING, THROTTLE, EVERY_TYPE]
        );
        assert_eq!((streams[BLOCKING], streams[EVERY_TYPE]), (1, 1));
        if version == "5.4.9" {
            assert_eq!(largest, 169);
        }
        let answers = capture(&format!("agent-{version}-publish.server.bin"));
        assert_eq!(replies(&answers), vec![Reply::Ok; frames]);
    }
}

#[test]
fn every_split_of_a_capture_yields_the_same_frames() {
    for name in [
        "agent-5.4.9-login.client.bin",
        "receiver-5.4.9-pipelined-ok-expired-ok.request.bin",
    ] {
        let bytes = capture(name);
        for cut in 0..=bytes.len() {
            let mut frames = 0;
            let (mut at, mut seen) = (0, cut);
            loop {
                match DECODER.decode(&bytes[at..seen]).unwrap() {
                    Decoded::Frame { length, .. } => {
                        at += length;
                        frames += 1;
                    }
                    Decoded::Incomplete { needed } if seen < bytes.len() => {
                        assert!(needed > seen - at);
                        seen = bytes.len();
                    }
                    Decoded::Incomplete { .. } => break,
                }
            }
            assert_eq!(
                (frames, at),
                (requests(&bytes).len(), bytes.len()),
                "cut at {cut}"
            );
        }
    }
    // The large ones: at every byte of their first frames, where a cut can hit each kind of field.
    for name in [
        "agent-5.4.9-publish.client.bin",
        "agent-6.1.72-publish.client.bin",
    ] {
        let bytes = capture(name);
        let Ok(Decoded::Frame { length, .. }) = DECODER.decode(&bytes) else {
            panic!()
        };
        for cut in 0..length {
            let decoded = DECODER.decode(&bytes[..cut]);
            assert!(
                matches!(decoded, Ok(Decoded::Incomplete { needed }) if needed > cut && needed <= length),
                "{decoded:?}"
            );
        }
    }
}

#[test]
fn a_real_receiver_says_what_its_capture_is_called() {
    let expired = |reply: &Reply<'_>, request: &Request<'_>| {
        let Request::Publish { session, .. } = request else {
            panic!("{request:?}")
        };
        let expected = Reply::Error {
            class: SESSION_TIMEOUT,
            message: format!("{} expired", std::str::from_utf8(session).unwrap()),
        };
        assert_eq!(*reply, expected);
    };
    let files = |name: &str| {
        (
            capture(&format!("receiver-5.4.9-{name}.request.bin")),
            capture(&format!("receiver-5.4.9-{name}.reply.bin")),
        )
    };

    let (asked, answered) = files("login-ok");
    assert!(matches!(requests(&asked)[..], [Request::Login { .. }]));
    let [reply] = &replies(&answered)[..] else {
        panic!()
    };
    session(reply);

    let (asked, answered) = files("login-wrong-password");
    assert!(matches!(requests(&asked)[..], [Request::Login { .. }]));
    let refused = Reply::Error {
        class: AUTHENTICATION,
        message: "wrong userName or password".into(),
    };
    assert_eq!(replies(&answered), [refused]);

    for name in ["publish-unknown-session", "publish-after-logout"] {
        let (asked, answered) = files(name);
        let (asked, answered) = (requests(&asked), replies(&answered));
        assert_eq!((asked.len(), answered.len()), (1, 1), "{name}");
        expired(&answered[0], &asked[0]);
    }

    let (asked, answered) = files("publish-zero-events");
    let asked = requests(&asked);
    assert!(matches!(&asked[..], [Request::Publish { events, .. }] if events.count() == 0));
    assert_eq!(replies(&answered), [Reply::Ok]);

    let (asked, answered) = files("logout");
    assert!(matches!(requests(&asked)[..], [Request::Logout { .. }]));
    assert_eq!(answered, [OK]);

    let (asked, answered) = files("pipelined-three");
    assert_eq!(requests(&asked).len(), 3);
    assert_eq!(replies(&answered), vec![Reply::Ok; 3]);

    let (asked, answered) = files("pipelined-ok-expired-ok");
    let (asked, answered) = (requests(&asked), replies(&answered));
    assert_eq!((asked.len(), answered.len()), (3, 3));
    assert_eq!((&answered[0], &answered[2]), (&Reply::Ok, &Reply::Ok));
    expired(&answered[1], &asked[1]);
}
