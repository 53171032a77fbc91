//! `weir check`, as a user runs it, against Traffic Managers that behave well and badly.

// All of it is test; clippy knows only the functions marked so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broker;
mod brokers;
mod certificates;
mod endpoints;
mod files;
mod host;
#[path = "../net_support/mod.rs"]
mod net_support;
mod support;
mod tm;
