//! A simulated network of named hosts, in virtual time: gateways, weir and Traffic Managers run on one thread,
//! and a seed replays a run to the byte.
//!
//! [`Sim`] is the [`Connect`] weir dials with and the maker of the listeners weir and the Traffic Managers
//! accept from. Each host has its [`Conditions`]: what connections to it suffer in either direction (the
//! [`Trouble`] of the proxy), changed at any time. Ends are those of TCP: FIN, reset, reset after a close with
//! bytes unread, reset in answer to bytes for somebody who is gone, silence. Everything is noted in a
//! [`Trace`] and counted in [`SimCounts`]. A [`Interceptor`] may change bytes on their way, for tests of those
//! who judge.

mod end;
mod state;
mod trace;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::config::Url;
use weir::net::{Accept, Connect, Connecting, Listener, Raw, Socket, SocketOptions};

use self::state::{Shared, State};
use super::network::connected;
use super::proxy::Trouble;
use super::sink::{Close, Opener};

pub use trace::Trace;

/// What connections to a host suffer.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Its name has no address.
    pub nameless: bool,
    /// New connections get no answer.
    pub silent: bool,
    /// What bytes towards the host suffer.
    pub forth: Trouble,
    /// What bytes from the host suffer.
    pub back: Trouble,
    /// Bytes in flight and unread in one direction of a new connection.
    pub buffer_bytes: usize,
}

impl Default for Conditions {
    /// Fair.
    fn default() -> Self {
        Self {
            nameless: false,
            silent: false,
            forth: Trouble::default(),
            back: Trouble::default(),
            buffer_bytes: 256 * 1024,
        }
    }
}

/// What happened; witnesses that a fault took place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimCounts {
    /// Connections made.
    pub connected: u64,
    /// Connections refused.
    pub refused: u64,
    /// Connections that never got an answer.
    pub unanswered: u64,
    /// Names without an address.
    pub nameless: u64,
    /// Ends with FIN.
    pub fins: u64,
    /// Ends with a reset.
    pub resets: u64,
    /// Ends the other side never heard of.
    pub half_opens: u64,
    /// Connections ended by the network, for both sides.
    pub cuts: u64,
    /// Bytes that vanished.
    pub vanished_bytes: u64,
    /// Reads of a slice.
    pub sliced_reads: u64,
    /// Writes that took less than they were given.
    pub partial_writes: u64,
    /// Reads that found bytes and must not have them yet.
    pub stopped_reads: u64,
    /// Writes that found the buffer full.
    pub full_writes: u64,
    /// Writes that arrive later.
    pub late_writes: u64,
    /// Writes at a limited speed.
    pub slow_writes: u64,
}

/// Somebody on the way who changes bytes.
pub trait Interceptor: Send {
    /// A connection to `host` was made.
    fn connected(&mut self, connection: u64, host: &str);

    /// Whether [`Interceptor::bytes`] wants this connection's bytes; others are left alone.
    fn wants(&self, connection: u64) -> bool;

    /// `side` 0 (who connected) or 1 wrote `bytes`; returns what the other side is to get now.
    fn bytes(&mut self, connection: u64, side: usize, bytes: &[u8]) -> Vec<u8>;

    /// Both sides have let go.
    fn ended(&mut self, connection: u64);
}

/// The network; clones are the same one.
#[derive(Clone)]
pub struct Sim(Arc<Shared>);

impl Sim {
    /// An empty network; its random choices follow from `seed`.
    #[must_use]
    pub fn new(seed: u64, trace: Trace) -> Self {
        Self(Shared::new(State {
            random: fastrand::Rng::with_seed(seed),
            hosts: Vec::new(),
            wires: BTreeMap::new(),
            next: 0,
            counts: SimCounts::default(),
            trace,
            interceptor: None,
        }))
    }

    /// From now on `interceptor` sees new connections.
    pub fn intercept(&self, interceptor: Box<dyn Interceptor>) {
        self.0.lock().interceptor = Some(interceptor);
    }

    /// Opens `name` (`host:port`) whenever it is called; each listener closes when it is dropped.
    #[must_use]
    pub fn opener(&self, name: &str) -> Opener {
        let (sim, name) = (self.clone(), name.to_owned());
        Box::new(move || Ok(sim.listen(&name)))
    }

    /// One more listener of `name` (`host:port`); a connection goes to one of several at random.
    #[must_use]
    pub fn listen(&self, name: &str) -> Listener {
        let mut state = self.0.lock();
        let host = state.host(name);
        let number = state.next;
        state.next += 1;
        if let Some(host) = state.hosts.get_mut(host) {
            host.listeners.insert(number, state::Listening::default());
        }
        Listener::new(Port {
            shared: Arc::clone(&self.0),
            host,
            number,
        })
    }

    /// Changes the conditions of a host, for open connections too.
    pub fn conditions(&self, name: &str, change: impl FnOnce(&mut Conditions)) {
        let mut state = self.0.lock();
        let at = state.host(name);
        if let Some(host) = state.hosts.get_mut(at) {
            change(&mut host.conditions);
        }
        for wire in state.wires.values_mut().filter(|w| w.host == at) {
            wire.wake();
        }
    }

    /// The network ends connections to a host for both sides: all of them, or a random half.
    pub fn cut(&self, name: &str, how: Close, all: bool) {
        let mut state = self.0.lock();
        let at = state.host(name);
        let State {
            wires,
            random,
            counts,
            trace,
            ..
        } = &mut *state;
        for (number, wire) in wires.iter_mut().filter(|(_, w)| w.host == at) {
            if all || random.bool() {
                counts.cuts += 1;
                trace.note("cut", number * 2, 0);
                wire.cut(how, Instant::now());
            }
        }
    }

    /// Everything that happened so far.
    #[must_use]
    pub fn counts(&self) -> SimCounts {
        self.0.lock().counts
    }

    /// Connections to a host that the connecting side (0) or the host (1) has not let go of.
    #[must_use]
    pub fn held(&self, name: &str, side: usize) -> usize {
        let mut state = self.0.lock();
        let at = state.host(name);
        let held = |w: &&wire::Wire| w.host == at && w.held.get(side) == Some(&true);
        state.wires.values().filter(held).count()
    }

    /// Connections that the host itself has ended with FIN.
    #[must_use]
    pub fn fins_of(&self, name: &str) -> u64 {
        let mut state = self.0.lock();
        let at = state.host(name);
        state.hosts.get(at).map_or(0, |h| h.fins)
    }

    /// Adds to the trace.
    pub fn note(&self, what: &str, whom: u64, more: u64) {
        self.0.lock().trace.note(what, whom, more);
    }

    /// [`Trace::digest`].
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        self.0.lock().trace.digest()
    }
}

impl Connect for Sim {
    fn connect<'a>(&'a self, url: &'a Url, within: Duration) -> Connecting<'a> {
        let shared = Arc::clone(&self.0);
        let name = format!("{}:{}", url.host, url.port);
        Box::pin(connected(url, within, async move {
            let (host, way) = {
                let mut state = shared.lock();
                let host = state.host(&name);
                if state.hosts.get(host).is_some_and(|h| h.conditions.nameless) {
                    state.counts.nameless += 1;
                    return Err(io::ErrorKind::NotFound.into());
                }
                let way = state.way_to(host);
                state.counts.unanswered += u64::from(way.is_none());
                (host, way)
            };
            match way {
                Some(way) => sleep(way).await,
                None => std::future::pending().await,
            }
            let end = shared.lock().connect(&shared, host);
            match end {
                Some(end) => Ok(Box::new(end) as Raw),
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }))
    }
}

struct Port {
    shared: Arc<Shared>,
    host: usize,
    number: u64,
}

impl Accept for Port {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([10, 1, 0, 1], 9611)))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Raw, SocketAddr)>> {
        let mut state = self.shared.lock();
        let host = state.hosts.get_mut(self.host);
        let Some(listening) = host.and_then(|h| h.listeners.get_mut(&self.number)) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match listening.waiting.pop_front() {
            Some((end, peer)) => Poll::Ready(Ok((Box::new(end) as Raw, peer))),
            None => {
                listening.acceptor = Some(Waker::clone(cx.waker()));
                Poll::Pending
            }
        }
    }

    fn set_options(&mut self, _: SocketOptions) {}
}

impl Drop for Port {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.lock();
            let host = state.hosts.get_mut(self.host);
            host.and_then(|h| h.listeners.remove(&self.number))
        };
        // Who was never accepted is reset.
        for (end, _) in left.into_iter().flat_map(|l| l.waiting) {
            Box::new(end).abort();
        }
    }
}
