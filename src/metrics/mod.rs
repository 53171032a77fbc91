//! What weir shows to Prometheus: every metric in one table, and how a scrape is rendered.
//!
//! Most metrics are projected from one [`Look`]: a snapshot in which all numbers belong together, so the
//! numbers of one scrape add up as those of /status do, and the series of a group or endpoint that a reload
//! removed are simply not there any more. A registry can do neither, and its counters know whole numbers only.
//!
//! What cannot be read off plain counters goes through the `metrics` crate: histograms, recorded through held
//! handles ([`LinkObservers`]). A room with metrics of its own joins as a [`Source`].

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

/// Everything a scrape is projected from.
#[derive(Debug, Clone)]
pub struct Look {
    /// The workers, added up.
    pub snapshot: Snapshot,
    /// What only the composition root knows.
    pub facts: Facts,
    /// Where in its life the process is.
    pub phase: Phase,
}

/// One value of a metric that a [`Source`] brings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of a metric in the source's table.
    pub metric: &'static str,
    /// A value for each of that metric's labels, in their order.
    pub labels: Vec<String>,
    /// The value, in the unit of the name.
    pub value: f64,
}

/// Metrics of a room that keeps its numbers itself.
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
    /// No series yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The histograms of one endpoint, for its link to hold. Those of several workers add up.
    #[must_use]
    pub fn link(&self, group: &str, endpoint: &str) -> LinkObservers {
        self.histograms.observers(group, endpoint)
    }

    /// Lets a room join with metrics of its own.
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
    pub fn render(&self, look: &Look) -> String {
        let mut text = String::with_capacity(32 * 1024);
        render::table(&mut text, look, &self.histograms);
        for source in self.sources().iter() {
            render::source(&mut text, source);
        }
        text
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
