//! Text exposition format 0.0.4 of what is projected: HELP and TYPE of each metric, then its series.
//!
//! Rows are the outer loop, so all series of a metric stand together, as the format wants it.

use std::fmt::Write;

use metrics_exporter_prometheus::formatting::sanitize_label_value;

use super::histogram::Buckets;
use super::table::{Read, Row, TABLE, Value};
use super::{Kind, Look, Source};

/// Writes every projected metric of the table.
pub(super) fn table(text: &mut String, look: &Look) {
    let process = metrics_process::collector::collect();
    for row in TABLE {
        match &row.read {
            Read::Process(value) => {
                heading(text, row.name, row.help, row.kind);
                value.write(text, row, &[], look);
            }
            Read::Ingress(value) => {
                heading(text, row.name, row.help, row.kind);
                value.write(text, row, &[], &look.snapshot.ingress);
            }
            Read::Group(value) => {
                heading(text, row.name, row.help, row.kind);
                for group in &look.snapshot.groups {
                    value.write(text, row, &[("group", &group.name)], group);
                }
            }
            Read::Endpoint(value) => {
                heading(text, row.name, row.help, row.kind);
                for group in &look.snapshot.groups {
                    for endpoint in &group.endpoints {
                        let labels = [("group", group.name.as_str()), ("endpoint", &endpoint.name)];
                        value.write(text, row, &labels, endpoint);
                    }
                }
            }
            Read::OfProcess(read) => {
                if let Some(value) = read(&process) {
                    heading(text, row.name, row.help, row.kind);
                    series(text, row.name, &[], value);
                }
            }
            Read::Observed(_) => {}
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

pub(super) fn heading(text: &mut String, name: &str, help: &str, kind: Kind) {
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
}

/// Writes one link's histogram: how many were at most each bound, the sum, and how many in all.
pub(super) fn histogram(text: &mut String, name: &str, labels: &[(&str, &str)], buckets: &Buckets) {
    let mut all = 0;
    for (bound, count) in buckets.cumulative() {
        let bound = if bound.is_finite() {
            bound.to_string()
        } else {
            "+Inf".to_owned()
        };
        let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
        series(text, &format!("{name}_bucket"), &labels, count as f64);
        all = count;
    }
    series(text, &format!("{name}_sum"), labels, buckets.sum());
    series(text, &format!("{name}_count"), labels, all as f64);
}

fn series(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    text.push_str(name);
    for (i, (label, value)) in labels.iter().enumerate() {
        let open = if i == 0 { '{' } else { ',' };
        let _ = write!(text, "{open}{label}=\"{}\"", sanitize_label_value(value));
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}
