//! What all gateway sessions of a worker share: the way into the relay, limits, users, counters, and one
//! read buffer, lent to whoever reads.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::budget::Budget;
use super::hashing::Hashing;
use super::slowdown::Slowdown;
use super::token::Tokens;
use crate::config::{Ack, Config, User};
use crate::relay::Fanout;
use crate::status;
use crate::tap::{Feed, Taps};
use crate::wire::Decoder;

/// One read takes at most this much; smaller costs system calls, larger costs cache.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Between two warnings about bad peers; what is left out is counted in the next.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Places must have been free for so long before the log says again that all are taken.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// What the configuration says about gateways.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits of frames and events.
    pub decoder: Decoder,
    /// When a publish is answered.
    pub ack: Ack,
    /// Longest wait before an answer.
    pub reply_timeout: Duration,
    /// Longest silence within a frame.
    pub frame_timeout: Duration,
    /// Longest silence between frames; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// TLS handshake deadline.
    pub handshake_timeout: Duration,
    /// Longest time without a login or a valid session; `None` = never.
    pub first_frame_timeout: Option<Duration>,
    /// Open connections of this worker.
    pub connections_max: usize,
    /// The same from one address; `None` = no limit.
    pub connections_per_address_max: Option<usize>,
    /// Memory for partial frames.
    pub partial_max_bytes: usize,
    /// Who may log in.
    pub users: Vec<User>,
    /// Life of a session.
    pub session_ttl: Duration,
    /// Whether the plain listener takes logins.
    pub allow_plaintext_login: bool,
}

impl Settings {
    /// A worker's share of a configuration.
    #[must_use]
    pub fn share(config: &Config) -> Self {
        let ingress = &config.ingress;
        let workers = config.workers.max(1);
        Self {
            decoder: Decoder {
                frame_max_bytes: ingress.frame_max_bytes,
                event_max_bytes: ingress.event_max_bytes,
            },
            ack: config.ack,
            reply_timeout: ingress.reply_timeout,
            frame_timeout: ingress.frame_timeout,
            idle_timeout: ingress.idle_timeout,
            handshake_timeout: ingress.handshake_timeout,
            first_frame_timeout: ingress.first_frame_timeout,
            connections_max: ingress.connections_max.div_ceil(workers).max(1),
            connections_per_address_max: ingress.connections_per_address_max.map(|n| n.div_ceil(workers)),
            partial_max_bytes: ingress.partial_max_bytes / workers,
            users: config.auth.users.clone(),
            session_ttl: config.auth.session_ttl,
            allow_plaintext_login: config.auth.allow_plaintext_login,
        }
    }
}

/// Shared by the sessions of one worker.
pub struct Gate {
    pub(super) fanout: Fanout,
    /// Who looks at passing events.
    pub(super) taps: Taps,
    pub(super) tokens: Arc<Tokens>,
    pub(super) slowdown: RefCell<Slowdown>,
    pub(super) hashing: Hashing,
    pub(super) scratch: RefCell<Box<[u8]>>,
    budget: RefCell<Budget>,
    settings: RefCell<Rc<Settings>>,
    stats: RefCell<status::Ingress>,
    unix_ms: fn() -> i64,
    /// Open connections by address.
    addresses: RefCell<Addresses>,
    /// [`Addresses::noted_from`].
    noted_from: Cell<u32>,
    /// Cancelled when a successor serves on the listening sockets.
    pub(super) succeeded: CancellationToken,
    /// Nothing more is read.
    closing: Cell<bool>,
    pub(super) connection_closed: Notify,
    /// When all places were last seen taken.
    full_at: Cell<Option<Instant>>,
    warned: Cell<Option<Instant>>,
    unwarned: Cell<u64>,
}

impl Gate {
    /// Opens the way from gateways into `fanout`.
    #[must_use]
    pub fn new(
        settings: Settings,
        fanout: Fanout,
        tokens: Arc<Tokens>,
        hashing: Hashing,
        unix_ms: fn() -> i64,
    ) -> Rc<Self> {
        Rc::new(Self {
            fanout,
            taps: Taps::default(),
            tokens,
            slowdown: RefCell::default(),
            hashing,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            budget: RefCell::new(Budget::new(settings.partial_max_bytes)),
            settings: RefCell::new(Rc::new(settings)),
            stats: RefCell::default(),
            unix_ms,
            noted_from: Cell::new(Addresses::default().noted_from()),
            addresses: RefCell::default(),
            succeeded: CancellationToken::new(),
            closing: Cell::new(false),
            connection_closed: Notify::new(),
            full_at: Cell::new(None),
            warned: Cell::new(None),
            unwarned: Cell::new(0),
        })
    }

    /// New limits and users, in force with every session's next frame.
    pub fn set_settings(&self, settings: Settings) {
        // Claims on the old budget stay with it.
        if settings.partial_max_bytes != self.settings().partial_max_bytes {
            self.budget.replace(Budget::new(settings.partial_max_bytes));
        }
        self.settings.replace(Rc::new(settings));
        self.connection_closed.notify_waiters();
    }

    /// Answers the next publishes on each connection of now with [`TRANSPORT`]: its agent goes elsewhere.
    ///
    /// [`TRANSPORT`]: crate::wire::reply::TRANSPORT
    pub fn send_away(&self) {
        self.begin_stage(true, false);
    }

    /// The same, with those that are still in their handshake: after [`Gate::end_listeners`].
    pub fn send_all_away(&self) {
        self.begin_stage(true, true);
    }

    /// Sends away nobody, or nobody more.
    pub fn keep(&self) {
        self.begin_stage(false, false);
    }

    fn begin_stage(&self, sends_away: bool, none_is_new: bool) {
        let mut addresses = self.addresses.borrow_mut();
        addresses.begin(sends_away, none_is_new);
        self.noted_from.set(addresses.noted_from());
    }

    /// Ends the listeners: whoever connects from now on is another process's.
    pub fn end_listeners(&self) {
        self.succeeded.cancel();
    }

    /// Sessions stop reading; what they have read is finished and answered.
    pub fn close(&self) {
        self.closing.set(true);
    }

    /// The number of a connection that has opened now.
    pub(super) fn number_of_new(&self) -> u32 {
        self.addresses.borrow().number()
    }

    /// Whether a publish of a connection with this number was served in this stage of a drain.
    pub(super) fn has_noted(&self, number: u32) -> bool {
        number >= self.noted_from.get()
    }

    /// A connection without a served publish in this stage publishes: its new number, and whether the publish is sent away.
    pub(super) fn note(&self, address: IpAddr, number: u32) -> (u32, bool) {
        self.addresses.borrow_mut().publishes(address, number)
    }

    /// Whether a publish with this session would be taken here.
    #[must_use]
    pub fn accepts(&self, session: &[u8]) -> bool {
        let settings = self.settings();
        self.tokens
            .check(session, &settings.users, self.unix_ms())
            .is_some()
    }

    /// Lets somebody look at the events of every publish from now on.
    pub fn tap(&self, feed: Feed) {
        self.taps.open(feed);
    }

    /// The runtime is about to end, and every open connection with it.
    pub fn resets_all(&self) {
        let open = self.open_connections();
        self.stats.borrow_mut().reset_drain_total += open;
    }

    /// The gateways' side of a snapshot.
    #[must_use]
    pub fn status(&self) -> status::Ingress {
        let partial_bytes = self.budget.borrow().held_bytes() as u64;
        status::Ingress {
            partial_bytes,
            ..*self.stats.borrow()
        }
    }

    /// Who is connected.
    #[must_use]
    pub fn gateways(&self) -> status::Gateways {
        self.addresses.borrow().status()
    }

    /// Memory for partial frames.
    pub(super) fn budget(&self) -> Ref<'_, Budget> {
        self.budget.borrow()
    }

    pub(super) fn stats(&self) -> RefMut<'_, status::Ingress> {
        self.stats.borrow_mut()
    }

    pub(super) fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    pub(super) fn unix_ms(&self) -> i64 {
        (self.unix_ms)()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(super) fn open_connections(&self) -> u64 {
        let stats = self.stats.borrow();
        stats.connections_tcp + stats.connections_tls
    }

    pub(super) fn has_place(&self) -> bool {
        self.open_connections() < self.settings.borrow().connections_max as u64
    }

    /// All places are taken: whether it is time to say so, because they were not for a while.
    pub(super) fn sees_full(&self, now: Instant) -> bool {
        let before = self.full_at.replace(Some(now));
        before.is_none_or(|at| now.duration_since(at) >= FULL_AGAIN)
    }

    /// Whether an address may have one more connection.
    pub(super) fn has_place_for(&self, address: IpAddr) -> bool {
        let Some(max) = self.settings.borrow().connections_per_address_max else {
            return true;
        };
        self.addresses.borrow().connections(address) < max
    }

    pub(super) fn count_address(&self, address: IpAddr) {
        self.addresses.borrow_mut().opened(address);
    }

    pub(super) fn uncount_address(&self, address: IpAddr, number: u32) {
        self.addresses.borrow_mut().closed(address, number);
    }

    /// Tells the log of a bad peer, but not of each of thousands: how many were left out since the last
    /// time, when it is time for a line.
    pub(super) fn may_warn(&self, now: Instant) -> Option<u64> {
        if self
            .warned
            .get()
            .is_some_and(|last| now.duration_since(last) < WARN_EVERY)
        {
            self.unwarned.set(self.unwarned.get() + 1);
            return None;
        }
        self.warned.set(Some(now));
        Some(self.unwarned.take())
    }
}
