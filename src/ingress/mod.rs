//! Gateways → events.
//!
//! ```text
//! listener ─▶ Connection ─▶ Handler ──▶ relay::admit
//!             (reads and    (frames to    taps
//!              writes)      replies) ─▶ login ─▶ slowdown, auth, hashing, token
//! ```
//!
//! Each connection is one task: read, act, reply, in order. [`auth`] compares passwords, [`hashing`] computes their
//! hashes, [`token`] signs sessions, [`budget`] bounds the memory of partial frames, [`addresses`] follows a drain. What
//! all connections of a worker share is the [`Ingress`].

mod addresses;
mod auth;
mod budget;
mod connection;
mod handler;
mod hashing;
mod listener;
mod login;
mod replies;
mod settings;
mod slowdown;
pub mod token;

use std::cell::{Cell, RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use hashing::Hashing;
pub use listener::listen;
pub use settings::Settings;

use self::addresses::Addresses;
use self::budget::Budget;
use self::slowdown::Slowdown;
use self::token::Tokens;
use crate::relay::Relay;
use crate::status;
use crate::tap::{Feed, Taps};

/// Most bytes of one read: less costs system calls, more costs cache.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Between two warnings about bad peers; what is left out is counted in the next.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Connections must have been below the limit for so long before the log says again that it is reached.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// A worker's ingress: what all its connections share. That is the way into the relay, limits, users, counters, and one
/// read buffer.
pub struct Ingress {
    relay: Relay,
    /// Taps on passing events.
    taps: Taps,
    tokens: Arc<Tokens>,
    slowdown: RefCell<Slowdown>,
    hashing: Hashing,
    scratch: RefCell<Box<[u8]>>,
    budget: RefCell<Budget>,
    settings: RefCell<Rc<Settings>>,
    stats: RefCell<status::Ingress>,
    unix_ms: fn() -> i64,
    /// Open connections by address.
    addresses: RefCell<Addresses>,
    /// [`Addresses::noted_from`].
    noted_from: Cell<u32>,
    /// Cancelled when a successor serves on the listening sockets.
    succeeded: CancellationToken,
    /// Nothing is read any more.
    closing: Cell<bool>,
    connection_closed: Notify,
    /// When the connection limit was last seen reached.
    full_at: Cell<Option<Instant>>,
    warned: Cell<Option<Instant>>,
    unwarned: Cell<u64>,
}

impl Ingress {
    /// An ingress whose publishes go to `relay`.
    #[must_use]
    pub fn new(
        settings: Settings,
        relay: Relay,
        tokens: Arc<Tokens>,
        hashing: Hashing,
        unix_ms: fn() -> i64,
    ) -> Rc<Self> {
        Rc::new(Self {
            relay,
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

    /// Replaces limits and users; every session's next frame follows them.
    pub fn set_settings(&self, settings: Settings) {
        // Claims on the old budget stay with it.
        if settings.partial_max_bytes != self.settings().partial_max_bytes {
            self.budget.replace(Budget::new(settings.partial_max_bytes));
        }
        self.settings.replace(Rc::new(settings));
        self.connection_closed.notify_waiters();
    }

    /// Replies to the next publishes on each open connection with [`TRANSPORT`]: its agent goes elsewhere.
    ///
    /// [`TRANSPORT`]: crate::wire::reply::TRANSPORT
    pub fn send_away(&self) {
        self.begin_stage(true, false);
    }

    /// The same, with those that are still in their handshake: after [`Ingress::end_listeners`].
    pub fn send_all_away(&self) {
        self.begin_stage(true, true);
    }

    /// Sends no connection away, or none any more.
    pub fn keep(&self) {
        self.begin_stage(false, false);
    }

    fn begin_stage(&self, sends_away: bool, none_is_new: bool) {
        let mut addresses = self.addresses.borrow_mut();
        addresses.begin(sends_away, none_is_new);
        self.noted_from.set(addresses.noted_from());
    }

    /// Ends the listeners: new connections are another process's.
    pub fn end_listeners(&self) {
        self.succeeded.cancel();
    }

    /// Sessions stop reading; what they have read is finished and answered.
    pub fn close(&self) {
        self.closing.set(true);
    }

    /// Whether a publish with this session would be accepted here.
    #[must_use]
    pub fn accepts(&self, session: &[u8]) -> bool {
        let settings = self.settings();
        self.tokens
            .check(session, &settings.users, self.unix_ms())
            .is_some()
    }

    /// Copies the events of every publish to `feed` from now on.
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

    /// The gateways that are connected.
    #[must_use]
    pub fn gateways(&self) -> status::Gateways {
        self.addresses.borrow().status()
    }

    fn stats(&self) -> RefMut<'_, status::Ingress> {
        self.stats.borrow_mut()
    }

    fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    fn unix_ms(&self) -> i64 {
        (self.unix_ms)()
    }

    fn open_connections(&self) -> u64 {
        let stats = self.stats.borrow();
        stats.connections_tcp + stats.connections_tls
    }

    fn has_capacity(&self) -> bool {
        self.open_connections() < self.settings.borrow().connections_max as u64
    }

    /// The connection limit is reached: whether it is time to log that, because it was not for a while.
    fn sees_full(&self, now: Instant) -> bool {
        let before = self.full_at.replace(Some(now));
        before.is_none_or(|at| now.duration_since(at) >= FULL_AGAIN)
    }

    /// Logs a line about a bad peer, but not one for each of thousands: those left out are counted in the next.
    fn warn(&self, peer: Option<SocketAddr>, what: &str) {
        let (peer, now) = (peer.map(tracing::field::display), Instant::now());
        let last = self.warned.get();
        if last.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            self.unwarned.set(self.unwarned.get() + 1);
            tracing::debug!(peer, "{what}");
            return;
        }
        self.warned.set(Some(now));
        match self.unwarned.take() {
            0 => tracing::warn!(peer, "{what}"),
            left_out => tracing::warn!(peer, left_out, "{what}"),
        }
    }
}
