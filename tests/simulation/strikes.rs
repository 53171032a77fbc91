//! How each kind of fault is done to the world.

use std::time::Duration;

use fastrand::Rng;
use weir_lab::Close;
use weir_lab::sink::{Answer, Login};

use crate::chaos::{Fault, Heal, cure};
use crate::gateways;
use crate::plan::{GUEST, Settings, WEIR};
use crate::world::{World, step_clock};

fn sometimes(random: &mut Rng) -> u64 {
    random.u64(1..5)
}

pub async fn strike(world: &World, fault: Fault, random: &mut Rng) -> Option<Heal> {
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
                .conditions(name, |w| (w.forth.latency, w.back.latency) = (forth, back));
        }
        Fault::Slices => {
            let (forth, back) = (random.usize(1..200), random.usize(1..4));
            world.sim.conditions(name, |w| {
                (w.forth.slice_bytes, w.back.slice_bytes) = (Some(forth), Some(back))
            });
        }
        Fault::Bandwidth => {
            let speed = random.u64(2_000..200_000);
            world.sim.conditions(name, |w| w.forth.bandwidth = Some(speed));
        }
        Fault::CutFin => world.sim.cut(name, Close::Fin, random.bool()),
        Fault::CutRst => world.sim.cut(name, Close::Rst, random.bool()),
        Fault::CutAtByte => {
            let (forth, byte) = (random.u8(..4) > 0, random.u64(1..3_000));
            world.sim.conditions(name, |w| {
                if forth {
                    w.forth.cut_at = Some((byte, how));
                } else {
                    w.back.cut_at = Some((byte % 60, how));
                }
            });
        }
        Fault::BlackHole => {
            let both = random.u8(..3);
            world.sim.conditions(name, |w| {
                w.forth.black_hole = both != 0;
                w.back.black_hole = both != 1;
            });
        }
        Fault::HalfOpen => {
            world
                .sim
                .conditions(name, |w| (w.forth.half_open, w.back.half_open) = (true, true));
            sink.cut(how);
        }
        Fault::Stopped => {
            let both = random.u8(..3);
            world.sim.conditions(name, |w| {
                w.forth.stopped = both != 0;
                w.back.stopped = both != 1;
            });
        }
        Fault::SmallBuffer => {
            let bytes = random.usize(1..5_000);
            world.sim.conditions(name, |w| w.buffer_bytes = bytes);
            sink.cut(Close::Rst);
        }
        Fault::SilentConnect => {
            world.sim.conditions(name, |w| w.silent = true);
            sink.cut(how);
        }
        Fault::NoName => {
            world.sim.conditions(name, |w| w.nameless = true);
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
                .conditions(WEIR, |w| (w.forth.latency, w.back.latency) = (forth, back));
            return Some(Heal::Gateways);
        }
        Fault::GatewaySlices => {
            let (forth, back) = (random.usize(1..200), random.usize(1..4));
            world.sim.conditions(WEIR, |w| {
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
                .conditions(WEIR, |w| w.forth.cut_at = Some((byte, Close::Rst)));
            return Some(Heal::Gateways);
        }
        Fault::GatewayStopped => {
            world.sim.conditions(WEIR, |w| w.forth.stopped = true);
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
            step_clock(random.i64(-40_000..40_000));
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
