//! What there is to be named: the catalogue of a weir with everything switched on, and the series of its scrape.

use std::collections::{BTreeMap, BTreeSet};

use weir::decisions::Network;
use weir::lifecycle::Lifecycle;
use weir::metrics::{Kind, Metric, Metrics};
use weir::net::{ClientTls, Ports};

use super::query;
use crate::support::{Bed, Plan, scrape, story};

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// Labels whose values are names that users choose.
const FREE: [&str; 6] = ["instance", "job", "group", "endpoint", "broker", "version"];

/// Everything that an expression may name.
pub(crate) struct Known {
    pub(crate) catalogue: Vec<Metric>,
    /// Of each name of the scrape and each of its labels, the values.
    values: BTreeMap<(String, String), BTreeSet<String>>,
    names: BTreeSet<String>,
}

impl Known {
    /// Asks a whole weir: TLS and the return leg on, one Traffic Manager.
    pub(crate) fn ask() -> Self {
        let (catalogue, series) = story(async {
            let bed = Bed::start(Plan {
                tls: true,
                tables: "[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://127.0.0.1:9\"]\n".into(),
                listen: "max_connections = 123",
                ..Plan::groups(&["east"])
            })
            .await;
            let admin = bed.weir.addresses().admin.unwrap();
            let series = scrape(admin);
            assert_eq!(series["weir_gateway_connections_limit"], 123.0);
            let mut fewer = bed.config.clone();
            fewer.ingress.connections_max = 77;
            bed.weir.apply(fewer, Vec::new()).await.unwrap();
            assert_eq!(
                scrape(admin)["weir_gateway_connections_limit"],
                77.0,
                "after a reload"
            );
            // The same metrics once more, from where weir has them.
            let metrics = Metrics::new();
            let network = Network {
                tls: ClientTls::trusting_nobody().unwrap(),
                acceptor: None,
                idle_probe: None,
                ports: Ports::default(),
            };
            let decisions = bed.config.decisions.clone().unwrap();
            let leg = weir::decisions::start(decisions, network, &Lifecycle::new()).unwrap();
            metrics.add_source(leg.metrics());
            (metrics.catalogue(), series)
        });
        let mut known = Self {
            catalogue,
            values: BTreeMap::new(),
            names: BTreeSet::new(),
        };
        for series in series.keys() {
            let query = query::read(series);
            let named = &query.named[0];
            known.names.insert(named.metric.clone());
            for (label, _, value) in &named.matched {
                let key = (named.metric.clone(), label.clone());
                known.values.entry(key).or_default().insert(value.clone());
            }
        }
        known.agree();
        known
    }

    /// The catalogue says what the scrape shows.
    fn agree(&self) {
        for name in &self.names {
            let labels: BTreeSet<&str> = self
                .labels(name)
                .unwrap_or_else(|| panic!("{name} is in no table"));
            for (of, label) in self.values.keys().filter(|(of, _)| of == name) {
                assert!(
                    labels.contains(label.as_str()),
                    "{of} has {label} in the scrape only"
                );
            }
        }
        for metric in &self.catalogue {
            let name = match metric.kind {
                Kind::Histogram => format!("{}_bucket", metric.name),
                _ => metric.name.to_owned(),
            };
            // Brokers have series when they have been tried.
            assert!(
                self.names.contains(&name) || name == "weir_decisions_broker_up",
                "{name} is not in the scrape"
            );
        }
    }

    /// The metric of a series' name: a histogram's has three.
    pub(crate) fn metric(&self, name: &str) -> Option<&Metric> {
        self.catalogue.iter().find(|metric| match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|part| name.strip_suffix(part) == Some(metric.name)),
            _ => metric.name == name,
        })
    }

    fn labels(&self, name: &str) -> Option<BTreeSet<&str>> {
        if name == "up" {
            return Some(OF_PROMETHEUS.into());
        }
        let mut labels: BTreeSet<&str> = self.metric(name)?.labels.iter().copied().collect();
        if name.ends_with("_bucket") {
            labels.insert("le");
        }
        labels.extend(OF_PROMETHEUS);
        Some(labels)
    }

    /// What is wrong with the names of an expression; `shown` are labels named beside it.
    pub(crate) fn faults(&self, expression: &str, shown: &[String]) -> Vec<String> {
        let query = query::read(expression);
        let mut wrong = Vec::new();
        let mut all = BTreeSet::new();
        if query.named.is_empty() {
            wrong.push("names no metric".to_owned());
        }
        for named in &query.named {
            let Some(labels) = self.labels(&named.metric) else {
                wrong.push(format!("there is no {}", named.metric));
                continue;
            };
            for (label, operator, value) in &named.matched {
                if !labels.contains(label.as_str()) {
                    wrong.push(format!("{} has no label {label}", named.metric));
                } else if !FREE.contains(&label.as_str()) {
                    wrong.extend(self.unknown_values(&named.metric, label, operator, value));
                }
            }
            all.extend(labels);
        }
        for label in query.grouped.iter().chain(shown) {
            if !all.contains(label.as_str()) {
                wrong.push(format!("no metric of it has a label {label}"));
            }
        }
        wrong.iter().map(|w| format!("{w}: {expression}")).collect()
    }

    fn unknown_values(&self, metric: &str, label: &str, operator: &str, value: &str) -> Vec<String> {
        let known = self.values.get(&(metric.to_owned(), label.to_owned()));
        let values: Vec<&str> = if operator.ends_with('~') {
            value.split('|').collect()
        } else {
            vec![value]
        };
        values
            .into_iter()
            .filter(|v| !known.is_some_and(|known| known.contains(*v)))
            .map(|v| format!("{metric} has never {label}=\"{v}\""))
            .collect()
    }
}

/// Labels that a text shows between `before` and `}}`.
pub(crate) fn shown(text: &str, before: &str) -> Vec<String> {
    let parts = text.split(before).skip(1);
    parts
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .collect()
}

#[test]
fn a_wrong_name_label_or_value_is_found() {
    let known = Known {
        catalogue: Metrics::new().catalogue(),
        values: BTreeMap::from([(
            ("weir_phase".to_owned(), "phase".to_owned()),
            BTreeSet::from(["ready".to_owned()]),
        )]),
        names: BTreeSet::new(),
    };
    assert!(known.faults("weir_phase{phase=\"ready\"} == 1", &[]).is_empty());
    for wrong in [
        "weir_phases == 1",
        "weir_phase{state=\"ready\"}",
        "weir_phase{phase=\"redy\"}",
        "sum by (endpoint) (weir_phase)",
        "weir_endpoint_reply_seconds",
        "sum by (le) (weir_endpoint_reply_seconds_sum)",
        "vector(1)",
    ] {
        assert_eq!(known.faults(wrong, &[]).len(), 1, "{wrong}");
    }
    assert_eq!(known.faults("weir_events_queued", &["endpoint".into()]).len(), 1);
}
