//! One url group: its links, which of them may take batches now, and whether the group is available.

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

/// Whether a session id is one that this weir issues: then a URL leads back to weir.
pub type OwnSession = Rc<dyn Fn(&[u8]) -> bool>;

/// What all groups of a worker share.
#[derive(Clone)]
pub struct Resources {
    /// Makes connections.
    pub dialer: Dialer,
    /// Read each reply at once (`ack = "delivered"`: a gateway waits for it).
    pub eager: Rc<Cell<bool>>,
    /// Source of jitter.
    pub random: Rc<RefCell<fastrand::Rng>>,
    /// Where each endpoint's histograms come from.
    pub observers: ObserverSource,
    /// Fails when a task of a group ends unexpectedly.
    pub lifecycle: Lifecycle,
    /// Detects a URL that leads back to weir.
    pub is_own: OwnSession,
}

/// One url group on one worker.
pub struct Group {
    shared: Rc<Shared>,
}

/// What the group's tasks share.
pub(super) struct Shared {
    pub(super) queue: Rc<GroupQueue>,
    resources: Resources,
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
        resources: Resources,
    ) -> Self {
        let shared = Rc::new(Shared {
            queue,
            resources,
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
        let vital = shared.resources.lifecycle.vital(format!("group {name}"));
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

    /// Applies a changed configuration. Links of removed endpoints finish what they have in flight, new ones start, the
    /// others stay connected under the new settings; those that are down try again at once. New credentials replace all
    /// links.
    pub fn apply(&self, group: &config::Group, settings: Rc<config::Link>) {
        let shared = &self.shared;
        shared.policy.set(group.policy);
        shared.unavailable_after.set(group.queue.unavailable_after);
        shared.settings.replace(settings);
        let credentials = (group.username.clone(), group.password.clone());
        let same = shared.credentials.replace(credentials.clone()) == credentials;
        shared.links.borrow_mut().retain(|link| {
            let stays = same && group.endpoints.contains(&link.endpoint);
            if stays {
                link.wake_pump();
                link.try_now();
            } else {
                link.retire();
            }
            stays
        });
        for endpoint in &group.endpoints {
            let exists = shared.links.borrow().iter().any(|l| l.endpoint == *endpoint);
            if !exists {
                shared.add(endpoint.clone());
            }
        }
        let position = |l: &Rc<Link>| group.endpoints.iter().position(|e| *e == l.endpoint);
        shared.links.borrow_mut().sort_by_key(position);
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

    /// The group was removed from the configuration: what is queued is dropped, and its links end when their last frame is
    /// answered.
    pub fn close(&self, reason: Reason) {
        self.shared.closed.set(true);
        self.shared.queue.drop_queued(reason);
        for link in self.shared.links.borrow_mut().drain(..) {
            link.retire();
        }
        self.shared.changed.notify_one();
    }

    /// All numbers of the group.
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
        self.resources.eager.get()
    }

    /// Whether a link has waited for an answer for `unavailable_after`.
    pub(super) fn is_silent(&self, link: &Link, now: Instant) -> bool {
        let oldest = link.oldest_unanswered.get();
        let limit = self.unavailable_after.get();
        oldest.zip(limit).is_some_and(|(at, limit)| at + limit <= now)
    }

    /// With `ack = "delivered"`: silent links release the replies that they hold back; if every link that may take is
    /// silent, the group holds none back. Returns when to check again.
    fn check_silence(&self, now: Instant) -> Option<Instant> {
        let limit = self.unavailable_after.get().filter(|_| self.is_eager());
        let Some(limit) = limit else {
            self.queue.set_silent(false);
            return None;
        };
        let links = self.links.borrow();
        let (silent, answering): (Vec<_>, Vec<_>) = links.iter().partition(|l| self.is_silent(l, now));
        silent.iter().for_each(|l| l.wake_pump());
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
        &self.resources.dialer
    }

    pub(super) fn is_own(&self, session: &[u8]) -> bool {
        (self.resources.is_own)(session)
    }

    pub(super) fn random(&self) -> RefMut<'_, fastrand::Rng> {
        self.resources.random.borrow_mut()
    }

    fn add(self: &Rc<Self>, endpoint: config::Endpoint) {
        let id = self.next_link.get();
        self.next_link.set(id + 1);
        let observers = (self.resources.observers)(&self.name, &endpoint.name);
        let link = Link::new(id, &self.name, endpoint, observers, Rc::clone(&self.changed));
        self.links.borrow_mut().push(Rc::clone(&link));
        let (group, name) = (Rc::clone(self), &link.endpoint.name);
        let vital = self
            .resources
            .lifecycle
            .vital(format!("the link to {name} of group {}", self.name));
        tokio::task::spawn_local(async move {
            link::run(link, group).await;
            vital.done();
        });
    }
}

/// If a timer is noticed later than this, weir itself or its machine has stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Applies the policy whenever a link changes, and tells the queue whether the group is available. Time in which weir
/// itself stood still proves nothing about its peers, so links get that time once more.
async fn supervise(group: Rc<Shared>) {
    let mut active: Option<Rc<Link>> = None;
    let mut last_usable = Instant::now();
    let mut was_usable = false;
    let mut available = true;
    let mut stalled = Duration::ZERO;
    while !group.closed.get() {
        let now = Instant::now();
        let (choice, usable) = {
            let links = group.links.borrow();
            let views: Vec<_> = links.iter().map(|l| l.view(now, stalled)).collect();
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
        // Nothing wakes this task while nothing changes: until now it was as it was in the last turn.
        if usable || was_usable {
            last_usable = now;
        } else {
            last_usable = (last_usable + stalled).min(now);
        }
        was_usable = usable;
        let unavailable_at = group.unavailable_after.get().map(|after| last_usable + after);
        let is_available = usable || unavailable_at.is_none_or(|at| at > now);
        if is_available != available {
            available = is_available;
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
        let unavailable_at = unavailable_at.filter(|_| available && !usable);
        let silence = group.check_silence(now);
        let due = [again, unavailable_at, silence].into_iter().flatten().min();
        tokio::select! {
            // The change first: it makes the timer obsolete.
            biased;
            () = group.changed.notified() => {}
            () = async { match due { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
        // It stood still for at least that long; links get the same time again.
        let late = due.map_or(Duration::ZERO, |at| at.elapsed());
        stalled = if late > STOOD_STILL {
            late * 2
        } else {
            Duration::ZERO
        };
    }
}
