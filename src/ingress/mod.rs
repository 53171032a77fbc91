//! Gateways → batches.
//!
//! A [`listener`] accepts, each connection is one session task: read, act, reply, in order. [`auth`] knows
//! who may log in, [`token`] signs sessions. What all sessions of a worker share is the [`Gate`].

mod act;
pub mod auth;
mod budget;
mod gate;
mod listener;
mod replies;
mod session;
mod slowdown;
pub mod token;

pub use gate::{Gate, Settings};
pub use listener::listen;
