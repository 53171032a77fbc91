//! Delays between attempts: exponential with full jitter, and a ceiling that depends on what failed. Pure: randomness is
//! an argument.

use std::time::Duration;

/// The sequence of one link.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
    authentication: Duration,
}

/// Longest delay after a connection that was refused or closed: such an attempt costs both sides next to nothing, and
/// a Traffic Manager that has started is found within this time.
const REFUSED_MAX: Duration = Duration::from_secs(1);

/// First delay after wrong credentials; doubles. They do not become right by themselves, and user stores lock accounts.
const AUTHENTICATION_MIN: Duration = Duration::from_secs(10);

/// Longest delay after wrong credentials.
const AUTHENTICATION_MAX: Duration = Duration::from_secs(300);

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
            authentication: AUTHENTICATION_MIN,
        }
    }

    /// The delay after a failure of this class (one of [`FAILURES`](crate::status::FAILURES)): between half of
    /// `min` and the ceiling, which doubles each time up to `max`, or up to a second where the connection was
    /// refused or closed. Wrong credentials have a sequence of their own: 10 s doubling to 5 minutes.
    pub fn next(&mut self, class: &str, random: &mut fastrand::Rng) -> Duration {
        let max = match class {
            "authentication" => {
                let delay = self.authentication;
                self.authentication = (delay * 2).min(AUTHENTICATION_MAX);
                return delay;
            }
            "refused" | "closed" => self.max.min(REFUSED_MAX.max(self.min)),
            _ => self.max,
        };
        let ceiling = self.ceiling.min(max);
        self.ceiling = (ceiling * 2).min(max);
        let floor = self.min / 2;
        floor + (ceiling - floor).mul_f64(random.f64())
    }

    /// New bounds from a reload; the place in the sequence stays.
    pub fn set_bounds(&mut self, min: Duration, max: Duration) {
        self.min = min;
        self.max = max.max(min);
        self.ceiling = self.ceiling.clamp(self.min, self.max);
    }

    /// The credentials are right.
    pub fn logged_in(&mut self) {
        self.authentication = AUTHENTICATION_MIN;
    }

    /// Starts again from `min`.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::FAILURES;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds(seed: u64, min_ms in 1_u64..3000, max_ms in 1_u64..100_000,
            classes in prop::collection::vec(0..FAILURES.len(), 1..40)) {
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
            let mut backoff = Backoff::new(min, max);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ceiling = min;
            for class in classes.into_iter().map(|i| FAILURES[i]).filter(|c| *c != "authentication") {
                let cheap = matches!(class, "refused" | "closed");
                let max = if cheap { max.min(REFUSED_MAX) } else { max }.max(min);
                ceiling = ceiling.min(max);
                let delay = backoff.next(class, &mut random);
                prop_assert!(delay >= min / 2 && delay <= ceiling, "{class}: {delay:?} {ceiling:?}");
                ceiling = (ceiling * 2).min(max);
            }
            backoff.reset();
            prop_assert!(backoff.next("timeout", &mut random) <= min);
        }
    }

    #[test]
    fn a_seed_gives_the_same_delays() {
        let run = || {
            let mut backoff = Backoff::new(MIN, MAX);
            let mut random = fastrand::Rng::with_seed(7);
            (0..10)
                .map(|_| backoff.next("timeout", &mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    /// How long a port has been open when the next attempt comes, for outages of random length.
    fn waits(class: &str) -> Vec<Duration> {
        let mut waits: Vec<Duration> = (0..1_000)
            .map(|seed| {
                let mut random = fastrand::Rng::with_seed(seed);
                let opens = Duration::from_millis(random.u64(..600_000));
                let mut backoff = Backoff::new(MIN, MAX);
                let mut now = Duration::ZERO;
                while now < opens {
                    now += backoff.next(class, &mut random);
                }
                now - opens
            })
            .collect();
        waits.sort();
        waits
    }

    #[test]
    fn half_of_the_outages_end_within_half_a_second_and_all_within_one_and_a_half() {
        for class in ["refused", "closed"] {
            let waits = waits(class);
            let (half, last) = (waits[waits.len() / 2], waits[waits.len() - 1]);
            println!("{class}: half within {half:?}, all within {last:?}");
            assert!(half <= Duration::from_millis(500), "{class}: {half:?}");
            assert!(last <= Duration::from_millis(1500), "{class}: {last:?}");
        }
    }

    #[test]
    fn a_dead_host_is_left_alone_for_up_to_backoff_max_and_a_refusal_ends_that() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut random = fastrand::Rng::with_seed(3);
        let silent: Vec<Duration> = (0..50).map(|_| backoff.next("timeout", &mut random)).collect();
        assert!(silent.iter().any(|d| *d > MAX / 2), "{silent:?}");
        assert!(backoff.next("refused", &mut random) <= REFUSED_MAX);
    }

    #[test]
    fn refused_attempts_are_about_two_a_second_at_most() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(MIN, MAX);
            let mut random = fastrand::Rng::with_seed(seed);
            let hour: Duration = (0..7200).map(|_| backoff.next("refused", &mut random)).sum();
            assert!(hour > Duration::from_secs(3500), "{hour:?}");
        }
    }

    #[test]
    fn wrong_credentials_are_tried_after_ten_seconds_doubling_to_five_minutes() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut random = fastrand::Rng::with_seed(0);
        let mut next = |backoff: &mut Backoff, class| backoff.next(class, &mut random).as_secs();
        let seen: Vec<u64> = (0..8).map(|_| next(&mut backoff, "authentication")).collect();
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300, 300]);
        next(&mut backoff, "refused");
        backoff.reset();
        assert_eq!(
            next(&mut backoff, "authentication"),
            300,
            "a restart proves no password"
        );
        backoff.logged_in();
        assert_eq!(next(&mut backoff, "authentication"), 10);
    }
}
