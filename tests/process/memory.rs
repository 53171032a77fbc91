//! Memory stays where it is while a group is stalled and gateways send the smallest frames there are.

use std::time::Duration;

use weir::wire::request::encode_publish_header;
use weir_lab::gateway::{Answer as Heard, Gateway};
use weir_lab::sink::Answer;
use weir_lab::{Sink, SinkOptions};

use crate::support::process::{Process, Start, Status};
use crate::support::{Plan, dialer, story, toml, url, url_group};

const MIB: u64 = 1024 * 1024;

const LIMIT: Duration = Duration::from_secs(20);
/// What the stalled group may hold.
const HELD_MAX: u64 = 8 * 1024 * 1024;

#[test]
fn memory_is_flat_over_a_stalled_group_with_the_smallest_frames() {
    story(async {
        // Not the laboratory's events, which are larger: these are counted, not read.
        let sinks: Vec<Sink> = (0..2)
            .map(|_| Sink::start(SinkOptions::local()).unwrap())
            .collect();
        let blocks: String = ["stalled", "alive"]
            .iter()
            .zip(&sinks)
            .map(|(name, sink)| url_group(name, "failover", &format!("\"tcp://{}\"", sink.data_address())))
            .collect();
        let plan = Plan {
            listen: "frame_max_bytes = \"1MiB\"\nevent_max_bytes = \"512KiB\"",
            queue: "max_bytes = \"8MiB\"\nmax_events = 10_000_000\nblock_timeout = \"50ms\"\n\
                    unavailable_after = \"never\"",
            link: "reply_timeout = \"10m\"",
            ..Plan::default()
        };
        let weir = Process::start(&toml(&plan, &blocks), Start::default(), None).await;
        weir.until("links", Status::all_up).await;
        sinks[0].set(|b| b.answer(Answer::Stall));
        let mut gateway = Gateway::connect(&dialer(), &url(weir.tcp)).await.unwrap();
        let Heard::Session(session) = gateway.login("admin", "admin", LIMIT).await else {
            panic!("no session");
        };
        // One event a frame, as small as an event can be: a time and an empty stream id. Frames are pipelined so that
        // they arrive many in a segment.
        let mut frame = Vec::new();
        encode_publish_header(&mut frame, &session, 1, 4 + 12);
        frame.extend_from_slice(&12_u32.to_be_bytes());
        frame.extend_from_slice(&[0; 12]);
        let pipeline = frame.repeat(100);
        let mut sent = 0;
        let mut publish = async |events: u64| {
            for _ in 0..events / 100 {
                gateway.send(&pipeline).await.unwrap();
                for _ in 0..100 {
                    assert_eq!(gateway.answer(LIMIT).await, Heard::Ok);
                }
                sent += 100;
            }
            sent
        };
        let empty = weir.rss_bytes();
        while weir.status().of("stalled", "shed_incidents_total") == 0 {
            publish(5_000).await;
        }
        publish(20_000).await;
        let full = weir.rss_bytes();
        let sent = publish(100_000).await;
        let later = weir.rss_bytes();
        println!(
            "a stalled group that may hold {} KiB, {} byte frames: RSS {} KiB empty, {} KiB full, {} KiB after 100000 more",
            HELD_MAX / 1024,
            frame.len(),
            empty / 1024,
            full / 1024,
            later / 1024
        );
        assert!(later <= full + 2 * 1024 * 1024, "it grows: {full} to {later}");
        assert!(later <= empty + 2 * HELD_MAX, "{empty} to {later}");
        let status = weir
            .until("the other group has all", |s| {
                s.of("alive", "events/delivered") == sent
            })
            .await;
        assert!(status.of("stalled", "held_bytes") <= HELD_MAX);
        assert!(status.of("stalled", "events/dropped/queue_full") > 100_000);
        sinks[0].set(|b| b.answer(Answer::Ok));
        let status = weir.until("all has ended", Status::at_rest).await;
        let (one, two) = (sinks[0].counts().events, sinks[1].counts().events);
        assert_eq!(two, sent);
        assert_eq!(one, status.of("stalled", "events/delivered"));
        assert_eq!(one + status.of("stalled", "events/dropped/queue_full"), sent);
    });
}

/// A publish frame of `events` events of 1 MB.
fn large(session: &[u8], events: usize) -> Vec<u8> {
    const EVENT: usize = 1_000_000;
    let mut frame = Vec::new();
    encode_publish_header(&mut frame, session, events, events * (4 + EVENT));
    for _ in 0..events {
        frame.extend_from_slice(&u32::try_from(EVENT).unwrap().to_be_bytes());
        frame.resize(frame.len() + EVENT, b'e');
    }
    frame
}

/// Weir with one Traffic Manager, defaults otherwise, and a session.
async fn small_weir(listen: &'static str) -> (Sink, Process, Vec<u8>) {
    let sink = Sink::start(SinkOptions::local()).unwrap();
    let blocks = url_group("one", "failover", &format!("\"tcp://{}\"", sink.data_address()));
    let plan = Plan {
        listen,
        ..Plan::default()
    };
    let weir = Process::start(&toml(&plan, &blocks), Start::default(), None).await;
    weir.until("links", Status::all_up).await;
    let mut gateway = Gateway::connect(&dialer(), &url(weir.tcp)).await.unwrap();
    let Heard::Session(session) = gateway.login("admin", "admin", LIMIT).await else {
        panic!("no session");
    };
    gateway.abort();
    (sink, weir, session)
}

/// Until no more bytes are read from gateways.
async fn reads_no_more(weir: &Process) {
    let last = std::cell::Cell::new((0, 0));
    weir.until("it reads no more", |s| {
        let bytes = s.number("/ingress/received_bytes_total");
        let (before, looks) = last.get();
        last.set((bytes, if bytes == before { looks + 1 } else { 0 }));
        looks > 50
    })
    .await;
}

#[test]
fn unfinished_frames_with_an_unknown_session_cost_no_memory() {
    story(async {
        const PEERS: u64 = 195;
        let (_sink, weir, _) = small_weir("first_frame_timeout = \"10m\"\nframe_timeout = \"10m\"").await;
        let before = weir.rss_bytes();
        let bytes = large(b"5d7c1f3a-0000-4000-8000-000000000000", 4);
        let (front, last) = bytes.split_at(bytes.len() - 1);
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            let mut peer = Gateway::connect(&dialer(), &url(weir.tcp)).await.unwrap();
            peer.send(front).await.unwrap();
            peers.push(peer);
        }
        reads_no_more(&weir).await;
        let after = weir.rss_bytes();
        println!(
            "{PEERS} unfinished frames of 4 MB with an unknown session: RSS {} -> {} MiB",
            before / MIB,
            after / MIB
        );
        assert!(after < before + 8 * MIB, "{before} to {after}");
        // Each is answered when it is whole, and not before.
        for peer in &mut peers {
            assert_eq!(peer.answer(Duration::ZERO).await, Heard::Nothing);
            let answer = peer.ask(last, LIMIT).await;
            let Heard::Error { class, message } = answer else {
                panic!("{answer:?}");
            };
            assert!(class.ends_with("SessionTimeoutException"), "{class}");
            assert_eq!(message, "5d7c1f3a-0000-4000-8000-000000000000 expired");
        }
    });
}

#[test]
fn forty_large_frames_share_the_memory_for_partial_frames_and_all_arrive() {
    story(async {
        const PEERS: u64 = 40;
        let (sink, weir, session) = small_weir("").await;
        let before = weir.rss_bytes();
        let frame = large(&session, 15);
        let (hold, held) = tokio::sync::watch::channel(true);
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            let (frame, url, mut held) = (frame.clone(), url(weir.tcp), held.clone());
            peers.push(tokio::spawn(async move {
                let mut peer = Gateway::connect(&dialer(), &url).await.unwrap();
                let (front, last) = frame.split_at(frame.len() - 1);
                peer.send(front).await.unwrap();
                held.wait_for(|held| !held).await.unwrap();
                peer.ask(last, 3 * LIMIT).await
            }));
        }
        reads_no_more(&weir).await;
        let after = weir.rss_bytes();
        println!(
            "{PEERS} unfinished frames of 15 MB: RSS {} -> {} MiB",
            before / MIB,
            after / MIB
        );
        assert!(after < before + 80 * MIB, "{before} to {after}");
        hold.send(false).unwrap();
        for peer in peers {
            assert_eq!(peer.await.unwrap(), Heard::Ok);
        }
        weir.until("all has ended", Status::at_rest).await;
        assert_eq!(sink.counts().events, 15 * PEERS);
    });
}
