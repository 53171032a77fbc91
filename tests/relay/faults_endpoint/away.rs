//! Traffic Managers that are not there: refused, flapping, down for a while, back again.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir_lab::sink::tcp;
use weir_lab::{Close, Load, LoadOptions, Proxy, Sink};

use crate::support::faults::{all_failures, eventually, failures, nothing_missing, proxied};
use crate::support::{Bed, Plan, dialer, noticed_nothing, story, url};

#[test]
fn an_endpoint_that_refuses_leaves_its_events_to_the_next_and_the_primary_returns() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("one", "failover", 2), ("two", "failover", 1)],
            link: "failback_after = \"100ms\"",
            ..Plan::default()
        })
        .await;
        let (first, second) = (&bed.sinks[0][0], &bed.sinks[0][1]);
        let load = Load::start(LoadOptions {
            connections: 4,
            ..bed.load()
        });
        let handle = load.handle();
        eventually("the first works", || first.counts().events > 300).await;
        first.refuse().await;
        first.cut(Close::Fin);
        eventually("the second works", || second.counts().events > 300).await;
        let refused = bed
            .until("connections are refused", |s| {
                failures(&s.groups[0].endpoints[0], "refused") >= 2
            })
            .await;
        assert!(
            refused.groups[0].available && refused.groups[0].endpoints[0].links_up == 0,
            "{refused:#?}"
        );
        let (before, other) = (first.counts().events, second.counts().events);
        first.revive().await;
        eventually("the first works again", || first.counts().events > before + 300).await;
        assert!(second.counts().events > other, "the second served meanwhile");
        handle.stop();
        load.finish().await;
        let snapshot = bed.snapshot().await;
        let refusals = failures(&snapshot.groups[0].endpoints[0], "refused");
        assert_eq!(
            snapshot.groups[0].endpoints[1].connects_total, 1,
            "the second is kept"
        );
        assert_eq!(all_failures(&snapshot, 1), 0);
        nothing_missing(&bed, "refused", refusals).await;
    });
}

#[test]
fn a_flapping_endpoint_loses_nothing_and_disturbs_nobody() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![
                ("flaps", "failover", 1),
                ("pair", "loadbalance", 2),
                ("calm", "failover", 1),
            ],
            ..Plan::default()
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(4000.0),
            ..bed.agents()
        });
        let handle = load.handle();
        let short = Duration::from_millis(60);
        tokio::join!(
            bed.sinks[0][0].flap(8, short / 2, short),
            bed.sinks[1][1].flap(8, short, short / 2)
        );
        handle.stop();
        noticed_nothing(&load.finish().await);
        let snapshot = bed.snapshot().await;
        let verdict = nothing_missing(&bed, "failures", all_failures(&snapshot, 0)).await;
        let verdict = verdict.witness("failures of the pair", all_failures(&snapshot, 1));
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[2].copies, verdict.acked);
        assert_eq!(snapshot.groups[2].endpoints[0].connects_total, 1);
    });
}

#[test]
fn a_group_that_is_down_for_a_while_gets_everything_when_it_is_back() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("down", "loadbalance", 2), ("up", "failover", 1)],
            ..Plan::default()
        })
        .await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(5000.0),
            window: 4,
            ..bed.load()
        });
        let handle = load.handle();
        eventually("traffic", || bed.judge.oracle().acked() > 500).await;
        for sink in &bed.sinks[0] {
            sink.kill(Close::Rst).await;
        }
        let at_death = bed.judge.oracle().received(1);
        eventually("the other group goes on", || {
            bed.judge.oracle().received(1) > at_death + 4000
        })
        .await;
        let queued = bed.group("down").await.events.queued;
        for sink in &bed.sinks[0] {
            sink.revive().await;
        }
        handle.stop();
        load.finish().await;
        let verdict = nothing_missing(&bed, "queued while down", queued).await;
        assert_eq!(verdict.groups[1].copies, verdict.acked);
        assert_eq!(bed.group("down").await.events.dropped.total(), 0);
    });
}

#[test]
fn all_groups_may_go_and_come_back_in_another_order() {
    story(async {
        let names = ["a", "b", "c"];
        let bed = Bed::start(Plan::groups(&names)).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(4000.0),
            ..bed.agents()
        });
        let handle = load.handle();
        eventually("traffic", || bed.judge.oracle().acked() > 300).await;
        for gone in [0, 1, 2] {
            bed.sinks[gone][0].kill(Close::Rst).await;
            let acked = bed.judge.oracle().acked();
            eventually("gateways are answered all the same", || {
                bed.judge.oracle().acked() > acked + 200
            })
            .await;
        }
        let all_down = bed
            .until("all are down", |s| {
                s.groups.iter().all(|g| g.endpoints[0].links_up == 0)
            })
            .await;
        let waiting: u64 = all_down.groups.iter().map(|g| g.events.queued).sum();
        for back in [2, 0, 1] {
            bed.sinks[back][0].revive().await;
            bed.until("this one has caught up", |s| {
                s.groups[back].endpoints[0].links_up == 1 && s.groups[back].events.queued < 200
            })
            .await;
        }
        handle.stop();
        noticed_nothing(&load.finish().await);
        nothing_missing(&bed, "waiting while all were down", waiting).await;
        for name in names {
            let group = bed.group(name).await;
            assert_eq!(group.events.delivered, group.events.accepted, "{group:?}");
        }
    });
}

/// Which of a Traffic Manager's two ports opens last.
#[derive(Debug, Clone, Copy)]
enum Last {
    Both,
    Login,
    Data,
}

#[test]
fn an_outage_of_any_length_ends_soon_after_the_last_port_has_opened() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    /// Between the openings of the two ports.
    const APART: Duration = Duration::from_millis(2500);
    story(async {
        let (mut data, mut auth) = (Vec::new(), Vec::new());
        let mut bed = Bed::start_adjusted(Plan::groups(&NAMES), |config, _, sinks| {
            (config.link.backoff_min, config.link.backoff_max) =
                (Duration::from_millis(100), Duration::from_secs(30));
            for (g, sinks) in sinks.iter().enumerate() {
                auth.push(Proxy::start(dialer(), url(sinks[0].data_address())).unwrap());
                config.groups[g].endpoints[0].auth = url(auth[g].address());
                data.push(proxied(config, &sinks[0], g, 0));
            }
        })
        .await;
        bed.links_up().await;
        let load = Load::start(LoadOptions {
            connections: 2,
            rate: Some(200.0),
            ..bed.load()
        });
        let handle = load.handle();
        bed.until("traffic", |s| s.groups.iter().all(|g| g.events.delivered > 20))
            .await;
        let mut random = fastrand::Rng::with_seed(19);
        let mut outages = JoinSet::new();
        let sinks = std::mem::take(&mut bed.sinks).into_iter().flatten();
        for (sink, (data, auth)) in sinks.zip(data.into_iter().zip(auth)) {
            let last = [Last::Both, Last::Login, Last::Data][random.usize(..3)];
            let length = Duration::from_millis(random.u64(..10_000));
            outages.spawn_local(outage(sink, data, auth, length, last, APART));
        }
        let (mut waits, _alive): (Vec<Duration>, Vec<_>) = outages.join_all().await.into_iter().unzip();
        waits.sort();
        handle.stop();
        load.finish().await;
        let snapshot = bed.snapshot().await;
        let refused = snapshot
            .groups
            .iter()
            .map(|g| failures(&g.endpoints[0], "refused"))
            .sum();
        nothing_missing(&bed, "refused", refused).await;
        let (half, all) = (waits[waits.len() / 2 - 1], waits[waits.len() - 1]);
        println!("half within {half:.2?}, all within {all:.2?}");
        assert!(
            half <= Duration::from_millis(500) && all <= Duration::from_millis(1500),
            "{waits:?}"
        );
    });
}

/// Closes both ports for so long; returns how long after the last opening an event was delivered.
async fn outage(
    sink: Sink,
    data: Proxy,
    auth: Proxy,
    length: Duration,
    last: Last,
    apart: Duration,
) -> (Duration, (Sink, (Proxy, Proxy))) {
    let (data_at, auth_at, to) = (data.address(), auth.address(), url(sink.data_address()));
    drop((data, auth));
    sleep(length).await;
    let open = |at| Proxy::start_on(tcp(at), dialer(), to.clone()).unwrap();
    let before = sink.counts().frames_ok;
    let (opened, open) = match last {
        Last::Both => (Instant::now(), (open(data_at), open(auth_at))),
        Last::Login => {
            let data = open(data_at);
            sleep(apart).await;
            (Instant::now(), (data, open(auth_at)))
        }
        Last::Data => {
            let auth = open(auth_at);
            sleep(apart).await;
            (Instant::now(), (open(data_at), auth))
        }
    };
    eventually("an event is delivered again", || sink.counts().frames_ok > before).await;
    let wait = opened.elapsed();
    println!("down for {length:.1?}, opened last: {last:?}, served again after {wait:.2?}");
    (wait, (sink, open))
}
