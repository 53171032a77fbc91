//! What a session is doing, and what may be asked of it.

use tokio::time::Instant;

/// What a session is doing, in the order of [`super::status::STATES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// TLS handshake and protocol header of the gateway, and the first round over the brokers.
    Opening,
    /// No broker answered in the first round.
    Held,
    /// A broker answered; until Tune-Ok was forwarded.
    Handshake,
    /// Relaying frames.
    Open,
    /// Relaying bytes.
    Spliced,
    /// Saying goodbye.
    Closing,
}

impl Stage {
    pub(super) fn index(self) -> usize {
        match self {
            Stage::Opening => 0,
            Stage::Held => 1,
            Stage::Handshake => 2,
            Stage::Open => 3,
            Stage::Spliced => 4,
            Stage::Closing => 5,
        }
    }
}

/// A wish that a session end so that its gateway connects anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Stay.
    No,
    /// At the next quiet moment, and at `at_latest` without one.
    Quietly {
        /// `None` = only at a quiet moment.
        at_latest: Option<Instant>,
    },
}
