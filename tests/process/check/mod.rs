//! `weir check`, as a user runs it, against Traffic Managers that behave well and badly.

mod broker;
mod brokers;
mod certificates;
mod endpoints;
mod files;
mod host;
mod support;
mod tm;
