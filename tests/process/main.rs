//! The built binary: started, stopped, killed, frozen, starved and reloaded, judged by the oracle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod crashing;
mod draining;
mod ending;
mod killing;
mod limits;
mod logging;
mod logins;
mod memory;
mod monitoring;
mod operating;
mod page;
mod reload;
mod renewal;
mod service;
mod starting;
mod stdout;
mod supervising;
#[path = "../support/mod.rs"]
mod support;
mod system_calls;
