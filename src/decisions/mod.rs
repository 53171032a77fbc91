//! The return leg.
mod frame;
mod heart;
mod lane;
