//! Conventions of the tree as tests: which room may know which, how long a file may be, and that the book says
//! what the code does.

// Clippy takes the helpers of a test for production code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod book;
mod compare;
mod config;
mod deploy;
mod examples;
mod layering;
mod source;
mod tree;
