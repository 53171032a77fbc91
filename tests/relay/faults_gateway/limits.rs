//! Gateways that take all there is: handshakes that never end, more connections than are allowed.

use tokio::time::timeout;

use super::*;
use crate::support::peer::SOON;

/// The front of a ClientHello: the record says that 512 bytes follow.
const HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[test]
fn slow_handshakes_hold_nobody_up_and_are_reaped() {
    story(async {
        const SLOW: u64 = 200;
        let bed = Bed::start(Plan {
            tls: true,
            listen: "handshake_timeout = \"2s\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let load = bed.healthy().await;
        let mut slow = Vec::new();
        for i in 0..SLOW {
            let mut peer = Peer::below_tls(&bed).await;
            peer.send(&HELLO[..i as usize % HELLO.len()]).await.unwrap();
            slow.push(peer);
        }
        bed.until("all handshakes hang", |s| s.ingress.connections_tls == SLOW)
            .await;
        let mut good = Peer::tls(&bed).await;
        let session = good.login().await;
        let frame = bed.issue(&session, SCRIPTED, 0, 1);
        assert_eq!(good.ask(&frame).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        let i = bed.snapshot().await.ingress;
        assert_eq!((i.handshake_failed_total, i.connections_tls), (0, SLOW + 1));
        for peer in &mut slow {
            assert_eq!(peer.end().await, RESET, "reaped by handshake_timeout");
        }
        let after = bed
            .until("all are reaped", |s| s.ingress.connections_tls == 1)
            .await
            .ingress;
        bed.unharmed(load, ("reaped", after.handshake_failed_total)).await;
        assert_eq!(after.handshake_failed_total, SLOW);
    });
}

#[test]
fn slow_handshakes_in_all_places_make_others_wait_until_they_are_reaped() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            listen: "max_connections = 12\nhandshake_timeout = \"500ms\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let load = bed.healthy().await;
        let mut slow = Vec::new();
        for _ in 0..4 {
            let mut peer = Peer::below_tls(&bed).await;
            peer.send(&HELLO).await.unwrap();
            slow.push(peer);
        }
        bed.until("no place is left", |s| s.ingress.connections_tls == 4)
            .await;
        let began = tokio::time::Instant::now();
        let mut good = Peer::tls(&bed).await;
        assert!(!good.login().await.is_empty());
        assert!(began.elapsed() < SOON);
        let i = bed.snapshot().await.ingress;
        assert!(i.handshake_failed_total >= 1, "a place was made: {i:?}");
        bed.unharmed(load, ("reaped", i.handshake_failed_total)).await;
    });
}

#[test]
fn beyond_max_connections_the_next_waits_on_either_port_until_one_closes() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            listen: "max_connections = 3",
            ..Plan::groups(&["one"])
        })
        .await;
        for round in 0..3 {
            let mut open = Vec::new();
            for _ in 0..3 {
                let mut peer = Peer::tcp(&bed).await;
                peer.login().await;
                open.push(peer);
            }
            // Both listeners wait now, whichever gateway comes first.
            let mut plain = Peer::tcp(&bed).await;
            plain.send(&login("admin", "admin")).await.unwrap();
            assert_eq!(
                plain.answer_within(Duration::from_millis(50)).await,
                Answer::Nothing
            );
            let encrypted = Peer::tls(&bed);
            let mut encrypted = std::pin::pin!(encrypted);
            assert!(
                timeout(Duration::from_millis(50), encrypted.as_mut())
                    .await
                    .is_err()
            );
            let full = bed.snapshot().await.ingress;
            assert_eq!(
                full.connections_tcp + full.connections_tls,
                3,
                "never more: {full:?}"
            );
            open.remove(0).close().await;
            open.remove(0).abort();
            let (answer, mut encrypted) = tokio::join!(plain.answer(), encrypted);
            assert!(matches!(answer, Answer::Session(_)), "round {round}: {answer:?}");
            let session = encrypted.login().await;
            let frame = bed.issue(&session, SCRIPTED, round, 1);
            assert_eq!(encrypted.ask(&frame).await, Answer::Ok);
            bed.acked(SCRIPTED, round, 1);
            drop((open, plain, encrypted));
            bed.until("all are gone", |s| {
                s.ingress.connections_tcp + s.ingress.connections_tls == 0
            })
            .await;
        }
        let verdict = bed.verdict().await;
        assert!(verdict.ok() && verdict.acked == 3, "{verdict}");
    });
}

#[test]
fn a_place_that_becomes_free_serves_the_port_that_is_waited_for() {
    story(async {
        let bed = Bed::start(Plan {
            tls: true,
            listen: "max_connections = 1",
            ..Plan::groups(&["one"])
        })
        .await;
        for _ in 0..10 {
            // Both listeners go to sleep; then only the TLS port is wanted, then only the plain one.
            let mut plain = Peer::tcp(&bed).await;
            plain.login().await;
            let encrypted = Peer::tls(&bed);
            let mut encrypted = std::pin::pin!(encrypted);
            assert!(
                timeout(Duration::from_millis(20), encrypted.as_mut())
                    .await
                    .is_err()
            );
            plain.close().await;
            let mut encrypted = encrypted.await;
            encrypted.login().await;
            let mut plain = Peer::tcp(&bed).await;
            plain.send(&login("admin", "admin")).await.unwrap();
            assert_eq!(
                plain.answer_within(Duration::from_millis(20)).await,
                Answer::Nothing
            );
            encrypted.close().await;
            assert!(matches!(plain.answer().await, Answer::Session(_)));
            plain.close().await;
            bed.until("all are gone", |s| {
                s.ingress.connections_tcp + s.ingress.connections_tls == 0
            })
            .await;
        }
    });
}

#[test]
fn an_address_that_has_all_its_connections_gets_no_more_and_the_others_do() {
    story(async {
        let bed = Bed::start(Plan {
            listen: "max_connections_per_address = 14",
            ..Plan::groups(&["one"])
        })
        .await;
        let load = bed.healthy().await;
        let mut peers = Vec::new();
        for _ in HEALTHY..14 {
            let mut peer = Peer::tcp(&bed).await;
            peer.login().await;
            peers.push(peer);
        }
        for n in 1..4 {
            assert!(Peer::is_reset(&bed).await);
            assert_eq!(bed.snapshot().await.ingress.reset_per_address_total, n);
        }
        let mut other = Peer::tcp_from(&bed, [127, 0, 0, 2]).await;
        let session = other.login().await;
        let frame = bed.issue(&session, SCRIPTED, 0, 1);
        assert_eq!(other.ask(&frame).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        peers.remove(0).close().await;
        // Thirteen of that address, and the other.
        bed.until("its place is free", |s| s.ingress.connections_tcp == 14)
            .await;
        Peer::tcp(&bed).await.login().await;
        let resets = bed.snapshot().await.ingress.reset_per_address_total;
        bed.unharmed(load, ("resets", resets)).await;
    });
}

#[test]
fn a_thousand_gateways_in_mid_frame_are_all_served_within_the_memory_for_partial_frames() {
    story(async {
        const GATEWAYS: u64 = 1000;
        const EVENTS: u64 = 200;
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let session = Peer::tcp(&bed).await.login().await;
        let mut peers = Vec::new();
        for n in 0..GATEWAYS {
            let origin = SCRIPTED + u32::try_from(n).unwrap();
            let frame = bed.issue(&session, origin, 0, EVENTS);
            let mut peer = Peer::tcp(&bed).await;
            peer.send(&frame[..frame.len() / 2]).await.unwrap();
            peers.push((peer, origin, frame));
        }
        let claimed = bed.snapshot().await.ingress.partial_bytes;
        let whole: u64 = peers.iter().map(|(_, _, frame)| frame.len() as u64).sum();
        assert!(whole > 64 << 20, "more than there is room for: {whole}");
        assert!((32 << 20..=64 << 20).contains(&claimed), "{claimed}");
        let began = tokio::time::Instant::now();
        for (peer, _, frame) in &mut peers {
            peer.send(&frame[frame.len() / 2..]).await.unwrap();
        }
        for (peer, origin, _) in &mut peers {
            assert_eq!(peer.answer().await, Answer::Ok);
            bed.acked(*origin, 0, EVENTS);
        }
        println!(
            "{GATEWAYS} halves of {whole} bytes: answered after {:?}",
            began.elapsed()
        );
        let i = bed.snapshot().await.ingress;
        assert_eq!((i.partial_bytes, i.partial_refused_total), (0, 0));
        bed.assert_clean(GATEWAYS * EVENTS).await;
    });
}
