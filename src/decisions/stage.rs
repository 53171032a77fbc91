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

    /// Whether the gateway is connected through to its broker.
    pub(super) fn relays(self) -> bool {
        matches!(self, Stage::Open | Stage::Spliced)
    }
}

/// A wish that a session end so that its gateway connects anew. A stronger reason replaces a weaker one, see
/// [`Leave::rank`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Stay.
    No,
    /// Back to a preferred broker: at the next quiet moment, at `at_latest` without one, and only while that
    /// broker answers.
    Failback {
        at_latest: Instant,
        /// The preferred broker has answered so recently that the wish holds until then; renewed by every answer.
        proven_until: Instant,
    },
    /// Its broker is not in the configuration any more: at the next quiet moment, at `at_latest` without one.
    Removed { at_latest: Instant },
}

impl Leave {
    /// The stronger reason has the higher rank.
    fn rank(self) -> u8 {
        match self {
            Leave::No => 0,
            Leave::Failback { .. } => 1,
            Leave::Removed { .. } => 2,
        }
    }

    /// Whether this wish replaces `other`.
    pub(super) fn outranks(self, other: Leave) -> bool {
        self.rank() > other.rank()
    }

    /// The label; `None` = no wish.
    pub(super) fn reason(self) -> Option<&'static str> {
        let [failback, removed] = super::status::LEAVE_REASONS;
        match self {
            Leave::No => None,
            Leave::Failback { .. } => Some(failback),
            Leave::Removed { .. } => Some(removed),
        }
    }
}
