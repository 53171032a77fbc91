//! A firewall that silently forgets idle flows, and one that swallows everything for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_lab::{Load, LoadOptions, thread};

use crate::namespaces::{Net, within};
use crate::support::stage::Stage;
use crate::support::{Plan, noticed_nothing};

/// How long the firewall remembers a silent flow, in seconds.
const REMEMBERS: u64 = 3;

/// Passes what it knows and what begins a flow; drops and counts the rest.
fn forgetful(net: &Net) {
    net.firewall(&[
        "add table inet idlefw",
        "add counter inet idlefw dropped",
        "add chain inet idlefw pass { type filter hook forward priority 0; policy drop; }",
        "add rule inet idlefw pass ct state established,related accept",
        "add rule inet idlefw pass ct state new tcp flags & (fin|syn|rst|ack) == syn accept",
        "add rule inet idlefw pass counter name dropped drop",
    ]);
    // After the rules, which load connection tracking in that namespace.
    let seconds = REMEMBERS.to_string();
    let settings = [
        ("loose", "0"),
        ("timeout_established", &seconds),
        ("timeout_unacknowledged", &seconds),
        ("timeout_max_retrans", &seconds),
    ];
    for (key, value) in settings {
        let setting = format!("net.netfilter.nf_conntrack_tcp_{key}={value}");
        net.run_in("f", &["sysctl", "-qw", &setting]);
    }
}

fn dropped(net: &Net) -> u64 {
    let text = net.run_in("f", &["nft", "list", "counter", "inet", "idlefw", "dropped"]);
    let mut words = text.split_whitespace().skip_while(|w| *w != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

/// One event, from a gateway of its own, answered ok.
async fn publish(stage: &Stage, origin: u32) {
    let options = LoadOptions {
        count: Some(1),
        origin_first: origin,
        ..stage.load()
    };
    assert_eq!(Load::start(options).finish().await.counts.events_acked, 1);
}

#[test]
fn without_heartbeat_an_event_behind_a_forgetting_firewall_is_gone_until_the_reply_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    within(
        &without_heartbeat_an_event_behind_a_forgetting_firewall_is_gone_until_the_reply_timeout,
        async |net: Net| {
            forgetful(&net);
            let stage = net
                .stage(Plan {
                    link: "heartbeat = \"off\"\nreply_timeout = \"5s\"",
                    ..Plan::groups(&["one"])
                })
                .await;
            publish(&stage, 0).await;
            stage
                .weir
                .until("it arrives", |s| s.of("one", "events/delivered") == 1)
                .await;
            sleep(Duration::from_secs(REMEMBERS + 3)).await;
            let before = Instant::now();
            publish(&stage, 1).await;
            thread::until("the second arrives", Duration::from_secs(60), || {
                stage.judge.oracle().received(0) == 2
            })
            .await
            .unwrap();
            let vanished = before.elapsed();
            println!("without heartbeat the event was gone for {vanished:.1?}");
            assert!(vanished >= TIMEOUT, "found before the timeout: {vanished:?}");
            let verdict = stage
                .verdict()
                .await
                .witness("packets dropped", dropped(&net))
                .witness(
                    "timeouts",
                    stage
                        .weir
                        .status()
                        .of("one", "endpoints/0/failures_total/timeout"),
                );
            assert!(verdict.ok(), "{verdict}");
            assert_eq!(
                verdict.groups[0].missing.count, 0,
                "late, but not lost: {verdict}"
            );
        },
    );
}

#[test]
fn with_heartbeat_a_forgetting_firewall_forgets_nothing() {
    within(
        &with_heartbeat_a_forgetting_firewall_forgets_nothing,
        async |net: Net| {
            forgetful(&net);
            let stage = net
                .stage(Plan {
                    link: "heartbeat = { delay = 1, timeout_factor = 2.0 }\nreply_timeout = \"5s\"",
                    ..Plan::groups(&["one"])
                })
                .await;
            publish(&stage, 0).await;
            sleep(Duration::from_secs(REMEMBERS * 2 + 3)).await;
            let before = Instant::now();
            publish(&stage, 1).await;
            thread::until("the second arrives", Duration::from_secs(60), || {
                stage.judge.oracle().received(0) == 2
            })
            .await
            .unwrap();
            println!("with heartbeat the event took {:.1?}", before.elapsed());
            assert!(before.elapsed() < Duration::from_secs(4), "before any timeout");
            stage.assert_clean(2).await;
            let status = stage.weir.status();
            assert_eq!(
                status.of("one", "endpoints/0/connects_total"),
                1,
                "the flow lived"
            );
            assert!(status.of("one", "endpoints/0/heartbeats_total") >= 5);
            // Only what a gateway's or an operator's connection does would be dropped, and those pass by.
            assert_eq!(dropped(&net), 0);
        },
    );
}

#[test]
fn a_black_hole_is_found_by_the_heartbeat_and_other_groups_do_not_notice() {
    const HOLE: Duration = Duration::from_secs(20);
    /// delay × timeout_factor.
    const FOUND_WITHIN: Duration = Duration::from_secs(4);
    within(
        &a_black_hole_is_found_by_the_heartbeat_and_other_groups_do_not_notice,
        async |net: Net| {
            let stage = net
                .stage(Plan {
                    link: "heartbeat = { delay = 2, timeout_factor = 2.0 }\nconnect_timeout = \"1s\"",
                    queue: "unavailable_after = \"1s\"",
                    ..Plan::groups(&["holed", "whole"])
                })
                .await;
            publish(&stage, 0).await;
            stage
                .weir
                .until("it arrives", |s| {
                    s.of("holed", "events/delivered") + s.of("whole", "events/delivered") == 2
                })
                .await;
            let port = stage.sinks[0].data_address().port();
            let begun = Instant::now();
            net.firewall(&[
                "add table inet hole",
                "add counter inet hole swallowed",
                "add chain inet hole pass { type filter hook forward priority 0; policy accept; }",
                &format!("add rule inet hole pass tcp dport {port} counter name swallowed drop"),
                &format!("add rule inet hole pass tcp sport {port} counter name swallowed drop"),
            ]);
            stage
                .weir
                .until("the hole is found", |s| {
                    s.of("holed", "endpoints/0/links_up") == 0
                })
                .await;
            let found = begun.elapsed();
            println!("the black hole was found after {found:.1?}");
            // The clock of the last second is the machine's: others use it, too.
            assert!(found <= FOUND_WITHIN + Duration::from_secs(1), "{found:?}");
            let load = Load::start(LoadOptions {
                connections: 4,
                rate: Some(500.0),
                origin_first: 10,
                ..stage.agents()
            });
            sleep(HOLE.saturating_sub(begun.elapsed())).await;
            let status = stage.weir.status();
            assert_eq!(
                status.of("holed", "events/delivered"),
                1,
                "nothing got through the hole"
            );
            assert!(status.of("holed", "events/queued") > 1_000);
            let text = net.run_in("f", &["nft", "list", "counter", "inet", "hole", "swallowed"]);
            assert!(!text.contains("packets 0 "), "{text}");
            net.firewall(&["delete table inet hole"]);
            stage.weir.until("the link is back", |s| s.all_up()).await;
            load.stop();
            noticed_nothing(&load.finish().await);
            let verdict = stage.verdict().await;
            assert!(verdict.ok(), "{verdict}");
            assert_eq!(verdict.groups[0].missing.count, 0, "{verdict}");
            let whole = &verdict.groups[1];
            assert_eq!(
                (whole.distinct, whole.copies),
                (verdict.acked, verdict.acked),
                "{verdict}"
            );
            let status = stage.weir.status();
            assert_eq!(status.of("whole", "endpoints/0/connects_total"), 1, "untouched");
            println!("the other group meanwhile: p99 {} us", whole.latency_p99_us);
        },
    );
}
