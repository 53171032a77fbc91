//! How long a gateway may be silent, in virtual time.

use super::*;
use tokio::time::Instant;
use weir::lab::gateway::{Answer, Gateway, frame};
use weir::lab::sink::Answer as TmAnswer;

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
