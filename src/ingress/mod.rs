//! Gateways → batches.
//!
//! A [`listener`] accepts, each connection is one session task: read, act, reply, in order. [`auth`] knows
//! who may log in, [`hashing`] computes hashes of passwords, [`token`] signs sessions. What all sessions of a worker share is the [`Gate`].

mod act;
mod addresses;
pub mod auth;
mod budget;
mod gate;
mod hashing;
mod listener;
mod replies;
mod session;
mod slowdown;
pub mod token;

pub use gate::{Gate, Settings};
pub use hashing::Hashing;
pub use listener::listen;
