//! The configuration as users write it: what is accepted, what it means, and how what is wrong is shown.

// Clippy takes the helpers of a test for production code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "config/bad_input.rs"]
mod bad_input;
#[path = "config/change.rs"]
mod change;
#[path = "config/files.rs"]
mod files;
#[path = "config/meaning.rs"]
mod meaning;
#[path = "config/no_panic.rs"]
mod no_panic;
#[path = "config/references.rs"]
mod references;
#[path = "config/support.rs"]
mod support;
#[path = "config/warnings.rs"]
mod warnings;
