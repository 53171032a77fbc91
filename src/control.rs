//! The doors from outside to the workers: messages, each with a place for its answer.
//!
//! Admin port, signals and reload live on a thread of their own and hold a [`Control`]; each worker owns
//! the receiving end of one [`Command`] channel and answers between two turns of its loop.

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

/// What a worker can be asked.
#[derive(Debug)]
pub enum Command {
    /// Say how things are.
    Snapshot(oneshot::Sender<Snapshot>),
    /// The same, with who is connected.
    Status(oneshot::Sender<Snapshot>),
    /// Take over a new, valid configuration; answered when it is in force.
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
    /// Let somebody look at passing events; answered when the tap is open.
    Tap(Feed, oneshot::Sender<()>),
}

/// A wish to read the configuration again, from the admin port, a signal or a changed file.
#[derive(Debug)]
pub struct ReloadRequest {
    /// What came of it: the changes now in force, or every problem of the new file (the old
    /// configuration stays in force).
    pub answer: oneshot::Sender<Result<ReloadReport, Vec<String>>>,
}

/// A reload that succeeded, in sentences for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// What is different now; empty when the file said the same as before.
    pub changes: Vec<String>,
    /// What the file asks for that only a restart can give.
    pub needs_restart: Vec<String>,
}

/// What the composition root knows and no worker does; it owns the sending end of a watch channel of these.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When the process started.
    pub started_at: SystemTime,
    /// What the configuration in force deserves to be warned about.
    pub warnings: Vec<String>,
    /// When the configuration in force was loaded.
    pub config_loaded_at: SystemTime,
    /// The last attempt to load another one, if there was any.
    pub last_reload: Option<LastReload>,
    /// When weir's own certificate ends; `None` without a TLS listener.
    pub certificate_not_after: Option<SystemTime>,
    /// Its fingerprint, by which a renewal is known.
    pub certificate_sha256: Option<[u8; 32]>,
    /// Gateway connections that the configuration in force allows at a time.
    pub connections_max: usize,
}

impl Facts {
    /// A process that started `now`, its configuration just loaded.
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

    /// Takes note of how a reload that ended `now` went.
    pub fn reloaded(&mut self, now: SystemTime, outcome: Result<ReloadReport, Vec<String>>) {
        if outcome.is_ok() {
            self.config_loaded_at = now;
        }
        self.last_reload = Some(LastReload { at: now, outcome });
    }

    /// Whether the file as last read is the configuration in force.
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
    /// By the channel to the parent.
    #[must_use]
    pub fn new(parent: UnixStream) -> Self {
        Self {
            parent: Arc::new(parent),
            refused: Arc::default(),
        }
    }

    /// Asks; a refusal of before is forgotten.
    ///
    /// # Errors
    /// The parent is gone.
    pub fn ask(&self) -> io::Result<()> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        (&*self.parent).write_all(&[UPGRADE])
    }

    /// The parent has refused, or the successor has failed.
    pub fn refuse(&self, why: String) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Why there is no successor, since it was last asked for.
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
    /// Doors to `workers` workers: the handle and each worker's receiving end.
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

    /// The same, with who is connected.
    pub async fn status(&self) -> Option<Snapshot> {
        sum_of_all(&self.snapshots(Command::Status).await)
    }

    /// The last snapshot that a worker gave to anybody, and when.
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

    /// Puts a new configuration in force on every worker.
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

    /// Asks every worker the same thing and collects the answers, in the workers' order; `None`: it has ended.
    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<Option<T>> {
        let mut answers = Vec::with_capacity(self.workers.len());
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (tx, rx) = oneshot::channel();
            // The answer of one that has ended is an error below: its command is dropped.
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
