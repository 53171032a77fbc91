//! Sends what is queued to Traffic Managers.
//!
//! A [`Group`] starts one link for each endpoint and decides which of them may take batches ([`policy`]). A link
//! ([`link`]) dials, logs in and pumps, again and again: when a connection ends, what has no reply returns to the queue,
//! and the link backs off ([`backoff`]). The [`pump`] writes deliveries as frames ([`frame`], [`outbox`]), matches replies
//! with them by order ([`pipeline`]) and renews its [`session`].

mod answered;
mod backoff;
mod frame;
mod group;
mod link;
mod login;
mod outbox;
mod pipeline;
mod policy;
mod pump;
mod session;
mod state;

pub use backoff::Backoff;
pub use frame::next_frame;
pub use group::{Group, ObserverSource, OwnSession, Resources};
pub use login::{leads_back, login, login_over};
pub use outbox::{Outbox, SLICES_MAX};
pub use pipeline::{Frame, Pipeline};
pub use state::Failure;
