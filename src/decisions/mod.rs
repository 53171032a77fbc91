//! The return leg: throttling decisions, over AMQP, from the Traffic Managers' brokers to the gateways.
//!
//! A transparent 1:1 relay: one broker connection for each gateway connection.
//!
//! ```text
//! gateway ─▶ listener ─▶ connection ───▶ hold ─────────▶ relay ──────────▶ close
//!            ports,      one task per    finds a         frames, until
//!            limit       gateway         broker          either side ends
//!                                          ▲
//! probe ─▶ greeting ─────▶ brokers ────────┘             failback ─▶ connections
//!          asks for Start  what is known of them         asks some to leave
//!
//! relay: gateway ── inbox ─▶ frame::scan ─▶ outbox ─▶ broker    a `direction` each way, `heartbeat` timers of
//!        gateway ◀─ outbox ◀─ frame::scan ◀─ inbox ── broker    each side; Tune and Tune-Ok are rewritten
//! ```
//!
//! `connections` is the registry: open connections, which were asked to leave, and the counters that [`Status`] and the
//! metrics are read from. `shared` is what every connection uses: configuration, dialer, phase.
//!
//! Uses `net`, `config`, `lifecycle`, and the form of a metric. [`start`] spawns onto the runtime it is called in.

mod brokers;
mod connection;
mod connections;
pub mod direction;
mod failback;
pub mod frame;
mod greeting;
mod heartbeat;
mod hold;
mod listener;
mod metrics;
mod probe;
mod relay;
mod shared;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use greeting::{BrokerError, CONNECT_TIMEOUT, Greeting, Start, TLS_TIMEOUT, greet};
pub use probe::IDLE_PROBE;
pub use status::{
    BROKER_FAILURES, BrokerStatus, HANDSHAKE_FAILURES, LEAVE_REASONS, Leaving, STATES, Side, SideStatus,
    Status, Traffic,
};

use self::connections::{LeaveRequest, Reason};
use self::listener::Port;
use self::shared::{Shared, stopped};
use crate::config::{Decisions, Url};
use crate::lifecycle::Lifecycle;
use crate::net::{Acceptor, ClientTls, Ports};

/// A connection whose broker was removed from the configuration leaves at a quiet moment, or after this long.
const REMOVED_LEAVE_WITHIN: Duration = Duration::from_secs(30);

/// How the return leg reaches the network.
#[derive(Clone)]
pub struct Network {
    /// What certificates of `ssl://` brokers are checked against.
    pub tls: ClientTls,
    /// Weir's own certificate, for `listen_tls`. Must not offer more than TLS 1.2: with 1.3 WSO2's client hangs
    /// after the handshake.
    pub acceptor: Option<Acceptor>,
    /// How often a broker is probed that no gateway is connected to, usually [`IDLE_PROBE`]; `None` = not before a
    /// gateway needs it.
    pub idle_probe: Option<Duration>,
    /// Where listening sockets come from.
    pub ports: Ports,
}

/// The running return leg.
#[derive(Clone)]
pub struct DecisionsHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    acceptor: Option<Acceptor>,
    /// Plain and TLS.
    ports: Mutex<[Option<Port>; 2]>,
    runtime: tokio::runtime::Handle,
    life: Lifecycle,
}

/// Opens the ports and serves gateways, as tasks of the runtime it is called in. They follow `life`: no new
/// gateway while draining, every connection closed at the drain's deadline or when weir stops.
///
/// # Errors
/// A port cannot be opened, or `listen_tls` is set and there is no certificate.
pub fn start(config: Decisions, network: Network, life: &Lifecycle) -> io::Result<DecisionsHandle> {
    let Network {
        tls,
        acceptor,
        idle_probe,
        ports,
    } = network;
    let inner = Inner {
        shared: Arc::new(Shared::new(config.clone(), tls, ports, idle_probe, life.watch())),
        acceptor,
        ports: Mutex::default(),
        runtime: tokio::runtime::Handle::current(),
        life: life.clone(),
    };
    inner.open_ports(&config)?;
    let (shared, stop) = (Arc::clone(&inner.shared), life.stop_token());
    let vital = life.vital("the return leg's failback");
    tokio::spawn(async move {
        let _vital = vital;
        tokio::select! {
            biased; // The end of weir first.
            () = stop.cancelled() => {}
            () = probe::run(shared) => {}
        }
    });
    Ok(DecisionsHandle {
        inner: Arc::new(inner),
    })
}

impl DecisionsHandle {
    /// Where gateways connect: plain, TLS.
    #[must_use]
    pub fn local_addrs(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let [tcp, tls] = &*self.inner.ports();
        (tcp.as_ref().map(|p| p.bound), tls.as_ref().map(|p| p.bound))
    }

    /// The status now; from any thread.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.shared.connections.status(Instant::now())
    }

    /// Applies another configuration. Connections stay; they keep the heartbeats they agreed on, and leave when their
    /// broker is not in the list any more: at a quiet moment, at the latest after 30 s. New connections follow the new
    /// configuration in everything.
    ///
    /// # Errors
    /// A new port cannot be opened; then everything is as before.
    pub fn apply(&self, config: Decisions) -> io::Result<()> {
        let Inner { shared, runtime, .. } = &*self.inner;
        {
            let _here = runtime.enter();
            self.inner.open_ports(&config)?;
        }
        let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
        shared.connections.name_brokers(names.iter().cloned());
        shared.brokers.keep(&names);
        shared.config.send_replace(Arc::new(config));
        let now = Instant::now();
        let request = LeaveRequest {
            reason: Reason::Removed,
            asked_at: now,
            at_latest: now + REMOVED_LEAVE_WITHIN,
        };
        for (id, broker) in shared.connections.placements() {
            if names.contains(&broker) {
                shared.connections.keep(id);
            } else {
                shared.connections.ask_to_leave(id, request.clone());
            }
        }
        Ok(())
    }

    /// Ends once a drain's deadline or a stop has come and every connection is closed.
    pub async fn finished(&self) {
        let shared = &self.inner.shared;
        stopped(&mut shared.phase.clone()).await;
        // Fails only without a sender, which lives as long as this handle.
        let _ = shared
            .connections
            .watch_count()
            .wait_for(|count| *count == 0)
            .await;
    }
}

impl Inner {
    fn ports(&self) -> MutexGuard<'_, [Option<Port>; 2]> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the ports of `config` that are not open, then closes those it does not want.
    fn open_ports(&self, config: &Decisions) -> io::Result<()> {
        if config.listen_tls.is_some() && self.acceptor.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "decisions.listen_tls needs a certificate",
            ));
        }
        let mut ports = self.ports();
        let [tcp, tls] = &mut *ports;
        let wanted = [
            (tcp, config.listen, None),
            (tls, config.listen_tls, self.acceptor.clone()),
        ];
        // Bind all before any is served: an error must leave everything as it was.
        let mut changed = Vec::new();
        for (port, wanted, acceptor) in wanted {
            if port.as_ref().map(|p| p.wanted) == wanted {
                continue;
            }
            let open = |addr| Ok::<_, io::Error>((addr, listener::open(addr, config, &self.shared.ports)?));
            changed.push((port, wanted.map(open).transpose()?, acceptor));
        }
        for (port, opened, acceptor) in changed {
            if let Some(old) = port.take() {
                old.close();
            }
            *port = opened.map(|(wanted, bound)| {
                let vital = self.life.vital("a listener of the return leg");
                Port::serve(Arc::clone(&self.shared), wanted, bound, acceptor, vital)
            });
        }
        Ok(())
    }
}
