//! The numbers for Prometheus: documented, fitting their table, and equal to the status.

use std::collections::BTreeSet;

use weir::decisions::{BROKER_FAILURES, HANDSHAKE_FAILURES, LEAVE_REASONS, STATES, Side};

use super::relay::pair;
use super::support::*;

#[tokio::test]
async fn every_metric_fits_its_table_is_documented_and_says_what_the_status_says() {
    let stub = StubBroker::new().await;
    let weir = Weir::new(config(&[stub.addr()]));
    let (mut gateway, mut broker) = pair(&weir, &stub, 0).await;
    broker.send(&body(100, 1)).await;
    gateway.expect(&body(100, 1)).await;
    let source = weir.handle.metrics();
    let names: BTreeSet<&str> = source.table.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), source.table.len(), "no name twice");
    let samples = (source.samples)();
    let mut series = BTreeSet::new();
    for sample in &samples {
        let metric = source.table.iter().find(|m| m.name == sample.metric).unwrap();
        assert_eq!(metric.labels.len(), sample.labels.len(), "{sample:?}");
        assert!(
            series.insert((sample.metric, &sample.labels)),
            "twice: {sample:?}"
        );
    }
    let seen: BTreeSet<&str> = samples.iter().map(|s| s.metric).collect();
    assert_eq!(seen, names, "every metric has a value");
    let value = |name: &str, labels: &[&str]| {
        let found = samples.iter().find(|s| s.metric == name && s.labels == labels);
        found.unwrap_or_else(|| panic!("{name} {labels:?}")).value
    };
    let status = weir.handle.status();
    assert!((value("weir_decisions_connections", &["client", "open"]) - 1.0).abs() < 1e-9);
    let bytes = value("weir_decisions_relayed_bytes_total", &["to_client"]);
    assert!((bytes - status.to_client.bytes_total as f64).abs() < 1e-9 && bytes > 108.0);
    let name = status.brokers[0].name.as_str();
    assert!((value("weir_decisions_broker_up", &[name]) - 1.0).abs() < 1e-9);

    let book = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RETURN-LEG.md")).unwrap();
    for metric in &source.table {
        assert!(
            book.contains(&format!("`{}`", metric.name)),
            "docs/RETURN-LEG.md lacks {}",
            metric.name
        );
    }
    for word in book.split('`').filter(|w| w.starts_with("weir_decisions_")) {
        assert!(
            names.contains(word),
            "docs/RETURN-LEG.md knows {word}, weir does not"
        );
    }
    for label in STATES
        .iter()
        .chain(&HANDSHAKE_FAILURES)
        .chain(&BROKER_FAILURES)
        .chain(&LEAVE_REASONS)
    {
        assert!(
            book.contains(&format!("`{label}`")),
            "docs/RETURN-LEG.md lacks the label {label}"
        );
    }
}

#[test]
fn the_page_names_keys_that_exist() {
    let read =
        |page: &str| std::fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (book, tests) = (read("docs/RETURN-LEG.md"), read("docs/testing/leg.md"));
    let labels = [Side::Client, Side::Broker].map(|side| format!("to_{}", side.as_str()));
    let known = |word: &str| {
        weir::config::keys()
            .iter()
            .any(|key| key.path.split('.').any(|part| part == word))
            || HANDSHAKE_FAILURES.contains(&word)
            || labels.iter().any(|label| label == word)
            // A part of a test's name, for the command line.
            || tests.contains(word)
            // Of AMQP, and a queue's name.
            || word == "frame_max"
            || word.starts_with("tmp_")
    };
    let is_name = |word: &&str| {
        word.contains('_')
            && !word.starts_with("weir_")
            && word.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
    };
    let unknown: Vec<&str> = book
        .split('`')
        .filter(is_name)
        .filter(|word| !known(word))
        .collect();
    assert_eq!(unknown, Vec::<&str>::new());
}
