//! Memory stays where it is while a group is stalled and gateways send the smallest frames there are.

use std::time::Duration;

use weir::lab::gateway::{Answer as Heard, Gateway};
use weir::lab::sink::Answer;
use weir::lab::{Sink, SinkOptions};
use weir::wire::request::encode_publish_header;

use crate::support::process::{Process, Start, Status};
use crate::support::{Plan, dialer, story, toml, url, url_group};

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
        // One event of 12 bytes a frame, frames pipelined so that they arrive many in a segment.
        let mut frame = Vec::new();
        encode_publish_header(&mut frame, &session, 1, 4 + 12);
        frame.extend_from_slice(&12_u32.to_be_bytes());
        frame.extend_from_slice(b"twelve bytes");
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
