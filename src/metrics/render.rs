//! Text exposition format 0.0.4: HELP and TYPE of each metric, then its series. The lines are those of
//! metrics-exporter-prometheus; the numbers are read from a snapshot and from the links' histograms.

use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::histogram::{Buckets, Endpoints};
use super::table::{Read, Row, TABLE, Value};
use super::{Kind, ProcessState, Source};

/// Writes every metric of the table.
pub(super) fn table(text: &mut String, state: &ProcessState, histograms: &Endpoints) {
    let process = metrics_process::collector::collect();
    let histograms = histograms.all();
    let endpoints = || {
        let groups = state.snapshot.groups.iter();
        groups.flat_map(|group| {
            group
                .endpoints
                .iter()
                .map(move |endpoint| (&group.name, endpoint))
        })
    };
    for row in TABLE {
        heading(text, row.name, row.help, row.kind);
        match &row.read {
            Read::Process(value) => value.write(text, row, &[], state),
            Read::Ingress(value) => value.write(text, row, &[], &state.snapshot.ingress),
            Read::Group(value) => {
                for group in &state.snapshot.groups {
                    value.write(text, row, &[("group", &group.name)], group);
                }
            }
            Read::Endpoint(value) => {
                for (group, endpoint) in endpoints() {
                    let labels = [("group", group.as_str()), ("endpoint", &endpoint.name)];
                    value.write(text, row, &labels, endpoint);
                }
            }
            Read::Observed(read) => {
                for (group, endpoint) in endpoints() {
                    let labels = labels(&[("group", group), ("endpoint", &endpoint.name)]);
                    if let Some(observed) = histograms.get(&(group.clone(), endpoint.name.clone())) {
                        histogram(text, row.name, &labels, read(observed));
                    }
                }
            }
            Read::OfProcess(read) => {
                if let Some(value) = read(&process) {
                    series(text, row.name, &[], value);
                }
            }
        }
    }
}

impl<T> Value<T> {
    fn write(&self, text: &mut String, row: &Row, labels: &[(&str, &str)], from: &T) {
        match self {
            Value::One(read) => series(text, row.name, labels, read(from)),
            Value::Maybe(read) => {
                if let Some(value) = read(from) {
                    series(text, row.name, labels, value);
                }
            }
            Value::By(label, read) => {
                for (name, value) in read(from) {
                    let mut labels = labels.to_vec();
                    labels.push((label, name));
                    series(text, row.name, &labels, value);
                }
            }
        }
    }
}

/// Writes the metrics of a source; samples that do not fit its table are left out.
pub(super) fn source(text: &mut String, source: &Source) {
    let samples = (source.samples)();
    for metric in &source.table {
        heading(text, metric.name, metric.help, metric.kind);
        for sample in &samples {
            if sample.metric == metric.name && sample.labels.len() == metric.labels.len() {
                let values = sample.labels.iter().map(String::as_str);
                let labels: Vec<_> = metric.labels.iter().copied().zip(values).collect();
                series(text, metric.name, &labels, sample.value);
            }
        }
    }
}

fn heading(text: &mut String, name: &str, help: &str, kind: Kind) {
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, kind.as_str());
}

/// Writes one endpoint's histogram: how many were at most each bound, the sum, and how many in all.
fn histogram(text: &mut String, name: &str, labels: &LabelSet, buckets: &Buckets) {
    let mut all = 0;
    for (bound, count) in buckets.cumulative() {
        let bound = if bound.is_finite() {
            bound.to_string()
        } else {
            "+Inf".to_owned()
        };
        write_metric_line(
            text,
            name,
            Some("bucket"),
            labels,
            Some(("le", bound)),
            count,
            None,
        );
        all = count;
    }
    let no_label = None::<(&str, &str)>;
    write_metric_line(text, name, Some("sum"), labels, no_label, buckets.sum(), None);
    write_metric_line(text, name, Some("count"), labels, no_label, all, None);
}

fn series(text: &mut String, name: &str, pairs: &[(&str, &str)], value: f64) {
    write_metric_line(
        text,
        name,
        None,
        &labels(pairs),
        None::<(&str, &str)>,
        value,
        None,
    );
}

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    let labels: Vec<_> = pairs
        .iter()
        .map(|(name, value)| Label::new((*name).to_owned(), (*value).to_owned()))
        .collect();
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default())
}
