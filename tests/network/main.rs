//! Weir and its Traffic Managers in network namespaces, with a firewall that forgets, a hole that swallows
//! and a way that is long and loses packets between them. Needs root, `ip` and `nft`; skipped with the reason
//! printed where one is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod firewall;
mod gateways;
mod namespaces;
#[path = "../support/mod.rs"]
mod support;
mod weather;
