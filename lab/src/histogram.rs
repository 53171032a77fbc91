//! PURE: a latency histogram of fixed size whose buckets are 3 % wide.
//!
//! Values are nanoseconds; below 32 they are exact, above that each power of two has 32 buckets.

use std::time::Duration;

const SUB: usize = 32;
const SUB_BITS: u32 = 5;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB;

/// Counts of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    sum_nanos: u128,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            sum_nanos: 0,
            max_nanos: 0,
        }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(index(nanos)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum_nanos += u128::from(nanos);
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Adds another histogram's counts.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours += theirs;
        }
        self.count += other.count;
        self.sum_nanos += other.sum_nanos;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value, exactly.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The average, zero when empty.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum_nanos.checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The value that `per_mille` thousandths of all values do not exceed, rounded up to its bucket's
    /// upper border and never over the maximum; zero when empty.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (self.count * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (i, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Duration::from_nanos(upper(i).min(self.max_nanos));
            }
        }
        self.max()
    }

    /// The median.
    #[must_use]
    pub fn p50(&self) -> Duration {
        self.quantile(500)
    }

    /// 99 of 100 values do not exceed it.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.quantile(990)
    }
}

fn index(nanos: u64) -> usize {
    let high = 63 - nanos.max(1).leading_zeros();
    let shift = (high + 1).saturating_sub(SUB_BITS + 1);
    let sub = usize::try_from(nanos >> shift).unwrap_or(0);
    let shift = usize::try_from(shift).unwrap_or(0);
    sub + shift * SUB
}

/// The largest value that falls into a bucket.
fn upper(index: usize) -> u64 {
    if index < 2 * SUB {
        return u64::try_from(index).unwrap_or(0);
    }
    let shift = u32::try_from(index / SUB - 1).unwrap_or(0);
    let sub = u64::try_from(index % SUB + SUB).unwrap_or(0);
    let next = (u128::from(sub) + 1) << shift;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_lies_in_a_bucket_that_is_at_most_a_thirtysecond_wide(nanos in any::<u64>()) {
            let i = index(nanos);
            prop_assert!(i < BUCKETS);
            let top = upper(i);
            prop_assert!(top >= nanos);
            prop_assert!(u128::from(top - nanos) <= u128::from(nanos) / 32);
            prop_assert!(i == 0 || upper(i - 1) < nanos);
        }

        #[test]
        fn quantiles_agree_with_a_sorted_list(mut values in prop::collection::vec(0_u64..10_000_000, 1..200)) {
            let (mut a, mut b) = (Histogram::default(), Histogram::default());
            for (i, v) in values.iter().enumerate() {
                if i % 2 == 0 { &mut a } else { &mut b }.record(Duration::from_nanos(*v));
            }
            a.merge(&b);
            values.sort_unstable();
            for (per_mille, found) in [(500, a.p50()), (990, a.p99()), (1000, a.quantile(1000))] {
                let exact = values[(values.len() * per_mille).div_ceil(1000) - 1];
                let found = found.as_nanos() as u64;
                prop_assert!(found >= exact && found - exact <= exact / 32 + 1, "{} {}", found, exact);
            }
            prop_assert_eq!(a.max().as_nanos() as u64, values[values.len() - 1]);
            prop_assert_eq!(a.count(), values.len() as u64);
        }
    }

    #[test]
    fn an_empty_histogram_is_zero_everywhere() {
        let h = Histogram::default();
        assert_eq!((h.p50(), h.p99(), h.max(), h.mean()), Default::default());
    }
}
