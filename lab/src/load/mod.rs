//! The load generator: many gateways at once, each as WSO2's agent (docs/PROTOCOL.md).
//!
//! Each connection keeps up to `window` frames in flight (1 = lock-step, as the agent does), as fast as
//! replies come (closed loop) or at a given rate (open loop; latency then counts from when a frame was due,
//! so a stalled peer cannot hide). What is not answered is sent again the way the agent does it.

mod agent;
mod counts;
mod pace;
mod run;
mod session;
mod settle;
pub mod twin;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir::config::Url;
use weir::net::Dialer;

use self::agent::Agent;
use self::pace::Pacer;
use self::session::Sessions;
use super::event::{Events, Sizes};
use super::histogram::Histogram;
use super::judge::Judge;

pub use counts::LoadCounts;
#[cfg(test)]
pub(crate) use run::run_telling;
pub use run::{Report, run};
pub use twin::{Pools, TwinOptions, Version};

/// What a load is.
#[derive(Clone)]
pub struct LoadOptions {
    /// Makes the connections.
    pub dialer: Dialer,
    /// Where events go.
    pub data: Url,
    /// Where the login goes; `None` = the data port.
    pub auth: Option<Url>,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Gateway connections.
    pub connections: u32,
    /// Events in a frame.
    pub events_per_frame: u64,
    /// Frames in flight on a connection; the agent has 1.
    pub window: usize,
    /// Events per second over all connections; `None` = as fast as replies come.
    pub rate: Option<f64>,
    /// Keep the rate by a thread of its own, to some tens of microseconds: the timers of the runtime count
    /// milliseconds, and would put what is due within one into one burst. Never in virtual time.
    pub exact: bool,
    /// Date events in microseconds, by when they are written (those of an agent: published), in place of milliseconds.
    pub stamp: bool,
    /// No new events after so many, over all connections.
    pub count: Option<u64>,
    /// No new events after this long.
    pub duration: Option<Duration>,
    /// The events; the judge's, where there is one.
    pub events: Events,
    /// The number of the first connection; each is an origin of events of its own.
    pub origin_first: u32,
    /// Who hears of every event issued and acknowledged.
    pub judge: Option<Judge>,
    /// The agent's: a reply later than this is a failure.
    pub reply_timeout: Duration,
    /// After a failure, before the next attempt.
    pub retry_delay: Duration,
    /// After the last new event, how long answers are still waited for.
    pub settle: Duration,
    /// Every connection is a whole gateway with WSO2's agent, which makes its own frames and connections.
    pub agent: Option<TwinOptions>,
}

impl LoadOptions {
    /// One connection, lock-step, single typical events, as fast as replies come, until stopped.
    #[must_use]
    pub fn new(dialer: Dialer, data: Url) -> Self {
        Self {
            dialer,
            data,
            auth: None,
            user: "admin".into(),
            password: "admin".into(),
            connections: 1,
            events_per_frame: 1,
            window: 1,
            rate: None,
            exact: false,
            stamp: false,
            count: None,
            duration: None,
            events: Events::new(Sizes::Typical, 1_700_000_000_000),
            origin_first: 0,
            judge: None,
            reply_timeout: Duration::from_secs(30),
            retry_delay: Duration::from_millis(50),
            settle: Duration::from_secs(30),
            agent: None,
        }
    }

    /// Tells `judge` of every event, and issues the judge's events.
    #[must_use]
    pub fn judged_by(mut self, judge: &Judge) -> Self {
        self.events = judge.oracle().events().clone();
        self.judge = Some(judge.clone());
        self
    }
}

/// The end of a load.
#[derive(Debug, Clone)]
pub struct LoadReport {
    /// Everything counted.
    pub counts: LoadCounts,
    /// Reply times.
    pub latency: Histogram,
    /// From the first connection to the last answer.
    pub elapsed: Duration,
    /// The last thing that went wrong, in words.
    pub last_error: Option<String>,
}

/// A running load; dropping it ends it at once.
pub struct Load {
    shared: Arc<Shared>,
    agents: JoinSet<Histogram>,
    start: Instant,
}

/// A view on a running load.
#[derive(Clone)]
pub struct LoadHandle(Arc<Shared>);

impl LoadHandle {
    /// Everything counted so far.
    #[must_use]
    pub fn counts(&self) -> LoadCounts {
        self.0.counts()
    }

    /// No new events from now on; what is unanswered is still seen through.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Waits for the first thing that goes wrong.
    pub(crate) async fn first_error(&self) -> String {
        let mut errors = self.0.first_error.subscribe();
        match errors.wait_for(Option::is_some).await.map(|first| first.clone()) {
            Ok(Some(first)) => first,
            // The sender lives in this handle.
            _ => std::future::pending().await,
        }
    }
}

/// What all connections have in common.
struct Shared {
    options: LoadOptions,
    sessions: Sessions,
    counts: Mutex<LoadCounts>,
    /// The first thing that went wrong, told at once, and the last.
    first_error: watch::Sender<Option<String>>,
    last_error: Mutex<Option<String>>,
    /// New events that may still be issued; `u64::MAX` = no limit.
    left: AtomicU64,
    stop: CancellationToken,
    /// Also when all events of a `count` are issued: who waits for the next one to be due need not.
    issued: CancellationToken,
    /// Says when frames are due, where the rate is exact.
    pacer: Option<Pacer>,
}

impl Load {
    /// Starts all connections on tasks of the current runtime.
    #[must_use]
    pub fn start(options: LoadOptions) -> Load {
        let start = Instant::now();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            pacer: Pacer::of(&options, start, &stop),
            left: AtomicU64::new(options.count.unwrap_or(u64::MAX)),
            sessions: Sessions::default(),
            counts: Mutex::default(),
            first_error: watch::Sender::default(),
            last_error: Mutex::default(),
            issued: stop.child_token(),
            stop,
            options,
        });
        let mut agents = JoinSet::new();
        for i in 0..shared.options.connections {
            let shared = Arc::clone(&shared);
            match shared.options.agent.clone() {
                Some(agent) => agents.spawn(twin::live(shared, agent, i, start)),
                None => agents.spawn(Agent::new(shared, i, start).live()),
            };
        }
        if let Some(duration) = shared.options.duration {
            let stop = shared.stop.clone();
            tokio::spawn(async move {
                // Biased: an earlier stop makes the clock pointless.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep_until(start + duration) => stop.cancel(),
                }
            });
        }
        Load {
            shared,
            agents,
            start,
        }
    }

    /// Everything counted so far.
    #[must_use]
    pub fn counts(&self) -> LoadCounts {
        self.shared.counts()
    }

    /// To look and to stop while [`Load::finish`] waits.
    #[must_use]
    pub fn handle(&self) -> LoadHandle {
        LoadHandle(Arc::clone(&self.shared))
    }

    /// No new events from now on; what is unanswered is still seen through.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Waits until every connection has ended: after `count` or `duration` or [`Load::stop`].
    pub async fn finish(mut self) -> LoadReport {
        let mut latency = Histogram::default();
        while let Some(agent) = self.agents.join_next().await {
            if let Ok(histogram) = agent {
                latency.merge(&histogram);
            }
        }
        let elapsed = self.start.elapsed();
        self.shared.log_out().await;
        let last_error = self
            .shared
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        LoadReport {
            counts: self.counts(),
            latency,
            elapsed,
            last_error: last_error.clone(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn counts(&self) -> LoadCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut LoadCounts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn failed(&self, why: String) {
        self.first_error.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| why.clone());
            is_first
        });
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Takes the right to issue up to `events` new events.
    fn take(&self, events: u64) -> u64 {
        if self.stop.is_cancelled() {
            return 0;
        }
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
                u64::MAX => None,
                left => Some(left.saturating_sub(events)),
            });
        let taken = before.map_or(events, |left| left.min(events));
        if before.is_ok_and(|left| left <= events) {
            self.issued.cancel();
        }
        taken
    }

    /// Whether there will never be a new event again.
    fn exhausted(&self) -> bool {
        self.stop.is_cancelled() || self.left.load(Ordering::Relaxed) == 0
    }
}
