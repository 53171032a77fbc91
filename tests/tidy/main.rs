//! Conventions of the tree as tests: which module may use which, what the code must not hold, and that the
//! documentation says what the code does.

// Clippy takes the helpers of a test for production code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod book;
mod compare;
mod config;
mod deploy;
mod examples;
mod generated;
mod layering;
mod source;
mod tree;
