//! Everything a Traffic Manager, or the network in front of it, can do wrong: each ends with the oracle's
//! judgement and a witness that the fault has happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod away;
#[path = "../net_support/mod.rs"]
mod certificates;
mod cut;
#[path = "../faults_support/mod.rs"]
mod faults;
mod login;
mod mute;
mod replies;
#[path = "../support/mod.rs"]
mod support;
mod tls;
