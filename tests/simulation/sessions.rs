//! Two Traffic Managers of a failover group: sessions that end by their age, over hours of virtual time, and
//! time that weir sleeps through.

use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{Instant, advance, sleep};
use weir::status::Endpoint;
use weir_lab::{Close, Load, LoadOptions, Verdict, WeirCounts};

use crate::plan::{GroupPlan, Plan};
use crate::world::{World, at_rest};

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than `unavailable_after` and `failback_after`.
const SLEEP: Duration = Duration::from_secs(34);

/// What a first Traffic Manager of a failover group, and weir's link to it, have seen.
pub struct Seen {
    pub logins: u64,
    pub told_expired: u64,
    pub link: Endpoint,
    pub standby_events: u64,
    pub resent: u64,
    pub verdict: Verdict,
}

/// So much time with events of two gateways, or with heartbeats only.
pub fn sessions_end_after(life: Duration, run: Duration, busy: bool) -> Seen {
    virtually(async |world| {
        for host in &world.hosts {
            host.sink.set(|b| b.session_life = Some(life));
        }
        if busy {
            let load = Load::start(LoadOptions {
                rate: Some(1.0),
                duration: Some(run),
                ..world.load(2)
            });
            load.finish().await;
        } else {
            sleep(run).await;
        }
        until(|| at_rest(&world.snapshot())).await;
        let snapshot = world.snapshot();
        let first = world.hosts[0].sink.counts();
        Seen {
            logins: first.logins_ok,
            told_expired: first.session_errors,
            link: snapshot.groups[0].endpoints[0].clone(),
            standby_events: world.hosts[1].sink.counts().events,
            resent: snapshot.groups[0].resent_events_total,
            verdict: world.judge.verdict(Some(&WeirCounts::from(&snapshot))),
        }
    })
}

/// How a group without a link is judged when weir has slept for long: at once, and in the end.
pub fn available_after_a_sleep() -> (bool, bool) {
    virtually(async |world| {
        for host in &world.hosts {
            host.sink.kill(Close::Rst).await;
        }
        until(|| {
            world.snapshot().groups[0]
                .endpoints
                .iter()
                .all(|e| e.links_up == 0)
        })
        .await;
        advance(SLEEP).await;
        sleep(Duration::from_millis(1)).await;
        let at_once = world.snapshot().groups[0].available;
        sleep(SLEEP).await;
        (at_once, world.snapshot().groups[0].available)
    })
}

/// Which Traffic Manager gets events when weir has slept for long right after the first came back: at once, and
/// in the end.
pub fn used_after_a_sleep() -> [(u64, u64); 2] {
    virtually(async |world| {
        let [first, standby] = [0, 1].map(|i| &world.hosts[i].sink);
        until(|| {
            world.snapshot().groups[0]
                .endpoints
                .iter()
                .all(|e| e.links_up == 1)
        })
        .await;
        first.kill(Close::Rst).await;
        until(|| world.snapshot().groups[0].endpoints[0].links_up == 0).await;
        first.revive().await;
        until(|| world.snapshot().groups[0].endpoints[0].links_up == 1).await;
        advance(SLEEP).await;
        let mut seen = [(0, 0); 2];
        for seen in &mut seen {
            let load = Load::start(LoadOptions {
                count: Some(1),
                ..world.load(1)
            });
            load.finish().await;
            until(|| at_rest(&world.snapshot())).await;
            *seen = (first.counts().events, standby.counts().events);
            sleep(SLEEP).await;
        }
        seen
    })
}

/// A world with one failover group, and what comes of it.
fn virtually<T>(work: impl AsyncFnOnce(&Rc<World>) -> T) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut plan = Plan::new(17);
        plan.workers = 1;
        plan.groups = vec![GroupPlan {
            name: "pair".into(),
            loadbalance: false,
            endpoints: vec!["first:9611".into(), "standby:9611".into()],
            spare: None,
        }];
        plan.settings.guest = false;
        plan.settings.ack_delivered = false;
        plan.settings.queue = String::new();
        plan.settings.link = String::new();
        let world = Rc::new(World::start(plan, false).await);
        let seen = work(&world).await;
        world.stop(MINUTE).await;
        seen
    })
}

async fn until(is: impl Fn() -> bool) {
    let deadline = Instant::now() + MINUTE;
    while !is() {
        assert!(Instant::now() < deadline, "never");
        sleep(Duration::from_millis(10)).await;
    }
}
