//! Takes gateways' frames into the queues of all groups, and hands them to links in full frames.
//!
//! Two words:
//!
//! * A [`Batch`] lies in the queue of one group: events of one stream, as bytes that all groups share.
//! * A [`Delivery`] is out with a link: the batches of one upstream frame. It ends exactly once. Delivered, rejected or
//!   dropped, its events are counted and their capacity is free; unanswered, its batches return to the front of the queue.
//!
//! ```text
//!  session                        State                                              link
//!                  ┌────────────────────────────────────────────────────┐
//!  frame ── admit ─┼▶ does it fit every queue? ─ copy ─▶ open batch      │
//!        ◀─ Full ──┤   no: it waits in line               │ seal         │
//!                  │                                      ▼              │
//!                  │                        queue of each group: Batch ──┼─ take ─▶ Delivery ─▶ frame
//!                  │                                      ▲              │             │
//!        ◀ Receipt ┤  all batches of the frame ended  ◀───┴── end ◀──────┼─────────────┘ reply
//!                  └────────────────────────────────────────────────────┘
//! ```
//!
//! [`State`](state::State) is all of it, and pure: time is an argument, and each operation returns who is to be woken.
//! A [`Relay`] (for sessions) and a [`GroupQueue`] (for the links of a group) are handles on it; beside it they keep the
//! tasks that wait: links for batches, frames for capacity, sessions for receipts.
//!
//! A worker is one thread, so nothing here is locked.

mod age;
mod arena;
mod batch;
mod delivery;
mod handle;
mod linger;
mod queue;
mod receipts;
mod state;
mod wait_queue;

#[cfg(test)]
mod linger_model;
#[cfg(test)]
mod tests;

pub use age::AgeLimits;
pub use batch::Batch;
pub use delivery::Delivery;
pub use handle::{GroupQueue, Place, Receipt, Relay};
pub use queue::{Limits, Offer, Reason};
pub use receipts::Verdict;
pub use state::Full;
