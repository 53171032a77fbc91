//! What a stand-in Traffic Manager counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counters.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64),* }

        /// One look at them; everything since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(super) fn look(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counts! {
    /// Connections accepted.
    connections,
    /// Connections that ended, for any reason.
    ended,
    /// Connections that this side ended, by script.
    cut,
    /// Publish frames with events.
    frames,
    /// Events in them.
    events,
    /// Publish frames without events.
    zero_event_frames,
    /// Publish frames with events that were answered ok.
    frames_ok,
    /// Publish frames that were answered ok and dropped, for an event that cannot be decoded.
    frames_dropped,
    /// Events in them.
    events_dropped,
    /// Publish frames that were answered with an error.
    frames_error,
    /// Publish frames with an unknown or expired session.
    session_errors,
    /// Logins that succeeded.
    logins_ok,
    /// Logins that were refused.
    logins_refused,
    /// Logouts.
    logouts,
    /// Connections given up because their bytes made no sense.
    garbage,
    /// Bytes read, decrypted.
    bytes,
}

impl Counts {
    /// How well the peer coalesces.
    #[must_use]
    pub fn events_per_frame(&self) -> f64 {
        crate::per(self.events, self.frames)
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
