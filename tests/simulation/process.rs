//! Weir in the world: started, told, ended; in good order or not.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};
use weir::control::Control;
use weir::ingress::Hashing;
use weir::lifecycle::{End, Lifecycle};
use weir::metrics::LinkObservers;
use weir::worker::{Parts, Worker};

use crate::plan::{Settings, WEIR};
use crate::world::{World, at_rest, unix_ms};

/// One worker and all its tasks.
pub struct Incarnation {
    pub worker: Rc<Worker>,
    pub task: JoinHandle<()>,
    life: Lifecycle,
}

impl World {
    pub async fn start_weir(&self) {
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
                hashing: Hashing::default(),
                observers: Rc::new(|_, _| LinkObservers::none()),
                unix_ms,
                seed: self.plan.seed ^ self.incarnations.get() << 32,
                lifecycle: life.clone(),
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
            one.life.end(Instant::now(), Duration::ZERO, within, End::Process);
        }
        // Gateways are sent away, and come back, as there is nobody else.
        sleep(Duration::from_millis(500)).await;
        for one in self.weir.borrow().iter() {
            one.life.close();
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
                one.life
                    .drain(Instant::now(), Duration::ZERO, Duration::from_secs(3600));
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
}
