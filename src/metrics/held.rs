//! Metrics that live in a registry: histograms recorded through held handles, and those of the process.
//!
//! The registry cannot forget a series, so those of groups and endpoints that are not in the snapshot are
//! left out when the text is rendered; should such an endpoint come back, its counts go on. Series never
//! expire by idleness: a held handle would go on writing into a series that nobody renders.

use std::collections::HashSet;

use metrics::{Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::formatting::sanitize_label_value;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;

use super::table::{ENDPOINT_DELIVERY_SECONDS, ENDPOINT_FRAME_EVENTS, ENDPOINT_REPLY_SECONDS, Read, TABLE};
use crate::status::Snapshot;

static METADATA: Metadata<'static> = Metadata::new("weir", Level::INFO, None);

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
    /// Nobody looks: what is recorded is forgotten at once.
    #[must_use]
    pub fn none() -> Self {
        Self {
            reply_seconds: Histogram::noop(),
            delivery_seconds: Histogram::noop(),
            frame_events: Histogram::noop(),
        }
    }
}

/// The registry and the reader of /proc/self.
pub(super) struct Held {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
}

impl Held {
    pub(super) fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for row in TABLE {
            if let Read::Observed(buckets) = row.read {
                // The only error is an empty list of buckets.
                builder = builder
                    .set_buckets_for_metric(Matcher::Full(row.name.into()), buckets)
                    .unwrap_or_else(|_| PrometheusBuilder::new());
            }
        }
        let recorder = builder.build_recorder();
        for row in TABLE {
            if let Read::Observed(_) = row.read {
                recorder.describe_histogram(row.name.into(), None, row.help.into());
            }
        }
        let process = Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let handle = recorder.handle();
        Self {
            recorder,
            handle,
            process,
        }
    }

    pub(super) fn link(&self, group: &str, endpoint: &str) -> LinkObservers {
        let labels = vec![
            Label::new("group", group.to_owned()),
            Label::new("endpoint", endpoint.to_owned()),
        ];
        let histogram = |name: &'static str| {
            self.recorder
                .register_histogram(&Key::from_parts(name, labels.clone()), &METADATA)
        };
        LinkObservers {
            reply_seconds: histogram(ENDPOINT_REPLY_SECONDS),
            delivery_seconds: histogram(ENDPOINT_DELIVERY_SECONDS),
            frame_events: histogram(ENDPOINT_FRAME_EVENTS),
        }
    }

    pub(super) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Appends `process_*` and the histograms of the links that are in `snapshot`.
    pub(super) fn render(&self, text: &mut String, snapshot: &Snapshot) {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let links = labels_of_links(snapshot);
        for line in self.handle.render().lines() {
            if !line.is_empty() && link_labels(line).is_none_or(|of| links.contains(of)) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

/// The labels of every link in the snapshot, as the exporter writes them.
fn labels_of_links(snapshot: &Snapshot) -> HashSet<String> {
    let mut links = HashSet::new();
    for group in &snapshot.groups {
        for endpoint in &group.endpoints {
            links.insert(format!(
                "group=\"{}\",endpoint=\"{}\"",
                sanitize_label_value(&group.name),
                sanitize_label_value(&endpoint.name)
            ));
        }
    }
    links
}

/// The part of a series that says whose link it is; `None` for a comment or a series without labels.
fn link_labels(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once('{').filter(|_| !line.starts_with('#'))?;
    let (labels, _) = rest.rsplit_once('}')?;
    Some(labels.rsplit_once(",le=\"").map_or(labels, |(link, _)| link))
}
