//! Connections that end: at every byte, in both directions, told and untold.

use std::time::Duration;

use weir_lab::gateway::frame;
use weir_lab::sink::Answer;
use weir_lab::{Close, Load, LoadOptions, Proxy, Sizes};

use crate::support::faults::{
    Publisher, all_failures, eventually, failures, hurry, nothing_missing, proxied,
};
use crate::support::{Bed, Plan, story};

const BOTH: [Close; 2] = [Close::Rst, Close::Fin];

/// Two groups, a proxy in front of each one's Traffic Manager: one for resets, one for FINs.
async fn two_behind_proxies(plan: Plan) -> (Bed, Vec<Proxy>) {
    let mut proxies = Vec::new();
    let bed = Bed::start_adjusted(plan, |config, _, sinks| {
        hurry(config);
        config.link.linger = Duration::ZERO;
        proxies = (0..2).map(|g| proxied(config, &sinks[g][0], g, 0)).collect();
    })
    .await;
    bed.links_up().await;
    (bed, proxies)
}

#[test]
fn a_connection_cut_at_any_byte_of_a_frame_loses_nothing() {
    story(async {
        let (bed, proxies) = two_behind_proxies(Plan {
            sizes: Some(Sizes::Fixed(0)),
            ..Plan::groups(&["reset", "fin"])
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        let frame_bytes = frame(&[b'x'; 36], bed.judge.oracle().events(), 0, 0, 1).len() as u64;
        gateway.publish_ok(1).await;
        for at in 1..=frame_bytes {
            let whole = at + 1;
            // Each connection carries one whole frame, the one sent again, before it is cut.
            bed.until("delivered", |s| {
                s.groups.iter().all(|g| g.events.delivered == whole - 1)
            })
            .await;
            for (proxy, how) in proxies.iter().zip(BOTH) {
                proxy.forth(|t| t.cut_at = Some((frame_bytes + at, how)));
            }
            gateway.publish_ok(1).await;
            eventually("both are cut", || proxies.iter().all(|p| p.counts().cuts == at)).await;
        }
        let verdict = nothing_missing(&bed, "cuts", proxies.iter().map(|p| p.counts().cuts).sum()).await;
        for (i, name) in ["reset", "fin"].into_iter().enumerate() {
            let group = bed.group(name).await;
            assert_eq!(group.resent_events_total, frame_bytes, "each cut costs one event");
            assert_eq!(failures(&group.endpoints[0], "closed"), frame_bytes);
            let duplicated = verdict.groups[i].duplicated.count;
            assert!(duplicated <= 1, "only a whole frame can arrive twice: {verdict}");
        }
        assert_eq!(
            verdict.groups[1].duplicated.count, 1,
            "the whole frame was read before FIN"
        );
    });
}

#[test]
fn a_connection_cut_after_any_of_eight_oks_sends_again_only_the_rest() {
    story(async {
        let (bed, proxies) = two_behind_proxies(Plan::groups(&["reset", "fin"])).await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        let mut total = 0;
        for oks in (1..=8).rev() {
            let read: Vec<u64> = bed.sinks.iter().map(|s| s[0].counts().frames + 8).collect();
            for sinks in &bed.sinks {
                sinks[0].set(|b| b.answer(Answer::Stall));
            }
            for n in 1..=8 {
                gateway.publish_ok(1).await;
                bed.until("one frame for each event", |s| {
                    s.groups.iter().all(|g| g.endpoints[0].inflight_frames == n)
                })
                .await;
            }
            eventually("all are read", || {
                bed.sinks
                    .iter()
                    .zip(&read)
                    .all(|(s, n)| s[0].counts().frames == *n)
            })
            .await;
            // What went back before came as one frame and was answered with one byte.
            let before = u64::from(oks < 7);
            for (proxy, how) in proxies.iter().zip(BOTH) {
                proxy.back(|t| t.cut_at = Some((before + oks, how)));
            }
            for sinks in &bed.sinks {
                sinks[0].set(|b| b.answer(Answer::Ok));
            }
            total += 8;
            bed.until("all eight are delivered on a new connection", |s| {
                s.groups
                    .iter()
                    .all(|g| g.events.delivered == total && g.endpoints[0].links_up == 1)
            })
            .await;
            assert!(
                proxies.iter().all(|p| p.counts().cuts == 9 - oks),
                "each is cut once"
            );
        }
        let verdict = nothing_missing(&bed, "cuts", proxies[0].counts().cuts).await;
        for i in 0..2 {
            let resent = bed.snapshot().await.groups[i].resent_events_total;
            assert_eq!(
                resent,
                (0..8).sum::<u64>(),
                "exactly those without an ok go again"
            );
            assert_eq!(verdict.groups[i].duplicated.count, resent, "{verdict}");
        }
    });
}

#[test]
fn an_error_reply_cut_at_any_byte_is_no_verdict() {
    story(async {
        let (bed, proxies) = two_behind_proxies(Plan::groups(&["reset", "fin"])).await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(1).await;
        let error = Answer::Error {
            class: "java.lang.X".into(),
            message: "no".into(),
        };
        let reply_bytes = 1 + 4 + 4 + 11 + 2;
        for at in 1..=reply_bytes {
            bed.until("delivered", |s| s.groups.iter().all(|g| g.events.delivered == at))
                .await;
            for ((proxy, how), sinks) in proxies.iter().zip(BOTH).zip(&bed.sinks) {
                proxy.back(|t| t.cut_at = Some((1 + at, how)));
                sinks[0].set(|b| b.answer_times(error.clone(), 1));
            }
            gateway.publish_ok(1).await;
            eventually("both are cut", || proxies.iter().all(|p| p.counts().cuts == at)).await;
        }
        nothing_missing(&bed, "cuts", proxies[0].counts().cuts).await;
        for name in ["reset", "fin"] {
            let group = bed.group(name).await;
            let endpoint = &group.endpoints[0];
            assert_eq!(
                (group.events.rejected, endpoint.replies_error_total),
                (0, 1),
                "one whole error, nothing rejected"
            );
            assert_eq!(
                (failures(endpoint, "closed"), failures(endpoint, "rejected")),
                (reply_bytes - 1, 1)
            );
        }
    });
}

#[test]
fn slices_of_one_byte_both_ways_change_nothing() {
    story(async {
        let (bed, proxies) = two_behind_proxies(Plan::groups(&["slow", "too"])).await;
        for proxy in &proxies {
            proxy.forth(|t| t.slice_bytes = Some(1));
            proxy.back(|t| t.slice_bytes = Some(1));
        }
        let options = LoadOptions {
            connections: 4,
            events_per_frame: 3,
            count: Some(150),
            ..bed.load()
        };
        Load::start(options).finish().await;
        bed.assert_clean(150).await;
        assert_eq!(all_failures(&bed.snapshot().await, 0), 0);
        assert!(bed.sinks[0][0].counts().bytes > 150 * 448, "through the proxy");
    });
}

#[test]
fn a_half_open_connection_is_found_by_the_missing_reply() {
    story(async {
        let (bed, proxies) = two_behind_proxies(Plan {
            link: "reply_timeout = \"300ms\"",
            ..Plan::groups(&["half", "whole"])
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(5).await;
        bed.until("delivered", |s| s.groups.iter().all(|g| g.events.delivered == 5))
            .await;
        proxies[0].back(|t| t.half_open = true);
        bed.sinks[0][0].cut(Close::Fin);
        eventually("the end is kept from weir", || {
            proxies[0].counts().half_opens == 1
        })
        .await;
        proxies[0].forth(|t| t.black_hole = true);
        gateway.publish_ok(5).await;
        let found = bed
            .until("the dead peer is found", |s| {
                failures(&s.groups[0].endpoints[0], "timeout") >= 1
            })
            .await;
        assert_eq!(all_failures(&found, 1), 0, "the other group has not noticed");
        proxies[0].back(|t| t.half_open = false);
        proxies[0].forth(|t| t.black_hole = false);
        let verdict = nothing_missing(&bed, "half-open", proxies[0].counts().half_opens).await;
        assert_eq!(verdict.groups[1].copies, 10);
    });
}

#[test]
fn a_black_hole_is_left_after_reply_timeout_and_what_vanished_goes_again() {
    story(async {
        let (bed, proxies) = two_behind_proxies(Plan {
            link: "reply_timeout = \"300ms\"",
            ..Plan::groups(&["hole", "whole"])
        })
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(5).await;
        proxies[0].forth(|t| t.black_hole = true);
        gateway.publish_ok(20).await;
        bed.until("the hole is found", |s| {
            failures(&s.groups[0].endpoints[0], "timeout") >= 1
        })
        .await;
        proxies[0].forth(|t| t.black_hole = false);
        let verdict = nothing_missing(&bed, "vanished bytes", proxies[0].counts().vanished_bytes).await;
        assert_eq!(verdict.groups[1].copies, 25);
        assert_eq!(all_failures(&bed.snapshot().await, 1), 0);
    });
}

#[test]
fn nothing_is_sent_twice_but_one_window_for_each_connection_that_ends() {
    story(async {
        for how in BOTH {
            let bed = Bed::start(Plan {
                sizes: Some(Sizes::Fixed(496)),
                link: "window_frames = 4\nbatch_max_bytes = \"5000B\"",
                ..Plan::groups(&["cut", "whole"])
            })
            .await;
            let load = Load::start(LoadOptions {
                connections: 16,
                ..bed.load()
            });
            let handle = load.handle();
            for _ in 0..10 {
                let seen = bed.sinks[0][0].counts().events;
                bed.sinks[0][0].set(|b| b.answer_times(Answer::CloseBeforeOk(how), 1));
                eventually("traffic goes on", || bed.sinks[0][0].counts().events > seen + 300).await;
            }
            handle.stop();
            load.finish().await;
            let verdict = nothing_missing(&bed, "cuts", bed.sinks[0][0].counts().cut).await;
            let group = bed.group("cut").await;
            let ended = failures(&group.endpoints[0], "closed");
            let (duplicated, resent) = (verdict.groups[0].duplicated.count, group.resent_events_total);
            // Ten events of 500 bytes make a frame.
            assert!(resent <= ended * 4 * 10, "{resent} after {ended} ended");
            assert!(duplicated > 0 && duplicated <= resent, "{duplicated} of {resent}");
            assert_eq!(
                (
                    verdict.groups[1].duplicated.count,
                    bed.group("whole").await.resent_events_total
                ),
                (0, 0)
            );
        }
    });
}
