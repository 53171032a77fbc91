//! The page in a real browser: what somebody sees who keeps it open while a Traffic Manager dies.

mod browser;
mod leg;
mod looks;
mod pictures;
