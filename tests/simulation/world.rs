//! A whole simulated world: Traffic Managers, weir, and the way to look at both at any time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weir::control::Control;
use weir::ingress::token::Tokens;
use weir::net::{ClientTls, Dialer};
use weir::status::Snapshot;
use weir::worker::Worker;
use weir_lab::sim::{Sim, Trace};
use weir_lab::{Events, Judge, LoadOptions, Oracle, Sink, SinkOptions};

use crate::chaos::Fault;
use crate::gateways::url;
use crate::plan::{GUEST, GroupPlan, Plan, Settings, WEIR};
use crate::process::Incarnation;

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
    pub weir: RefCell<Vec<Incarnation>>,
    pub control: RefCell<Control>,
    /// Workers whose tasks are being ended.
    pub ending: RefCell<Vec<Rc<Worker>>>,
    /// What weirs that are gone have counted.
    pub past: RefCell<Snapshot>,
    origins: Cell<u32>,
    pub incarnations: Cell<u64>,
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
            sim.conditions(&name, |w| (w.forth.latency, w.back.latency) = (latency, latency));
            Host {
                sink: Sink::start(options).unwrap(),
                latency,
                name,
                group,
            }
        });
        let hosts = hosts.collect();
        let latency = latency();
        sim.conditions(WEIR, |w| (w.forth.latency, w.back.latency) = (latency, latency));
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

    /// The longest `block_timeout` of the run so far; `None` = never.
    pub fn patience(&self) -> Option<Duration> {
        let history = self.history.borrow();
        history
            .iter()
            .map(|s| s.block_timeout)
            .max_by_key(|t| t.unwrap_or(Duration::MAX))?
    }

    /// The longest `linger` of the run so far.
    pub fn linger(&self) -> Duration {
        self.history
            .borrow()
            .iter()
            .map(|s| s.linger)
            .max()
            .unwrap_or_default()
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
