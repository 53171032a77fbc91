//! The routes that only look.

use std::time::{Instant, SystemTime};

use tokio::time::Instant as Deadline;
use weir::control::ReloadReport;

use super::fixture::SECRETS;
use super::metrics::series;
use super::support::Weir;

#[test]
fn status_and_metrics_say_the_same_and_add_up() {
    let weir = Weir::start(None);
    let (status, metrics) = (weir.get("/status").json(), weir.get("/metrics"));
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.head.contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    let series = series(&metrics.body);
    let groups = status["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2);
    for group in groups {
        let name = group["name"].as_str().unwrap();
        let events = &group["events"];
        let exported = |word: &str| series[&format!("weir_events_{word}{{group=\"{name}\"}}")];
        let mut sum = 0.0;
        for (word, key) in [
            ("delivered_total", "delivered"),
            ("rejected_total", "rejected"),
            ("queued", "queued"),
            ("inflight", "inflight"),
        ] {
            assert_eq!(exported(word), events[key].as_f64().unwrap(), "{name} {key}");
            sum += exported(word);
        }
        for (reason, n) in events["dropped"].as_object().unwrap() {
            let dropped =
                series[&format!("weir_events_dropped_total{{group=\"{name}\",reason=\"{reason}\"}}")];
            assert_eq!(dropped, n.as_f64().unwrap(), "{name} {reason}");
            sum += dropped;
        }
        assert_eq!(
            exported("accepted_total"),
            sum,
            "{name}: the balance, in the scrape"
        );
        assert_eq!(
            events["accepted"].as_f64().unwrap(),
            sum,
            "{name}: the balance, in the status"
        );
        for endpoint in group["endpoints"].as_array().unwrap() {
            let up = series[&format!(
                "weir_endpoint_up{{group=\"{name}\",endpoint={}}}",
                endpoint["name"]
            )];
            assert_eq!(up == 1.0, endpoint["state"] == "up");
            assert_eq!(
                endpoint["failures_total"].as_object().unwrap().len(),
                weir::status::FAILURES.len()
            );
        }
    }
    assert!(series["process_resident_memory_bytes"] > 0.0);
}

#[test]
fn status_has_everything_except_secrets() {
    let weir = Weir::start(Some("hidden-token"));
    weir.facts.send_modify(|f| {
        f.warnings.push("two TMs in loadbalance".into());
        f.reloaded(SystemTime::now(), Err(vec!["line 7: unknown key".into()]));
    });
    let answer = weir.get("/status");
    let status = answer.json();
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["log_level"], "info");
    assert_eq!(status["warnings"][0], "two TMs in loadbalance");
    assert_eq!(status["last_reload"]["successful"], false);
    assert_eq!(status["last_reload"]["problems"][0], "line 7: unknown key");
    assert_eq!(
        status["config"]["groups"][0]["endpoints"][1]["auth"],
        "tcp://tm2.example:9711"
    );
    assert_eq!(status["config"]["groups"][0]["block_timeout"], "1s");
    assert_eq!(status["config"]["groups"][0]["unavailable_after"], "never");
    assert_eq!(status["drain_remaining_seconds"], serde_json::Value::Null);
    for secret in SECRETS.iter().chain(&["hidden"]) {
        assert!(!answer.body.contains(secret), "{secret}");
    }
    weir.facts.send_modify(|f| {
        let changes = vec!["group north added".into()];
        f.reloaded(
            SystemTime::now(),
            Ok(ReloadReport {
                changes,
                needs_restart: vec![],
            }),
        );
    });
    assert_eq!(
        weir.get("/status").json()["last_reload"]["changes"][0],
        "group north added"
    );
}

#[test]
fn readiness_follows_the_phase_and_never_the_traffic_managers() {
    let weir = Weir::start(None);
    for group in &mut weir.snapshot.lock().unwrap().groups {
        group.available = false;
        group
            .endpoints
            .iter_mut()
            .for_each(|e| e.state = weir::status::LinkState::Down);
    }
    assert_eq!(
        (weir.get("/readyz").status, weir.get("/readyz").body.as_str()),
        (200, "ok\n")
    );
    let time = std::time::Duration::from_secs;
    weir.lifecycle.drain(Deadline::now(), time(30), time(60));
    assert_eq!(weir.get("/readyz").status, 503);
    let verbose = weir.get("/readyz?verbose");
    assert_eq!(verbose.status, 503);
    assert!(verbose.body.contains("[-] not draining") && verbose.body.contains("[+] listeners bound"));
    assert_eq!(weir.get("/livez").status, 200, "a draining weir lives");
}

#[test]
fn a_worker_that_is_stuck_fails_liveness_and_says_so() {
    let (weir, _ends) = Weir::stuck();
    let begun = Instant::now();
    let answer = weir.get("/livez");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("worker has not answered"), "{}", answer.body);
    assert!(begun.elapsed().as_secs() < 8);
    assert_eq!(weir.get("/readyz").status, 200, "readiness asks no worker");
}

#[test]
fn a_worker_that_has_ended_fails_liveness_at_once() {
    let (weir, ends) = Weir::stuck();
    drop(ends);
    assert_eq!(weir.get("/livez").status, 503);
}

#[test]
fn the_page_is_one_document_and_may_load_nothing_else() {
    let weir = Weir::start(Some("token"));
    let page = weir.get("/");
    assert_eq!(page.status, 200);
    for part in [
        "content-type: text/html",
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
    ] {
        assert!(page.head.contains(part), "{}", page.head);
    }
    assert!(!page.head.contains("unsafe"));
    assert!(page.body.contains("prefers-color-scheme: dark"));
    assert!(page.body.trim_end().ends_with("</html>"));
    let text = page.body.replace("http://www.w3.org/2000/svg", "");
    for afar in ["http:", "https:", "src=", "@import", "url(", "rel=\"stylesheet\""] {
        assert!(!text.contains(afar), "loads from afar: {afar}");
    }
    for blocked in ["style=", "onload=", "onclick="] {
        assert!(!text.contains(blocked), "the policy blocks it: {blocked}");
    }
    assert!(!text.contains("innerHTML"), "text from weir is never markup");
}

#[test]
fn unknown_paths_and_methods_are_answered_with_the_known_ones() {
    let weir = Weir::start(None);
    let missing = weir.get("/metric");
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("/metrics"));
    assert_eq!(weir.ask("POST", "/metrics", &[], "").status, 405);
    assert_eq!(weir.get("/reload").status, 405);
    let head = weir.ask("HEAD", "/status", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("connection: close"));
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = weir::admin::bind(address, &weir::net::Ports::default()).unwrap_err();
    assert!(
        error.contains("admin.listen") && error.contains(&address.to_string()),
        "{error}"
    );
    assert!(
        error.contains("in use") && error.contains("another port"),
        "{error}"
    );
}
