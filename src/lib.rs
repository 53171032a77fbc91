//! Weir: a relay between WSO2 API Manager gateways and Traffic Managers.
#![doc = ""]

pub mod admin;
pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod egress;
pub mod ingress;
pub mod lab;
pub mod lifecycle;
pub mod metrics;
pub mod net;
pub mod relay;
pub mod status;
pub mod telemetry;
pub mod wire;
pub mod worker;
