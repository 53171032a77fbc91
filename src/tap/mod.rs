//! `weir tap`: events as readable text.
//!
//! To the relay an event is a range of bytes. This module decodes it, and only while a tap is open: with a stream's
//! [`Definitions`] it finds the attributes ([`event`]), masks what may identify a person ([`Mask`]), and writes one line
//! of JSON ([`show`]). All of that happens on the admin thread.
//!
//! A worker uses [`Taps`], which costs one branch a frame while no tap is open, and [`Feed`], which copies a bounded
//! number of events a second into a bounded channel and never waits.
//!
//! Pure: times and keys are arguments.

mod definition;
pub mod event;
mod feed;
mod mask;
mod options;
pub mod show;

#[cfg(test)]
mod tests;

pub use definition::{Attribute, Definition, Definitions, Kind};
pub use feed::{Budget, Counts, EVENT_COPY_MAX_BYTES, Feed, Sample, Taps};
pub use mask::Mask;
pub use options::{COPIED_PER_SECOND, TapOptions};
