//! What a scrape holds: everything, once, with HELP and TYPE, and numbers that add up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use weir::control::{Facts, ReloadReport};
use weir::lifecycle::Phase;
use weir::metrics::{Kind, Metric, Metrics, ProcessState, Sample, Source};

use super::fixture;

/// Series as written, with their values.
pub(crate) type Series = BTreeMap<String, f64>;

pub(crate) fn series(text: &str) -> Series {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (
                series.to_owned(),
                value.parse().unwrap_or_else(|_| panic!("{line}")),
            )
        })
        .collect()
}

fn look() -> ProcessState {
    let mut facts = Facts::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    facts.certificate_not_after = Some(UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    ProcessState {
        snapshot: fixture::snapshot(),
        facts,
        phase: Phase::Ready,
    }
}

#[test]
fn every_number_of_a_snapshot_is_exported() {
    let look = look();
    let values: BTreeSet<String> = series(&Metrics::new().render(&look))
        .values()
        .map(f64::to_string)
        .collect();
    let mut looked_at = 0;
    walk(
        "",
        &serde_json::to_value(&look.snapshot).unwrap(),
        &mut |key, n| {
            let value = match key {
                // For people who wait for it: no series is made of a countdown.
                "again_in_ms" => return,
                key if key.ends_with("_ms") => n / 1e3,
                key if key.ends_with("_nanos_total") => n / 1e9,
                _ => n,
            };
            looked_at += 1;
            assert!(
                values.contains(&value.to_string()),
                "{key} = {n} is not in the scrape"
            );
        },
    );
    assert!(looked_at > 100, "{looked_at}");
}

fn walk(key: &str, value: &Value, found: &mut impl FnMut(&str, f64)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, v)| walk(key, v, found)),
        Value::Array(list) => list.iter().for_each(|v| walk(key, v, found)),
        Value::Number(n) => found(key, n.as_f64().unwrap()),
        _ => {}
    }
}

#[test]
fn the_text_is_what_prometheus_wants_and_the_catalogue_promises() {
    let metrics = Metrics::new();
    metrics
        .link("east", "tm1.example:9611")
        .reply_seconds
        .record(0.004);
    let text = metrics.render(&look());
    let catalogue: BTreeMap<_, _> = metrics.catalogue().into_iter().map(|m| (m.name, m)).collect();
    assert_eq!(
        catalogue.len(),
        metrics.catalogue().len(),
        "a name is there twice"
    );
    let (mut helped, mut typed, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut current: Option<&Metric> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            current = Some(
                catalogue
                    .get(name)
                    .unwrap_or_else(|| panic!("{name} is not in the catalogue")),
            );
            assert_eq!(current.unwrap().help, help);
            assert!(helped.insert(name), "{name} is there twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(current.map(|m| m.name), Some(name), "TYPE follows HELP");
            assert_eq!(current.unwrap().kind.as_str(), kind, "{name}");
            typed.insert(name);
        } else {
            let (series, _) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "{series} is there twice");
            check_series(current.unwrap(), series);
        }
    }
    assert_eq!(helped, typed);
    for metric in catalogue.values() {
        let with_series = seen
            .iter()
            .any(|s| s.split('{').next().unwrap().starts_with(metric.name));
        let histogram_unused = metric.kind == Kind::Histogram && metric.name != "weir_endpoint_reply_seconds";
        assert!(with_series || histogram_unused, "{} has no series", metric.name);
        assert_eq!(
            metric.kind == Kind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
        assert!(
            metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']),
            "{}",
            metric.name
        );
        assert!(metric.name.starts_with("weir_") || metric.name.starts_with("process_"));
    }
    assert_eq!(catalogue["weir_queue_bytes"].unit(), "bytes");
    assert_eq!(catalogue["weir_gateway_blocked_seconds_total"].unit(), "seconds");
    assert_eq!(catalogue["weir_group_available"].unit(), "");
}

fn check_series(metric: &Metric, series: &str) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let mut names: Vec<&str> = labels
        .split("=\"")
        .filter_map(|part| part.rsplit(['"', ',', '{']).next())
        .collect();
    names.pop();
    let suffix = name
        .strip_prefix(metric.name)
        .unwrap_or_else(|| panic!("{name} under {}", metric.name));
    match metric.kind {
        Kind::Histogram => {
            assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{series}");
            names.retain(|n| *n != "le");
        }
        _ => assert_eq!(suffix, "", "{series}"),
    }
    assert_eq!(names, metric.labels, "{series}");
}

#[test]
fn cpu_seconds_have_a_fraction() {
    let metrics = Metrics::new();
    let mut values = BTreeSet::new();
    // The clock of the process's CPU time ticks a hundred times a second.
    while values.len() < 4 {
        let cpu = series(&metrics.render(&look()))["process_cpu_seconds_total"];
        values.insert((cpu * 1e3).round() as u64);
    }
    let whole = values.iter().filter(|ms| *ms % 1000 == 0).count();
    assert!(whole <= 1, "in milliseconds: {values:?}");
}

#[test]
fn names_from_a_configuration_cannot_break_the_text() {
    let mut look = look();
    look.snapshot.groups[0].name = "a\"b\\c\nd{e=\"f\"} 1".into();
    let metrics = Metrics::new();
    metrics
        .link(&look.snapshot.groups[0].name, "tm1.example:9611")
        .delivery_seconds
        .record(10.0);
    let text = metrics.render(&look);
    let label = r#"group="a\"b\\c\nd{e=\"f\"} 1""#;
    assert!(
        text.contains(&format!("weir_events_queued{{{label}}} ")),
        "{text}"
    );
    assert!(text.contains(&format!(
        "weir_endpoint_delivery_seconds_count{{{label},endpoint=\"tm1.example:9611\"}} 1\n"
    )));
    series(&text);
}

#[test]
fn a_removed_endpoint_has_no_series_and_comes_back_with_its_counts() {
    let metrics = Metrics::new();
    let link = metrics.link("west", "tm3.example:9611");
    link.reply_seconds.record(0.02);
    link.frame_events.record(200.0);
    let mut smaller = look();
    smaller.snapshot.groups.retain(|g| g.name != "west");
    assert!(
        metrics
            .render(&look())
            .contains("weir_endpoint_frame_events_sum{group=\"west\"")
    );
    assert!(!metrics.render(&smaller).contains("west"));
    link.reply_seconds.record(0.02);
    let text = metrics.render(&look());
    let count = "weir_endpoint_reply_seconds_count{group=\"west\",endpoint=\"tm3.example:9611\"}";
    assert_eq!(series(&text).get(count), Some(&2.0), "{text}");
    assert!(
        text.contains("reply_seconds_bucket{group=\"west\",endpoint=\"tm3.example:9611\",le=\"0.01\"} 0\n")
    );
    assert!(
        text.contains("reply_seconds_bucket{group=\"west\",endpoint=\"tm3.example:9611\",le=\"0.025\"} 2\n")
    );
}

#[test]
fn histograms_that_are_never_read_do_not_grow() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let metrics = Metrics::new();
    let link = metrics.link("one", "tm1.example:9611");
    let before = resident();
    for i in 0..10_000_000_u32 {
        link.reply_seconds.record(f64::from(i % 100) / 1e3);
    }
    // Kept one by one they took 160 MB. Other tests run beside this one.
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for what nobody has read");
}

#[test]
fn a_refused_reload_shows_and_leaves_the_time_of_the_last_good_one() {
    let mut look = look();
    let at = |text: &str, name: &str| series(text)[name];
    let metrics = Metrics::new();
    let later = UNIX_EPOCH + Duration::from_secs(1_800_000_100);
    look.facts.reloaded(later, Err(vec!["line 3".into()]));
    let text = metrics.render(&look);
    assert_eq!(at(&text, "weir_config_last_reload_successful"), 0.0);
    assert_eq!(
        at(&text, "weir_config_last_reload_success_timestamp_seconds"),
        1_800_000_000.0
    );
    look.facts.reloaded(later, Ok(ReloadReport::default()));
    let text = metrics.render(&look);
    assert_eq!(at(&text, "weir_config_last_reload_successful"), 1.0);
    assert_eq!(
        at(&text, "weir_config_last_reload_success_timestamp_seconds"),
        1_800_000_100.0
    );
    assert_eq!(
        at(&text, "weir_tls_certificate_not_after_timestamp_seconds"),
        1_900_000_000.0
    );
}

#[test]
fn a_module_adds_metrics_of_its_own() {
    let metrics = Metrics::new();
    let sample = |metric, labels: &[&str], value| Sample {
        metric,
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        value,
    };
    let samples = vec![
        sample("weir_decisions_connections", &["broker"], 3.0),
        sample("weir_decisions_connections", &[], 9.0),
        sample("weir_unheard_of", &["broker"], 9.0),
    ];
    metrics.add_source(Source {
        table: vec![Metric {
            name: "weir_decisions_connections",
            help: "Connections by side.",
            kind: Kind::Gauge,
            labels: vec!["side"],
        }],
        samples: Box::new(move || samples.clone()),
    });
    let text = metrics.render(&look());
    let expected = "# HELP weir_decisions_connections Connections by side.\n# TYPE weir_decisions_connections gauge\n\
                    weir_decisions_connections{side=\"broker\"} 3\n";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("unheard") && text.matches("weir_decisions_connections{").count() == 1);
    assert!(
        metrics
            .catalogue()
            .iter()
            .any(|m| m.name == "weir_decisions_connections")
    );
}
