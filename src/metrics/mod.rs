//! What weir shows to Prometheus: every metric in one table, and how a scrape is rendered.
//!
//! Metrics are projected from one [`ProcessState`]: the numbers of one scrape are consistent, as those of /status are,
//! and a group or endpoint that a reload removed has no series any more. A registry offers neither.
//!
//! Histograms are recorded through handles of the `metrics` crate that links hold ([`LinkObservers`]). A module with
//! metrics of its own adds a [`Source`].

mod histogram;
mod render;
mod table;

use std::sync::{Arc, Mutex, PoisonError};

use crate::control::Facts;
use crate::lifecycle::Phase;
use crate::status::Snapshot;

pub use histogram::LinkObservers;

/// What a metric is, apart from its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Full name, by the conventions of Prometheus: base units, `_total` for counters.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Names of its labels, in the order of a sample's values.
    pub labels: Vec<&'static str>,
}

impl Metric {
    /// The unit, which by convention ends the name: `seconds`, `bytes`, `events`, `frames` …; or nothing.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes", "events", "frames", "connections"]
            .into_iter()
            .find(|unit| name.ends_with(unit))
            .unwrap_or_default()
    }
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// The word after `# TYPE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What a scrape and /status are made from.
#[derive(Debug, Clone)]
pub struct ProcessState {
    /// The workers, added up.
    pub snapshot: Snapshot,
    /// What no worker knows.
    pub facts: Facts,
    /// The phase of the process.
    pub phase: Phase,
}

/// One value of a [`Source`]'s metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of a metric in the source's table.
    pub metric: &'static str,
    /// A value for each of that metric's labels, in their order.
    pub labels: Vec<String>,
    /// The value, in the unit of the name.
    pub value: f64,
}

/// Metrics of a module that keeps its own numbers.
pub struct Source {
    /// Its metrics, counters and gauges only; the names must be new.
    pub table: Vec<Metric>,
    /// Called once a scrape, on the admin thread; must not block. A sample whose name is not in `table`
    /// or whose labels do not fit is left out.
    pub samples: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

/// A handle on all metrics; clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    histograms: Arc<histogram::Endpoints>,
    sources: Arc<Mutex<Vec<Source>>>,
}

impl Metrics {
    /// Without series.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The histograms of one endpoint, for its link to hold. Those of several workers add up.
    #[must_use]
    pub fn link(&self, group: &str, endpoint: &str) -> LinkObservers {
        self.histograms.observers(group, endpoint)
    }

    /// Adds the metrics of a module.
    pub fn add_source(&self, source: Source) {
        self.sources().push(source);
    }

    /// Every metric there is, in the order of the rendering.
    #[must_use]
    pub fn catalogue(&self) -> Vec<Metric> {
        let mut all: Vec<Metric> = table::TABLE.iter().map(table::Row::metric).collect();
        all.extend(self.sources().iter().flat_map(|s| s.table.clone()));
        all
    }

    /// The text of a scrape.
    #[must_use]
    pub fn render(&self, state: &ProcessState) -> String {
        let mut text = String::with_capacity(32 * 1024);
        render::table(&mut text, state, &self.histograms);
        for source in self.sources().iter() {
            render::source(&mut text, source);
        }
        text
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
