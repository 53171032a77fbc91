//! A stalled group and a flood of tiny frames: memory stays within the queue's limit and a constant. Alone in
//! its process, because it looks at the memory of the whole.

use std::time::Duration;

use weir::wire::request::encode_publish_header;
use weir_lab::gateway::{Answer as Reply, Gateway};
use weir_lab::sink::Answer;

use crate::support::{Bed, Plan, dialer, story_alone};

const MIB: u64 = 1024 * 1024;
/// Frames written before their replies are read.
const BURST: u64 = 1000;

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// A publish frame with one event of 60 bytes: 64 with its prefix.
fn tiny(session: &[u8]) -> Vec<u8> {
    let mut event = 0_i64.to_be_bytes().to_vec();
    event.extend_from_slice(&7_i32.to_be_bytes());
    event.extend_from_slice(b"x:1.0.0");
    event.resize(60, b'-');
    let mut frame = Vec::new();
    encode_publish_header(&mut frame, session, 1, event.len() + 4);
    frame.extend_from_slice(&60_i32.to_be_bytes());
    frame.extend_from_slice(&event);
    frame
}

#[test]
fn a_stalled_group_with_tiny_frames_holds_no_more_than_its_limit() {
    story_alone(async {
        for shed in [
            "max_bytes = \"4MiB\"\noverflow = \"shed\"\nunavailable_after = \"never\"\nshed = \"oldest\"",
            "max_bytes = \"4MiB\"\noverflow = \"shed\"\nunavailable_after = \"never\"\nshed = \"newest\"",
        ] {
            let bed = Bed::start(Plan {
                queue: shed,
                listen: "frame_max_bytes = \"64KiB\"\nevent_max_bytes = \"32KiB\"",
                link: "window_frames = 1\nlinger = \"0s\"",
                ..Plan::groups(&["stalled", "alive"])
            })
            .await;
            bed.sinks[0][0].set(|b| b.answer(Answer::Stall));
            let mut gateway = Gateway::connect(&dialer(), &bed.url()).await.unwrap();
            let limit = Duration::from_secs(20);
            let Reply::Session(session) = gateway.login("admin", "admin", limit).await else {
                panic!("no session")
            };
            let burst = tiny(&session).repeat(BURST as usize);
            let (mut before, mut most) = (0, 0);
            for n in 1..=200_u64 {
                gateway.send(&burst).await.unwrap();
                for _ in 0..BURST {
                    assert_eq!(gateway.answer(limit).await, Reply::Ok);
                }
                let snapshot = bed.snapshot().await;
                let group = &snapshot.groups[0];
                assert!(group.held_bytes <= group.held_bytes_max, "{group:?}");
                if n == 10 {
                    before = resident();
                }
                most = most.max(resident());
            }
            let sent = 200 * BURST;
            let all = bed
                .until("the other group has all", |s| {
                    s.groups[1].events.delivered == sent
                })
                .await;
            let group = &all.groups[0];
            assert!(
                group.events.dropped.queue_full > sent / 2,
                "most of it found no room: {group:?}"
            );
            assert_eq!(group.events.accepted, sent);
            assert!(
                most - before < 32 * MIB,
                "grown by {} MiB for a queue of 4",
                (most - before) / MIB
            );
            let left = group.events.queued + group.events.inflight;
            bed.sinks[0][0].set(|b| b.answer(Answer::Ok));
            bed.until("everything has ended", |s| s.groups[0].events.delivered == left)
                .await;
            assert_eq!(
                bed.sinks[0][0].counts().events,
                left,
                "what was not shed arrives, once"
            );
            assert_eq!(bed.sinks[1][0].counts().events, sent);
        }
    });
}
