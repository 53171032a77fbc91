//! A whole simulated world: Traffic Managers, weir, and the way to look at both at any time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};
use weir::control::Control;
use weir::ingress::token::Tokens;
use weir::lab::sim::{Sim, Trace};
use weir::lab::{Events, Judge, LoadOptions, Oracle, Sink, SinkOptions};
use weir::lifecycle::Lifecycle;
use weir::metrics::LinkObservers;
use weir::net::{ClientTls, Dialer};
use weir::status::Snapshot;
use weir::worker::{Parts, Worker};

use crate::chaos::Fault;
use crate::gateways::url;
use crate::plan::{GUEST, GroupPlan, Plan, Settings, WEIR};

/// The wall clock at the start of each run.
const EPOCH_MS: i64 = 1_790_000_000_000;

thread_local! {
    static CLOCK: Cell<(Option<Instant>, i64)> = const { Cell::new((None, 0)) };
}

/// The wall clock of the world: virtual time, and steps as a clock daemon makes them.
pub fn unix_ms() -> i64 {
    let (start, step) = CLOCK.get();
    let since = start.map_or(0, |s| i64::try_from(s.elapsed().as_millis()).unwrap());
    EPOCH_MS + since + step
}

pub fn step_clock(by_ms: i64) {
    let (start, step) = CLOCK.get();
    CLOCK.set((start, step + by_ms));
}

pub struct Host {
    pub name: String,
    /// Index of its group.
    pub group: usize,
    pub latency: Duration,
    pub sink: Sink,
}

pub struct World {
    pub plan: Plan,
    pub sim: Sim,
    pub judge: Judge,
    pub hosts: Vec<Host>,
    pub tokens: Arc<Tokens>,
    pub latency: Duration,
    pub settings: RefCell<Settings>,
    pub groups: RefCell<Vec<GroupPlan>>,
    /// What was in force at some time.
    pub history: RefCell<Vec<Settings>>,
    pub bad_issued: Rc<Cell<u64>>,
    pub tasks: RefCell<Vec<JoinHandle<()>>>,
    pub done: RefCell<BTreeMap<Fault, u64>>,
    pub crashes: Cell<u64>,
    tls: ClientTls,
    weir: RefCell<Vec<Incarnation>>,
    control: RefCell<Control>,
    /// Workers whose tasks are being ended.
    ending: RefCell<Vec<Rc<Worker>>>,
    /// What weirs that are gone have counted.
    past: RefCell<Snapshot>,
    origins: Cell<u32>,
    incarnations: Cell<u64>,
}

struct Incarnation {
    worker: Rc<Worker>,
    life: Lifecycle,
    task: JoinHandle<()>,
}

impl World {
    pub async fn start(plan: Plan, aloud: bool) -> Self {
        CLOCK.set((Some(Instant::now()), 0));
        fastrand::seed(plan.seed);
        let mut random = Rng::with_seed(plan.seed ^ 0x5eed);
        let sim = Sim::new(random.u64(..), Trace::new(aloud));
        let mut names: Vec<&str> = plan.groups.iter().map(|g| g.name.as_str()).collect();
        names.push(GUEST);
        let judge = Judge::new(Oracle::new(Events::new(plan.sizes, EPOCH_MS), &names, false));
        let mut latency = || Duration::from_millis([0, 0, 1, 5][random.usize(..4)]);
        let hosts = plan.hosts().into_iter().map(|(name, group)| {
            let options = SinkOptions {
                data: sim.opener(&name),
                ..SinkOptions::local().judged_by(&judge, group)
            };
            let latency = latency();
            sim.weather(&name, |w| (w.forth.latency, w.back.latency) = (latency, latency));
            Host {
                sink: Sink::start(options).unwrap(),
                latency,
                name,
                group,
            }
        });
        let hosts = hosts.collect();
        let latency = latency();
        sim.weather(WEIR, |w| (w.forth.latency, w.back.latency) = (latency, latency));
        let world = Self {
            sim,
            judge,
            hosts,
            latency,
            tokens: Arc::new(Tokens::new(Some("a secret of the simulation")).unwrap()),
            settings: RefCell::new(plan.settings.clone()),
            groups: RefCell::new(plan.groups.clone()),
            history: RefCell::default(),
            bad_issued: Rc::default(),
            tasks: RefCell::default(),
            done: RefCell::default(),
            crashes: Cell::new(0),
            tls: ClientTls::trusting_nobody().unwrap(),
            weir: RefCell::default(),
            control: RefCell::new(Control::new(0).0),
            ending: RefCell::default(),
            past: RefCell::default(),
            origins: Cell::new(0),
            incarnations: Cell::new(0),
            plan,
        };
        world.start_weir().await;
        world
    }

    pub fn did(&self, fault: Fault) {
        self.sim.note("fault", fault as u64, 0);
        *self.done.borrow_mut().entry(fault).or_default() += 1;
    }

    pub fn dialer(&self) -> Dialer {
        Dialer::over(Arc::new(self.sim.clone()), self.tls.clone())
    }

    /// The first of so many numbers that no gateway connection has had.
    pub fn new_origins(&self, count: u32) -> u32 {
        self.origins.replace(self.origins.get() + count)
    }

    pub fn load(&self, connections: u32) -> LoadOptions {
        LoadOptions {
            connections,
            origin_first: self.new_origins(connections),
            settle: Duration::from_secs(200),
            ..LoadOptions::new(self.dialer(), url(WEIR)).judged_by(&self.judge)
        }
    }

    // Weir.

    async fn start_weir(&self) {
        let settings = self.settings.borrow().clone();
        let config = self.plan.config(&self.groups.borrow(), &settings);
        self.history.borrow_mut().push(settings);
        let (control, commands) = Control::new(self.plan.workers);
        let mut all = Vec::new();
        for commands in commands {
            let life = Lifecycle::new();
            life.ready();
            let phase = life.watch();
            self.incarnations.set(self.incarnations.get() + 1);
            let parts = Parts {
                config: Arc::clone(&config),
                tcp: Some(self.sim.listen(WEIR)),
                tls: None,
                dialer: self.dialer(),
                tokens: Arc::clone(&self.tokens),
                observers: Rc::new(|_, _| LinkObservers::none()),
                unix_ms,
                seed: self.plan.seed ^ self.incarnations.get() << 32,
            };
            let (tell, worker) = oneshot::channel();
            // A set of its own: dropped with all its tasks in it, as a process is.
            let task = spawn_local(async move {
                LocalSet::new()
                    .run_until(async move {
                        let worker = Worker::start(parts);
                        let _ = tell.send(Rc::clone(&worker));
                        worker.run(commands, phase).await;
                    })
                    .await;
            });
            let worker = worker.await.unwrap();
            all.push(Incarnation { worker, life, task });
        }
        self.control.replace(control);
        self.weir.replace(all);
    }

    /// Ends every task of weir, wherever it is, and takes the last look at what it held.
    async fn end_weir(&self) {
        let ending = self.weir.replace(Vec::new());
        let (mut tasks, mut workers) = (Vec::new(), Vec::new());
        for one in ending {
            one.task.abort();
            tasks.push(one.task);
            workers.push(one.worker);
        }
        self.ending.replace(workers);
        for task in tasks {
            let _ = task.await;
        }
        for worker in self.ending.take() {
            self.past.borrow_mut().add(&worker.finish());
        }
    }

    /// As `kill -9`, and a new one after a while.
    pub async fn crash(&self, random: &mut Rng) {
        self.end_weir().await;
        self.crashes.set(self.crashes.get() + 1);
        self.sim.note("crash", 0, 0);
        sleep(Duration::from_millis(random.u64(0..2_000))).await;
        self.start_weir().await;
    }

    /// SIGTERM: drains, and ends; what was left is in the last look.
    pub async fn stop(&self, within: Duration) {
        for one in self.weir.borrow().iter() {
            one.life.drain(Instant::now(), within);
        }
        let deadline = Instant::now() + within;
        while !at_rest(&self.snapshot()) && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.end_weir().await;
    }

    /// A drain asked for by the operator, or taken back.
    pub fn drain(&self, on: bool) {
        for one in self.weir.borrow().iter() {
            if on {
                one.life.drain(Instant::now(), Duration::from_secs(3600));
            } else {
                one.life.ready();
            }
        }
    }

    pub async fn enable(&self, group: &str, endpoint: &str, enabled: bool) {
        let control = self.control.borrow().clone();
        // The endpoint may have left with a reload.
        let _ = control.enable(group, endpoint, enabled).await;
    }

    pub async fn apply(&self, settings: Settings, random: &mut Rng) {
        let _ = random.bool();
        let config = self.plan.config(&self.groups.borrow(), &settings);
        self.history.borrow_mut().push(settings.clone());
        self.settings.replace(settings);
        let control = self.control.borrow().clone();
        control.apply(&config).await;
        self.sim.note("applied", 0, 0);
    }

    /// Endpoints come, go and change places, or the policy changes.
    pub async fn swap_endpoints(&self, random: &mut Rng) {
        {
            let mut groups = self.groups.borrow_mut();
            let at = random.usize(..groups.len());
            let group = &mut groups[at];
            match random.u8(..4) {
                0 => group.loadbalance = !group.loadbalance,
                1 => random.shuffle(&mut group.endpoints),
                2 if group.endpoints.len() > 1 => {
                    let gone = random.usize(..group.endpoints.len());
                    group.spare = Some(group.endpoints.remove(gone));
                }
                _ => {
                    if let Some(spare) = group.spare.take() {
                        group.endpoints.push(spare);
                    } else {
                        group.spare = group.endpoints.pop();
                    }
                    if group.endpoints.is_empty() {
                        group.endpoints.extend(group.spare.take());
                    }
                }
            }
        }
        let settings = self.settings.borrow().clone();
        self.apply(settings, random).await;
    }

    // Looking.

    /// Everything any weir of this run has counted.
    pub fn snapshot(&self) -> Snapshot {
        let mut all = self.past.borrow().clone();
        for worker in self.ending.borrow().iter() {
            all.add(&worker.snapshot());
        }
        all.add(&self.live());
        all
    }

    /// What the weir that runs now has counted.
    pub fn live(&self) -> Snapshot {
        let mut all = Snapshot::default();
        for one in self.weir.borrow().iter() {
            all.add(&one.worker.snapshot());
        }
        all
    }

    pub fn weir_has_ended(&self) -> bool {
        self.weir.borrow().iter().any(|one| one.task.is_finished())
    }
}

/// Nothing queued, nothing in flight.
pub fn at_rest(snapshot: &Snapshot) -> bool {
    snapshot
        .groups
        .iter()
        .all(|g| g.events.queued + g.events.inflight == 0)
}
