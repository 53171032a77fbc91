//! What a load counts.

use serde::Serialize;

/// What a load counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LoadCounts {
    /// Frames answered ok.
    pub frames_acked: u64,
    /// Events in them.
    pub events_acked: u64,
    /// Frames answered with `SessionTimeoutException`: new login, and the frame again.
    pub session_errors: u64,
    /// Frames answered with any other error: the frame again, later.
    pub refused: u64,
    /// Frames answered with `UndefinedEventTypeException`: given up, as the agent does.
    pub given_up: u64,
    /// Events sent again.
    pub events_resent: u64,
    /// Connections made.
    pub connections: u64,
    /// Connections that could not be made.
    pub connect_failures: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Connections that were reset or broke.
    pub resets: u64,
    /// Frames taken for sent because the connection ended with FIN in place of their reply.
    pub acked_by_fin: u64,
    /// Replies that did not come in time.
    pub reply_timeouts: u64,
    /// Events that an agent refused, or lost on their way back, because its queue was full.
    pub queue_full: u64,
}
