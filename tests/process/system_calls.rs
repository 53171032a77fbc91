//! What frames cost in system calls, counted by strace.

use weir_lab::load::{TwinOptions, Version};
use weir_lab::{Load, LoadOptions};

use crate::support::sabotage::{Sabotage, possible};
use crate::support::stage::Stage;
use crate::support::{Plan, agents_dialer, story};

const QUICK_ACK: &str = "TCP_QUICKACK, [1]";
/// The agent writes 8 KiB at a time, and 200 events are some 120 KB.
const WRITES_A_FRAME: u64 = 16;

#[test]
fn a_frame_that_arrives_whole_costs_no_quick_acknowledgement_and_each_write_of_an_agent_at_most_one() {
    if !possible() {
        return;
    }
    story(async {
        let stage = Stage::start(Plan::groups(&["one"])).await;
        let watched = Sabotage::watch(stage.weir.pid(), "setsockopt");
        let single = Load::start(LoadOptions {
            connections: 8,
            count: Some(4_000),
            ..stage.load()
        });
        assert_eq!(single.finish().await.counts.frames_acked, 4_000);
        // Each connection set options of its own, so the calls were seen.
        assert!(watched.times("TCP_NODELAY") >= 8);
        assert_eq!(watched.times(QUICK_ACK), 0);
        let large = Load::start(LoadOptions {
            dialer: agents_dialer(),
            count: Some(40_000),
            origin_first: 8,
            agent: Some(TwinOptions::new(Version::V5_4)),
            ..stage.load()
        });
        let counts = large.finish().await.counts;
        assert_eq!(
            (counts.events_acked, counts.queue_full),
            (40_000, 0),
            "{counts:?}"
        );
        let (calls, frames) = (watched.times(QUICK_ACK), counts.frames_acked);
        println!("{calls} calls for {frames} frames");
        // How many writes one read finds depends on the load of the machine: about one call a frame where it is idle.
        assert!(
            calls > 0 && calls as u64 <= WRITES_A_FRAME * frames,
            "{calls} calls for {frames} frames"
        );
    });
}
