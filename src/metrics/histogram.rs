//! The histograms of links: fixed buckets, counted as they are recorded, so they take the same memory whether they are
//! read every second or never.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Histogram, HistogramFn};

/// From the reply of a receiver on the same network to the longest time a queue may hold events back.
static SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

static EVENTS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0,
];

/// What a link observes, once per upstream frame or batch (never per event).
#[derive(Debug, Clone)]
pub struct LinkObservers {
    /// From a publish frame's write to its reply, in seconds.
    pub reply_seconds: Histogram,
    /// From the acceptance of a batch's first event to its delivery, in seconds.
    pub delivery_seconds: Histogram,
    /// Events in a publish frame.
    pub frame_events: Histogram,
}

impl LinkObservers {
    /// Forgets what is recorded.
    #[must_use]
    pub fn none() -> Self {
        Self {
            reply_seconds: Histogram::noop(),
            delivery_seconds: Histogram::noop(),
            frame_events: Histogram::noop(),
        }
    }
}

/// One endpoint's histograms; several workers' links add to the same ones.
pub(super) struct Observed {
    pub(super) reply_seconds: Arc<Buckets>,
    pub(super) delivery_seconds: Arc<Buckets>,
    pub(super) frame_events: Arc<Buckets>,
}

/// The histograms of every endpoint there has been, by the names of group and endpoint. A scrape shows those that are
/// in its snapshot; an endpoint that comes back goes on counting.
#[derive(Default)]
pub(super) struct Endpoints(Mutex<HashMap<(String, String), Observed>>);

impl Endpoints {
    pub(super) fn observers(&self, group: &str, endpoint: &str) -> LinkObservers {
        let mut all = self.all();
        let observed = all
            .entry((group.to_owned(), endpoint.to_owned()))
            .or_insert_with(|| Observed {
                reply_seconds: Buckets::new(&SECONDS),
                delivery_seconds: Buckets::new(&SECONDS),
                frame_events: Buckets::new(&EVENTS),
            });
        LinkObservers {
            reply_seconds: Histogram::from_arc(Arc::clone(&observed.reply_seconds)),
            delivery_seconds: Histogram::from_arc(Arc::clone(&observed.delivery_seconds)),
            frame_events: Histogram::from_arc(Arc::clone(&observed.frame_events)),
        }
    }

    pub(super) fn all(&self) -> MutexGuard<'_, HashMap<(String, String), Observed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    fn new(bounds: &'static [f64]) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0.0_f64.to_bits()),
        })
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
            buckets.record(value);
        }
        let counts: Vec<_> = buckets.cumulative().collect();
        assert_eq!(counts, [(1.0, 2), (2.5, 4), (f64::INFINITY, 5)]);
        assert!((buckets.sum() - 105.0).abs() < 1e-9);
    }
}
