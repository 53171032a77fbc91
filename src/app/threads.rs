//! One thread per worker, each with its own runtime and its own listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use crate::config::{Config, Scheme};
use crate::control::Command;
use crate::decisions::{DecisionsHandle, Network};
use crate::ingress::Hashing;
use crate::ingress::token::Tokens;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::net::{Acceptor, ClientTls, Dialer, Listener, Ports, SocketOptions};
use crate::status::Snapshot;
use crate::worker::{Parts, Worker};

/// Listening sockets, one of each kind per worker.
pub(super) struct Sockets {
    tcp: Vec<TcpListener>,
    tls: Vec<TcpListener>,
}

impl Sockets {
    /// Opens all of them; nothing is accepted yet.
    ///
    /// # Errors
    /// Names the key and the address.
    pub(super) fn open(config: &Config, ports: &Ports) -> Result<Self, String> {
        let open = |key: &str, address: Option<SocketAddr>| match address {
            None => Ok(Vec::new()),
            Some(address) => ports
                .open(address, config.workers)
                .map_err(|e| format!("{key} = \"{address}\": {e}")),
        };
        Ok(Self {
            tcp: open("listen.tcp", config.ingress.tcp)?,
            tls: open("listen.tls", config.ingress.tls)?,
        })
    }

    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.first()?.local_addr().ok()
    }

    pub(super) fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.first()?.local_addr().ok()
    }
}

/// What every worker is made from.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) client_tls: ClientTls,
    pub(super) options: SocketOptions,
    pub(super) tokens: Arc<Tokens>,
    pub(super) hashing: Hashing,
    pub(super) metrics: Metrics,
    pub(super) lifecycle: Lifecycle,
}

impl Plan {
    /// Starts one thread per command channel. Each sends the last numbers of its worker when it ends.
    pub(super) fn spawn(
        &self,
        sockets: Sockets,
        acceptor: Option<Acceptor>,
        commands: Vec<mpsc::Receiver<Command>>,
    ) -> Result<Vec<Receiver<Snapshot>>, String> {
        let (mut tcp, mut tls) = (sockets.tcp.into_iter(), sockets.tls.into_iter());
        let mut threads = Vec::with_capacity(commands.len());
        for (i, commands) in commands.into_iter().enumerate() {
            let (plan, tcp) = (self.clone(), tcp.next());
            let tls = tls.next().zip(acceptor.clone());
            let (sender, last) = sync_channel(1);
            let work = move || {
                let _vital = plan.lifecycle.vital("a worker");
                match plan.run(commands, tcp, tls) {
                    // Weir may be dropped without waiting for the end of its workers.
                    Ok(last) => drop(sender.send(last)),
                    Err(error) => tracing::error!(%error, "a worker cannot start"),
                }
            };
            std::thread::Builder::new()
                .name(format!("weir-worker-{i}"))
                .spawn(work)
                .map_err(|e| format!("cannot start a worker thread: {e}"))?;
            threads.push(last);
        }
        Ok(threads)
    }

    /// Runs a worker until weir stops.
    fn run(
        &self,
        commands: mpsc::Receiver<Command>,
        tcp: Option<TcpListener>,
        tls: Option<(TcpListener, Acceptor)>,
    ) -> io::Result<Snapshot> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        let worker = runtime.block_on(async {
            let worker = Worker::start(self.parts(tcp, tls)?);
            worker.run(commands, self.lifecycle.watch()).await;
            Ok::<_, io::Error>(worker)
        });
        // Ends all tasks: links give back what is unanswered, gateways' connections are reset. Then it is counted.
        runtime.shutdown_background();
        Ok(worker?.finish())
    }

    fn parts(&self, tcp: Option<TcpListener>, tls: Option<(TcpListener, Acceptor)>) -> io::Result<Parts> {
        let listener = |socket| Listener::from_std(socket, self.options);
        let metrics = self.metrics.clone();
        Ok(Parts {
            config: Arc::clone(&self.config),
            tcp: tcp.map(listener).transpose()?,
            tls: match tls {
                Some((socket, acceptor)) => Some((listener(socket)?, acceptor)),
                None => None,
            },
            dialer: Dialer::new(self.client_tls.clone(), self.options),
            tokens: Arc::clone(&self.tokens),
            hashing: self.hashing.clone(),
            observers: Rc::new(move |group, endpoint| metrics.link(group, endpoint)),
            unix_ms,
            seed: fastrand::u64(..),
            lifecycle: self.lifecycle.clone(),
        })
    }
}

/// AWS-LC measures the jitter of the CPU for 30 ms and more before its first random number. Where TLS will need one, a
/// thread of its own asks for it while weir starts, so that neither the start nor a worker's first handshake waits.
pub(super) fn gather_entropy(config: &Config) {
    let dials = config
        .groups
        .iter()
        .flat_map(|g| &g.endpoints)
        .flat_map(|e| [&e.data, &e.auth]);
    let brokers = config.decisions.iter().flat_map(|d| &d.brokers);
    let listens =
        config.ingress.tls.is_some() || config.decisions.as_ref().is_some_and(|d| d.listen_tls.is_some());
    if listens || dials.chain(brokers).any(|url| url.scheme == Scheme::Ssl) {
        // Without the thread, or without a number, the first handshake asks again.
        let _ = std::thread::Builder::new()
            .name("weir-entropy".to_owned())
            .spawn(|| aws_lc_rs::rand::fill(&mut [0]));
    }
}

/// Starts the return leg on a thread of its own; the ports are open when it returns.
///
/// # Errors
/// A port cannot be opened; names the table of the configuration.
pub(super) fn decisions(
    config: crate::config::Decisions,
    network: Network,
    life: &Lifecycle,
) -> Result<DecisionsHandle, String> {
    let (started, result) = sync_channel(1);
    let life = life.clone();
    let work = move || {
        // A weir whose return leg has ended must not say that it is ready.
        let vital = life.vital("the return leg");
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                vital.done();
                return drop(started.send(Err(e)));
            }
        };
        runtime.block_on(async {
            let handle = crate::decisions::start(config, network, &life);
            let ended = handle.as_ref().ok().cloned();
            let _ = started.send(handle);
            match ended {
                // Not at a drain's deadline: the operator may take the drain back.
                Some(handle) => {
                    life.stop_token().cancelled().await;
                    handle.finished().await;
                }
                None => vital.done(),
            }
        });
        runtime.shutdown_background();
    };
    let failed = |e: &dyn std::fmt::Display| format!("[decisions]: {e}");
    std::thread::Builder::new()
        .name("weir-decisions".into())
        .spawn(work)
        .map_err(|e| failed(&e))?;
    match result.recv() {
        Ok(Ok(handle)) => Ok(handle),
        Ok(Err(e)) => Err(failed(&e)),
        Err(e) => Err(failed(&e)),
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The kernel's timeout is longer than any reply may take: a peer that acknowledges but does not read is given up by the
/// link, which knows why, and not by the kernel.
pub(super) fn socket_options(config: &Config) -> SocketOptions {
    let default = SocketOptions::default();
    let longest = config.link.reply_timeout.max(config.ingress.reply_timeout) * 2;
    SocketOptions {
        user_timeout: default.user_timeout.map(|t| t.max(longest)),
        ..default
    }
}
