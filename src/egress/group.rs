//! One url group: its links, who of them may take now, and whether the group is available at all.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::link;
use super::policy::choose;
use super::state::Link;
use crate::config::{self, Policy, Secret};
use crate::lifecycle::Lifecycle;
use crate::metrics::LinkObservers;
use crate::net::Dialer;
use crate::relay::{GroupQueue, Reason};
use crate::status;

/// Makes the histograms of an endpoint from the names of its group and itself.
pub type ObserverSource = Rc<dyn Fn(&str, &str) -> LinkObservers>;

/// Whether a session that a Traffic Manager gave is one of weir's own.
pub type OwnSession = Rc<dyn Fn(&[u8]) -> bool>;

/// What all groups of a worker share.
#[derive(Clone)]
pub struct Context {
    /// Makes connections.
    pub dialer: Dialer,
    /// Replies are awaited one by one (`ack = "delivered"`: a gateway waits for them).
    pub eager: Rc<Cell<bool>>,
    /// Jitter; seeded by a simulation.
    pub random: Rc<RefCell<fastrand::Rng>>,
    /// Where each endpoint's histograms come from.
    pub observers: ObserverSource,
    /// Stopped when a task of a group ends that should not.
    pub lifecycle: Lifecycle,
    /// Finds out when a URL leads back to weir.
    pub is_own: OwnSession,
}

/// One url group on one worker.
pub struct Group {
    shared: Rc<Shared>,
}

/// What the group's tasks share.
pub(super) struct Shared {
    pub(super) queue: Rc<GroupQueue>,
    context: Context,
    name: String,
    policy: Cell<Policy>,
    unavailable_after: Cell<Option<Duration>>,
    settings: RefCell<Rc<config::Link>>,
    credentials: RefCell<(String, Secret)>,
    links: RefCell<Vec<Rc<Link>>>,
    next_link: Cell<u64>,
    /// A link changed its state, or the set of links changed.
    changed: Rc<Notify>,
    closed: Cell<bool>,
}

impl Group {
    /// Starts the group's links on the current runtime.
    #[must_use]
    pub fn start(
        group: &config::Group,
        settings: Rc<config::Link>,
        queue: Rc<GroupQueue>,
        context: Context,
    ) -> Self {
        let shared = Rc::new(Shared {
            queue,
            context,
            name: group.name.clone(),
            policy: Cell::new(group.policy),
            unavailable_after: Cell::new(group.queue.unavailable_after),
            settings: RefCell::new(settings),
            credentials: RefCell::new((group.username.clone(), group.password.clone())),
            links: RefCell::default(),
            next_link: Cell::new(0),
            changed: Rc::new(Notify::new()),
            closed: Cell::new(false),
        });
        for endpoint in &group.endpoints {
            shared.add(endpoint.clone());
        }
        let (group, name) = (Rc::clone(&shared), &shared.name);
        let vital = shared.context.lifecycle.vital(format!("group {name}"));
        tokio::task::spawn_local(async move {
            supervise(group).await;
            vital.done();
        });
        Self { shared }
    }

    /// The group's queue.
    #[must_use]
    pub fn queue(&self) -> &Rc<GroupQueue> {
        &self.shared.queue
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Takes over a changed configuration: endpoints that are gone finish what they have in flight, new
    /// ones start, untouched ones stay connected, under the new settings; those that are down try again at once.
    /// New credentials make all links new.
    pub fn apply(&self, group: &config::Group, settings: Rc<config::Link>) {
        let shared = &self.shared;
        shared.policy.set(group.policy);
        shared.unavailable_after.set(group.queue.unavailable_after);
        shared.settings.replace(settings);
        let credentials = (group.username.clone(), group.password.clone());
        let known = shared.credentials.replace(credentials.clone()) == credentials;
        shared.links.borrow_mut().retain(|link| {
            let stays = known && group.endpoints.contains(&link.endpoint);
            if stays {
                link.nudge();
                link.try_now();
            } else {
                link.retire();
            }
            stays
        });
        for endpoint in &group.endpoints {
            let known = shared.links.borrow().iter().any(|l| l.endpoint == *endpoint);
            if !known {
                shared.add(endpoint.clone());
            }
        }
        let place = |l: &Rc<Link>| group.endpoints.iter().position(|e| *e == l.endpoint);
        shared.links.borrow_mut().sort_by_key(place);
        shared.changed.notify_one();
    }

    /// Switches an endpoint on or off; false when there is none of that name.
    #[must_use]
    pub fn enable(&self, endpoint: &str, enabled: bool) -> bool {
        let links = self.shared.links.borrow();
        let Some(link) = links.iter().find(|l| l.endpoint.name == endpoint) else {
            return false;
        };
        link.set_enabled(enabled);
        self.shared.changed.notify_one();
        true
    }

    /// The group is gone from the configuration: what its queue still holds is given up, its links end
    /// when their last frame is answered.
    pub fn close(&self, reason: Reason) {
        self.shared.closed.set(true);
        self.shared.queue.drop_queued(reason);
        for link in self.shared.links.borrow_mut().drain(..) {
            link.retire();
        }
        self.shared.changed.notify_one();
    }

    /// Everything about the group, as of now.
    #[must_use]
    pub fn status(&self, now: Instant) -> status::Group {
        let links = self.shared.links.borrow();
        let queue = self.shared.queue.status(now);
        let inflight = links.iter().filter_map(|l| l.oldest_accepted.get()).min();
        let inflight_ms = inflight.map_or(0, |at| now.duration_since(at).as_millis());
        status::Group {
            policy: match self.shared.policy.get() {
                Policy::Loadbalance => "loadbalance",
                Policy::Failover => "failover",
            },
            endpoints: links.iter().map(|l| l.status(now)).collect(),
            oldest_undelivered_ms: queue
                .oldest_queued_ms
                .max(u64::try_from(inflight_ms).unwrap_or(u64::MAX)),
            ..queue
        }
    }
}

impl Shared {
    pub(super) fn settings(&self) -> Rc<config::Link> {
        Rc::clone(&self.settings.borrow())
    }

    pub(super) fn is_eager(&self) -> bool {
        self.context.eager.get()
    }

    /// Whether a link has waited for an answer for `unavailable_after`.
    pub(super) fn is_silent(&self, link: &Link, now: Instant) -> bool {
        let oldest = link.oldest_unanswered.get();
        let limit = self.unavailable_after.get();
        oldest.zip(limit).is_some_and(|(at, limit)| at + limit <= now)
    }

    /// With `ack = "delivered"`: links that are silent let go of the answers they hold; where none of those that take
    /// answers, the group holds none. Returns when to look again.
    fn look_for_silence(&self, now: Instant) -> Option<Instant> {
        let limit = self.unavailable_after.get().filter(|_| self.is_eager());
        let Some(limit) = limit else {
            self.queue.set_silent(false);
            return None;
        };
        let links = self.links.borrow();
        let (silent, answering): (Vec<_>, Vec<_>) = links.iter().partition(|l| self.is_silent(l, now));
        silent.iter().for_each(|l| l.nudge());
        if !silent.is_empty() && !answering.iter().any(|l| l.may_take()) {
            self.queue.set_silent(true);
        }
        // A frame that is sent later is due later than this.
        let oldest = answering.iter().filter_map(|l| l.oldest_unanswered.get()).min();
        Some(oldest.unwrap_or(now) + limit)
    }

    pub(super) fn credentials(&self) -> (String, Secret) {
        self.credentials.borrow().clone()
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.context.dialer
    }

    pub(super) fn is_own(&self, session: &[u8]) -> bool {
        (self.context.is_own)(session)
    }

    pub(super) fn random(&self) -> RefMut<'_, fastrand::Rng> {
        self.context.random.borrow_mut()
    }

    fn add(self: &Rc<Self>, endpoint: config::Endpoint) {
        let id = self.next_link.get();
        self.next_link.set(id + 1);
        let observers = (self.context.observers)(&self.name, &endpoint.name);
        let link = Link::new(id, &self.name, endpoint, observers, Rc::clone(&self.changed));
        self.links.borrow_mut().push(Rc::clone(&link));
        let (group, name) = (Rc::clone(self), &link.endpoint.name);
        let vital = self
            .context
            .lifecycle
            .vital(format!("the link to {name} of group {}", self.name));
        tokio::task::spawn_local(async move {
            link::run(link, group).await;
            vital.done();
        });
    }
}

/// A timer that is noticed later than this was not the runtime's: weir itself or its machine has stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Applies the policy whenever a link changes, and tells the queue whether the group is available. What weir
/// itself has slept through proves nothing: links have that time once more before anything is concluded from it.
async fn supervise(group: Rc<Shared>) {
    let mut active: Option<Rc<Link>> = None;
    let mut last_usable = Instant::now();
    let mut was_usable = false;
    let mut available = true;
    let mut forgiven = Duration::ZERO;
    while !group.closed.get() {
        let now = Instant::now();
        let (choice, usable) = {
            let links = group.links.borrow();
            let views: Vec<_> = links.iter().map(|l| l.view(now, forgiven)).collect();
            let at = active
                .as_ref()
                .and_then(|a| links.iter().position(|l| Rc::ptr_eq(a, l)));
            let failback_after = group.settings.borrow().failback_after;
            let choice = choose(group.policy.get(), &views, at, failback_after);
            for (link, may) in links.iter().zip(&choice.may_take) {
                link.set_may_take(*may);
            }
            let now_active = choice.active.and_then(|i| links.get(i)).cloned();
            if let (Some(new), true) = (&now_active, choice.active != at) {
                tracing::info!(
                    group = group.name,
                    endpoint = new.endpoint.name,
                    "failover: endpoint in use"
                );
            }
            active = now_active;
            (choice, views.iter().any(|v| v.up_for.is_some()))
        };
        // Nobody wakes this while all is well: up to the change that did, it was as it was before.
        if usable || was_usable {
            last_usable = now;
        } else {
            last_usable = (last_usable + forgiven).min(now);
        }
        was_usable = usable;
        let patience_ends = group.unavailable_after.get().map(|after| last_usable + after);
        let still = usable || patience_ends.is_none_or(|at| at > now);
        if still != available {
            available = still;
            if available {
                tracing::info!(group = group.name, "group available");
            } else {
                tracing::warn!(
                    group = group.name,
                    "group unavailable: no usable link; gateways no longer wait for it"
                );
            }
            group.queue.set_available(available);
        }
        let again = choice.again_after.map(|d| now + d);
        let patience = patience_ends.filter(|_| available && !usable);
        let silence = group.look_for_silence(now);
        let due = [again, patience, silence].into_iter().flatten().min();
        tokio::select! {
            // The change first: it makes the timer's reason obsolete.
            biased;
            () = group.changed.notified() => {}
            () = async { match due { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
        // As long as it slept at least, and as much again.
        let late = due.map_or(Duration::ZERO, |at| at.elapsed());
        forgiven = if late > STOOD_STILL {
            late * 2
        } else {
            Duration::ZERO
        };
    }
}
