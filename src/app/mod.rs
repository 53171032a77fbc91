//! The composition root: builds every module in the order of an event's path, and takes them down again.
//!
//! [`Weir::start`] opens the ports, starts one thread per worker and one for the admin port. [`run()`] is
//! `weir run`: it adds configuration files, signals and exit codes.

mod files;
pub(crate) mod inherited;
mod limits;
mod notify;
mod panics;
mod reload;
mod run;
mod threads;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin;
use crate::config::Config;
use crate::control::{Control, Facts, ReloadRequest};
use crate::decisions::DecisionsHandle;
use crate::ingress::Hashing;
use crate::ingress::token::Tokens;
use crate::lifecycle::{End, Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::net::{Acceptor, ClientTls, ServerTls, TlsError};
use crate::status::Snapshot;
use crate::telemetry::LogHandle;

pub use files::Files;
pub use inherited::Inherited;
pub(crate) use run::prepare;
pub use run::run;

/// Why weir could not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// The configuration names something that cannot be used: a port, a certificate.
    Configuration(String),
    /// It names a certificate, a key or trust that cannot be used.
    Tls(TlsError),
    /// The system refused something else.
    System(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Configuration(text) | StartError::System(text) => f.write_str(text),
            StartError::Tls(e) => e.fmt(f),
        }
    }
}

/// Where a running weir listens; ports are the real ones where 0 was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Plain listener for gateways.
    pub tcp: Option<SocketAddr>,
    /// TLS listener for gateways.
    pub tls: Option<SocketAddr>,
    /// Admin port.
    pub admin: Option<SocketAddr>,
    /// The return leg, in clear.
    pub decisions: Option<SocketAddr>,
    /// The return leg, with TLS.
    pub decisions_tls: Option<SocketAddr>,
}

/// A running weir.
pub struct Weir {
    lifecycle: Lifecycle,
    control: Control,
    addresses: Addresses,
    config: watch::Sender<Arc<Config>>,
    facts: watch::Sender<Facts>,
    log: LogHandle,
    client_tls: ClientTls,
    certificates: Option<Certificates>,
    decisions: Option<DecisionsHandle>,
    tokens: Arc<Tokens>,
    /// Each gets a worker's last numbers when it ends, or is disconnected when it crashes.
    workers: Mutex<Vec<Receiver<Snapshot>>>,
    reloads: Mutex<Option<mpsc::Receiver<ReloadRequest>>>,
}

/// Requests to reload that wait; more are refused by the admin port.
const RELOADS_WAITING_MAX: usize = 8;

/// How long a stop waits for all workers together.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after `drain_timeout` what was accepted last may still be delivered.
const LAST_DELIVERIES: Duration = Duration::from_secs(1);

/// How often a drain checks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(10);

impl Weir {
    /// Starts everything on ports of its own; when it returns, weir serves.
    ///
    /// # Errors
    /// A port or a certificate that cannot be used, with the key that names it.
    pub fn start(config: Config, warnings: Vec<String>, log: LogHandle) -> Result<Self, StartError> {
        Self::start_with(config, warnings, log, &Inherited::default())
    }

    /// The same with the sockets and the secret that this process inherited.
    ///
    /// # Errors
    /// As [`Weir::start`].
    pub fn start_with(
        config: Config,
        warnings: Vec<String>,
        log: LogHandle,
        inherited: &Inherited,
    ) -> Result<Self, StartError> {
        threads::gather_entropy(&config);
        let client_tls = ClientTls::load(&config.tls).map_err(StartError::Tls)?;
        let mut facts = Facts {
            warnings,
            connections_max: config.ingress.connections_max,
            ..Facts::new(SystemTime::now())
        };
        warn(client_tls.not_yet_valid(), &mut facts);
        let amqp_tls = config.decisions.as_ref().and_then(|d| d.listen_tls);
        let certificates = match config.ingress.tls.or(amqp_tls) {
            None => None,
            Some(_) => Some(Certificates::load(&config, &mut facts)?),
        };
        let admin_socket = match &config.admin {
            Some(admin) => {
                Some(admin::bind(admin.listen, &inherited.ports).map_err(StartError::Configuration)?)
            }
            None => None,
        };
        let sockets = threads::Sockets::open(&config, &inherited.ports).map_err(StartError::Configuration)?;
        let mut addresses = Addresses {
            tcp: sockets.tcp_address(),
            tls: sockets.tls_address(),
            admin: admin_socket.as_ref().and_then(|s| s.local_addr().ok()),
            ..Addresses::default()
        };
        let own = config.auth.session_secret.as_ref().map(|s| s.expose());
        let secret = own.or(inherited.session_secret.as_deref());
        let tokens = Arc::new(Tokens::new(secret).map_err(StartError::System)?);
        let lifecycle = Lifecycle::new();
        let metrics = Metrics::new();
        let decisions = match config.decisions.clone() {
            None => None,
            Some(wanted) => {
                let network = crate::decisions::Network {
                    tls: client_tls.clone(),
                    acceptor: certificates.as_ref().map(|c| c.amqp.clone()),
                    idle_probe: Some(crate::decisions::IDLE_PROBE),
                    ports: inherited.ports.clone(),
                };
                let handle =
                    threads::decisions(wanted, network, &lifecycle).map_err(StartError::Configuration)?;
                (addresses.decisions, addresses.decisions_tls) = handle.local_addrs();
                metrics.add_source(handle.metrics());
                Some(handle)
            }
        };
        let (control, commands) = Control::new(config.workers);
        let (reload, reloads) = mpsc::channel(RELOADS_WAITING_MAX);
        let config = watch::Sender::new(Arc::new(config));
        let facts = watch::Sender::new(facts);
        let plan = threads::Plan {
            config: Arc::clone(&config.borrow()),
            client_tls: client_tls.clone(),
            options: threads::socket_options(&config.borrow()),
            tokens: Arc::clone(&tokens),
            hashing: Hashing::default(),
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
        };
        let acceptor = certificates.as_ref().map(|c| c.gateways.clone());
        let workers = plan
            .spawn(sockets, acceptor, commands)
            .map_err(StartError::System)?;
        if let Some(socket) = admin_socket {
            let handles = admin::Handles {
                control: control.clone(),
                lifecycle: lifecycle.clone(),
                reload,
                log: log.clone(),
                config: config.subscribe(),
                facts: facts.subscribe(),
                metrics,
                decisions: decisions.clone(),
                upgrades: inherited.parent.as_ref().map(inherited::Parent::upgrades),
            };
            admin::spawn(socket, handles).map_err(|e| StartError::System(e.to_string()))?;
        }
        lifecycle.ready();
        Ok(Self {
            lifecycle,
            control,
            addresses,
            config,
            facts,
            log,
            client_tls,
            certificates,
            decisions,
            tokens,
            workers: Mutex::new(workers),
            reloads: Mutex::new(Some(reloads)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Commands to the workers.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The state of the return leg; `None` = it is off.
    #[must_use]
    pub fn decisions(&self) -> Option<crate::decisions::Status> {
        self.decisions.as_ref().map(DecisionsHandle::status)
    }

    /// The phase of the process.
    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Requests to reload from the admin port; the first caller gets them.
    #[must_use]
    pub fn reload_requests(&self) -> Option<mpsc::Receiver<ReloadRequest>> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// [`Weir::end`] without a successor.
    pub async fn drain(&self) -> bool {
        self.end(End::Process).await
    }

    /// Drains: weir serves for `drain_notice`, then sends gateways away while it serves on, until no gateway is connected
    /// and every accepted event has ended, at most `drain_timeout`. Returns whether every worker reported that.
    pub async fn end(&self, end: End) -> bool {
        let (timeout, notice) = {
            let config = self.config.borrow();
            let notice = match end {
                End::Succeeded => Duration::ZERO,
                _ => config.drain_notice,
            };
            (config.drain_timeout, notice)
        };
        // Of this drain: an operator's drain before it may have used up its time long ago.
        let deadline = Instant::now() + timeout;
        let last = deadline + LAST_DELIVERIES;
        self.lifecycle.end(Instant::now(), notice, timeout, end);
        let mut first = None;
        while let Phase::Draining { away_at, end, .. } = self.lifecycle.phase() {
            // A worker that is stuck must not make the drain longer.
            let look = timeout_at(last, self.control.look());
            let Ok(Some(snapshot)) = look.await else {
                return false;
            };
            let ingress = &snapshot.ingress;
            let connected = ingress.connections_tcp + ingress.connections_tls;
            let empty = snapshot
                .groups
                .iter()
                .all(|g| g.events.queued + g.events.inflight == 0);
            // Without any gateway there is no balancer that must notice.
            let accepted = ingress.accepted_total;
            let no_gateway = *first.get_or_insert((connected, accepted)) == (0, accepted);
            let now = Instant::now();
            if empty && (end == End::Closing || connected == 0 && (no_gateway || now >= away_at)) {
                return true;
            }
            if now >= last || now >= deadline && connected == 0 {
                return false;
            }
            if now >= deadline && end != End::Closing {
                tracing::info!(
                    connected,
                    "drain_timeout is over: remaining gateway connections are reset"
                );
                self.lifecycle.close();
            }
            sleep(DRAIN_CHECK).await;
        }
        false
    }

    /// Ends every task, resets the gateways' connections (they send again elsewhere), counts what is left as dropped, and
    /// returns the last numbers. A worker that has crashed, or does not end within five seconds, cannot count: the log
    /// says what it held in its last snapshot, and weir has failed.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "blocks a thread: no runtime's clock here"
    )]
    pub fn stop(&self) -> Snapshot {
        self.lifecycle.stop();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = std::time::Instant::now() + STOP_TIMEOUT;
        let mut sum = Snapshot::default();
        for (i, worker) in workers.iter().enumerate() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match worker.recv_timeout(left) {
                Ok(last) => sum.add(&last),
                Err(why) => {
                    self.uncounted(i, why);
                    self.lifecycle.fail();
                }
            }
        }
        sum
    }

    /// Logs the last snapshot of a worker that returned no last numbers.
    fn uncounted(&self, worker: usize, why: RecvTimeoutError) {
        let what = match why {
            RecvTimeoutError::Timeout => "does not end",
            RecvTimeoutError::Disconnected => "has crashed",
        };
        let Some((at, last)) = self.control.last(worker) else {
            tracing::error!(worker, "a worker {what}; what it held is lost and unknown");
            return;
        };
        for group in &last.groups {
            tracing::error!(
                worker,
                group = group.name,
                queued = group.events.queued,
                inflight = group.events.inflight,
                seen_ago = ?Instant::now().saturating_duration_since(at),
                "a worker {what}; what it held is lost, as of the last snapshot"
            );
        }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

/// Weir's own certificate, for each of its TLS ports.
struct Certificates {
    gateways: Acceptor,
    /// TLS 1.2 at most: with 1.3 WSO2's AMQP client hangs after the handshake.
    amqp: Acceptor,
}

impl Certificates {
    /// Loads the certificate and notes its warnings.
    fn load(config: &Config, facts: &mut Facts) -> Result<Self, StartError> {
        let server = ServerTls::load(&config.tls).map_err(StartError::Tls)?;
        note_certificate(&server, facts);
        Ok(Self {
            gateways: Acceptor::new(&server, false),
            amqp: Acceptor::new(&server, true),
        })
    }

    /// New handshakes use this one.
    fn replace(&self, server: &ServerTls) {
        self.gateways.replace(server);
        self.amqp.replace(server);
    }
}

/// Logs warnings about files and adds them to those of the configuration.
fn warn(warnings: impl IntoIterator<Item = String>, facts: &mut Facts) {
    for warning in warnings {
        tracing::warn!("{warning}");
        facts.warnings.push(warning);
    }
}

fn note_certificate(server: &ServerTls, facts: &mut Facts) {
    for line in server.notice().unwrap_or_default().lines() {
        tracing::warn!("{line}");
    }
    warn(server.not_yet_valid(), facts);
    let not_after = u64::try_from(server.certificate().not_after).unwrap_or(0);
    facts.certificate_sha256 = Some(server.certificate().sha256);
    facts.certificate_not_after = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(not_after));
}
