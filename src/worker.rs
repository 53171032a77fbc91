//! One worker: listeners, sessions, queues and links on one thread. Builds them, applies reloads, and answers commands.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::config::{self, Ack, Config};
use crate::control::Command;
use crate::egress::{Group, ObserverSource, Resources};
use crate::ingress::token::Tokens;
use crate::ingress::{Hashing, Ingress, Settings, listen};
use crate::lifecycle::{End, Lifecycle, Phase, Vital};
use crate::net::{Acceptor, Dialer, Listener};
use crate::relay::{Limits, Reason, Relay};
use crate::status::{self, Snapshot};

/// How often a removed group is checked until it is empty.
const REMOVED_POLL: Duration = Duration::from_millis(20);

/// What a worker is built from.
pub struct Parts {
    /// The configuration at start.
    pub config: Arc<Config>,
    /// Plain listener.
    pub tcp: Option<Listener>,
    /// TLS listener, with its certificate.
    pub tls: Option<(Listener, Acceptor)>,
    /// Connects to Traffic Managers.
    pub dialer: Dialer,
    /// Session tokens, shared by all workers.
    pub tokens: Arc<Tokens>,
    /// Hashes of passwords, shared by all workers.
    pub hashing: Hashing,
    /// Histograms.
    pub observers: ObserverSource,
    /// The wall clock, in milliseconds since the epoch.
    pub unix_ms: fn() -> i64,
    /// Seed of all jitter.
    pub seed: u64,
    /// Fails when a listener, a group or a link ends unexpectedly.
    pub lifecycle: Lifecycle,
}

/// A running worker.
pub struct Worker {
    relay: Relay,
    ingress: Rc<Ingress>,
    resources: Resources,
    groups: RefCell<Vec<Rc<Group>>>,
    /// Groups that were removed from the configuration and still deliver what they hold.
    removed: RefCell<Vec<Rc<Group>>>,
    /// The last numbers of removed groups that dropped something: a loss stays visible.
    removed_totals: RefCell<Snapshot>,
    drain_sends_away: Cell<bool>,
}

impl Worker {
    /// Starts everything on the current runtime, which must be a `LocalRuntime`.
    #[must_use]
    pub fn start(parts: Parts) -> Rc<Self> {
        let config = parts.config;
        let relay = Relay::new(config.link.batch_max_bytes, parts.unix_ms);
        let ingress = Ingress::new(
            Settings::share(&config),
            relay.clone(),
            parts.tokens,
            parts.hashing,
            parts.unix_ms,
        );
        let own = Rc::clone(&ingress);
        let resources = Resources {
            dialer: parts.dialer,
            eager: Rc::new(Cell::new(false)),
            random: Rc::new(RefCell::new(fastrand::Rng::with_seed(parts.seed))),
            observers: parts.observers,
            lifecycle: parts.lifecycle,
            is_own: Rc::new(move |session| own.accepts(session)),
        };
        let lifecycle = resources.lifecycle.clone();
        let worker = Rc::new(Self {
            relay,
            ingress: Rc::clone(&ingress),
            resources,
            groups: RefCell::default(),
            removed: RefCell::default(),
            removed_totals: RefCell::default(),
            drain_sends_away: Cell::default(),
        });
        worker.apply(config);
        if let Some(listener) = parts.tcp {
            let vital = lifecycle.vital("the plain listener");
            tokio::task::spawn_local(run_listener(vital, listen(Rc::clone(&ingress), listener, None)));
        }
        if let Some((listener, acceptor)) = parts.tls {
            let vital = lifecycle.vital("the TLS listener");
            tokio::task::spawn_local(run_listener(vital, listen(ingress, listener, Some(acceptor))));
        }
        worker
    }

    /// Answers commands and follows the phase until everything stops.
    pub async fn run(
        self: &Rc<Self>,
        mut commands: mpsc::Receiver<Command>,
        mut phase: watch::Receiver<Phase>,
    ) {
        let mut away_at: Option<Instant> = None;
        let mut ending: Option<End> = None;
        loop {
            let mut timer = pin!(away_at.map(sleep_until));
            let notice_ends = poll_fn(|cx| match away_at {
                // A timer fires a turn of the event loop late, and a command after the time must find it done.
                Some(at) if at <= Instant::now() => Poll::Ready(()),
                _ => timer.as_mut().as_pin_mut().map_or(Poll::Pending, |t| t.poll(cx)),
            });
            tokio::select! {
                // The phase first: a drain must not wait behind scrapes.
                biased;
                changed = phase.changed() => {
                    let now = *phase.borrow_and_update();
                    if changed.is_err() || now == Phase::Stopped {
                        self.ingress.resets_all();
                        return;
                    }
                    let Phase::Draining { away_at: at, end, .. } = now else {
                        (away_at, ending) = (None, None);
                        self.ingress.keep();
                        continue;
                    };
                    if ending.is_none() {
                        away_at = Some(at);
                        self.ingress.keep();
                    }
                    if end == End::Succeeded && ending < Some(end) {
                        self.ingress.end_listeners();
                        // Also gateways that came back after they were sent away.
                        away_at = Some(at);
                    }
                    if end == End::Closing {
                        self.ingress.close();
                    }
                    ending = Some(end);
                }
                () = notice_ends => {
                    away_at = None;
                    match ending {
                        _ if !self.drain_sends_away.get() => {}
                        Some(End::Succeeded) => self.ingress.send_all_away(),
                        _ => self.ingress.send_away(),
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.answer(command),
                    None => return,
                }
            }
        }
    }

    /// All numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut all = Snapshot {
            ingress: self.ingress.status(),
            ..Snapshot::default()
        };
        for group in self.groups.borrow().iter().chain(self.removed.borrow().iter()) {
            all.add(&Snapshot {
                groups: vec![group.status(now)],
                ..Snapshot::default()
            });
        }
        all.add(&self.removed_totals.borrow());
        all
    }

    /// The last snapshot, when the runtime and all its tasks are gone: what is still queued is dropped and counted as
    /// `drain_timeout`.
    #[must_use]
    pub fn finish(&self) -> Snapshot {
        for group in self.groups.borrow().iter().chain(self.removed.borrow().iter()) {
            group.queue().drop_queued(Reason::DrainTimeout);
        }
        self.snapshot()
    }

    fn answer(self: &Rc<Self>, command: Command) {
        // The sender may have gone meanwhile; then the answer is of no use.
        match command {
            Command::Snapshot(answer) => {
                let _ = answer.send(self.snapshot());
            }
            Command::Status(answer) => {
                let gateways = self.ingress.gateways();
                let _ = answer.send(Snapshot {
                    gateways,
                    ..self.snapshot()
                });
            }
            Command::Apply(config, answer) => {
                self.apply(config);
                let _ = answer.send(());
            }
            Command::Tap(feed, open) => {
                self.ingress.tap(feed);
                let _ = open.send(());
            }
            Command::Enable {
                group,
                endpoint,
                enabled,
                found,
            } => {
                let groups = self.groups.borrow();
                let group = groups.iter().find(|g| g.name() == group);
                let _ = found.send(group.is_some_and(|g| g.enable(&endpoint, enabled)));
            }
        }
    }

    /// Applies a configuration; what has not changed is not touched.
    fn apply(self: &Rc<Self>, config: Arc<Config>) {
        self.ingress.set_settings(Settings::share(&config));
        self.drain_sends_away.set(config.drain_sends_away);
        self.relay.set_batch_max_bytes(config.link.batch_max_bytes);
        self.resources.eager.set(config.ack == Ack::Delivered);
        let settings = Rc::new(config.link.clone());
        let mut before = self.groups.take();
        let mut after = Vec::with_capacity(config.groups.len());
        for wanted in &config.groups {
            let limits = Limits::share(&wanted.queue, config.workers);
            match before.iter().position(|g| g.name() == wanted.name) {
                Some(i) => {
                    let group = before.remove(i);
                    group.queue().set_limits(limits);
                    group.apply(wanted, Rc::clone(&settings));
                    after.push(group);
                }
                None => after.push(self.new_group(wanted, limits, &settings)),
            }
        }
        let queues: Vec<_> = after.iter().map(|g| Rc::clone(g.queue())).collect();
        self.relay.set_groups(&queues);
        self.groups.replace(after);
        for group in before {
            self.remove(group, config.drain_timeout);
        }
    }

    fn new_group(&self, group: &config::Group, limits: Limits, settings: &Rc<config::Link>) -> Rc<Group> {
        let queue = self.relay.queue(&group.name, limits);
        Rc::new(Group::start(
            group,
            Rc::clone(settings),
            queue,
            self.resources.clone(),
        ))
    }

    /// A removed group gets no more events and delivers what it holds within `drain_timeout`. What is in flight after that
    /// may still be answered; what returns to the queue is dropped, too.
    fn remove(self: &Rc<Self>, group: Rc<Group>, drain_timeout: Duration) {
        self.removed.borrow_mut().push(Rc::clone(&group));
        let worker = Rc::clone(self);
        let vital = self.resources.lifecycle.vital("a removed group's drain");
        tokio::task::spawn_local(async move {
            let empty = async {
                while !group.queue().is_empty() {
                    sleep(REMOVED_POLL).await;
                }
            };
            // Whether in time or not, what is left is counted below.
            let _ = timeout_at(Instant::now() + drain_timeout, empty).await;
            group.close(Reason::GroupRemoved);
            while !group.queue().is_empty() {
                sleep(REMOVED_POLL).await;
                group.queue().drop_queued(Reason::GroupRemoved);
            }
            let last = group.status(Instant::now());
            let dropped = last.events.dropped.group_removed;
            if dropped > 0 {
                tracing::warn!(
                    group = group.name(),
                    events = dropped,
                    "group removed, the rest is dropped"
                );
                worker.removed_totals.borrow_mut().add(&totals(last));
            } else {
                tracing::info!(group = group.name(), "group removed, everything delivered");
            }
            worker.removed.borrow_mut().retain(|g| !Rc::ptr_eq(g, &group));
            vital.done();
        });
    }
}

/// Runs a listener, which ends only when a successor serves.
async fn run_listener(vital: Vital, listener: impl Future<Output = ()>) {
    listener.await;
    vital.done();
}

/// What stays of a removed group: its counters, without the state that monitoring would report as a fault.
fn totals(last: status::Group) -> Snapshot {
    let counts = status::Group {
        name: last.name,
        policy: last.policy,
        available: true,
        events: last.events,
        blocked_incidents_total: last.blocked_incidents_total,
        shed_incidents_total: last.shed_incidents_total,
        resent_events_total: last.resent_events_total,
        ..status::Group::default()
    };
    Snapshot {
        groups: vec![counts],
        ..Snapshot::default()
    }
}
