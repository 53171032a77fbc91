//! The return leg from outside: gateways and brokers played by the test, RabbitMQ with lapin, a firewall.

mod captured;
mod cost;
mod firewall;
mod frames;
mod life;
mod limits;
mod metrics;
mod node;
mod outage;
mod rabbit;
mod relay;
mod support;
mod tls;
mod trouble;
mod versions;

use crate::support as whole;
