//! What a link, its group and /status know of each other: cells that the link writes and the others read, and the other
//! way round.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::policy::View;
use crate::config;
use crate::metrics::LinkObservers;
use crate::net::{DialClass, DialError};
use crate::status::{self, FAILURES, LinkState};

/// Why a link's connection ended or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of [`FAILURES`].
    pub class: &'static str,
    /// One line for the log and /status.
    pub message: String,
}

impl Failure {
    pub(super) fn new(class: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(FAILURES.contains(&class), "{class} is not a failure class");
        Self {
            class,
            message: message.into(),
        }
    }
}

impl From<DialError> for Failure {
    fn from(e: DialError) -> Self {
        let class = match e.class {
            DialClass::Dns => "dns",
            DialClass::Refused => "refused",
            DialClass::Timeout => "timeout",
            DialClass::Tls => "tls",
            DialClass::Other => "other",
        };
        Self::new(class, e.message)
    }
}

/// One link as the rest of its group sees it.
pub(super) struct Link {
    /// Its id in the queue's wait queue; unique in the group.
    pub(super) id: u64,
    pub(super) group: String,
    pub(super) endpoint: config::Endpoint,
    pub(super) observers: LinkObservers,
    pub(super) stats: RefCell<status::Endpoint>,
    /// When the oldest unanswered frame was sent.
    pub(super) oldest_unanswered: Cell<Option<Instant>>,
    /// When the oldest event in flight was accepted.
    pub(super) oldest_accepted: Cell<Option<Instant>>,
    /// Nothing is sent before there is a new session.
    pub(super) logging_in: Cell<bool>,
    state: Cell<LinkState>,
    since: Cell<Instant>,
    /// Why it is not up.
    failure: RefCell<Option<Failure>>,
    /// When the next attempt is due; `None` while the link is not backing off.
    again_at: Cell<Option<Instant>>,
    /// Why it was not, before it came up.
    previous_failure: RefCell<Option<Failure>>,
    may_take: Cell<bool>,
    enabled: Cell<bool>,
    retired: Cell<bool>,
    /// `enabled` or `retired` may have changed, or the next attempt is to be made at once.
    changed: Notify,
    pump: RefCell<Option<Waker>>,
    group_changed: Rc<Notify>,
}

impl Link {
    pub(super) fn new(
        id: u64,
        group: &str,
        endpoint: config::Endpoint,
        observers: LinkObservers,
        group_changed: Rc<Notify>,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            group: group.to_owned(),
            stats: RefCell::new(status::Endpoint {
                name: endpoint.name.clone(),
                ..Default::default()
            }),
            endpoint,
            observers,
            oldest_unanswered: Cell::new(None),
            oldest_accepted: Cell::new(None),
            logging_in: Cell::new(false),
            state: Cell::new(LinkState::Connecting),
            since: Cell::new(Instant::now()),
            failure: RefCell::default(),
            again_at: Cell::new(None),
            previous_failure: RefCell::default(),
            may_take: Cell::new(false),
            enabled: Cell::new(true),
            retired: Cell::new(false),
            changed: Notify::new(),
            pump: RefCell::default(),
            group_changed,
        })
    }

    // === Called by the link's task ===

    pub(super) fn up(&self) {
        self.stats.borrow_mut().connects_total += 1;
        tracing::info!(group = self.group, endpoint = self.endpoint.name, "link up");
        if let Some(failure) = self.failure.take() {
            self.previous_failure.replace(Some(failure));
        }
        self.enter(LinkState::Up);
    }

    /// Counts a failure; logged when the state or the class of the failure changes. The next attempt is due at
    /// `again_at`.
    pub(super) fn down(&self, failure: Failure, again_at: Instant) {
        if let Some(i) = FAILURES.iter().position(|c| *c == failure.class) {
            self.stats.borrow_mut().failures_total[i] += 1;
        }
        let is_new = self.state.get() != LinkState::Down
            || self
                .failure
                .borrow()
                .as_ref()
                .is_none_or(|before| before.class != failure.class);
        if is_new {
            tracing::warn!(
                group = self.group,
                endpoint = self.endpoint.name,
                class = failure.class,
                error = failure.message,
                "link down"
            );
        }
        self.failure.replace(Some(failure));
        self.again_at.set(Some(again_at));
        self.enter(LinkState::Down);
    }

    /// The backoff is over.
    pub(super) fn tries(&self) {
        self.again_at.set(None);
    }

    pub(super) fn disabled(&self) {
        if self.state.get() != LinkState::Disabled {
            tracing::info!(
                group = self.group,
                endpoint = self.endpoint.name,
                "link disabled by the operator"
            );
        }
        self.enter(LinkState::Disabled);
    }

    /// The pump is to be woken when settings, `may_take`, `enabled` or `retired` change.
    pub(super) fn park(&self, waker: &Waker) {
        let mut pump = self.pump.borrow_mut();
        if !pump.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *pump = Some(waker.clone());
        }
    }

    /// Resolves when the link has to look at its state again.
    pub(super) async fn change(&self) {
        self.changed.notified().await;
    }

    fn enter(&self, state: LinkState) {
        if self.state.replace(state) != state {
            self.since.set(Instant::now());
        }
        self.group_changed.notify_one();
    }

    // === Called by the group ===

    pub(super) fn set_may_take(&self, may: bool) {
        if self.may_take.replace(may) != may {
            self.wake_pump();
        }
    }

    pub(super) fn set_enabled(&self, enabled: bool) {
        if self.enabled.replace(enabled) != enabled {
            self.wake_pump();
            self.changed.notify_one();
        } else if enabled {
            self.try_now();
        }
    }

    /// Ends the backoff: what failed may have been repaired.
    pub(super) fn try_now(&self) {
        if self.again_at.get().is_some() {
            self.changed.notify_one();
        }
    }

    /// The endpoint was removed from the configuration: finish what is in flight and end.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.wake_pump();
        self.changed.notify_one();
    }

    pub(super) fn wake_pump(&self) {
        if let Some(waker) = self.pump.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    // === Called by both, and for /status ===

    pub(super) fn may_take(&self) -> bool {
        self.may_take.get() && self.wanted()
    }

    pub(super) fn wanted(&self) -> bool {
        self.enabled.get() && !self.retired.get()
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.get()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// As the policy sees it; the time that weir has `stalled` does not count.
    pub(super) fn view(&self, now: Instant, stalled: Duration) -> View {
        let up = self.state.get() == LinkState::Up && self.wanted();
        View {
            up_for: up.then(|| now.duration_since(self.since.get()).saturating_sub(stalled)),
            undecided: self.state.get() == LinkState::Connecting && self.wanted(),
        }
    }

    pub(super) fn status(&self, now: Instant) -> status::Endpoint {
        let ms = |since: Instant| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        let text = |f: &Failure| format!("{}: {}", f.class, f.message);
        let reason = self.failure.borrow().as_ref().map(text);
        status::Endpoint {
            state: self.state.get(),
            last_failure: reason
                .clone()
                .or_else(|| self.previous_failure.borrow().as_ref().map(text)),
            reason,
            since_ms: ms(self.since.get()),
            again_in_ms: self
                .again_at
                .get()
                .map(|at| u64::try_from(at.duration_since(now).as_millis()).unwrap_or(u64::MAX)),
            oldest_inflight_ms: self.oldest_unanswered.get().map_or(0, ms),
            enabled: self.enabled.get(),
            logging_in: self.logging_in.get(),
            links_up: u64::from(self.state.get() == LinkState::Up),
            ..self.stats.borrow().clone()
        }
    }
}
