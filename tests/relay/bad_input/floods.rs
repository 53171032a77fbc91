//! Much of it: frames in pieces, frames without end, lengths that promise more than comes.

use super::*;
use crate::support::story_alone;

#[test]
fn a_frame_split_at_every_byte_is_one_frame() {
    story(async {
        let (bed, load, session) = ready(Plan {
            tls: true,
            ..Plan::groups(&["one", "two"])
        })
        .await;
        let before = bed.snapshot().await.ingress;
        let (mut plain, mut encrypted) = (Peer::tcp(&bed).await, Peer::tls(&bed).await);
        let length = frame(&session, bed.judge.oracle().events(), SCRIPTED, 0, 1).len();
        let mut after = Peer::tcp(&bed).await;
        let zero_events = frame(&session, bed.judge.oracle().events(), 0, 0, 0);
        let mut cuts = 0;
        for cut in 1..length {
            for (origin, peer) in [(SCRIPTED, &mut plain), (SCRIPTED + 1, &mut encrypted)] {
                let bytes = bed.issue(&session, origin, cut as u64 - 1, 1);
                let (front, rest) = bytes.split_at(cut.min(bytes.len() - 1));
                peer.send(front).await.unwrap();
                // The worker reads connections in the order their bytes came: when this one is answered, the
                // front has been read.
                assert_eq!(after.ask(&zero_events).await, Answer::Ok);
                assert_eq!(peer.ask(rest).await, Answer::Ok, "cut at {cut}");
                bed.acked(origin, cut as u64 - 1, 1);
                cuts += 1;
            }
        }
        let i = bed.snapshot().await.ingress;
        assert_eq!(i.malformed_total + i.reset_bad_input_total, 0);
        assert!(i.publishes_ok_total - before.publishes_ok_total >= cuts);
        bed.unharmed(load, ("cuts", cuts)).await;
    });
}

#[test]
fn a_login_one_byte_at_a_time_is_a_login() {
    story(async {
        let (bed, load, _) = ready(Plan::groups(&["one"])).await;
        let mut peer = Peer::tcp(&bed).await;
        let bytes = login("admin", "admin");
        for byte in &bytes {
            peer.send(std::slice::from_ref(byte)).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(matches!(peer.answer().await, Answer::Session(_)));
        bed.unharmed(load, ("bytes", bytes.len() as u64)).await;
    });
}

/// Sends `frame` so many times and reads the answers, which must all be `answer`.
async fn flood(bed: &Bed, frame: &[u8], answer: &[u8], times: usize) {
    let peer = Peer::tcp(bed).await;
    let (mut reader, mut writer) = tokio::io::split(peer.stream);
    let bytes = frame.repeat(1000);
    let writing = tokio::spawn(async move {
        for _ in 0..times / 1000 {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes)
                .await
                .unwrap();
        }
        writer
    });
    let mut chunk = answer.repeat(1000);
    let wanted = chunk.clone();
    for _ in 0..times / 1000 {
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut chunk)
            .await
            .unwrap();
        assert!(chunk == wanted);
    }
    drop(writing.await.unwrap());
}

#[test]
fn a_million_empty_frames_are_answered_one_by_one_and_starve_nobody() {
    story_alone(async {
        let (bed, load, session) = ready(Plan::groups(&["one"])).await;
        let before = bed.snapshot().await.ingress;
        let rss = weight("VmRSS");
        let mut error = Vec::new();
        weir::wire::Reply::Error {
            class: weir::wire::reply::UNDEFINED_EVENT_TYPE,
            message: SHORT.into(),
        }
        .encode(&mut error);
        let zero_events = frame(&session, bed.judge.oracle().events(), 0, 0, 0);
        let empty = framed(1, &[]);
        tokio::join!(
            flood(&bed, &empty, &error, 600_000),
            flood(&bed, &zero_events, &[0], 400_000),
        );
        let after = bed.snapshot().await.ingress;
        assert_eq!(after.malformed_total - before.malformed_total, 600_000);
        assert!(after.frames_total - before.frames_total >= 1_000_000);
        let grown = weight("VmRSS").saturating_sub(rss);
        assert!(grown < 64 << 20, "{grown} bytes");
        let report = bed
            .unharmed(load, ("empty frames", after.frames_total - before.frames_total))
            .await;
        let half = report.latency.quantile(500);
        assert!(
            half < std::time::Duration::from_millis(300),
            "half of the others waited {half:?}"
        );
    });
}

#[test]
fn lengths_that_promise_much_allocate_nothing() {
    story_alone(async {
        const LIARS: u64 = 400;
        let (bed, load, session) = ready(Plan::groups(&["one"])).await;
        let (rss, size) = (weight("VmRSS"), weight("VmSize"));
        let mut liars = Vec::new();
        for n in 0..LIARS {
            // The longest frame that is allowed, and as much of a believable front as there can be.
            let mut peer = Peer::tcp(&bed).await;
            let mut front = [&[2], &int(16 << 20)[..]].concat();
            if n % 2 == 0 {
                front.extend([&int(64)[..], &session, &int(1 << 20), &int(1 << 20)].concat());
            }
            peer.send(&front).await.unwrap();
            liars.push(peer);
        }
        let held = bed
            .until("all of them are held", |s| {
                s.ingress.connections_tcp == LIARS + HEALTHY
            })
            .await;
        // They promise 6.4 GB.
        let grown = weight("VmSize").saturating_sub(size);
        assert!(
            grown < LIARS * (512 << 10),
            "{} bytes of address space each",
            grown / LIARS
        );
        let grown = weight("VmRSS").saturating_sub(rss);
        assert!(grown < LIARS * (64 << 10), "{} bytes each", grown / LIARS);
        bed.unharmed(load, ("liars", held.ingress.connections_tcp)).await;
        drop(liars);
        bed.until("all are gone in mid-frame", |s| {
            s.ingress.closed_mid_frame_total == LIARS
        })
        .await;
    });
}
