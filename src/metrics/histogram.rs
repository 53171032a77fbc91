//! A histogram of fixed buckets. What is recorded is counted at once, so it takes the same memory whether it is
//! read every second or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Histogram, HistogramFn};

/// Counts of observations by bucket, and their sum. Relaxed throughout: a scrape needs no order between cells.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Upper bounds, inclusive, ascending.
    bounds: &'static [f64],
    /// One for each bound, and one for what is above all of them; not cumulative.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Buckets {
    pub(super) fn new(bounds: &'static [f64]) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0.0_f64.to_bits()),
        })
    }

    pub(super) fn handle(self: &Arc<Self>) -> Histogram {
        Histogram::from_arc(Arc::clone(self))
    }

    /// Each bound with how many observations were at most that; the last is infinity.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut sum = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            sum += count.load(Ordering::Relaxed);
            (bound, sum)
        })
    }

    pub(super) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // Never refused: `add` always has a new value.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_every_bucket_it_fits_bounds_included() {
        let buckets = Buckets::new(&[1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 2.5, 99.0] {
            buckets.handle().record(value);
        }
        let counts: Vec<_> = buckets.cumulative().collect();
        assert_eq!(counts, [(1.0, 2), (2.5, 4), (f64::INFINITY, 5)]);
        assert!((buckets.sum() - 105.0).abs() < 1e-9);
    }
}
