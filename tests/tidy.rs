//! Conventions of the tree as tests: which room may know which, how long a file may be, and that the book says
//! what the code does.

// Clippy takes the helpers of a test for production code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "tidy/book.rs"]
mod book;
#[path = "tidy/examples.rs"]
mod examples;
#[path = "tidy/layering.rs"]
mod layering;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
