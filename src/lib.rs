//! Weir: a relay between WSO2 API Manager gateways and Traffic Managers.
#![doc = ""]

pub mod config;
pub mod control;
pub mod egress;
pub mod ingress;
pub mod lifecycle;
pub mod net;
pub mod relay;
pub mod status;
pub mod wire;
pub mod worker;
