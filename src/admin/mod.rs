//! The admin port: metrics, health, status and a page, and actions for callers that may change things (the rules:
//! `guard`). It runs on a thread of its own and asks the workers by messages, so a request costs the relay one snapshot.
//!
//! | | open to all | |
//! |---|---|---|
//! | GET | `/metrics` | Prometheus text |
//! | GET | `/livez` | 200 while all workers answer |
//! | GET | `/readyz`, `/readyz?verbose` | 200 while weir serves; does not follow the Traffic Managers' health |
//!
//! | | open to calls that name weir `localhost` or by its address, or have the token | |
//! |---|---|---|
//! | GET | `/` | the page |
//! | GET | `/status` | the whole state as JSON |
//! | GET | `/log-level` | the level in force |
//!
//! | | guarded | |
//! |---|---|---|
//! | POST | `/reload` | read the configuration again |
//! | POST, DELETE | `/drain` | start a drain, take it back |
//! | POST | `/upgrade` | have `weir supervise` start a successor |
//! | POST | `/endpoints/{group}/{endpoint}/enable`, `…/disable` | switch an endpoint |
//! | POST | `/tap` | passing events, for as long as the caller reads (`tap`) |
//! | PUT | `/log-level` | body `info` or `weir::egress=debug,info` |
//!
//! Limits (`listener`): 64 connections, one request each; one second from accept to the last byte of the request, ten
//! to that of the answer (but for `/tap`); bodies of 4 KiB. A connection beyond them takes the place of the one that
//! has waited longest for its caller.

mod actions;
pub mod client;
mod guard;
mod listener;
mod page;
mod routes;
mod status;
mod tap;

pub use tap::read_definitions;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::control::{Control, Facts, ReloadRequest, Upgrades};
use crate::decisions::DecisionsHandle;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::net::Ports;
use crate::telemetry::LogHandle;

/// What the admin port can reach.
#[derive(Clone)]
pub struct Handles {
    /// The workers.
    pub control: Control,
    /// The phase of the process.
    pub lifecycle: Lifecycle,
    /// Takes requests to reload.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// The log.
    pub log: LogHandle,
    /// The configuration in force; the token is read from it at each request.
    pub config: watch::Receiver<Arc<Config>>,
    /// What only the composition root knows.
    pub facts: watch::Receiver<Facts>,
    /// All metrics.
    pub metrics: Metrics,
    /// The return leg; `None` = it is off.
    pub decisions: Option<DecisionsHandle>,
    /// The way to `weir supervise`; `None` = it did not start this weir.
    pub upgrades: Option<Upgrades>,
}

/// Opens the admin port.
///
/// # Errors
///
/// What went wrong and what to do, naming the key `admin.listen`.
pub fn bind(address: SocketAddr, ports: &Ports) -> Result<TcpListener, String> {
    let opened = ports.open(address, 1).map(|mut sockets| sockets.pop());
    let opened = opened.and_then(|socket| socket.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
    opened.map_err(|e| {
        let port = address.port();
        let advice = match e.kind() {
            io::ErrorKind::AddrInUse => format!(
                "the port is in use (`ss -ltnp 'sport = :{port}'` says by whom); choose another port, or stop \
                 what uses this one"
            ),
            io::ErrorKind::AddrNotAvailable => "no network interface has this address".to_owned(),
            io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need a privilege".to_owned(),
            _ => e.to_string(),
        };
        format!("cannot listen at admin.listen = \"{address}\": {advice}")
    })
}

/// Serves the admin port on a thread of its own until [`Lifecycle::stop`]. A port that fails stops weir, which could no
/// longer be observed.
///
/// # Errors
///
/// The thread or its runtime could not be made.
pub fn spawn(listener: TcpListener, handles: Handles) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("weir-admin".into())
        .spawn(move || {
            let _vital = handles.lifecycle.vital("the admin port");
            if let Err(error) = runtime.block_on(serve(listener, handles)) {
                tracing::error!(%error, "the admin port is closed");
            }
        })
}

/// Serves the admin port until [`Lifecycle::stop`]; requests under way are cut off then.
///
/// # Errors
///
/// The listener cannot be used.
pub async fn serve(listener: TcpListener, handles: Handles) -> io::Result<()> {
    let (stop, phase) = (handles.lifecycle.stop_token(), handles.lifecycle.watch());
    let app = routes::router(handles).into_make_service_with_connect_info::<listener::Peer>();
    let server = axum::serve(listener::Bounded::new(listener, phase)?, app);
    // Biased: a stop does not wait for requests.
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        result = server => result,
    }
}
