//! deploy/grafana/weir.json: whole, legible, and made of metrics that there are.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::known::{Known, shown};
use super::{deploy, promtool, query, read};

/// Metrics that the dashboard does not show, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    (
        "weir_group_info",
        "says the policy, which does not change; a label to join with",
    ),
    (
        "process_virtual_memory_bytes",
        "reserved, not used; resident memory is what counts",
    ),
    ("process_virtual_memory_max_bytes", "the same"),
];

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&read(&deploy("grafana/weir.json"))).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Panels that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = list(&dashboard["panels"]).iter();
    panels.filter(|p| p["type"] != "row").collect()
}

/// Expressions as Prometheus gets them, with their legends.
pub(crate) fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let targets = panels(dashboard).into_iter().flat_map(|p| list(&p["targets"]));
    targets
        .map(|target| {
            let text = target["expr"].as_str().unwrap();
            let text = text.replace("$__rate_interval", "5m").replace("$instance", ".*");
            assert!(!text.contains('$'), "{text}");
            (text, target["legendFormat"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn the_dashboard_uses_existing_metrics_and_omits_none_by_oversight() {
    let known = Known::ask();
    let dashboard = dashboard();
    let expressions = expressions(&dashboard);
    let wrong: Vec<String> = expressions
        .iter()
        .flat_map(|(expression, legend)| known.faults(expression, &shown(legend, "{{")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let seen: BTreeSet<&str> = expressions
        .iter()
        .flat_map(|(expression, _)| query::read(expression).named)
        .filter_map(|named| known.metric(&named.metric).map(|m| m.name))
        .collect();
    for metric in &known.catalogue {
        let left_out = NOT_SHOWN.iter().any(|(name, _)| *name == metric.name);
        assert_ne!(
            seen.contains(metric.name),
            left_out,
            "{}: in a panel of the dashboard, or in NOT_SHOWN with the reason",
            metric.name
        );
    }
    let gone: Vec<_> = NOT_SHOWN
        .iter()
        .filter(|(name, _)| known.metric(name).is_none())
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
#[ignore = "nightly: needs promtool"]
fn promtool_accepts_every_expression_of_the_dashboard() {
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (i, (expression, _)) in expressions(&dashboard()).iter().enumerate() {
        // JSON's strings are YAML's too.
        let text = Value::from(expression.as_str());
        writeln!(rules, "      - record: panel:{i}\n        expr: {text}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules"], &file);
}

#[test]
fn every_panel_has_a_unit_words_a_place_of_its_own_and_the_chosen_source() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().unwrap();
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is taken"
        );
        assert!(titles.insert(title), "two panels are called {title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: outside of the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title}: overlaps at {cell:?}");
        }
    }
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(
            panel["description"].as_str().is_some_and(|d| d.ends_with('.')),
            "{title}: no description"
        );
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title}: no unit"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let mut refs = BTreeSet::new();
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(refs.insert(target["refId"].as_str().unwrap()), "{title}");
        }
        assert!(!refs.is_empty(), "{title}: asks nothing");
    }
    let rows: Vec<&str> = list(&dashboard["panels"])
        .iter()
        .filter(|p| p["type"] == "row")
        .filter_map(|p| p["title"].as_str())
        .collect();
    let wanted = [
        "Overview",
        "Groups",
        "Endpoints",
        "Gateways",
        "Queues",
        "Latency",
        "Return leg",
        "Process",
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn source_and_instances_are_chosen_at_the_top() {
    let dashboard = dashboard();
    let variables = list(&dashboard["templating"]["list"]);
    let kinds: Vec<_> = variables.iter().map(|v| (&v["name"], &v["type"])).collect();
    assert_eq!(kinds.len(), 2);
    assert_eq!(kinds[0], (&"datasource".into(), &"datasource".into()));
    assert_eq!(kinds[1], (&"instance".into(), &"query".into()));
    assert_eq!(variables[1]["datasource"]["uid"], "${datasource}");
    for target in panels(&dashboard).into_iter().flat_map(|p| list(&p["targets"])) {
        let text = target["expr"].as_str().unwrap();
        assert!(
            text.contains("instance=~\"$instance\""),
            "{text}: shows all instances"
        );
    }
}
