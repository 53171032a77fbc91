//! The configuration of gateways: a worker's share of it.

use std::time::Duration;

use crate::config::{Ack, Config, User};
use crate::wire::Decoder;

/// What the configuration says about gateways.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits of frames and events.
    pub decoder: Decoder,
    /// When a publish is answered.
    pub ack: Ack,
    /// Longest wait before an answer.
    pub reply_timeout: Duration,
    /// Longest silence within a frame.
    pub frame_timeout: Duration,
    /// Longest silence between frames; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// TLS handshake deadline.
    pub handshake_timeout: Duration,
    /// Longest time without a login or a valid session; `None` = never.
    pub first_frame_timeout: Option<Duration>,
    /// Open connections of this worker.
    pub connections_max: usize,
    /// The same from one address; `None` = no limit.
    pub connections_per_address_max: Option<usize>,
    /// Memory for partial frames.
    pub partial_max_bytes: usize,
    /// Who may log in.
    pub users: Vec<User>,
    /// Life of a session.
    pub session_ttl: Duration,
    /// Whether the plain listener takes logins.
    pub allow_plaintext_login: bool,
}

impl Settings {
    /// A worker's share of a configuration.
    #[must_use]
    pub fn share(config: &Config) -> Self {
        let ingress = &config.ingress;
        let workers = config.workers.max(1);
        Self {
            decoder: Decoder {
                frame_max_bytes: ingress.frame_max_bytes,
                event_max_bytes: ingress.event_max_bytes,
            },
            ack: config.ack,
            reply_timeout: ingress.reply_timeout,
            frame_timeout: ingress.frame_timeout,
            idle_timeout: ingress.idle_timeout,
            handshake_timeout: ingress.handshake_timeout,
            first_frame_timeout: ingress.first_frame_timeout,
            connections_max: ingress.connections_max.div_ceil(workers).max(1),
            connections_per_address_max: ingress.connections_per_address_max.map(|n| n.div_ceil(workers)),
            partial_max_bytes: ingress.partial_max_bytes / workers,
            users: config.auth.users.clone(),
            session_ttl: config.auth.session_ttl,
            allow_plaintext_login: config.auth.allow_plaintext_login,
        }
    }
}
