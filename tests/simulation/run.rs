//! One seed, from the first connection to the verdict: chaos, calm, a fresh event, a stop.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use weir::status::Snapshot;
use weir_lab::load::{TwinOptions, Version};
use weir_lab::{Close, Load, LoadCounts, LoadOptions};

use crate::chaos::{Fault, chaos};
use crate::looks::Looks;
use crate::mutants::{Mutant, Mutation};
use crate::plan::Plan;
use crate::verdict::judge;
use crate::world::{World, at_rest};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Whatever is wrong, in virtual time everything must be over by then.
const LIMIT: Duration = Duration::from_secs(1_200);

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Of the trace: equal for equal runs.
    pub digest: (u64, u64),
    /// What happened how often.
    pub witnesses: BTreeMap<String, u64>,
    /// What is wrong; empty when all is well.
    pub broken: Vec<String>,
}

/// Runs a seed on this thread.
pub fn run(seed: u64, mutation: Option<Mutation>, aloud: bool) -> Outcome {
    run_plan(Plan::new(seed), mutation, aloud)
}

/// Runs a plan on this thread.
pub fn run_plan(plan: Plan, mutation: Option<Mutation>, aloud: bool) -> Outcome {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let set = LocalSet::new();
    runtime.block_on(set.run_until(async {
        if aloud {
            eprintln!("{plan:#?}");
        }
        let world = Rc::new(World::start(plan, aloud).await);
        let looks = Rc::new(Looks::default());
        match timeout(LIMIT, story(&world, &looks, mutation)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome {
                digest: world.sim.digest(),
                witnesses: BTreeMap::new(),
                broken: vec![format!(
                    "hangs: not over after {LIMIT:?}: {:#?}",
                    world.snapshot()
                )],
            },
        }
    }))
}

/// What the gateways of a run amount to.
#[derive(Debug, Default)]
pub struct Gateways {
    pub counts: Vec<LoadCounts>,
    pub fresh_acked: u64,
    pub fresh_received: Vec<u64>,
    /// Issued by loads that were stopped with weir, and perhaps never answered.
    pub cut_short: u64,
    /// The first group was dead when weir was stopped.
    pub dead_group: bool,
}

const FRESH: u64 = 3;

/// An agent that is back soon, so that runs of some seconds see it again, with frames as the other loads have them.
fn agent() -> TwinOptions {
    TwinOptions {
        batch_size: 30,
        reconnection_interval: Duration::from_secs(3),
        ..TwinOptions::new(Version::V5_4).closing_idle(Duration::from_secs(1), Duration::from_secs(1))
    }
}

async fn story(world: &Rc<World>, looks: &Rc<Looks>, mutation: Option<Mutation>) -> Outcome {
    let mut broken = Vec::new();
    if let Some(mutant) = mutation.and_then(Mutant::on_the_wire) {
        world.sim.intercept(Box::new(mutant));
    }
    let looking = {
        let (world, looks) = (Rc::clone(world), Rc::clone(looks));
        spawn_local(async move {
            loop {
                looks.look(&world);
                sleep(LOOK).await;
            }
        })
    };
    let mut random = Rng::with_seed(world.plan.seed ^ 0xc4a05);
    let mut gateways = Gateways::default();
    let loads: Vec<Load> = world
        .plan
        .loads
        .iter()
        .map(|l| {
            let load = LoadOptions {
                rate: Some(l.rate),
                ..world.load(l.connections)
            };
            Load::start(match l.agent {
                true => LoadOptions {
                    agent: Some(agent()),
                    ..load
                },
                false => LoadOptions {
                    events_per_frame: l.events_per_frame,
                    window: l.window,
                    ..load
                },
            })
        })
        .collect();
    chaos(world, &mut random).await;

    let calm = world.settings.borrow().calm();
    world.apply(calm, &mut random).await;
    for load in loads {
        load.stop();
        gateways.counts.push(load.finish().await.counts);
    }
    for task in world.tasks.take() {
        let _ = task.await;
    }
    rest(world, &mut broken).await;

    let before = received(world);
    let fresh = Load::start(LoadOptions {
        count: Some(FRESH),
        rate: Some(20.0),
        ..world.load(1)
    });
    gateways.fresh_acked = fresh.finish().await.counts.events_acked;
    rest(world, &mut broken).await;
    gateways.fresh_received = received(world)
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    looks.look(world);
    looks.look_at_rest(world);

    let acked = issued_and_acked(world);
    let last = Load::start(LoadOptions {
        rate: Some(100.0),
        settle: Duration::from_millis(10),
        ..world.load(2)
    });
    sleep(Duration::from_millis(random.u64(50..500))).await;
    // A stop loses nothing while every group lives; of a dead group it counts what is left.
    gateways.dead_group = random.u8(..4) == 0;
    for host in world.hosts.iter().filter(|h| gateways.dead_group && h.group == 0) {
        host.sink.kill(Close::Rst).await;
    }
    sleep(Duration::from_millis(random.u64(50..500))).await;
    world.stop(Duration::from_secs(4)).await;
    looking.abort();
    looks.look(world);
    last.stop();
    gateways.counts.push(last.finish().await.counts);
    let now = issued_and_acked(world);
    gateways.cut_short = (now.0 - now.1) - (acked.0 - acked.1);

    let mut snapshot = world.snapshot();
    let tampered = mutation.is_some_and(|m| m.tampers(&mut snapshot));
    broken.extend(looks.broken());
    broken.extend(judge(world, &snapshot, &gateways));
    let digest = world.sim.digest();
    Outcome {
        digest,
        witnesses: witnesses(world, &snapshot, tampered),
        broken,
    }
}

/// Distinct events issued and answered ok.
fn issued_and_acked(world: &World) -> (u64, u64) {
    let verdict = world.judge.verdict(None);
    (verdict.issued, verdict.acked)
}

fn received(world: &World) -> Vec<u64> {
    let groups = world.plan.groups.len() + usize::from(world.settings.borrow().guest);
    (0..groups).map(|g| world.judge.oracle().received(g)).collect()
}

async fn rest(world: &World, broken: &mut Vec<String>) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !at_rest(&world.snapshot()) {
        if Instant::now() >= deadline {
            broken.push(format!(
                "no rest after two minutes of calm: {:#?}",
                world.snapshot()
            ));
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn witnesses(world: &World, s: &Snapshot, tampered: bool) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let mut add = |what: &str, n: u64| *all.entry(what.to_owned()).or_default() += n;
    for fault in Fault::ALL {
        add(
            &format!("{fault:?}"),
            world.done.borrow().get(fault).copied().unwrap_or(0),
        );
    }
    let n = world.sim.counts();
    for (what, count) in [
        ("net: refused", n.refused),
        ("net: unanswered", n.unanswered),
        ("net: nameless", n.nameless),
        ("net: resets", n.resets),
        ("net: half opens", n.half_opens),
        ("net: cuts", n.cuts),
        ("net: vanished bytes", n.vanished_bytes),
        ("net: slices", n.sliced_reads),
        ("net: partial writes", n.partial_writes),
        ("net: stopped reads", n.stopped_reads),
        ("net: full buffers", n.full_writes),
        ("net: late writes", n.late_writes),
        ("net: slow writes", n.slow_writes),
    ] {
        add(what, count);
    }
    for host in &world.hosts {
        let c = host.sink.counts();
        add("tm: cuts", c.cut);
        add("tm: session errors", c.session_errors);
        add("tm: error replies", c.frames_error);
        add("tm: logins refused", c.logins_refused);
        add("tm: heartbeats", c.zero_event_frames);
    }
    let i = &s.ingress;
    for (what, count) in [
        ("weir: events ok", i.events_ok_total),
        ("weir: retry reply", i.publishes_refused_total),
        ("weir: session errors", i.session_errors_total),
        ("weir: malformed", i.malformed_total),
        ("weir: bad input", i.reset_bad_input_total),
        ("weir: idle resets", i.reset_idle_total),
        ("weir: mid-frame ends", i.closed_mid_frame_total),
        ("weir: blocked", i.blocked_nanos_total),
        ("weir: crashes", world.crashes.get()),
        ("mutation", u64::from(tampered)),
    ] {
        add(what, count);
    }
    for group in &s.groups {
        for (reason, count) in group.events.dropped.by_reason() {
            add(&format!("weir: dropped {reason}"), count);
        }
        add("weir: rejected", group.events.rejected);
        add("weir: resent", group.resent_events_total);
        add("weir: blocked incidents", group.blocked_incidents_total);
        add("weir: shed incidents", group.shed_incidents_total);
        for e in &group.endpoints {
            for (class, count) in weir::status::FAILURES.iter().zip(e.failures_total) {
                add(&format!("link: {class}"), count);
            }
        }
    }
    all
}
