//! Weir: a relay between WSO2 API Manager gateways and Traffic Managers.
//!
//! This page is the map of the crate, in the order in which things happen.
//!
//! **Start.** [`cli`] reads the command line; [`output`] is how commands print. [`config`] turns files into one `Config`
//! that is valid, so nothing after it handles wrong values. [`app`] builds everything, watches signals and files,
//! reloads, drains and stops. [`telemetry`] is the log.
//!
//! **The path of an event.** A [`worker`] is one thread with everything on it: listeners, queues, links. A gateway's bytes
//! come in through [`net`] (sockets, TLS, keystores: the only module that names them), and [`ingress`] serves its
//! connection: login, session, publish, and a reply or a reset in every case. [`wire`] finds the frames in the bytes; it
//! is pure. [`relay`] admits a frame into every group's queue or into none; its events are copied once, into a batch
//! that all groups share. [`egress`] has one link for each Traffic Manager. A link takes batches as deliveries, each of
//! which ends exactly once, merges them into few large frames, sends ahead of the replies, and returns what has no reply
//! when its connection ends. Ingress and egress do not know each other.
//!
//! **Operation.** Each worker keeps plain counters and fills a [`status`] snapshot between two turns of its loop.
//! [`control`] sends commands to the workers. [`metrics`] shows a snapshot to Prometheus. [`admin`] is the HTTP port, its
//! page, and the commands that use it. [`tap`] decodes the few events that an operator wants to see. [`lifecycle`] holds
//! the phase: starting, ready, draining, stopped. [`supervise`] is a parent process that holds the ports while weir is
//! restarted. [`check`] is `weir check`.
//!
//! **The return leg.** [`decisions`] relays the gateways' AMQP connections to the Traffic Managers' brokers, frame by
//! frame, with a heartbeat on each side and a hold while no broker answers. It knows nothing of events.
//!
//! The laboratory (`weir-lab` in `lab/`) is a package of its own: demo, load generator, stand-in Traffic Manager, fault
//! proxy, simulation, and the oracle that tells whether anything was lost.
//!
//! Which module may use which is a table in `tests/tidy/layering.rs`, and a test. `docs/ARCHITECTURE.md` says more.

pub mod admin;
pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod decisions;
pub mod egress;
pub mod ingress;
pub mod lifecycle;
pub mod metrics;
pub mod net;
pub mod output;
pub mod relay;
pub mod status;
pub mod supervise;
pub mod tap;
pub mod telemetry;
pub mod wire;
pub mod worker;
