//! `weir-lab soak`, for seconds instead of hours.

use serde_json::Value;

use super::printed;

#[test]
fn a_short_soak_passes_with_troubles_that_happened_and_says_how_it_went() {
    let text = printed(&[
        "soak",
        "--duration",
        "12s",
        "--seed",
        "1",
        "--rate",
        "500",
        "--connections",
        "8",
        "--report",
        "json",
    ]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["seed"], 1);
    assert_eq!(report["faults"], Value::Array(Vec::new()));
    assert_eq!(report["last"]["gateway_connections"], 0);
    assert_eq!(report["last"]["links"], 5);
    let verdict = &report["verdict"];
    assert_eq!(verdict["violations"], Value::Array(Vec::new()));
    assert!(verdict["acked"].as_u64().unwrap() > 1_000, "{text}");
    assert_eq!(verdict["acked"], verdict["issued"], "all was answered: {text}");
    assert_eq!(verdict["refused_by_agents"], 0, "{text}");
    for group in verdict["groups"].as_array().unwrap() {
        assert_eq!(group["missing"]["count"], 0, "{text}");
    }
    // A fresh event, and at least two kinds of trouble.
    assert!(verdict["witnesses"].as_array().unwrap().len() >= 3, "{text}");
}
