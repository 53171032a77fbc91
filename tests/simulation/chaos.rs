//! What goes wrong in a run: one fault after the other, each healed after a while or at the end.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};
use weir::lab::sink::{Answer, Login};
use weir::lab::{Close, Sink};

use crate::gateways;
use crate::plan::{GUEST, Settings, WEIR};
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
    // The network between gateways and weir, and gateways on a bad day.
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
enum Heal {
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

fn sometimes(random: &mut Rng) -> u64 {
    random.u64(1..5)
}

async fn strike(world: &World, fault: Fault, random: &mut Rng) -> Option<Heal> {
    let at = random.usize(..world.hosts.len());
    let host = &world.hosts[at];
    let (name, sink) = (host.name.as_str(), &host.sink);
    let how = if random.bool() { Close::Fin } else { Close::Rst };
    let ms = |n: u64| Duration::from_millis(n);
    match fault {
        Fault::Latency => {
            let (forth, back) = (ms(random.u64(1..300)), ms(random.u64(1..300)));
            world
                .sim
                .weather(name, |w| (w.forth.latency, w.back.latency) = (forth, back));
        }
        Fault::Slices => {
            let (forth, back) = (random.usize(1..200), random.usize(1..4));
            world.sim.weather(name, |w| {
                (w.forth.slice_bytes, w.back.slice_bytes) = (Some(forth), Some(back))
            });
        }
        Fault::Bandwidth => {
            let speed = random.u64(2_000..200_000);
            world.sim.weather(name, |w| w.forth.bandwidth = Some(speed));
        }
        Fault::CutFin => world.sim.cut(name, Close::Fin, random.bool()),
        Fault::CutRst => world.sim.cut(name, Close::Rst, random.bool()),
        Fault::CutAtByte => {
            let (forth, byte) = (random.u8(..4) > 0, random.u64(1..3_000));
            world.sim.weather(name, |w| {
                if forth {
                    w.forth.cut_at = Some((byte, how));
                } else {
                    w.back.cut_at = Some((byte % 60, how));
                }
            });
        }
        Fault::BlackHole => {
            let both = random.u8(..3);
            world.sim.weather(name, |w| {
                w.forth.black_hole = both != 0;
                w.back.black_hole = both != 1;
            });
        }
        Fault::HalfOpen => {
            world
                .sim
                .weather(name, |w| (w.forth.half_open, w.back.half_open) = (true, true));
            sink.cut(how);
        }
        Fault::Stopped => {
            let both = random.u8(..3);
            world.sim.weather(name, |w| {
                w.forth.stopped = both != 0;
                w.back.stopped = both != 1;
            });
        }
        Fault::SmallBuffer => {
            let bytes = random.usize(1..5_000);
            world.sim.weather(name, |w| w.buffer_bytes = bytes);
            sink.cut(Close::Rst);
        }
        Fault::SilentConnect => {
            world.sim.weather(name, |w| w.silent = true);
            sink.cut(how);
        }
        Fault::NoName => {
            world.sim.weather(name, |w| w.nameless = true);
            sink.cut(how);
        }
        Fault::Refused => sink.refuse().await,
        Fault::KillFin => sink.kill(Close::Fin).await,
        Fault::KillRst => sink.kill(Close::Rst).await,
        Fault::Stall => sink.set(|b| b.answer(Answer::Stall)),
        Fault::NotReading => sink.set(|b| b.reading = false),
        Fault::ErrorReply => {
            let n = sometimes(random);
            sink.set(|b| {
                b.answer_times(
                    Answer::Error {
                        class: "java.lang.RuntimeException".into(),
                        message: "no".into(),
                    },
                    n,
                );
            });
        }
        Fault::WrongLengths => {
            let n = sometimes(random);
            sink.set(|b| {
                b.answer_times(
                    Answer::Error {
                        class: "java.lang.Ausnahme".into(),
                        message: "größer, länger, höher".into(),
                    },
                    n,
                );
            });
        }
        Fault::Garbage => {
            let bytes = match random.u8(..3) {
                0 => vec![9, 9, 9],
                1 => vec![0, 0, 0, 0],
                _ => vec![2, 0, 0, 0, 1, b'x'],
            };
            // More oks than frames would be taken for the next frames' ones, as by any client.
            let bytes = if bytes == [0, 0, 0, 0] {
                vec![1, 255, 255, 255, 255]
            } else {
                bytes
            };
            let n = sometimes(random);
            sink.set(|b| b.answer_times(Answer::Raw(bytes), n));
        }
        Fault::CloseBeforeOk => {
            let n = sometimes(random);
            sink.set(|b| b.answer_times(Answer::CloseBeforeOk(how), n));
        }
        Fault::CloseAfterOk => {
            let n = sometimes(random);
            sink.set(|b| b.answer_times(Answer::CloseAfterOk(how), n));
        }
        Fault::CloseAfterFrames => {
            let n = random.u64(1..10);
            sink.set(|b| b.close_after_frames = Some((n, how)));
        }
        Fault::SessionExpiry => sink.expire_sessions(),
        Fault::SlowTm => {
            let delay = ms(random.u64(5..400));
            sink.set(|b| b.delay = delay);
        }
        Fault::LoginSilent => {
            sink.set(|b| b.login = Login::Silent);
            sink.cut(how);
        }
        Fault::LoginRefused => {
            sink.set(|b| b.login = Login::Refuse);
            sink.cut(how);
        }
        Fault::LastLegs => {
            // Takes events for a while without answering, and dies.
            sink.set(|b| b.answer(Answer::Stall));
            tokio::time::sleep(ms(random.u64(10..500))).await;
            sink.kill(how).await;
        }
        Fault::GroupDown => {
            for other in world.hosts.iter().filter(|h| h.group == host.group) {
                other.sink.kill(Close::Rst).await;
            }
            // All of it comes back, but in its own time.
            for (i, other) in world.hosts.iter().enumerate() {
                if other.group == host.group && i != at && random.bool() {
                    cure(world, Heal::Host(i)).await;
                }
            }
        }
        Fault::GatewayLatency => {
            let (forth, back) = (ms(random.u64(1..200)), ms(random.u64(1..200)));
            world
                .sim
                .weather(WEIR, |w| (w.forth.latency, w.back.latency) = (forth, back));
            return Some(Heal::Gateways);
        }
        Fault::GatewaySlices => {
            let (forth, back) = (random.usize(1..200), random.usize(1..4));
            world.sim.weather(WEIR, |w| {
                (w.forth.slice_bytes, w.back.slice_bytes) = (Some(forth), Some(back))
            });
            return Some(Heal::Gateways);
        }
        // Resets only: a FIN made by the network is an ok to the agent, and no fault of weir's.
        Fault::GatewayCut => {
            world.sim.cut(WEIR, Close::Rst, random.bool());
            return None;
        }
        Fault::GatewayCutAtByte => {
            let byte = random.u64(1..5_000);
            world
                .sim
                .weather(WEIR, |w| w.forth.cut_at = Some((byte, Close::Rst)));
            return Some(Heal::Gateways);
        }
        Fault::GatewayStopped => {
            world.sim.weather(WEIR, |w| w.forth.stopped = true);
            return Some(Heal::Gateways);
        }
        Fault::GatewayGone | Fault::GatewayProbe | Fault::GatewayFlood | Fault::GatewayGarbage => {
            gateways::bad_day(world, fault, random);
            return None;
        }
        Fault::Reload => {
            let drawn = Settings::draw(random);
            let guest = world.settings.borrow().guest;
            world.apply(Settings { guest, ..drawn }, random).await;
            return None;
        }
        Fault::Endpoints => {
            world.swap_endpoints(random).await;
            return None;
        }
        Fault::Guest => {
            let mut settings = world.settings.borrow().clone();
            settings.guest = !settings.guest;
            world.apply(settings, random).await;
            return None;
        }
        Fault::DrainAndBack => {
            world.drain(true);
            return Some(Heal::Undrain);
        }
        Fault::Disable => {
            let group = world.plan.groups.get(host.group).map_or(GUEST, |g| &g.name);
            world.enable(group, name, false).await;
            return Some(Heal::Enable(group.into(), name.into()));
        }
        Fault::ClockStep => {
            crate::world::step_clock(random.i64(-40_000..40_000));
            return None;
        }
        Fault::WeirSessions => {
            let secret = format!("another secret {:020}", random.u64(..));
            world.tokens.set_secret(Some(&secret)).unwrap();
            return None;
        }
        Fault::Crash => {
            world.crash(random).await;
            return None;
        }
    }
    Some(Heal::Host(at))
}

async fn cure(world: &World, heal: Heal) {
    match heal {
        Heal::Host(at) => {
            let host = &world.hosts[at];
            let latency = host.latency;
            world.sim.weather(&host.name, |w| {
                *w = weir::lab::sim::Weather::default();
                (w.forth.latency, w.back.latency) = (latency, latency);
            });
            well(&host.sink);
            host.sink.revive_if_closed().await;
        }
        Heal::Gateways => world.sim.weather(WEIR, |w| {
            *w = weir::lab::sim::Weather::default();
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
