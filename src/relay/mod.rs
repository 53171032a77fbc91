//! The heart: who owns a batch, and how much room there is.
//!
//! [`Fanout`] admits a gateway's frame: it asks every group for room, then copies the frame's events once
//! into the open batch that all groups share. A batch is sealed when it is full or when a link wants it;
//! sealed, the same bytes go to every group's [`GroupQueue`]. A link takes them out as [`Parcel`]s, linear
//! values that end exactly once; a [`Receipt`] resolves when every parcel that carries its frame has ended.
//!
//! One worker, one thread: nothing here is shared between threads, so nothing here is locked.

mod age;
mod arena;
mod bell;
mod fanout;
mod group_queue;
mod line;
mod linger;
mod parcel;
mod queue;
mod receipt;
mod sealed;

#[cfg(test)]
mod linger_model;
#[cfg(test)]
mod tests;

pub use age::AgeLimits;
pub use bell::Bell;
pub use fanout::{Fanout, Full, Place};
pub use group_queue::{GroupQueue, Offer};
pub use parcel::Parcel;
pub use queue::{Limits, PARCEL_COST_BYTES, Reason};
pub use receipt::{Receipt, Verdict};
