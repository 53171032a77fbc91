//! How long events wait for others to share a frame with. Pure. The rule does not estimate a rate: it only uses what has
//! come since the last take.
//!
//! A frame costs a receiver more than an event, WSO2's some 15 µs of CPU for each frame and 1.6 µs for each event. So queued
//! events leave when they are worth a frame, or when their time is over. Each queued event adds a share to that time: if
//! fewer than one comes in each share, a frame would not fill.

use std::time::Duration;

use tokio::time::Instant;

/// This many events do not wait. In frames of 64 a receiver spends 1.6 + 15 / 64 = 1.83 µs on an event: 1.10 of the 1.67 µs that
/// it spends in frames of 128 KiB, the fullest.
pub(super) const WORTH_A_FRAME: usize = 64;

/// An event alone waits for `linger` divided by this: 2 ms of 10 ms. At fewer events than one in 2 ms, frames of one event cost
/// such a receiver less than 1 % of a core.
const SHARES: u32 = 5;

/// When so many queued `events` leave if no others come. `since` is the group's last take, or when the first of them was
/// accepted, if that was earlier.
pub(super) fn due(since: Instant, linger: Duration, events: usize) -> Instant {
    let shares = u32::try_from(events).unwrap_or(SHARES).min(SHARES);
    since + linger * shares / SHARES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LINGER: Duration = Duration::from_millis(10);

    #[test]
    fn a_single_event_waits_for_a_fifth_of_linger_and_each_further_one_adds_as_much() {
        let since = Instant::now();
        for (events, ms) in [
            (1, 2),
            (2, 4),
            (3, 6),
            (4, 8),
            (5, 10),
            (6, 10),
            (63, 10),
            (usize::MAX, 10),
        ] {
            assert_eq!(due(since, LINGER, events), since + ms * MS, "{events}");
        }
    }

    #[test]
    fn without_linger_nothing_waits() {
        let since = Instant::now();
        assert_eq!(due(since, Duration::ZERO, 63), since);
    }
}
