//! The page in a real browser: what somebody sees who keeps it open while a Traffic Manager dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod leg;
mod looks;
mod pictures;
#[path = "../support/mod.rs"]
mod support;
