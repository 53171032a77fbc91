//! What must hold at every look, whatever is going on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use weir::status::{Endpoint, Events, Group, LinkState, Overflow, Snapshot};

use crate::plan::{GUEST, WEIR};
use crate::world::World;

/// Larger than any frame of a run, with what its batches cost, and what a shrinking limit leaves.
const FRAME_BYTES: u64 = 1 << 20;
/// The largest frame weir takes, and what it costs.
const LARGEST_FRAME_BYTES: u64 = 132 << 10;
/// Likewise, in events.
const FRAME_EVENTS: u64 = 64;

/// From a timer that fires, or a link that is woken, to the frame it sends.
const TURN: Duration = Duration::from_millis(20);

/// Whether some link that may take events has been up for longer than `bound` and has nothing unanswered. Which link of a
/// failover group may take is not told, so all of them must be.
fn has_free_link(group: &Group, bound: Duration) -> bool {
    let is_free = |e: &Endpoint| {
        e.state == LinkState::Up
            && e.enabled
            && !e.logging_in
            && e.inflight_frames == 0
            && u128::from(e.since_ms) > bound.as_millis()
    };
    if group.policy == "loadbalance" {
        group.endpoints.iter().any(is_free)
    } else {
        !group.endpoints.is_empty() && group.endpoints.iter().all(is_free)
    }
}

#[derive(Default)]
pub struct Looks {
    broken: RefCell<Vec<String>>,
    last: RefCell<Snapshot>,
    limits: RefCell<BTreeMap<String, (u64, u64)>>,
    looks: Cell<u64>,
    /// At the last look, gateways waited though every group had room.
    idle_room: Cell<bool>,
    /// Groups in which, at the last look, events waited beside a free link.
    unserved: RefCell<BTreeSet<String>>,
    /// The group that alone makes gateways wait, by name and incident, and since when it has been seen so.
    blocking: RefCell<Option<(String, u64, Instant)>>,
}

impl Looks {
    pub fn broken(&self) -> Vec<String> {
        self.broken.borrow().clone()
    }

    fn holds(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        let mut broken = self.broken.borrow_mut();
        if !holds && broken.len() < 10 {
            broken.push(format!("look {}: {}", self.looks.get(), otherwise()));
        }
    }

    pub fn look(&self, world: &World) {
        self.looks.set(self.looks.get() + 1);
        let now = world.snapshot();
        let last = self.last.replace(now.clone());
        self.holds(!world.weir_has_ended(), || "weir has ended by itself".into());
        for (i, group) in (0..).zip(&now.groups) {
            let e = &group.events;
            world
                .sim
                .note("look", i, e.accepted ^ e.delivered << 20 ^ e.inflight << 40);
            self.holds(e.balanced(), || format!("{}: out of balance: {e:?}", group.name));
            self.holds(e.dropped.lost == 0, || format!("{}: lost: {e:?}", group.name));
            // What has ended stays ended. The guest's counts go with it.
            if let Some(before) = last
                .groups
                .iter()
                .find(|g| g.name == group.name && g.name != GUEST)
            {
                let (was, is) = (ended(&before.events), ended(e));
                self.holds(was.iter().zip(is).all(|(was, is)| *was <= is), || {
                    format!("{}: counts went back: {was:?} {is:?}", group.name)
                });
            }
        }
        // A frame enters all groups or none.
        let core = || now.groups.iter().filter(|g| g.name != GUEST);
        let accepted: Vec<u64> = core().map(|g| g.events.accepted).collect();
        self.holds(accepted.windows(2).all(|w| w[0] == w[1]), || {
            format!("groups have accepted different numbers: {accepted:?}")
        });
        let live = world.live();
        self.look_at_limits(world, &live);
        self.look_at_patience(world, &live);
        self.look_at_room(world, &live);
        self.look_at_free_links(world, &live);
        let ok = now.ingress.events_ok_total;
        self.holds(accepted.iter().all(|a| *a >= ok), || {
            format!("{ok} events answered ok, but accepted {accepted:?}")
        });
    }

    fn look_at_limits(&self, world: &World, now: &Snapshot) {
        for group in &now.groups {
            let e = &group.events;
            let mut limits = self.limits.borrow_mut();
            let limit = limits.entry(group.name.clone()).or_default();
            *limit = (
                limit.0.max(group.held_bytes_max),
                limit.1.max(group.held_events_max),
            );
            let (bytes, events) = *limit;
            let workers = world.plan.workers as u64;
            self.holds(group.held_bytes <= bytes + workers * FRAME_BYTES, || {
                format!("{}: {} bytes held, {bytes} allowed", group.name, group.held_bytes)
            });
            self.holds(e.queued + e.inflight <= events + workers * FRAME_EVENTS, || {
                format!(
                    "{}: {} events held, {events} allowed",
                    group.name,
                    e.queued + e.inflight
                )
            });
        }
    }

    /// Nobody waits where there is room for every frame of the run.
    fn look_at_room(&self, world: &World, now: &Snapshot) {
        let roomy = now.groups.iter().all(|g| {
            let events = g.events.queued + g.events.inflight;
            events == 0
                || events + FRAME_EVENTS <= g.held_events_max
                    && g.held_bytes + LARGEST_FRAME_BYTES <= g.held_bytes_max
        });
        let waits = world.plan.workers == 1 && now.ingress.blocked_now > 0 && roomy;
        let twice = self.idle_room.replace(waits) && waits;
        self.holds(!twice, || {
            format!(
                "{} gateways wait though every group has room: {:#?}",
                now.ingress.blocked_now, now.groups
            )
        });
    }

    /// No event waits longer than `linger` and a turn while a link of its group could take it. Seen at two looks
    /// in a row: at one, the link may be about to.
    fn look_at_free_links(&self, world: &World, now: &Snapshot) {
        if world.plan.workers > 1 {
            return;
        }
        let bound = world.linger() + TURN;
        let late = |g: &&Group| u128::from(g.oldest_queued_ms) > bound.as_millis() && has_free_link(g, bound);
        let unserved: BTreeSet<String> = now.groups.iter().filter(late).map(|g| g.name.clone()).collect();
        let before = self.unserved.replace(unserved.clone());
        for name in unserved.intersection(&before) {
            self.holds(false, || {
                let group = now.groups.iter().find(|g| g.name == *name);
                format!("{name}: events wait longer than {bound:?} beside a free link: {group:#?}")
            });
        }
    }

    /// Nobody waits for one incident of one group longer than its `block_timeout`.
    fn look_at_patience(&self, world: &World, now: &Snapshot) {
        let blocking: Vec<_> = now
            .groups
            .iter()
            .filter(|g| g.overflow == Overflow::Blocking)
            .collect();
        let mut known = self.blocking.borrow_mut();
        // A group that was left blocking when its gateway went would be taken for one that blocks another.
        let (1, 1, 1..) = (world.plan.workers, blocking.len(), now.ingress.blocked_now) else {
            *known = None;
            return;
        };
        let (name, incident) = (&blocking[0].name, blocking[0].blocked_incidents_total);
        match &*known {
            Some((group, number, since)) if group == name && *number == incident => {
                let patience = world.patience().unwrap_or(Duration::MAX);
                self.holds(
                    since.elapsed() <= patience.saturating_add(Duration::from_millis(10)),
                    || {
                        format!(
                            "{name} has made gateways wait for {:?}, more than {patience:?}",
                            since.elapsed()
                        )
                    },
                );
            }
            _ => *known = Some((name.clone(), incident, Instant::now())),
        }
    }

    /// At rest nothing is held by anybody.
    pub fn look_at_rest(&self, world: &World) {
        let now = world.live();
        for group in &now.groups {
            self.holds(group.held_bytes == 0, || {
                format!("{}: {} bytes held at rest", group.name, group.held_bytes)
            });
            let inflight: u64 = group.endpoints.iter().map(|e| e.inflight_frames).sum();
            self.holds(
                inflight <= world.plan.workers as u64 * group.endpoints.len() as u64,
                || format!("{}: {inflight} frames in flight at rest", group.name),
            );
        }
        self.holds(now.ingress.blocked_now == 0, || {
            format!("{} gateways wait for room at rest", now.ingress.blocked_now)
        });
        // A Traffic Manager has 100 connections to give: one for events and one for a login, each worker.
        for host in &world.hosts {
            let held = world.sim.held(&host.name, 0);
            self.holds(held <= 2 * world.plan.workers, || {
                format!("weir holds {held} connections to {}", host.name)
            });
        }
        self.holds(world.sim.fins_of(WEIR) == 0, || {
            format!(
                "weir has ended {} gateway connections with FIN",
                world.sim.fins_of(WEIR)
            )
        });
    }
}

fn ended(e: &Events) -> [u64; 4] {
    [e.accepted, e.delivered, e.rejected, e.dropped.total()]
}
