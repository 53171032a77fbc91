//! Weir: a relay between WSO2 API Manager gateways and Traffic Managers.
//!
//! This page is the map of the crate, in the order in which things happen.
//!
//! **Before anything runs.** [`cli`] reads the command line; [`output`] is how commands print. [`config`] turns files into one `Config` that is
//! already valid; nothing after it ever sees a wrong value. [`app`] is the composition root: it builds every
//! room, watches signals and files, reloads, drains, and takes everything down again. [`telemetry`] is the log.
//!
//! **The way of an event.** A [`worker`] is one thread with everything on it: listeners, queues, links. A
//! gateway's bytes come in through [`net`] (sockets, TLS, keystores: the only room that names them), and
//! [`ingress`] serves its connection: login, session, publish, and an answer or a reset in every case. [`wire`]
//! finds the frames in the bytes; it is pure. [`relay`] is the heart: a frame enters every group's queue or
//! none, its events are copied once into a batch that all groups share, and a batch leaves a queue as a parcel
//! that ends exactly once. [`egress`] has one link for each Traffic Manager; a link pulls parcels, merges them
//! into few large frames, sends ahead of the answers, and gives back what was not answered when its connection
//! ends. Ingress and egress do not know each other.
//!
//! **Looking and switching.** Each worker keeps plain counters and fills a [`status`] snapshot between two turns of
//! its loop. [`control`] is the door to the workers: messages, each with a place for its answer. [`metrics`] shows a
//! snapshot to Prometheus. [`admin`] is the HTTP port, its page, and the commands that talk to it.
//! [`tap`] is what an event says, for people: it decodes the few events that somebody wants to see.
//! [`lifecycle`] holds the phase that everybody watches: starting, ready, draining, stopped.
//!
//! **The return leg.** [`decisions`] relays the gateways' AMQP connections to the Traffic Managers' brokers, frame by
//! frame, with a heartbeat on each side and a hold while no broker answers. It knows nothing of events.
//!
//! **Around it.** [`supervise`] is a parent process that holds the ports while weir is started again.
//!
//! **Beside it.** [`check`] is `weir check`. The laboratory, `weir-lab` in `lab/`, is a package of its own: demo, load
//! generator, stand-in Traffic Manager, fault proxy, simulation, and the oracle that says whether anything was lost.
//!
//! Which room may use which is a table in `tests/tidy/layering.rs`, and a test. `docs/ARCHITECTURE.md` tells the
//! same story at length.

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
