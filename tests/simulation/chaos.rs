//! What goes wrong in a run: one fault after the other, each healed after a while or at the end.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};
use weir_lab::Sink;
use weir_lab::sim::Conditions;
use weir_lab::sink::{Answer, Login};

use crate::plan::WEIR;
use crate::strikes::strike;
use crate::world::World;

macro_rules! faults {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name),* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name),*];
        }
    };
}

faults! {
    // The network towards a Traffic Manager.
    Latency, Slices, Bandwidth, CutFin, CutRst, CutAtByte, BlackHole, HalfOpen, Stopped, SmallBuffer,
    SilentConnect, NoName,
    // The Traffic Manager.
    Refused, KillFin, KillRst, Stall, NotReading, ErrorReply, WrongLengths, Garbage, CloseBeforeOk, CloseAfterOk,
    CloseAfterFrames, SessionExpiry, SlowTm, LoginSilent, LoginRefused, LastLegs,
    // The whole group.
    GroupDown,
    // The network between gateways and weir, and faulty gateways.
    GatewayLatency, GatewaySlices, GatewayCut, GatewayCutAtByte, GatewayStopped, GatewayGone, GatewayProbe, GatewayFlood,
    GatewayGarbage,
    // Weir itself.
    Reload, Endpoints, Guest, DrainAndBack, Disable, ClockStep, WeirSessions, Crash,
}

impl Fault {
    /// Gateways may have to send again, or never hear of an ok.
    pub fn touches_gateways(self) -> bool {
        self >= Fault::GatewayLatency && self <= Fault::GatewayGarbage
            || matches!(
                self,
                Fault::Crash | Fault::WeirSessions | Fault::ClockStep | Fault::DrainAndBack
            )
    }
}

/// What is to be healed, and when.
pub enum Heal {
    Host(usize),
    Gateways,
    Undrain,
    Enable(String, String),
}

pub async fn chaos(world: &World, random: &mut Rng) {
    let end = Instant::now() + world.plan.chaos;
    let mut heals: Vec<(Instant, Heal)> = Vec::new();
    let mut next = Instant::now();
    loop {
        let heal = (0..heals.len()).min_by_key(|i| heals[*i].0);
        let heal_at = heal.map_or(end, |i| heals[i].0);
        let now_at = next.min(heal_at).min(end);
        sleep_until(now_at).await;
        if now_at == end {
            break;
        }
        match heal {
            Some(i) if heal_at <= next => {
                let (_, what) = heals.swap_remove(i);
                cure(world, what).await;
            }
            _ => {
                if !world.plan.faults.is_empty() {
                    let fault = world.plan.faults[random.usize(..world.plan.faults.len())];
                    world.did(fault);
                    let until = Instant::now() + Duration::from_millis(random.u64(20..6_000));
                    if let Some(heal) = strike(world, fault, random).await {
                        heals.push((until, heal));
                    }
                }
                let pace = u64::try_from(world.plan.pace.as_millis()).unwrap();
                next = Instant::now() + Duration::from_millis(random.u64(1..=pace * 2));
            }
        }
    }
    world.sim.note("calm", 0, 0);
    for host in 0..world.hosts.len() {
        cure(world, Heal::Host(host)).await;
    }
    cure(world, Heal::Gateways).await;
    cure(world, Heal::Undrain).await;
    for (_, heal) in heals {
        cure(world, heal).await;
    }
}

pub async fn cure(world: &World, heal: Heal) {
    match heal {
        Heal::Host(at) => {
            let host = &world.hosts[at];
            let latency = host.latency;
            world.sim.conditions(&host.name, |w| {
                *w = Conditions::default();
                (w.forth.latency, w.back.latency) = (latency, latency);
            });
            well(&host.sink);
            host.sink.revive_if_closed().await;
        }
        Heal::Gateways => world.sim.conditions(WEIR, |w| {
            *w = Conditions::default();
            (w.forth.latency, w.back.latency) = (world.latency, world.latency);
        }),
        Heal::Undrain => world.drain(false),
        Heal::Enable(group, name) => world.enable(&group, &name, true).await,
    }
}

/// In good health but for its ports.
fn well(sink: &Sink) {
    sink.set(|b| {
        b.reading = true;
        b.answer(Answer::Ok);
        b.login = Login::Check;
        b.delay = Duration::ZERO;
        b.close_after_frames = None;
    });
}

trait Revive {
    async fn revive_if_closed(&self);
}

impl Revive for Sink {
    /// Reviving forgets sessions; one that lives keeps them.
    async fn revive_if_closed(&self) {
        let mut open = false;
        self.set(|b| open = b.listening);
        if !open {
            self.revive().await;
        }
    }
}
