//! Commands to the workers, each with a channel for its answer.
//!
//! Admin port, signals and reload run on other threads and hold a [`Control`]. Each worker owns the receiving end of one
//! [`Command`] channel and answers between two turns of its event loop.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::Config;
use crate::status::Snapshot;
use crate::tap::Feed;

/// A command to a worker.
#[derive(Debug)]
pub enum Command {
    /// Report all numbers.
    Snapshot(oneshot::Sender<Snapshot>),
    /// The same, with the connected gateways.
    Status(oneshot::Sender<Snapshot>),
    /// Apply a new, valid configuration; answered when it has taken effect.
    Apply(Arc<Config>, oneshot::Sender<()>),
    /// Switch an endpoint on or off; answers whether it exists.
    Enable {
        /// Group name.
        group: String,
        /// Endpoint name (`host:port` of its data URL).
        endpoint: String,
        /// On or off.
        enabled: bool,
        /// Whether such an endpoint exists.
        found: oneshot::Sender<bool>,
    },
    /// Open a tap on passing events; answered when it is open.
    Tap(Feed, oneshot::Sender<()>),
}

/// A request to reload the configuration, from the admin port, a signal or a changed file.
#[derive(Debug)]
pub struct ReloadRequest {
    /// The changes that have taken effect, or every problem of the new file (the old configuration stays in effect).
    pub answer: oneshot::Sender<Result<ReloadReport, Vec<String>>>,
}

/// A reload that succeeded, in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// What has changed; empty when nothing has.
    pub changes: Vec<String>,
    /// Changes that need a restart.
    pub needs_restart: Vec<String>,
}

/// What `app` knows and no worker does; it sends them over a watch channel.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When the process started.
    pub started_at: SystemTime,
    /// Warnings about the current configuration.
    pub warnings: Vec<String>,
    /// When the current configuration was loaded.
    pub config_loaded_at: SystemTime,
    /// The last reload, if there was one.
    pub last_reload: Option<LastReload>,
    /// When weir's own certificate ends; `None` without a TLS listener.
    pub certificate_not_after: Option<SystemTime>,
    /// Its fingerprint, which shows a renewal.
    pub certificate_sha256: Option<[u8; 32]>,
    /// Gateway connections that the current configuration allows at a time.
    pub connections_max: usize,
}

impl Facts {
    /// A process that started `now` and has just loaded its configuration.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self {
            started_at: now,
            warnings: Vec::new(),
            config_loaded_at: now,
            last_reload: None,
            certificate_not_after: None,
            certificate_sha256: None,
            connections_max: 0,
        }
    }

    /// Records a reload that ended `now`.
    pub fn reloaded(&mut self, now: SystemTime, outcome: Result<ReloadReport, Vec<String>>) {
        if outcome.is_ok() {
            self.config_loaded_at = now;
        }
        self.last_reload = Some(LastReload { at: now, outcome });
    }

    /// Whether the file as last read is the current configuration.
    #[must_use]
    pub fn last_reload_successful(&self) -> bool {
        self.last_reload.as_ref().is_none_or(|r| r.outcome.is_ok())
    }
}

/// One attempt to load another configuration.
#[derive(Debug, Clone)]
pub struct LastReload {
    /// When it ended.
    pub at: SystemTime,
    /// The changes, or every problem found.
    pub outcome: Result<ReloadReport, Vec<String>>,
}

/// To `weir supervise`: start a successor.
pub(crate) const UPGRADE: u8 = b'U';

/// The way to ask `weir supervise` for a successor, and why it refused the last one.
#[derive(Debug, Clone)]
pub struct Upgrades {
    parent: Arc<UnixStream>,
    refused: Arc<Mutex<Option<String>>>,
}

impl Upgrades {
    /// Over the channel to the parent.
    #[must_use]
    pub fn new(parent: UnixStream) -> Self {
        Self {
            parent: Arc::new(parent),
            refused: Arc::default(),
        }
    }

    /// Asks, and forgets an earlier refusal.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn ask(&self) -> io::Result<()> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        (&*self.parent).write_all(&[UPGRADE])
    }

    /// Records that the parent has refused, or the successor has failed.
    pub fn refuse(&self, why: String) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Why the successor that was last asked for does not serve.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A handle on all workers.
#[derive(Debug, Clone)]
pub struct Control {
    workers: Vec<mpsc::Sender<Command>>,
    /// Each worker's last snapshot, and when it was given.
    last: Arc<[Mutex<Last>]>,
}

type Last = Option<(Instant, Snapshot)>;

/// Messages waiting at one worker before the sender waits.
const COMMANDS_WAITING_MAX: usize = 64;

impl Control {
    /// The handle on so many workers, and each worker's receiving end.
    #[must_use]
    pub fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Command>>) {
        let last = (0..workers).map(|_| Mutex::default()).collect();
        let (workers, ends) = (0..workers).map(|_| mpsc::channel(COMMANDS_WAITING_MAX)).unzip();
        (Self { workers, last }, ends)
    }

    /// The workers' snapshots, added up. A worker that has ended is left out.
    pub async fn snapshot(&self) -> Snapshot {
        sum(self.snapshots(Command::Snapshot).await.iter().flatten())
    }

    /// The same; `None` when a worker has ended. Waits for a worker that is stuck.
    pub async fn look(&self) -> Option<Snapshot> {
        sum_of_all(&self.snapshots(Command::Snapshot).await)
    }

    /// The same, with the connected gateways.
    pub async fn status(&self) -> Option<Snapshot> {
        sum_of_all(&self.snapshots(Command::Status).await)
    }

    /// The last snapshot of a worker, and when it was taken.
    #[must_use]
    pub fn last(&self, worker: usize) -> Option<(Instant, Snapshot)> {
        let last = self.last.get(worker)?;
        last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn snapshots(
        &self,
        command: impl Fn(oneshot::Sender<Snapshot>) -> Command,
    ) -> Vec<Option<Snapshot>> {
        let snapshots = self.ask(command).await;
        let now = Instant::now();
        for (snapshot, last) in snapshots.iter().zip(&*self.last) {
            if let Some(snapshot) = snapshot {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, snapshot.clone()));
            }
        }
        snapshots
    }

    /// Applies a new configuration on every worker.
    pub async fn apply(&self, config: &Arc<Config>) {
        self.ask(|tx| Command::Apply(Arc::clone(config), tx)).await;
    }

    /// Switches an endpoint on or off on every worker; false when there is none of that name.
    pub async fn enable(&self, group: &str, endpoint: &str, enabled: bool) -> bool {
        let answers = self
            .ask(|found| Command::Enable {
                group: group.into(),
                endpoint: endpoint.into(),
                enabled,
                found,
            })
            .await;
        answers.contains(&Some(true))
    }

    /// Opens a tap on every worker; it ends when its receiving end is dropped.
    pub async fn tap(&self, feed: &Feed) {
        self.ask(|open| Command::Tap(feed.clone(), open)).await;
    }

    /// Sends every worker the same command and collects the answers in the workers' order; `None`: it has ended.
    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<Option<T>> {
        let mut answers = Vec::with_capacity(self.workers.len());
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (tx, rx) = oneshot::channel();
            // If the worker has ended, its command is dropped, and receiving the answer fails below.
            let _ = worker.send(command(tx)).await;
            waiting.push(rx);
        }
        for rx in waiting {
            answers.push(rx.await.ok());
        }
        answers
    }
}

fn sum_of_all(snapshots: &[Option<Snapshot>]) -> Option<Snapshot> {
    snapshots
        .iter()
        .all(Option::is_some)
        .then(|| sum(snapshots.iter().flatten()))
}

fn sum<'a>(mut snapshots: impl Iterator<Item = &'a Snapshot>) -> Snapshot {
    let mut sum = snapshots.next().cloned().unwrap_or_default();
    for snapshot in snapshots {
        sum.add(snapshot);
    }
    sum
}
