//! Everything a simulated network knows, and what each step of a connection does to it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::end::{End, remember};
use super::trace::Trace;
use super::wire::{Found, Taken, Wire};
use super::{Conditions, Interceptor, SimCounts};
use crate::proxy::Trouble;
use crate::sink::Close;

pub(super) struct Shared(Mutex<State>);

pub(super) struct State {
    pub(super) random: fastrand::Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) wires: BTreeMap<u64, Wire>,
    pub(super) next: u64,
    pub(super) counts: SimCounts,
    pub(super) trace: Trace,
    pub(super) interceptor: Option<Box<dyn Interceptor>>,
}

/// What can be connected to.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) conditions: Conditions,
    /// Open listeners, by number.
    pub(super) listeners: BTreeMap<u64, Listening>,
    /// Connections that the host has ended with FIN.
    pub(super) fins: u64,
}

#[derive(Default)]
pub(super) struct Listening {
    pub(super) waiting: VecDeque<(End, SocketAddr)>,
    pub(super) acceptor: Option<Waker>,
}

/// What became of a write.
pub(super) enum Wrote {
    Bytes(usize),
    Reset,
    /// Ask again when woken, or at this time.
    Full(Option<Instant>),
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn host(&mut self, name: &str) -> usize {
        if let Some(at) = self.hosts.iter().position(|h| h.name == name) {
            return at;
        }
        self.hosts.push(Host {
            name: name.to_owned(),
            conditions: Conditions::default(),
            listeners: BTreeMap::new(),
            fins: 0,
        });
        self.hosts.len() - 1
    }

    /// What the bytes of `side` suffer on a wire to `host`.
    fn trouble(&self, host: usize, side: usize) -> Trouble {
        let conditions = self.hosts.get(host).map(|h| &h.conditions);
        conditions
            .map(|w| {
                if side == 0 {
                    w.forth.clone()
                } else {
                    w.back.clone()
                }
            })
            .unwrap_or_default()
    }

    pub(super) fn read(&mut self, number: u64, side: usize, bytes_max: usize, waker: &Waker) -> Found {
        let Some(host) = self.wires.get(&number).map(|w| w.host) else {
            return Found::Reset;
        };
        let trouble = self.trouble(host, 1 - side);
        let Some(wire) = self.wires.get_mut(&number) else {
            return Found::Reset;
        };
        let way = &mut wire.ways[1 - side];
        let found = way.read(bytes_max, &trouble, Instant::now());
        match &found {
            Found::Bytes(bytes) => {
                self.counts.sliced_reads += u64::from(trouble.slice_bytes.is_some());
                let n = bytes.len();
                self.trace.note("read", number * 2 + from(side), from(n));
            }
            Found::Nothing(_) => {
                self.counts.stopped_reads += u64::from(trouble.stopped && way.has_unread());
                remember(&mut way.reader, waker);
            }
            Found::Fin => self.trace.note("fin", number * 2 + from(side), 0),
            Found::Reset => self.trace.note("reset", number * 2 + from(side), 0),
        }
        found
    }

    pub(super) fn write(&mut self, number: u64, side: usize, bytes: &[u8], waker: &Waker) -> Wrote {
        let now = Instant::now();
        let Some(host) = self.wires.get(&number).map(|w| w.host) else {
            return Wrote::Reset;
        };
        let trouble = self.trouble(host, side);
        let Some(wire) = self.wires.get_mut(&number) else {
            return Wrote::Reset;
        };
        if wire.is_cut || wire.ways[1 - side].is_reset(now) {
            return Wrote::Reset;
        }
        if !wire.held[1 - side] {
            // Nobody is there any more: the bytes vanish, and a reset comes back unless the network is silent.
            if trouble.half_open {
                wire.ways[1 - side].kill();
            } else {
                wire.ways[1 - side].end(Close::Rst, trouble.latency * 2, now);
            }
            return Wrote::Bytes(bytes.len());
        }
        let meddled = self.interceptor.as_ref().is_some_and(|m| m.wants(number));
        let taken = if meddled {
            // Held to be a whole; its own bytes go in below.
            Taken::Bytes {
                taken: bytes.len(),
                vanished: 0,
            }
        } else {
            wire.ways[side].write(bytes, &trouble, now)
        };
        if let (true, Some(interceptor)) = (meddled, &mut self.interceptor) {
            let other = interceptor.bytes(number, side, bytes);
            let latency = trouble.latency;
            wire.ways[side].slip_in(&other, latency, now);
        }
        let end = number * 2 + from(side);
        match taken {
            Taken::Bytes { taken, vanished } => {
                self.counts.vanished_bytes += from(vanished);
                self.counts.partial_writes += u64::from(taken < bytes.len());
                self.counts.late_writes += u64::from(!trouble.latency.is_zero());
                self.counts.slow_writes += u64::from(trouble.bandwidth.is_some());
                self.trace.note("write", end, from(taken));
                Wrote::Bytes(taken)
            }
            Taken::Cut(taken, how) => {
                self.counts.cuts += 1;
                self.trace.note("cut", end, from(taken));
                wire.cut(how, now);
                if taken > 0 {
                    Wrote::Bytes(taken)
                } else {
                    Wrote::Reset
                }
            }
            Taken::Full => {
                self.counts.full_writes += 1;
                remember(&mut wire.ways[side].writer, waker);
                Wrote::Full(wire.ways[1 - side].reset_at())
            }
        }
    }

    pub(super) fn shut_down(&mut self, number: u64, side: usize) {
        self.end(number, side, Close::Fin);
    }

    /// A side lets go of its connection. With bytes unread that is a reset.
    pub(super) fn leave(&mut self, number: u64, side: usize, how: Close) {
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        if !std::mem::replace(&mut wire.held[side], false) {
            return;
        }
        let unread = wire.ways[1 - side].has_unread();
        let how = if unread { Close::Rst } else { how };
        self.end(number, side, how);
        if let Some(wire) = self.wires.get_mut(&number) {
            wire.wake();
            if wire.held == [false, false] {
                self.wires.remove(&number);
                if let Some(interceptor) = &mut self.interceptor {
                    interceptor.ended(number);
                }
            }
        }
    }

    fn end(&mut self, number: u64, side: usize, how: Close) {
        let now = Instant::now();
        let Some(host) = self.wires.get(&number).map(|w| w.host) else {
            return;
        };
        let trouble = self.trouble(host, side);
        // What was written just before a reset may or may not arrive.
        let lose = how == Close::Rst && self.random.bool();
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        let way = &mut wire.ways[side];
        if trouble.half_open {
            way.kill();
        }
        if lose {
            way.lose(now);
        }
        let heard = way.end(how, trouble.latency, now);
        // The other side may wait for capacity that will never come.
        way.writer.take().into_iter().for_each(Waker::wake);
        wire.ways[1 - side]
            .writer
            .take()
            .into_iter()
            .for_each(Waker::wake);
        match (heard, how) {
            (false, _) => self.counts.half_opens += u64::from(trouble.half_open),
            (true, Close::Fin) => self.counts.fins += 1,
            (true, Close::Rst) => self.counts.resets += 1,
        }
        if let (Close::Fin, 1, Some(host)) = (how, side, self.hosts.get_mut(host)) {
            host.fins += 1;
        }
        let what = if how == Close::Fin { "ends" } else { "resets" };
        self.trace.note(what, number * 2 + from(side), u64::from(lose));
    }

    /// How long a connection to `host` takes to be made; `None`: for ever.
    pub(super) fn way_to(&self, host: usize) -> Option<Duration> {
        let conditions = &self.hosts.get(host)?.conditions;
        (!conditions.silent).then_some(conditions.forth.latency + conditions.back.latency)
    }

    /// A connection arrives; false when the port is closed.
    pub(super) fn connect(&mut self, shared: &Arc<Shared>, host: usize) -> Option<End> {
        let now = Instant::now();
        let open = self.hosts.get(host)?.listeners.len();
        if open == 0 {
            self.counts.refused += 1;
            self.trace.note("refused", from(host), 0);
            return None;
        }
        let chosen = self.random.usize(..open);
        let number = self.next;
        self.next += 1;
        let host_now = self.hosts.get_mut(host)?;
        let listening = host_now.listeners.values_mut().nth(chosen)?;
        let [a, b] = u16::try_from(number / 40_000).unwrap_or(u16::MAX).to_be_bytes();
        let port = u16::try_from(number % 40_000).unwrap_or(0) + 20_000;
        let far = End::new(Arc::clone(shared), number, 1);
        listening
            .waiting
            .push_back((far, SocketAddr::from(([10, 0, a, b], port))));
        listening.acceptor.take().into_iter().for_each(Waker::wake);
        self.wires
            .insert(number, Wire::new(host, host_now.conditions.buffer_bytes, now));
        if let Some(interceptor) = &mut self.interceptor {
            interceptor.connected(number, &host_now.name);
        }
        self.counts.connected += 1;
        self.trace.note("connected", number, from(host));
        Some(End::new(Arc::clone(shared), number, 0))
    }
}

fn from(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
