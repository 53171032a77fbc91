//! `weir tap`: what an event says, for people.
//!
//! To the relay an event is a range of bytes. This room knows more, and only while somebody asks: with a stream's
//! [`Definitions`] it finds the attributes ([`event`]), hides what may name a person ([`Mask`]), and writes one line
//! of JSON ([`show`]). [`Wish`] is what can be asked for. All of that happens on the admin thread.
//!
//! A worker sees two things of it: [`Taps`], which costs one branch a frame while no tap is open, and [`Feed`],
//! which copies a bounded number of events a second into a bounded channel and never waits.
//!
//! Nothing here has a clock, randomness or I/O: times and keys are arguments.

mod definition;
pub mod event;
mod feed;
mod mask;
pub mod show;
mod wish;

#[cfg(test)]
mod tests;

pub use definition::{Attribute, Definition, Definitions, Kind};
pub use feed::{Budget, Counts, EVENT_COPY_MAX_BYTES, Feed, Sample, Taps};
pub use mask::Mask;
pub use wish::{LOOKED_AT_PER_SECOND, Wish};
