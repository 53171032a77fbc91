//! How a relay ends, and what saves it from an end.

use super::*;

#[tokio::test(start_paused = true)]
async fn bytes_that_waited_while_the_process_slept_save_a_side_from_being_called_dead() {
    let (mut gateway, client) = duplex(1024);
    let (mut broker, upstream) = duplex(1024);
    let ledger = Ledger::new(std::iter::empty());
    let (ticket, mut wishes) = ledger.open(Instant::now());
    let lane = |towards| Lane::new(Protocol::Framed(Version::V0_9_1), towards, 30, BytesMut::new(), 0);
    let pair = Pair::new(client, upstream, lane(Towards::Client), lane(Towards::Broker));
    let mut pump = Pump::new(pair, terms(true), &ticket);
    gateway.write_all(&TUNE_OK).await.unwrap();
    assert!(matches!(
        pump.run(tokio::time::sleep(S), &mut wishes).await,
        End::Over
    ));
    assert!(pump.opened());
    // The whole process stops for ten minutes, while a frame arrives in the kernel: its timers are the first
    // thing it sees when it goes on.
    broker.write_all(&body(5)).await.unwrap();
    tokio::time::advance(S * 600).await;
    assert!(matches!(
        pump.run(tokio::time::sleep(S), &mut wishes).await,
        End::Over
    ));
    assert_eq!(read(&mut gateway, 13).await, body(5));
    // Without such a frame it is dead.
    tokio::time::advance(S * 600).await;
    assert!(matches!(
        pump.run(tokio::time::sleep(S), &mut wishes).await,
        End::Dead(Side::Broker)
    ));
}

#[tokio::test(start_paused = true)]
async fn bad_framing_ends_the_relay_with_the_offset() {
    let mut scene = Scene::open(0).await;
    let mut bad = body(3);
    *bad.last_mut().unwrap() = 0;
    scene.gateway.write_all(&bad).await.unwrap();
    match scene.end.await.unwrap() {
        End::Bad(Side::Client, bad) => assert_eq!(bad.offset_bytes, 8 + 20 + 10),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_splice_passes_every_byte_and_injects_none() {
    let mut scene = Scene::new(Protocol::Opaque);
    scene.gateway.write_all(&HEARTBEAT).await.unwrap();
    assert_eq!(read(&mut scene.broker, 8).await, HEARTBEAT);
    scene.broker.write_all(b"half a 0-10 fra").await.unwrap();
    assert_eq!(read(&mut scene.gateway, 15).await, b"half a 0-10 fra");
    assert!(silent(&mut scene.gateway, S * 3600).await);
    assert!(silent(&mut scene.broker, S * 3600).await);
    assert!(!scene.end.is_finished());
}

/// A wish to go back, never too old.
fn failback(at_latest: Instant) -> Leave {
    Leave::Failback {
        at_latest,
        proven_until: at_latest + S * 3600,
    }
}

impl Scene {
    fn ask_to_leave(&self, wish: Leave) -> bool {
        let (id, _) = self.ledger.placements().remove(0);
        self.ledger.ask_to_leave(id, wish, Some("a"), Instant::now())
    }

    /// Decisions twice a second, until the relay ends or for `time`; the end.
    async fn busy_for(&mut self, time: Duration) -> Option<End> {
        let busy = async {
            loop {
                self.broker.write_all(&body(1)).await.unwrap();
                read(&mut self.gateway, 9).await;
                tokio::time::sleep(QUIET / 2).await;
            }
        };
        tokio::select! {
            biased;
            end = &mut self.end => Some(end.unwrap()),
            () = busy => None,
            () = tokio::time::sleep(time) => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_asked_to_leave_waits_for_a_quiet_moment() {
    let mut scene = Scene::open(0).await;
    scene.ask_to_leave(failback(Instant::now() + S * 60));
    assert!(scene.busy_for(S * 10).await.is_none(), "never quiet");
    let left = tokio::time::timeout(QUIET * 2, &mut scene.end).await.unwrap();
    assert!(matches!(left.unwrap(), End::Left { quiet: true }));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_never_quiet_leaves_at_the_latest_time_and_says_so() {
    let began = Instant::now();
    let mut scene = Scene::open(0).await;
    scene.ask_to_leave(failback(began + S * 10));
    let end = scene.busy_for(S * 60).await;
    assert!(matches!(end, Some(End::Left { quiet: false })), "{end:?}");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_session_does_not_leave_for_a_broker_that_has_not_answered_lately() {
    let began = Instant::now();
    let mut scene = Scene::open(0).await;
    let wish = |proven_until| Leave::Failback {
        at_latest: began + S * 10,
        proven_until,
    };
    scene.ask_to_leave(wish(began + QUIET / 2));
    // Quiet from 1 s on, and the latest time passes as well.
    assert!(silent(&mut scene.gateway, S * 14).await);
    assert!(!scene.end.is_finished());
    // It answers again: the wish holds, and its time has come.
    let renewed = scene
        .ledger
        .review_failbacks(|to| (to == "a").then(|| Instant::now() + S));
    assert_eq!(renewed, 0, "none was withdrawn");
    assert!(matches!(scene.end.await.unwrap(), End::Left { .. }));
    assert_eq!(began.elapsed().as_secs(), 14);
}

#[tokio::test(start_paused = true)]
async fn an_order_to_leave_a_removed_broker_is_not_held_up_by_a_wish_to_go_back() {
    let began = Instant::now();
    let mut scene = Scene::open(0).await;
    assert!(scene.ask_to_leave(failback(began + S * 3600)));
    assert!(scene.ask_to_leave(Leave::Removed {
        at_latest: began + S * 30
    }));
    assert!(!scene.ask_to_leave(failback(began)), "the weaker reason");
    assert_eq!(scene.ledger.review_failbacks(|_| None), 0, "not to be withdrawn");
    let end = scene.busy_for(S * 60).await;
    assert!(matches!(end, Some(End::Left { quiet: false })), "{end:?}");
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_not_cut_off_at_a_quiet_moment() {
    let began = Instant::now();
    let mut scene = Scene::new(Protocol::Framed(Version::V0_9_1));
    scene.ask_to_leave(Leave::Removed {
        at_latest: began + S * 25,
    });
    // A broker that takes its time to check a password.
    assert!(silent(&mut scene.gateway, S * 20).await);
    assert!(!scene.end.is_finished());
    assert!(matches!(scene.end.await.unwrap(), End::Left { quiet: false }));
    assert_eq!(began.elapsed().as_secs(), 25);
}
