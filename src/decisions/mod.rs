//! The return leg: throttling decisions, over AMQP, from the Traffic Managers' brokers to the gateways.
//!
//! A transparent relay, one broker connection for each gateway connection. [`frame`] finds whole frames, a
//! [`lane`] carries them in one direction, a `heart` keeps the heartbeat and the dead timer of one side, and a
//! `pump` drives two lanes and two hearts. A `session` is one gateway connection's life: held, silent, until one
//! of the `brokers` answers; then the handshake, in which two bytes of Tune and two of Tune-Ok are
//! rewritten; then frames, until either side ends. `listener` lets gateways in, `probe` asks brokers whether they
//! answer, `failback` brings sessions back to a preferred one, the `ledger` knows who is here and counts, [`Status`] is what it says.
//!
//! Knows only `net`, `config`, `lifecycle`, and the form of a metric. [`start`] spawns onto the runtime it is called in.

mod brokers;
mod end;
mod failback;
pub mod frame;
mod greeting;
mod heart;
pub mod lane;
mod ledger;
mod listener;
mod metrics;
mod opening;
mod pair;
mod probe;
mod pump;
mod room;
mod session;
mod stage;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use brokers::{CONNECT_TIMEOUT, TLS_TIMEOUT};
pub use greeting::{GreetError, Greeting, Start, greet};
pub use probe::IDLE_PROBE;
pub use status::{
    BROKER_FAILURES, BrokerStatus, Direction, HANDSHAKE_FAILURES, LEAVE_REASONS, Leaving, STATES, Side,
    SideStatus, Status,
};

use self::listener::Door;
use self::room::{Room, over};
use self::stage::Leave;
use crate::config::{Decisions, Url};
use crate::lifecycle::Lifecycle;
use crate::net::{Acceptor, ClientTls, Ports};

/// A session whose broker was removed from the configuration leaves at a quiet moment, or after this long.
const REMOVED_LEAVE_WITHIN: Duration = Duration::from_secs(30);

/// What the network room provides.
#[derive(Clone)]
pub struct Network {
    /// What `ssl://` brokers must show.
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
    room: Arc<Room>,
    acceptor: Option<Acceptor>,
    doors: Mutex<Doors>,
    runtime: tokio::runtime::Handle,
    life: Lifecycle,
}

/// The open ports.
#[derive(Default)]
struct Doors {
    tcp: Option<Door>,
    tls: Option<Door>,
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
    let room = Arc::new(Room::new(config.clone(), tls, ports, idle_probe, life.watch()));
    let runtime = tokio::runtime::Handle::current();
    let inner = Inner {
        room,
        acceptor,
        doors: Mutex::default(),
        runtime,
        life: life.clone(),
    };
    inner.open_doors(&config)?;
    let (room, stop) = (Arc::clone(&inner.room), life.stop_token());
    let vital = life.vital("the return leg's failback");
    tokio::spawn(async move {
        let _vital = vital;
        tokio::select! {
            biased; // The end of weir first.
            () = stop.cancelled() => {}
            () = probe::run(room) => {}
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
        let doors = self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner);
        (
            doors.tcp.as_ref().map(|d| d.bound),
            doors.tls.as_ref().map(|d| d.bound),
        )
    }

    /// How things are; from any thread.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.room.ledger.status(Instant::now())
    }

    /// Puts another configuration in force. Connections stay; they keep the heartbeats they agreed on, and
    /// leave when their broker is not in the list any more: at a quiet moment, at the latest after 30 s. What
    /// counts for new connections: brokers, policy, heartbeats, hold, limit, ports.
    ///
    /// # Errors
    /// A new port cannot be opened; then everything is as before.
    pub fn apply(&self, config: Decisions) -> io::Result<()> {
        let Inner { room, runtime, .. } = &*self.inner;
        {
            let _here = runtime.enter();
            self.inner.open_doors(&config)?;
        }
        let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
        room.ledger.name_brokers(names.iter().cloned());
        room.brokers.keep(&names);
        room.config.send_replace(Arc::new(config));
        let now = Instant::now();
        let wish = Leave::Removed {
            at_latest: now + REMOVED_LEAVE_WITHIN,
        };
        for (id, broker) in room.ledger.placements() {
            if names.contains(&broker) {
                room.ledger.keep(id);
            } else {
                room.ledger.ask_to_leave(id, wish, None, now);
            }
        }
        Ok(())
    }

    /// Ends once a drain's deadline or a stop has come and every connection is closed.
    pub async fn finished(&self) {
        let room = &self.inner.room;
        over(&mut room.phase.clone()).await;
        // The ledger lives as long as this handle, so there is always somebody to say the number.
        let _ = room.ledger.watch_open().wait_for(|open| *open == 0).await;
    }
}

impl Inner {
    /// Opens the ports of `config` that are not open, then closes those it does not want.
    fn open_doors(&self, config: &Decisions) -> io::Result<()> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if config.listen_tls.is_some() && self.acceptor.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "decisions.listen_tls needs a certificate",
            ));
        }
        // Bind first and serve then: an error must leave everything as it was.
        let wants = |door: &Option<Door>, addr: Option<SocketAddr>| {
            addr.filter(|addr| door.as_ref().is_none_or(|d| d.wanted != *addr))
        };
        let (tcp, tls) = (
            wants(&doors.tcp, config.listen),
            wants(&doors.tls, config.listen_tls),
        );
        let open = |addr| listener::open(addr, config, &self.room.ports);
        let bound_tcp = tcp.map(open).transpose()?;
        let bound_tls = tls.map(open).transpose()?;
        let serve = |listener, wanted, acceptor| {
            let vital = self.life.vital("a listener of the return leg");
            listener::serve(Arc::clone(&self.room), wanted, listener, acceptor, vital)
        };
        let fresh_tcp = tcp
            .zip(bound_tcp)
            .map(|(addr, l)| serve(l, addr, None))
            .transpose()?;
        let fresh_tls = tls
            .zip(bound_tls)
            .map(|(addr, l)| serve(l, addr, self.acceptor.clone()))
            .transpose()?;
        replace(&mut doors.tcp, fresh_tcp, config.listen.is_some());
        replace(&mut doors.tls, fresh_tls, config.listen_tls.is_some());
        Ok(())
    }
}

fn replace(door: &mut Option<Door>, fresh: Option<Door>, wanted: bool) {
    if (fresh.is_some() || !wanted)
        && let Some(old) = door.take()
    {
        old.close();
    }
    if fresh.is_some() {
        *door = fresh;
    }
}
