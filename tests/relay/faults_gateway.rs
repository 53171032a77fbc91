//! Faulty gateways: gone, silent, slow, deaf, hasty, logged out. Each story runs beside a healthy load
//! that must notice nothing, and ends with the oracle's judgement.

mod limits;
mod sessions;

use std::time::Duration;

use weir_lab::gateway::Answer;
use weir_lab::{Load, LoadOptions};

use crate::support::peer::{HEALTHY, Peer, RESET, error, login, logout, weight};
use crate::support::{Bed, Plan, story, story_alone};

/// The first origin of scripted connections; the healthy load has those below.
const SCRIPTED: u32 = 1000;

#[test]
fn gone_in_mid_frame_at_every_byte_leaves_nothing_behind() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one", "two"])).await;
        let session = Peer::tcp(&bed).await.login().await;
        let load = bed.healthy().await;
        let before = bed.snapshot().await.ingress;
        // Known to no oracle: delivered, it would be unexpected.
        let frame = weir_lab::gateway::frame(&session, bed.judge.oracle().events(), SCRIPTED, 0, 1);
        for cut in 0..frame.len() {
            for reset in [false, true] {
                let mut peer = Peer::tcp(&bed).await;
                peer.send(&frame[..cut]).await.unwrap();
                if reset {
                    peer.abort();
                } else {
                    peer.close().await;
                }
            }
        }
        let ended = 2 * frame.len() as u64;
        let after = bed
            .until("all are gone", |s| {
                let i = &s.ingress;
                let gone = i.closed_by_peer_total + i.closed_mid_frame_total;
                i.connections_tcp == HEALTHY
                    && gone - before.closed_by_peer_total - before.closed_mid_frame_total >= ended
            })
            .await
            .ingress;
        let mid_frame = after.closed_mid_frame_total - before.closed_mid_frame_total;
        // A reset may overtake what was sent before it; FIN cannot.
        assert!(
            (frame.len() as u64 - 1..=ended - 2).contains(&mid_frame),
            "{mid_frame} of {ended}"
        );
        bed.unharmed(load, ("gone in mid-frame", mid_frame)).await;
    });
}

#[test]
fn thousands_of_silent_connections_cost_little_and_keep_nobody_waiting() {
    story_alone(async {
        const SILENT: u64 = 3000;
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = bed.healthy().await;
        let before = weight("VmRSS");
        let mut silent = Vec::new();
        for _ in 0..SILENT {
            silent.push(Peer::tcp(&bed).await);
        }
        let snapshot = bed
            .until("all are accepted", |s| {
                s.ingress.connections_tcp >= SILENT + HEALTHY
            })
            .await;
        let grown = weight("VmRSS").saturating_sub(before);
        assert!(
            grown / SILENT < 48 * 1024,
            "{} bytes a connection, both ends",
            grown / SILENT
        );
        let mut new = Peer::tcp(&bed).await;
        let session = new.login().await;
        let frame = bed.issue(&session, SCRIPTED, 0, 1);
        assert_eq!(new.ask(&frame).await, Answer::Ok);
        bed.acked(SCRIPTED, 0, 1);
        bed.unharmed(load, ("silent connections", snapshot.ingress.connections_tcp))
            .await;
        drop(silent);
        bed.until("all are gone", |s| s.ingress.connections_tcp <= 1)
            .await;
    });
}

#[test]
fn a_gateway_that_never_reads_its_replies_is_not_read_from_and_gets_them_all_in_the_end() {
    story_alone(async {
        // An error is longer than the frame it answers: what fills the buffers fastest.
        const FRAMES: usize = 200_000;
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = bed.healthy().await;
        let mut deaf = Peer::narrow(&bed).await;
        let session = deaf.login().await;
        let before = bed.snapshot().await.ingress;
        let rss = weight("VmRSS");
        let mut bytes = bed.issue(&session, SCRIPTED, 0, 1);
        bytes.extend([1, 0, 0, 0, 0].repeat(FRAMES));
        bytes.extend(bed.issue(&session, SCRIPTED, 1, 1));
        let (mut reader, mut writer) = tokio::io::split(deaf.stream);
        let total = bytes.len() as u64;
        let writing = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes)
                .await
                .unwrap();
            writer
        });
        let last = std::cell::Cell::new((0, 0));
        bed.until("weir reads no more", |s| {
            let frames = s.ingress.malformed_total;
            let (before, looks) = last.get();
            last.set((frames, if frames == before { looks + 1 } else { 0 }));
            frames > 1000 && looks > 50
        })
        .await;
        let stopped = bed.snapshot().await.ingress;
        assert!(stopped.malformed_total < FRAMES as u64 / 2, "{stopped:?}");
        let grown = weight("VmRSS").saturating_sub(rss);
        assert!(grown < 64 << 20, "{grown} bytes for one deaf gateway");
        // It reads after all: one answer a frame, in order, and none too many.
        let mut replies = Vec::new();
        let mut one = Vec::new();
        weir::wire::Reply::Error {
            class: weir::wire::reply::UNDEFINED_EVENT_TYPE,
            message: "the body ends before a length".into(),
        }
        .encode(&mut one);
        while replies.len() < FRAMES * one.len() + 2 {
            let n = tokio::io::AsyncReadExt::read_buf(&mut reader, &mut replies)
                .await
                .unwrap();
            assert!(n > 0);
        }
        assert_eq!(
            (replies[0], *replies.last().unwrap()),
            (0, 0),
            "ok first and last"
        );
        assert!(replies[1..replies.len() - 1].chunks(one.len()).all(|r| r == one));
        bed.acked(SCRIPTED, 0, 2);
        let _writer = writing.await.unwrap();
        let after = bed.snapshot().await.ingress;
        assert_eq!(after.malformed_total - before.malformed_total, FRAMES as u64);
        assert!(after.received_bytes_total - before.received_bytes_total >= total);
        bed.unharmed(
            load,
            ("frames answered late", FRAMES as u64 - stopped.malformed_total),
        )
        .await;
    });
}

#[test]
fn a_pipeline_of_every_kind_of_frame_is_answered_in_order() {
    story(async {
        for ack in ["ack = \"accepted\"", "ack = \"delivered\""] {
            let bed = Bed::start(Plan {
                top: ack,
                ..Plan::groups(&["one", "two"])
            })
            .await;
            let load = bed.healthy().await;
            let mut peer = Peer::tcp(&bed).await;
            let session = peer.login().await;
            const ROUNDS: u64 = 1500;
            let mut bytes = Vec::new();
            for round in 0..ROUNDS {
                bytes.extend(bed.issue(&session, SCRIPTED, 2 * round, 2));
                bytes.extend(weir_lab::gateway::frame(
                    &session,
                    bed.judge.oracle().events(),
                    0,
                    0,
                    0,
                ));
                bytes.extend(bed_frame_of_nobody(&bed));
                bytes.extend([2, 0, 0, 0, 0]);
                bytes.extend(logout(b"of somebody else"));
                bytes.extend(login("admin", "admin"));
            }
            let (mut reader, mut writer) = tokio::io::split(peer.stream);
            let writing = tokio::spawn(async move {
                tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes)
                    .await
                    .unwrap();
                writer
            });
            let mut input = Vec::new();
            let mut at = 0;
            for round in 0..ROUNDS {
                for wanted in [
                    "ok",
                    "ok",
                    "nobody expired",
                    "the body ends before a length",
                    "ok",
                    "session",
                ] {
                    let said = loop {
                        if let Some((reply, length)) = weir::wire::Reply::decode(&input[at..]).unwrap() {
                            let said = match reply {
                                weir::wire::Reply::Ok => "ok".to_owned(),
                                weir::wire::Reply::LoginOk { .. } => "session".to_owned(),
                                weir::wire::Reply::Error { message, .. } => message,
                            };
                            at += length;
                            break said;
                        }
                        tokio::io::AsyncReadExt::read_buf(&mut reader, &mut input)
                            .await
                            .unwrap();
                    };
                    assert_eq!(said, wanted, "round {round}, {ack}");
                }
                bed.acked(SCRIPTED, 2 * round, 2);
            }
            let _writer = writing.await.unwrap();
            assert_eq!(input.len(), at, "not a byte more");
            bed.unharmed(load, ("frames in the pipeline", 6 * ROUNDS)).await;
        }
    });
}

fn bed_frame_of_nobody(bed: &Bed) -> Vec<u8> {
    weir_lab::gateway::frame(b"nobody", bed.judge.oracle().events(), 0, 0, 1)
}

#[test]
fn a_storm_of_reconnects_loses_nothing() {
    story(async {
        const STORMS: u32 = 20;
        const TIMES: u64 = 40;
        let bed = Bed::start(Plan::groups(&["one", "two"])).await;
        let load = bed.healthy().await;
        let before = bed.snapshot().await.ingress.accepted_total;
        let storm = |origin: u32| {
            let bed = &bed;
            async move {
                for i in 0..TIMES {
                    let mut peer = Peer::tcp(bed).await;
                    let session = peer.login().await;
                    let frame = bed.issue(&session, origin, i, 1);
                    assert_eq!(peer.ask(&frame).await, Answer::Ok);
                    bed.acked(origin, i, 1);
                    if i % 2 == 0 {
                        peer.abort()
                    } else {
                        peer.close().await
                    }
                }
            }
        };
        let mut storms: Vec<_> = (0..STORMS).map(|n| Box::pin(storm(SCRIPTED + n))).collect();
        std::future::poll_fn(|cx| {
            storms.retain_mut(|s| s.as_mut().poll(cx).is_pending());
            if storms.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        let after = bed
            .until("all are gone", |s| s.ingress.connections_tcp == HEALTHY)
            .await;
        let accepted = after.ingress.accepted_total - before;
        // The healthy ones probe, too.
        assert!(accepted >= u64::from(STORMS) * TIMES, "{accepted}");
        bed.unharmed(load, ("reconnects", accepted)).await;
    });
}
