//! The return leg from outside: gateways and brokers played by the test, RabbitMQ with lapin, a firewall.

mod captured;
mod firewall;
mod life;
mod limits;
mod rabbit;
mod relay;
mod support;
mod tls;
