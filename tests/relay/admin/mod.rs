//! The admin port over a real loopback listener, with a worker that answers as the relay's workers do.

// These tests have a real clock and threads of their own.
#![allow(clippy::disallowed_methods)]

mod commands;
mod fixture;
mod hostile;
mod looking;
mod metrics;
mod support;
mod switches;
