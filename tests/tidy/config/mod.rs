//! The configuration as users write it: what is accepted, what it means, and how what is wrong is shown.

mod bad_input;
mod change;
mod files;
mod meaning;
mod no_panic;
mod references;
mod support;
mod warnings;
