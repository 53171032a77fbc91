//! A gateway's publisher as WSO2's agent is (databridge agent 5.4 and 6.1), habit by habit.
//!
//! The publisher of [`super::agent`] is friendly: it never refuses an event and tries again at once. The real one
//! has a queue of 32,768 events and refuses what does not fit; one publish in flight for each endpoint; after a
//! failure it tries once, about 10 ms later, and then every 30 s; it takes FIN for an ok; it leaves Nagle's
//! algorithm on and writes a batch of up to 200 events in pieces of 8 KiB; it logs in on a pooled connection of
//! its own, closes connections that were idle for 5 s, those of logins within 5.25 s, and probes the data port every 10 s. Sources: the agent's
//! `DataEndpointGroup` (queue, choice of endpoint, reconnection), `DataEndpoint` (batches, failures),
//! `DataEndpointConnectionWorker` (login), `BinaryEventSender` (bytes) and `GenericKeyedObjectPool` (connections).

mod endpoint;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use weir::config::{Policy, Url};
use weir::net::SocketOptions;

use self::endpoint::{Endpoint, State};
use super::Shared;
use crate::histogram::Histogram;

pub use pool::Pools;

/// Which agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// 5.4, of API Manager 4.x: recovers from every failure.
    #[value(name = "5.4")]
    V5_4,
    /// 6.1: loses its only permit to publish with the first failure that is not a session's end.
    #[value(name = "6.1")]
    V6_1,
}

/// The agent's settings: `[transport.binary.agent]` of a gateway's `deployment.toml`, at their defaults.
#[derive(Debug, Clone)]
pub struct TwinOptions {
    /// Which agent.
    pub version: Version,
    /// Further endpoints of the gateway's url group beside the load's own: data URL, login URL.
    pub others: Vec<(Url, Url)>,
    /// The type of the gateway's url group.
    pub policy: Policy,
    /// `queue_size`: events that wait; more are refused.
    pub queue_size: usize,
    /// `batch_size`: most events in a frame.
    pub batch_size: usize,
    /// `reconnection_interval`: between two attempts to log in.
    pub reconnection_interval: Duration,
    /// `min_idle_time_in_pool`: a connection that was idle for longer is closed by the next eviction.
    pub min_idle: Duration,
    /// `eviction_time_period`.
    pub eviction_period: Duration,
    /// The same of the pool of login connections.
    pub login_min_idle: Duration,
    /// The same of the pool of login connections.
    pub login_eviction_period: Duration,
    /// Those of one agent whose publishers the load's connections are; `None` = each is a gateway of its own.
    pub pools: Option<Pools>,
}

impl TwinOptions {
    /// One endpoint, everything else at the agent's defaults.
    #[must_use]
    pub fn new(version: Version) -> Self {
        // The getters of 5.x are bound to each other's settings: 250 is the number of connections.
        let (login_min_idle, login_eviction_period) = match version {
            Version::V5_4 => (250, 5_000),
            Version::V6_1 => (5_000, 5_500),
        };
        Self {
            version,
            others: Vec::new(),
            policy: Policy::Loadbalance,
            queue_size: 32_768,
            batch_size: 200,
            reconnection_interval: Duration::from_secs(30),
            min_idle: Duration::from_secs(5),
            eviction_period: Duration::from_millis(5_500),
            login_min_idle: Duration::from_millis(login_min_idle),
            login_eviction_period: Duration::from_millis(login_eviction_period),
            pools: None,
        }
    }

    /// How the agent connects: with Nagle's algorithm, as Java does by default.
    #[must_use]
    pub fn sockets() -> SocketOptions {
        SocketOptions {
            nodelay: false,
            ..SocketOptions::default()
        }
    }

    /// An agent whose idle connections are closed soon, those of logins, too.
    #[must_use]
    pub fn closing_idle(self, min_idle: Duration, eviction_period: Duration) -> Self {
        Self {
            min_idle,
            eviction_period,
            login_min_idle: min_idle,
            login_eviction_period: eviction_period,
            ..self
        }
    }
}

/// An event of the gateway, from its queue to its answer.
#[derive(Debug, Clone, Copy)]
struct Queued {
    sequence: u64,
    /// When the gateway published it.
    due: Instant,
}

/// The agent's ring buffer.
#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Queued>,
    /// Taken by the worker; their slots are free when it has handed on the last of them.
    held: usize,
    /// The sequence of the next event that is not refused.
    next: u64,
}

/// What the tasks of one gateway share.
struct Gateway {
    shared: Arc<Shared>,
    options: TwinOptions,
    origin: u32,
    ring: Mutex<Ring>,
    /// Something was put into the ring.
    filled: Notify,
    /// The worker has handed on a batch.
    freed: Notify,
    endpoints: Vec<Endpoint>,
    /// An endpoint changed its state.
    changed: Notify,
    /// An endpoint has become unavailable.
    lost: Notify,
    /// Load balance: where the next search begins.
    next_endpoint: AtomicUsize,
    /// Events in the queue or on their way.
    unsettled: AtomicU64,
    /// `unsettled` has become 0, or no new event will come.
    settled: Notify,
    latency: Mutex<Histogram>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One gateway, until everything it took is answered, or `settle` has passed since the last new event.
pub(super) async fn live(shared: Arc<Shared>, options: TwinOptions, index: u32, start: Instant) -> Histogram {
    let load = &shared.options;
    let auth = load.auth.clone().unwrap_or_else(|| load.data.clone());
    let urls = std::iter::once((load.data.clone(), auth)).chain(options.others.iter().cloned());
    let pools = options.pools.clone().unwrap_or_default();
    let gateway = Arc::new(Gateway {
        origin: load.origin_first + index,
        ring: Mutex::default(),
        filled: Notify::new(),
        freed: Notify::new(),
        endpoints: urls
            .map(|(data, auth)| Endpoint::new(data, auth, &pools))
            .collect(),
        changed: Notify::new(),
        lost: Notify::new(),
        next_endpoint: AtomicUsize::new(0),
        unsettled: AtomicU64::new(0),
        settled: Notify::new(),
        latency: Mutex::default(),
        options,
        shared: Arc::clone(&shared),
    });
    // Ends with this future.
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&gateway).publish_events(start + shared.options.phase(index)));
    tasks.spawn(Arc::clone(&gateway).work());
    for at in 0..gateway.endpoints.len() {
        tasks.spawn(endpoint::run(Arc::clone(&gateway), at));
    }
    tasks.spawn(endpoint::watch(Arc::clone(&gateway)));
    let overtime = async {
        shared.stop.cancelled().await;
        sleep(shared.options.settle).await;
    };
    // Biased towards the end of the work: what is done in time counts as done.
    tokio::select! {
        biased;
        () = gateway.all_settled() => {}
        () = overtime => {}
    }
    drop(tasks);
    std::mem::take(&mut *lock(&gateway.latency))
}

impl Gateway {
    /// The API calls: an event every interval, put into the queue or refused.
    async fn publish_events(self: Arc<Self>, first: Instant) {
        let interval = self.shared.options.interval();
        let mut due = first;
        while !self.shared.exhausted() {
            let now = match interval {
                Some(_) => {
                    tokio::select! {
                        biased;
                        () = self.shared.stop.cancelled() => break,
                        () = sleep_until(due) => {}
                    }
                    Instant::now()
                }
                None => Instant::now(),
            };
            match interval {
                Some(interval) => {
                    while due <= now && self.offer(due, true) {
                        due += interval;
                    }
                }
                // As fast as the queue takes them: then nothing is refused.
                None => {
                    while self.offer(now, false) {}
                    tokio::select! {
                        biased;
                        () = self.shared.stop.cancelled() => break,
                        () = self.freed.notified() => {}
                    }
                }
            }
        }
        self.settled.notify_one();
    }

    /// One event. False when there is none, or (unless it `may_refuse`) no room for it.
    fn offer(&self, due: Instant, may_refuse: bool) -> bool {
        let mut ring = lock(&self.ring);
        let full = ring.events.len() + ring.held >= self.options.queue_size;
        if (full && !may_refuse) || self.shared.take(1) == 0 {
            return false;
        }
        if full {
            drop(ring);
            self.shared.count(|c| c.queue_full += 1);
            return true;
        }
        let sequence = ring.next;
        ring.next += 1;
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        // Before anybody can receive it.
        if let Some(judge) = &self.shared.options.judge {
            let at = judge.now();
            judge.oracle().issue(self.origin, sequence, 1, at);
        }
        ring.events.push_back(Queued { sequence, due });
        drop(ring);
        self.filled.notify_one();
        true
    }

    /// `EventQueueWorker`: hands what is in the ring to endpoints, one event after the other.
    async fn work(self: Arc<Self>) {
        loop {
            let batch: Vec<Queued> = {
                let mut ring = lock(&self.ring);
                ring.held = ring.events.len();
                ring.events.drain(..).collect()
            };
            if batch.is_empty() {
                self.filled.notified().await;
                continue;
            }
            for event in batch {
                if let Some(endpoint) = self.endpoint(None).await {
                    endpoint.collect(event, &self).await;
                }
            }
            self.flush().await;
            lock(&self.ring).held = 0;
            self.freed.notify_one();
        }
    }

    async fn flush(&self) {
        for endpoint in &self.endpoints {
            if endpoint.state() == State::Active {
                endpoint.flush(self).await;
            }
        }
    }

    /// `getDataEndpoint`: the next endpoint that is active, however long that takes. The agent looks every millisecond.
    /// With the endpoint that has `failed`: another one, or none. Failover stays with one that is at work until it is
    /// not, even then, and even where that is the endpoint that has failed.
    async fn endpoint(&self, failed: Option<&Endpoint>) -> Option<&Endpoint> {
        let count = self.endpoints.len();
        let failover = self.options.policy == Policy::Failover;
        let first = match failover {
            true => 0,
            false => self.next_endpoint.fetch_add(1, Ordering::Relaxed) % count,
        };
        let begin = Instant::now();
        let mut at = first;
        loop {
            // From here on no change is missed.
            let changed = self.changed.notified();
            loop {
                let endpoint = self.endpoints.get(at)?;
                match endpoint.state() {
                    State::Active if failed.is_none_or(|f| !std::ptr::eq(f, endpoint)) => {
                        return Some(endpoint);
                    }
                    State::Busy | State::Initializing if failover => break,
                    _ => at = (at + 1) % count,
                }
                if at == first {
                    if failed.is_some() {
                        return None;
                    }
                    break;
                }
            }
            changed.await;
            let past = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            sleep_until(begin + Duration::from_millis(past.div_ceil(1_000))).await;
        }
    }

    /// `tryResendEvents`: to another endpoint that is active, else back into the queue, at its end; what does
    /// not fit is lost, and an error line is all that says so.
    async fn resend(&self, events: Vec<Queued>, failed: &Endpoint) {
        self.issue_again(&events);
        let mut back = Vec::new();
        for event in events {
            match self.endpoint(Some(failed)).await {
                Some(endpoint) => endpoint.collect(event, self).await,
                None => back.push(event),
            }
        }
        self.flush().await;
        let mut lost = 0;
        {
            let mut ring = lock(&self.ring);
            for event in back {
                if ring.events.len() + ring.held < self.options.queue_size {
                    ring.events.push_back(event);
                } else {
                    lost += 1;
                }
            }
        }
        self.filled.notify_one();
        if lost > 0 {
            self.shared.count(|c| c.queue_full += lost);
            self.settle(lost);
        }
    }

    /// Tells the counts and the oracle that these events may arrive twice.
    fn issue_again(&self, events: &[Queued]) {
        let resent = u64::try_from(events.len()).unwrap_or(0);
        self.shared.count(|c| c.events_resent += resent);
        if let Some(judge) = &self.shared.options.judge {
            let at = judge.now();
            let mut oracle = judge.oracle();
            for event in events {
                oracle.issue(self.origin, event.sequence, 1, at);
            }
        }
    }

    /// These events have found their end.
    fn settle(&self, events: u64) {
        if self.unsettled.fetch_sub(events, Ordering::Relaxed) == events {
            self.settled.notify_one();
        }
    }

    async fn all_settled(&self) {
        while !self.shared.exhausted() || self.unsettled.load(Ordering::Relaxed) > 0 {
            self.settled.notified().await;
        }
    }
}
