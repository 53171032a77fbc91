//! A whole weir in this process, on loopback, between gateways and Traffic Managers of the laboratory; and parts of it
//! over real sockets: the network layer, the admin port, the return leg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod agent_habits;
mod bad_input;
mod decisions;
mod faults_endpoint;
mod faults_gateway;
mod faults_memory;
mod faults_self;
mod golden_replay;
mod net;
mod relay;
mod return_leg;
#[path = "../support/mod.rs"]
mod support;
mod tap;
mod vectors;
