//! Parcels → Traffic Managers.
//!
//! A [`Group`] starts one link per endpoint and says which of them may take events now ([`policy`]). A
//! link ([`link`]) lives through one connection after the other: dial, log in, pump ([`pump`]), give back
//! what is unanswered, back off ([`backoff`]). The pump merges parcels into frames ([`outbox`]) and matches
//! replies by order ([`pipeline`]).

mod backoff;
mod group;
mod link;
mod login;
mod outbox;
mod pipeline;
mod policy;
mod pump;
mod state;

pub use backoff::Backoff;
pub use group::{Context, Group, ObserverSource};
pub use login::{login, login_over};
pub use state::Failure;
