//! How long a gateway may be silent, and may wait, in virtual time.

use std::io::Write;
use std::sync::Mutex;

use tokio::time::Instant;
use weir::config::{Log, LogFormat};
use weir_lab::gateway::{Answer, Gateway, frame};
use weir_lab::sink::Answer as TmAnswer;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

async fn connect(world: &World) -> Gateway {
    Gateway::connect(&dialer(&world.network), &weir_url())
        .await
        .unwrap()
}

async fn session(gateway: &mut Gateway) -> Vec<u8> {
    match gateway.login("admin", "admin", LIMIT).await {
        Answer::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

fn publish(session: &[u8], sequence: u64) -> Vec<u8> {
    frame(session, &Events::new(Sizes::Fixed(500), 0), 1, sequence, 1)
}

#[test]
fn silence_counts_from_the_answer_not_from_before_the_wait() {
    simulated(async {
        let plans = [
            ("a full queue", "", "max_events = 1\nblock_timeout = \"never\""),
            (
                "ack = \"delivered\"",
                "ack = \"delivered\"",
                "unavailable_after = \"never\"",
            ),
        ];
        for (what, top, queue) in plans {
            let plan = Plan {
                top,
                queue,
                listen: "idle_timeout = \"2s\"\nreply_timeout = \"5s\"",
                ..Plan::default()
            };
            let world = World::new(1, &plan);
            world.sink.set(|b| b.answer(TmAnswer::Stall));
            let mut gateway = connect(&world).await;
            let session = session(&mut gateway).await;
            if top.is_empty() {
                assert_eq!(gateway.ask(&publish(&session, 0), LIMIT).await, Answer::Ok);
            }
            let began = Instant::now();
            let answer = gateway.ask(&publish(&session, 1), LIMIT).await;
            assert!(matches!(answer, Answer::Error { .. }), "{what}: {answer:?}");
            assert!(began.elapsed() >= 5 * SECOND, "{what}: it waited");
            assert_eq!(
                gateway.answer(SECOND).await,
                Answer::Nothing,
                "{what}: no reset behind the answer"
            );
            assert!(
                matches!(gateway.answer(2 * SECOND).await, Answer::Reset(_)),
                "{what}: idle_timeout"
            );
            assert_eq!(world.worker.snapshot().ingress.reset_idle_total, 1);
        }
    });
}

#[test]
fn silence_counts_from_the_answer_to_a_login_that_was_slowed_down() {
    simulated(async {
        let plan = Plan {
            listen: "idle_timeout = \"2s\"",
            ..Plan::default()
        };
        let world = World::new(1, &plan);
        let mut gateway = connect(&world).await;
        session(&mut gateway).await;
        loop {
            let began = Instant::now();
            let answer = gateway.login("admin", "wrong", LIMIT).await;
            assert!(matches!(answer, Answer::Error { .. }), "{answer:?}");
            if began.elapsed() > 4 * SECOND {
                break;
            }
        }
        assert_eq!(gateway.answer(SECOND).await, Answer::Nothing);
    });
}

#[test]
fn a_connection_without_a_login_or_a_valid_session_is_reset_after_first_frame_timeout() {
    simulated(async {
        let world = World::new(1, &Plan::default());
        let mut login = connect(&world).await;
        let session = session(&mut login).await;
        let mut data = connect(&world).await;
        assert_eq!(data.ask(&publish(&session, 0), LIMIT).await, Answer::Ok);
        // Nothing, half a header, a wrong password, and a session that nobody has issued.
        let mut unknown = [
            connect(&world).await,
            connect(&world).await,
            connect(&world).await,
            connect(&world).await,
        ];
        unknown[1].send(&[2, 0]).await.unwrap();
        let refused = unknown[2].login("admin", "wrong", LIMIT).await;
        assert!(matches!(refused, Answer::Error { .. }), "{refused:?}");
        let refused = unknown[3].ask(&publish(b"nobody", 0), LIMIT).await;
        assert!(matches!(refused, Answer::Error { .. }), "{refused:?}");
        // One that keeps talking without showing a session is no better.
        let mut talker = connect(&world).await;
        for _ in 0..29 {
            sleep(SECOND).await;
            let refused = talker.ask(&publish(b"nobody", 0), LIMIT).await;
            assert!(matches!(refused, Answer::Error { .. }), "{refused:?}");
        }
        assert_eq!(world.worker.snapshot().ingress.connections_tcp, 7);
        sleep(2 * SECOND).await;
        assert_eq!(world.worker.snapshot().ingress.reset_no_session_total, 5);
        for gateway in unknown.iter_mut().chain([&mut talker]) {
            assert!(matches!(gateway.answer(SECOND).await, Answer::Reset(_)));
        }
        // The other two are as silent for as long as idle_timeout allows.
        sleep(15 * 3600 * SECOND).await;
        assert_eq!(world.worker.snapshot().ingress.connections_tcp, 2);
        assert_eq!(login.ask(&publish(&session, 1), LIMIT).await, Answer::Ok);
        assert_eq!(data.ask(&publish(&session, 2), LIMIT).await, Answer::Ok);
    });
}

/// 1.5 MB in three events: more than the part of the smallest budget that is for large frames.
fn large(session: &[u8], sequence: u64) -> Vec<u8> {
    frame(session, &Events::new(Sizes::Fixed(500_000), 0), 1, sequence, 3)
}

const SMALL_BUDGET: &str =
    "partial_max_bytes = \"1MiB\"\nreply_timeout = \"5s\"\nframe_timeout = \"4s\"\nidle_timeout = \"4s\"";

#[test]
fn a_frame_that_finds_no_memory_waits_and_is_refused_gently_while_small_ones_pass() {
    simulated(async {
        let plan = Plan {
            listen: SMALL_BUDGET,
            ..Plan::default()
        };
        let world = World::new(1, &plan);
        let (mut first, mut second, mut third) = (
            connect(&world).await,
            connect(&world).await,
            connect(&world).await,
        );
        let session = session(&mut first).await;
        let bytes = large(&session, 0);
        let (front, mut rest) = bytes.split_at(bytes.len() - 20);
        first.send(front).await.unwrap();
        sleep(SECOND).await;
        assert!(world.worker.snapshot().ingress.partial_bytes > 0);
        // The first one is slow, but not silent; the second waits longer than either timeout of silence.
        let slow = async {
            for _ in 0..7 {
                sleep(SECOND).await;
                first.send(&rest[..1]).await.unwrap();
                rest = &rest[1..];
            }
        };
        let refused = async {
            let began = Instant::now();
            let answer = second.ask(&large(&session, 3), LIMIT).await;
            assert!(began.elapsed() >= 5 * SECOND, "it waited");
            let Answer::Error { class, message } = answer else {
                panic!("{answer:?}")
            };
            assert!(class.ends_with("SessionTimeoutException"), "{class}");
            assert_eq!(message, "the events were not taken, send them again");
            assert_eq!(second.answer(SECOND).await, Answer::Nothing, "no reset behind it");
        };
        let small = async {
            for n in 0..6 {
                let began = Instant::now();
                assert_eq!(third.ask(&publish(&session, 100 + n), LIMIT).await, Answer::Ok);
                assert!(began.elapsed() < SECOND);
                sleep(SECOND).await;
            }
        };
        tokio::join!(slow, refused, small);
        assert_eq!(first.ask(rest, LIMIT).await, Answer::Ok);
        assert_eq!(
            second.ask(&large(&session, 3), LIMIT).await,
            Answer::Ok,
            "sent again"
        );
        let i = world.rest().await.ingress;
        assert_eq!(
            (
                i.partial_refused_total,
                i.publishes_refused_total,
                i.partial_bytes
            ),
            (1, 1, 0)
        );
        assert_eq!(world.sink.counts().events, 6 + 6);
    });
}

#[test]
fn a_frame_that_stops_gives_its_memory_to_the_next_in_line() {
    simulated(async {
        let plan = Plan {
            listen: SMALL_BUDGET,
            ..Plan::default()
        };
        let world = World::new(1, &plan);
        let (mut first, mut second) = (connect(&world).await, connect(&world).await);
        let session = session(&mut first).await;
        let bytes = large(&session, 0);
        first.send(&bytes[..bytes.len() - 1]).await.unwrap();
        sleep(SECOND).await;
        let began = Instant::now();
        assert_eq!(second.ask(&large(&session, 3), LIMIT).await, Answer::Ok);
        let waited = began.elapsed();
        assert!((2 * SECOND..5 * SECOND).contains(&waited), "{waited:?}");
        assert!(matches!(first.answer(LIMIT).await, Answer::Reset(_)));
        assert_eq!(world.rest().await.ingress.partial_bytes, 0);
    });
}

#[test]
fn that_all_places_are_taken_is_said_once_and_not_for_a_probe() {
    simulated(async {
        let log = Arc::new(Mutex::new(Vec::new()));
        let options = Log {
            level: "warn".into(),
            format: LogFormat::Text,
        };
        let to = Arc::clone(&log);
        let (subscriber, _) = weir::telemetry::build(&options, move || Shared(Arc::clone(&to))).unwrap();
        let _kept = tracing::subscriber::set_default(subscriber);
        let lines = || {
            let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
            text.matches("all gateway connections are in use").count()
        };
        let plan = Plan {
            listen: "max_connections = 3",
            ..Plan::default()
        };
        let world = World::new(1, &plan);
        let take = async || {
            let mut gateway = connect(&world).await;
            session(&mut gateway).await;
            gateway
        };
        let mut held = vec![take().await, take().await];
        for _ in 0..50 {
            let probe = connect(&world).await;
            while world.worker.snapshot().ingress.connections_tcp < 3 {
                tokio::task::yield_now().await;
            }
            probe.close().await;
            sleep(SECOND).await;
        }
        let i = world.worker.snapshot().ingress;
        assert_eq!((i.closed_by_peer_total, lines()), (50, 0));
        for _ in 0..5 {
            held.push(take().await);
            sleep(20 * SECOND).await;
            assert_eq!(lines(), 1);
            held.pop().unwrap().abort();
            sleep(30 * SECOND).await;
        }
        sleep(60 * SECOND).await;
        held.push(take().await);
        sleep(2 * SECOND).await;
        assert_eq!(lines(), 2, "they were free for a while");
    });
}

/// The log, in memory.
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
