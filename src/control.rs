//! The doors from outside to the workers: messages, each with a place for its answer.
//!
//! Admin port, signals and reload live on a thread of their own and hold a [`Control`]; each worker owns
//! the receiving end of one [`Command`] channel and answers between two turns of its loop.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::status::Snapshot;

/// What a worker can be asked.
#[derive(Debug)]
pub enum Command {
    /// Say how things are.
    Snapshot(oneshot::Sender<Snapshot>),
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
}

/// A handle on all workers.
#[derive(Debug, Clone)]
pub struct Control {
    workers: Vec<mpsc::Sender<Command>>,
}

/// Messages waiting at one worker before the sender waits.
const COMMANDS_WAITING_MAX: usize = 64;

impl Control {
    /// Doors to `workers` workers: the handle and each worker's receiving end.
    #[must_use]
    pub fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Command>>) {
        let (workers, ends) = (0..workers).map(|_| mpsc::channel(COMMANDS_WAITING_MAX)).unzip();
        (Self { workers }, ends)
    }

    /// The workers' snapshots, added up. A worker that has ended is left out.
    pub async fn snapshot(&self) -> Snapshot {
        let mut sum: Option<Snapshot> = None;
        for answer in self.ask(Command::Snapshot).await {
            match &mut sum {
                Some(sum) => sum.add(&answer),
                None => sum = Some(answer),
            }
        }
        sum.unwrap_or_default()
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
        answers.contains(&true)
    }

    /// Asks every worker the same thing and collects the answers of those that live.
    async fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.workers.len());
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (tx, rx) = oneshot::channel();
            if worker.send(command(tx)).await.is_ok() {
                waiting.push(rx);
            }
        }
        for rx in waiting {
            if let Ok(answer) = rx.await {
                answers.push(answer);
            }
        }
        answers
    }
}
