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

#[tokio::test(start_paused = true)]
async fn a_session_asked_to_leave_waits_for_a_quiet_moment() {
    let mut scene = Scene::open(0).await;
    let (id, _) = scene.ledger.placements().remove(0);
    scene.ledger.ask_to_leave(id, Leave::Quietly { at_latest: None });
    for _ in 0..20 {
        tokio::time::sleep(QUIET / 2).await;
        scene.broker.write_all(&body(1)).await.unwrap();
        assert_eq!(read(&mut scene.gateway, 9).await, body(1));
        assert!(!scene.end.is_finished(), "never quiet");
    }
    let began = Instant::now();
    assert!(matches!(scene.end.await.unwrap(), End::Left));
    assert_eq!(began.elapsed().as_millis(), QUIET.as_millis());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_never_quiet_leaves_at_the_latest_time() {
    let mut scene = Scene::open(0).await;
    let (id, _) = scene.ledger.placements().remove(0);
    let began = Instant::now();
    scene.ledger.ask_to_leave(
        id,
        Leave::Quietly {
            at_latest: Some(began + S * 5),
        },
    );
    let busy = async {
        loop {
            scene.broker.write_all(&body(1)).await.unwrap();
            read(&mut scene.gateway, 9).await;
            tokio::time::sleep(QUIET / 2).await;
        }
    };
    tokio::select! {
        biased;
        end = &mut scene.end => assert!(matches!(end.unwrap(), End::Left)),
        () = busy => {}
    }
    assert_eq!(began.elapsed().as_secs(), 5);
}
