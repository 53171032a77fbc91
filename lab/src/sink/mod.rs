//! A stand-in Traffic Manager: listens, lets gateways log in, takes publishes and answers them, by a
//! [`Behaviour`] that can be replaced at any time.
//!
//! In good health it does what the real receiver does (docs/PROTOCOL.md): one at a time and in order on
//! each connection, sessions known on both ports, a limit of connections that are served. It reads in bulk
//! and answers once per read, so it serves as the far end of a performance test too.

mod behaviour;
mod connection;
mod counts;
mod decode;
mod port;
mod publish;
mod run;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir::net::{Acceptor, Listener, SocketOptions, bind};

use self::counts::Counters;
use self::port::Port;
use super::histogram::Histogram;
use super::judge::Judge;
use super::watch;

pub use behaviour::{Answer, Behaviour, Close, Login};
pub use counts::Counts;
#[cfg(test)]
pub(super) use run::serve;
pub use run::{Report, run};

/// Opens a listener; called again when a killed sink is revived, and must then open the same address.
pub(crate) type Opener = Box<dyn FnMut() -> io::Result<Listener> + Send>;

/// A TCP address; port 0 is chosen once and kept.
#[must_use]
pub fn tcp(mut address: SocketAddr) -> Opener {
    Box::new(move || {
        let listener = Listener::from_std(bind(address, false)?, SocketOptions::default())?;
        address = listener.local_addr()?;
        Ok(listener)
    })
}

/// What a sink is.
pub struct SinkOptions {
    /// The data port, in clear.
    pub data: Opener,
    /// The login port, with its certificate.
    pub auth: Option<(Opener, Acceptor)>,
    /// The one user.
    pub user: String,
    /// The password.
    pub password: String,
    /// Connections served at a time on each port; the next ones are accepted and wait (the real one: 100).
    pub served_max: usize,
    /// From the start.
    pub behaviour: Behaviour,
    /// Who hears of every event, as which group.
    pub judge: Option<(Judge, usize)>,
    /// Whether events carry when they were sent (`weir-lab load --stamp`), and how long they took is counted.
    pub delivery_times: bool,
}

impl SinkOptions {
    /// On a free port of the loopback, without a login port, in good health; user and password `admin`.
    #[must_use]
    pub fn local() -> Self {
        Self {
            data: tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            auth: None,
            user: "admin".into(),
            password: "admin".into(),
            served_max: 100,
            behaviour: Behaviour::default(),
            judge: None,
            delivery_times: false,
        }
    }

    /// Tells `judge` of every event as the endpoint of its `group`-th group.
    #[must_use]
    pub fn judged_by(mut self, judge: &Judge, group: usize) -> Self {
        self.judge = Some((judge.clone(), group));
        self
    }
}

/// A running sink; dropping it resets its connections and closes its ports.
pub struct Sink {
    shared: Arc<Shared>,
    data: SocketAddr,
    auth: Option<SocketAddr>,
    ports: usize,
}

/// What listeners and connections have in common.
struct Shared {
    user: String,
    password: String,
    judge: Option<(Judge, usize)>,
    delivery: Option<Mutex<Histogram>>,
    /// Since when.
    sessions: Mutex<HashMap<Vec<u8>, Instant>>,
    /// Raised when sessions expire, so that connections look again.
    sessions_epoch: AtomicU64,
    counters: Counters,
    behaviour: watch::Sender<Behaviour>,
    /// Open ports and open connections.
    open: watch::Sender<(usize, usize)>,
    stop: CancellationToken,
}

impl Sink {
    /// Opens the ports and serves them on tasks of the current runtime.
    ///
    /// # Errors
    /// A port cannot be opened.
    pub fn start(options: SinkOptions) -> io::Result<Sink> {
        let shared = Arc::new(Shared {
            user: options.user,
            password: options.password,
            judge: options.judge,
            delivery: options.delivery_times.then(Mutex::default),
            sessions: Mutex::default(),
            sessions_epoch: AtomicU64::new(0),
            counters: Counters::default(),
            behaviour: watch::Sender::new(options.behaviour),
            open: watch::Sender::new((0, 0)),
            stop: CancellationToken::new(),
        });
        let open = |mut opener: Opener, tls| -> io::Result<(SocketAddr, Port)> {
            let listener = opener()?;
            let address = listener.local_addr()?;
            shared.open.send_modify(|(ports, _)| *ports += 1);
            let port = Port {
                shared: Arc::clone(&shared),
                opener,
                listener: Some(listener),
                tls,
                served: Arc::new(Semaphore::new(options.served_max.min(Semaphore::MAX_PERMITS))),
            };
            Ok((address, port))
        };
        let (data, data_port) = open(options.data, None)?;
        let auth = options
            .auth
            .map(|(opener, tls)| open(opener, Some(tls)))
            .transpose()?;
        tokio::spawn(data_port.serve());
        let auth = auth.map(|(address, port)| {
            tokio::spawn(port.serve());
            address
        });
        let ports = 1 + usize::from(auth.is_some());
        Ok(Sink {
            shared,
            data,
            auth,
            ports,
        })
    }

    /// Where events go.
    #[must_use]
    pub fn data_address(&self) -> SocketAddr {
        self.data
    }

    /// Where logins go with TLS.
    #[must_use]
    pub fn auth_address(&self) -> Option<SocketAddr> {
        self.auth
    }

    /// Everything counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.look()
    }

    /// How long events took until they were read; `None` when that is not counted.
    #[must_use]
    pub(crate) fn delivery_times(&self) -> Option<Histogram> {
        let delivery = self.shared.delivery.as_ref()?;
        Some(delivery.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Connections open now, both ports.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open.borrow().1
    }

    /// Changes the behaviour; connections notice at once.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        self.shared.behaviour.send_modify(change);
    }

    /// Every session so far is unknown from now on.
    pub fn expire_sessions(&self) {
        self.shared.sessions().clear();
        self.shared.sessions_epoch.fetch_add(1, Ordering::Release);
    }

    /// Ends all connections; the ports stay open.
    pub fn cut(&self, how: Close) {
        self.set(|b| b.cut = (b.cut.0 + 1, how));
    }

    /// Closes the ports and ends all connections; returns when that has happened.
    pub async fn kill(&self, how: Close) {
        self.set(|b| {
            b.listening = false;
            b.cut = (b.cut.0 + 1, how);
        });
        self.settled(|(ports, connections)| ports == 0 && connections == 0)
            .await;
    }

    /// Closes the ports and keeps the connections; returns when no one can connect any more.
    pub async fn refuse(&self) {
        self.set(|b| b.listening = false);
        self.settled(|(ports, _)| ports == 0).await;
    }

    /// Opens the ports again, forgetting all sessions as a restarted Traffic Manager does.
    pub async fn revive(&self) {
        self.expire_sessions();
        self.set(|b| b.listening = true);
        let all = self.ports;
        self.settled(|(ports, _)| ports == all).await;
    }

    /// Dies and lives again, `times` times, `down` and `up` long.
    pub async fn flap(&self, times: u32, down: Duration, up: Duration) {
        for _ in 0..times {
            self.kill(Close::Rst).await;
            tokio::time::sleep(down).await;
            self.revive().await;
            tokio::time::sleep(up).await;
        }
    }

    async fn settled(&self, is: impl Fn((usize, usize)) -> bool) {
        let mut open = self.shared.open.subscribe();
        open.wait_for(|now| is(*now)).await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Instant>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session id of the shape a Traffic Manager uses.
    fn open_session(&self) -> Vec<u8> {
        let (a, b) = (fastrand::u64(..), fastrand::u64(..));
        let id = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        )
        .into_bytes();
        self.sessions().insert(id.clone(), Instant::now());
        id
    }
}
