//! Parcels → Traffic Managers.
//!
//! A [`Group`] starts one link per endpoint and says which of them may take events now ([`policy`]). A
//! link ([`link`]) lives through one connection after the other: dial, log in, pump ([`pump`]), give back
//! what is unanswered, back off ([`backoff`]). The pump renews its session on the side ([`session`]), merges parcels into frames ([`frame`], [`outbox`]) and
//! matches replies ([`answers`]) by order ([`pipeline`]); [`returns`] says whom a frame waits for where gateways wait for its delivery.

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
pub use group::{Context, Group, ObserverSource, OwnSession};
pub use login::{leads_back, login, login_over};
pub use outbox::{Outbox, SLICES_MAX};
pub use pipeline::{Frame, Pipeline};
pub use state::Failure;
