//! Delays between attempts: exponential, full jitter. Pure: randomness is an argument.

use std::time::Duration;

/// The sequence of one link.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

/// After a refused login a link waits at least this long: a wrong password does not mend itself, and some
/// user stores lock accounts.
pub(super) const AUTHENTICATION_DELAY: Duration = Duration::from_secs(10);

/// A connection that lived this long was healthy: the sequence starts again.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(5);

impl Backoff {
    /// From `min` to `max`; a `max` below `min` counts as `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            ceiling: min,
        }
    }

    /// The next delay: between half of `min` and the ceiling, which doubles each time up to `max`.
    pub fn next(&mut self, random: &mut fastrand::Rng) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(self.max);
        let floor = self.min / 2;
        floor + (ceiling - floor).mul_f64(random.f64())
    }

    /// New bounds from a reload; the place in the sequence stays.
    pub fn set_bounds(&mut self, min: Duration, max: Duration) {
        self.min = min;
        self.max = max.max(min);
        self.ceiling = self.ceiling.clamp(self.min, self.max);
    }

    /// Starts again from `min`.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds(seed: u64, min_ms in 1_u64..1000, max_ms in 1_u64..100_000, n in 1_usize..40) {
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
            let mut backoff = Backoff::new(min, max);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ceiling = min;
            for _ in 0..n {
                let delay = backoff.next(&mut random);
                prop_assert!(delay >= min / 2 && delay <= ceiling, "{delay:?} {ceiling:?}");
                ceiling = (ceiling * 2).min(max.max(min));
            }
            backoff.reset();
            prop_assert!(backoff.next(&mut random) <= min);
        }
    }

    #[test]
    fn a_seed_gives_the_same_delays() {
        let run = || {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
            let mut random = fastrand::Rng::with_seed(7);
            (0..10).map(|_| backoff.next(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
