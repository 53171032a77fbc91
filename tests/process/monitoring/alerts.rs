//! deploy/prometheus: rules that promtool accepts, each tested both ways, named in the book, and made of
//! metrics that there are.

use std::path::Path;

use super::known::{Known, shown};
use super::{deploy, promtool, read};

/// An alert, as the lines of weir.rules.yml have it: one line a field.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expr: String,
    wait: String,
    labels: String,
    summary: String,
    description: String,
    runbook: String,
}

fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for line in read(&deploy("prometheus/weir.rules.yml")).lines() {
        let Some((key, value)) = line.trim().split_once(": ") else {
            continue;
        };
        let value = value.trim_matches(|c| c == '"' || c == '\'').to_owned();
        if key == "- alert" {
            alerts.push(Alert {
                name: value,
                ..Alert::default()
            });
            continue;
        }
        let Some(alert) = alerts.last_mut() else {
            continue;
        };
        match key {
            "expr" => alert.expr = value,
            "for" => alert.wait = value,
            "labels" => alert.labels = value,
            "summary" => alert.summary = value,
            "description" => alert.description = value,
            "runbook" => alert.runbook = value,
            _ => {}
        }
    }
    assert!(alerts.len() > 20, "only {} alerts found", alerts.len());
    alerts
}

#[test]
#[ignore = "nightly: needs promtool"]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    if promtool(&["check", "rules"], &deploy("prometheus/weir.rules.yml")) {
        promtool(&["test", "rules"], &deploy("prometheus/weir.rules.test.yml"));
    }
}

#[test]
fn every_alert_is_tested_both_ways() {
    let tests = read(&deploy("prometheus/weir.rules.test.yml"));
    for alert in alerts() {
        for (story, outcome) in [
            ("fires", "          - labels: 'ALERTS{"),
            ("stays quiet", "exp_samples: []"),
        ] {
            let title = format!("  - name: {} {story}\n", alert.name);
            let (_, rest) = tests
                .split_once(&title)
                .unwrap_or_else(|| panic!("no story {title}"));
            let body = rest.split("\n  - name: ").next().unwrap();
            let asked = format!("ALERTS{{alertname=\"{}\",alertstate=\"firing\"}}", alert.name);
            assert!(body.contains(&asked) && body.contains(outcome), "{title}: {body}");
        }
    }
}

#[test]
fn alerts_use_only_existing_metrics() {
    let known = Known::ask();
    let wrong: Vec<String> = alerts()
        .iter()
        .flat_map(|a| {
            let words = [a.summary.as_str(), &a.description].concat();
            let mut wrong = known.faults(&a.expr, &shown(&words, "$labels."));
            for name in words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                if name.starts_with("weir_") && known.metric(name).is_none() {
                    wrong.push(format!("{} speaks of {name}", a.name));
                }
            }
            wrong
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_has_the_summary_severity_and_link_of_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = read(&root.join("docs/MONITORING.md"));
    for a in alerts() {
        assert!(
            !a.wait.is_empty() && !a.summary.is_empty() && a.description.len() > 20,
            "{a:?}"
        );
        let severity = a.labels.trim_start_matches("{severity: ").trim_end_matches('}');
        assert!(["critical", "warning", "info"].contains(&severity), "{a:?}");
        let (file, anchor) = a.runbook.split_once('#').expect("a runbook is a section");
        let text = read(&root.join(file));
        let found = text.lines().filter(|l| l.starts_with('#')).any(|l| {
            let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ');
            let title = l.trim_start_matches(['#', ' ']).to_lowercase();
            title.chars().filter(kept).collect::<String>().replace(' ', "-") == anchor
        });
        assert!(found, "{}: {} leads nowhere", a.name, a.runbook);
        let row = format!("| `{}` | {severity} | {} |", a.name, a.wait);
        assert!(book.contains(&row), "docs/MONITORING.md lacks: {row}");
    }
    let rows = book.lines().filter(|line| line.starts_with("| `Weir")).count();
    assert_eq!(
        rows,
        alerts().len(),
        "docs/MONITORING.md has an alert that is gone"
    );
}
