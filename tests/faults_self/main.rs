//! Weir's own bad days: full queues, reloads, age, ends. Each ends with the oracle's judgement and a witness
//! that the fault has happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ack;
mod age;
mod broken;
#[path = "../net_support/mod.rs"]
mod certificates;
#[path = "../faults_support/mod.rs"]
mod faults;
mod full;
mod linger;
mod patience;
mod reload;
mod removal;
mod settings;
#[path = "../support/mod.rs"]
mod support;
