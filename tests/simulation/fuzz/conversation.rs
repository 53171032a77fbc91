//! A gateway says anything: each answer is the one that a second, naive reading of the protocol expects.

use proptest::prelude::*;
use weir::wire::reply::{AUTHENTICATION, SESSION_TIMEOUT, UNDEFINED_EVENT_TYPE};
use weir::wire::request::{encode_login, encode_logout};
use weir_lab::gateway::{Answer, Gateway, frame};

use super::*;

/// Small, so that limits are met.
const FRAME_MAX: usize = 65536;
const EVENT_MAX: usize = 700;
const LIMITS: &str = "frame_max_bytes = 65536\nevent_max_bytes = 700";

/// One thing a gateway says.
#[derive(Debug, Clone)]
enum Said {
    Publish(u64),
    PublishUnknown,
    Login(&'static str),
    Logout(bool),
    /// The thing said, one byte of it another.
    Turned(Box<Said>, prop::sample::Index, u8),
    /// The thing said, and nothing after this byte.
    Cut(Box<Said>, prop::sample::Index),
    /// Any body behind a sound header.
    Body(u8, Vec<u8>),
    Bytes(Vec<u8>),
}

fn said() -> impl Strategy<Value = Said> {
    let sound = prop_oneof![
        6 => (0_u64..6).prop_map(Said::Publish),
        1 => (60_u64..120).prop_map(Said::Publish),
        1 => Just(Said::PublishUnknown),
        1 => prop::sample::select(vec!["admin", "wrong", ""]).prop_map(Said::Login),
        1 => any::<bool>().prop_map(Said::Logout),
    ]
    .boxed();
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 2, 0x7f, 0x80, 0xff])];
    prop_oneof![
        12 => sound.clone(),
        4 => (sound.clone(), any::<prop::sample::Index>(), byte)
            .prop_map(|(s, at, to)| Said::Turned(Box::new(s), at, to)),
        1 => (sound, any::<prop::sample::Index>()).prop_map(|(s, at)| Said::Cut(Box::new(s), at)),
        2 => (0_u8..3, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(k, b)| Said::Body(k, b)),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Said::Bytes),
    ]
}

fn bytes(said: &Said, session: &[u8], events: &Events, next: &mut u64) -> Vec<u8> {
    let mut out = Vec::new();
    match said {
        Said::Publish(count) => {
            out = frame(session, events, 1, *next, *count);
            *next += count;
        }
        Said::PublishUnknown => out = frame(b"unknown", events, 2, 0, 1),
        Said::Login(password) => encode_login(&mut out, "admin", password),
        Said::Logout(own) => encode_logout(&mut out, if *own { session } else { b"foreign" }),
        Said::Turned(said, at, to) => {
            out = bytes(said, session, events, next);
            let at = at.index(out.len());
            out[at] = *to;
        }
        Said::Cut(said, at) => {
            out = bytes(said, session, events, next);
            out.truncate(at.index(out.len()));
        }
        Said::Body(kind, body) => {
            out.push(*kind);
            out.extend(i32::try_from(body.len()).unwrap().to_be_bytes());
            out.extend(body);
        }
        Said::Bytes(bytes) => out.clone_from(bytes),
    }
    out
}

/// What the naive reading expects.
#[derive(Debug, Default)]
struct Expected {
    /// `ok`, `session`, or a class.
    answers: Vec<&'static str>,
    events: u64,
    reset: bool,
    left_over: bool,
}

/// Reads integers and fields off the front; `None` at the end or at a length that cannot be.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.bytes(4)?.try_into().unwrap()))
    }

    fn bytes(&mut self, n: i32) -> Option<&'a [u8]> {
        let n = usize::try_from(n).ok()?;
        let found = self.0.get(..n)?;
        self.0 = &self.0[n..];
        Some(found)
    }
}

fn credentials(body: &[u8]) -> Option<(&str, &str)> {
    let mut r = Reader(body);
    let (user, password) = (r.int()?, r.int()?);
    let (user, password) = (r.bytes(user)?, r.bytes(password)?);
    let sound = |b: &[u8]| !b.is_empty() && b.len() <= 1024;
    let whole = r.0.is_empty() && sound(user) && sound(password);
    let texts = (
        std::str::from_utf8(user).ok()?,
        std::str::from_utf8(password).ok()?,
    );
    whole.then_some(texts)
}

fn logged_out(body: &[u8]) -> Option<&[u8]> {
    let mut r = Reader(body);
    let length = r.int()?;
    let session = r.bytes(length)?;
    r.0.is_empty().then_some(session)
}

/// The session of a publish, and the number of its events unless they are malformed.
fn published(body: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let mut r = Reader(body);
    let length = r.int()?;
    Some((r.bytes(length)?, events(r)))
}

fn events(mut r: Reader<'_>) -> Option<u64> {
    let count = u64::try_from(r.int()?).ok()?;
    for _ in 0..count {
        let length = r.int()?;
        if r.bytes(length)?.len() > EVENT_MAX {
            return None;
        }
    }
    r.0.is_empty().then_some(count)
}

fn expect(mut input: &[u8], session: &[u8]) -> Expected {
    let mut expected = Expected::default();
    let mut logged_in = true;
    while let Some(&kind) = input.first() {
        if kind > 2 {
            expected.reset = true;
            break;
        }
        let mut r = Reader(&input[1..]);
        let Some(length) = r.int() else { break };
        if usize::try_from(length).is_ok_and(|l| l <= FRAME_MAX) {
            let Some(body) = r.bytes(length) else { break };
            input = r.0;
            expected.answers.push(match kind {
                0 => match credentials(body) {
                    Some(("admin", "admin")) => "session",
                    _ => AUTHENTICATION,
                },
                1 => match logged_out(body) {
                    Some(id) => {
                        logged_in &= id != session;
                        "ok"
                    }
                    None => UNDEFINED_EVENT_TYPE,
                },
                _ => match published(body) {
                    Some((id, _)) if id != session || !logged_in => SESSION_TIMEOUT,
                    Some((_, Some(count))) => {
                        expected.events += count;
                        "ok"
                    }
                    _ => UNDEFINED_EVENT_TYPE,
                },
            });
        } else {
            expected.reset = true;
            break;
        }
    }
    expected.left_over = !expected.reset && !input.is_empty();
    expected
}

fn converse(said: &[Said], seed: u64, ack: &'static str) {
    simulated(async {
        let plan = Plan {
            top: ack,
            listen: LIMITS,
            ..Plan::default()
        };
        let world = World::new(seed, &plan);
        let limit = Duration::from_secs(120);
        let dialer = dialer(&world.network);
        let mut gateway = Gateway::connect(&dialer, &weir_url()).await.unwrap();
        let Answer::Session(session) = gateway.login("admin", "admin", limit).await else {
            panic!("no session")
        };
        let events = Events::new(Sizes::Fixed(500), 0);
        let mut next = 0;
        let bytes: Vec<u8> = said
            .iter()
            .flat_map(|s| bytes(s, &session, &events, &mut next))
            .collect();
        let expected = expect(&bytes, &session);
        // A peer that resets has not read everything.
        let _ = gateway.send(&bytes).await;
        let mut answers = Vec::new();
        let end = loop {
            // Less than frame_timeout, more than a failed login is held back.
            match gateway.answer(Duration::from_secs(20)).await {
                Answer::Ok => answers.push("ok".to_owned()),
                Answer::Session(_) => answers.push("session".to_owned()),
                Answer::Error { class, .. } => answers.push(class),
                end => break end,
            }
        };
        if expected.reset {
            assert!(
                matches!(end, Answer::Reset(_)),
                "{end:?} after {answers:?}, expected {expected:?}"
            );
            // A reset may overtake what was answered before it.
            assert!(expected.answers.len() >= answers.len());
            assert_eq!(answers, expected.answers[..answers.len()]);
        } else {
            assert_eq!(answers, expected.answers);
            assert_eq!(end, Answer::Nothing, "expected {expected:?}");
            if expected.left_over {
                assert!(
                    matches!(gateway.answer(limit).await, Answer::Reset(_)),
                    "frame_timeout"
                );
            }
        }
        let snapshot = world.rest().await;
        let e = snapshot.groups[0].events;
        assert_eq!((e.accepted, e.delivered), (expected.events, expected.events));
        assert_eq!(world.sink.counts().events, expected.events);
        let i = snapshot.ingress;
        // With ack = "delivered" the reset may come before the events are delivered; the agent sends them again.
        let unanswered = expected.reset && ack.contains("delivered");
        assert!(i.events_ok_total == expected.events || unanswered && i.events_ok_total < expected.events);
        assert_eq!(i.reset_bad_input_total, u64::from(expected.reset));
        assert_eq!(i.reset_idle_total, u64::from(expected.left_over));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_in_any_pieces_gets_the_answers_of_a_naive_reading(
        said in prop::collection::vec(said(), 1..25), seed in any::<u64>(), delivered in any::<bool>()) {
        converse(&said, seed, if delivered { "ack = \"delivered\"" } else { "ack = \"accepted\"" });
    }
}

#[test]
fn a_logout_in_a_pipeline_ends_the_session_for_what_is_behind_it() {
    for seed in 0..20 {
        let said = [
            Said::Publish(3),
            Said::Logout(true),
            Said::Publish(2),
            Said::Login("admin"),
            Said::Publish(1),
        ];
        converse(&said, seed, "ack = \"delivered\"");
    }
}
