//! The routes that change something, and who may.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::control::ReloadReport;
use weir::lifecycle::{End, Phase};

use super::fixture;
use super::support::Weir;
use crate::support::{alone, log};

const CHANGES: [(&str, &str); 6] = [
    ("POST", "/reload"),
    ("POST", "/drain"),
    ("DELETE", "/drain"),
    ("POST", "/endpoints/east/tm1.example:9611/enable"),
    ("POST", "/endpoints/east/tm1.example:9611/disable"),
    ("PUT", "/log-level"),
];

#[test]
fn changes_need_the_token_and_reads_do_not() {
    let weir = Weir::start(Some("s3cret"));
    for (method, path) in CHANGES {
        for headers in [
            &[][..],
            &["Authorization: Bearer wrong"],
            &["Authorization: Basic s3cret"],
        ] {
            let answer = weir.ask(method, path, headers, "debug");
            assert_eq!(answer.status, 401, "{method} {path} {headers:?}");
            assert!(
                answer.head.contains("www-authenticate: bearer"),
                "{}",
                answer.head
            );
            assert!(answer.json()["error"].as_str().unwrap().contains("admin.token"));
        }
    }
    assert_eq!(weir.lifecycle.phase(), Phase::Ready);
    assert!(weir.switched.lock().unwrap().is_empty());
    for (method, path) in CHANGES {
        let answer = weir.ask(method, path, &["Authorization: Bearer s3cret"], "debug");
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
    }
    for path in ["/", "/metrics", "/livez", "/readyz", "/status", "/log-level"] {
        assert_eq!(weir.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_weir_without_a_supervisor_cannot_be_upgraded_and_says_what_to_do() {
    let weir = Weir::start(Some("s3cret"));
    assert_eq!(weir.ask("POST", "/upgrade", &[], "").status, 401);
    let answer = weir.ask("POST", "/upgrade", &["Authorization: Bearer s3cret"], "");
    assert_eq!(answer.status, 409);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("weir supervise") && error.contains("SIGTERM"),
        "{error}"
    );
    let status = weir.get("/status").json();
    assert_eq!(status["supervised"], false);
    assert_eq!(status["pid"], std::process::id());
}

#[test]
fn a_token_changed_by_a_reload_takes_effect_at_once() {
    let weir = Weir::start(Some("old"));
    weir.config.send_replace(Arc::new(fixture::config(Some("new"))));
    assert_eq!(
        weir.ask("POST", "/drain", &["Authorization: Bearer old"], "")
            .status,
        401
    );
    assert_eq!(
        weir.ask("POST", "/drain", &["Authorization: Bearer new"], "")
            .status,
        200
    );
}

#[test]
fn a_browser_on_this_machine_cannot_change_anything_for_another_site() {
    let weir = Weir::start(None);
    for (method, path) in CHANGES {
        for headers in [
            &["Origin: http://evil.example"][..],
            &["Origin: null"],
            &["Sec-Fetch-Site: cross-site"],
            &["Host: evil.example:9619", "Origin: http://evil.example:9619"],
            &["Host: evil.example:9619"],
        ] {
            let answer = weir.ask(method, path, headers, "debug");
            assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
            assert!(!answer.head.contains("access-control-allow"), "{}", answer.head);
        }
    }
    assert_eq!(
        weir.ask("OPTIONS", "/reload", &["Origin: http://evil.example"], "")
            .status,
        403
    );
    assert_eq!(weir.lifecycle.phase(), Phase::Ready);
    assert!(weir.switched.lock().unwrap().is_empty());
    assert_eq!(weir.get("/log-level").body, "info\n");
}

#[test]
fn a_browser_on_this_machine_cannot_read_anything_for_another_site() {
    for token in [None, Some("s3cret")] {
        let weir = Weir::start(token);
        for path in ["/", "/status", "/log-level"] {
            let answer = weir.ask("GET", path, &["Host: evil.example:9619"], "");
            assert_eq!(answer.status, 403, "{path}: {}", answer.body);
            assert!(
                !answer.body.contains("east") && !answer.body.contains("info"),
                "{}",
                answer.body
            );
            assert_eq!(weir.get(path).status, 200, "{path}, by its address");
            let shown = weir.ask(
                "GET",
                path,
                &["Host: weir.example", "Authorization: Bearer s3cret"],
                "",
            );
            let expected = if token.is_some() { 200 } else { 403 };
            assert_eq!(shown.status, expected, "{path}, with a token");
        }
        for path in ["/metrics", "/livez", "/readyz"] {
            let answer = weir.ask("GET", path, &["Host: weir.apim.svc:9619"], "");
            assert_eq!(answer.status, 200, "{path}: scrapers and probes use names");
        }
    }
}

#[test]
fn a_change_is_logged_even_if_its_caller_disconnects_before_the_answer() {
    alone(|| {
        log::keep();
        let weir = Weir::start(None);
        let reload_is_slow = weir.reload.lock().unwrap();
        let mut caller = weir.connect();
        let peer = caller.local_addr().unwrap();
        write!(caller, "POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        drop(caller);
        let line = || log::lines(peer).into_iter().next();
        let deadline = Instant::now() + Duration::from_secs(10);
        while line().is_none() {
            assert!(Instant::now() < deadline, "no line for {peer}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let line = line().unwrap();
        assert!(
            line.contains("admin call") && line.contains("POST /reload"),
            "{line}"
        );
        drop(reload_is_slow);
    });
}

#[test]
fn a_reload_answers_with_its_changes_or_with_every_problem() {
    let weir = Weir::start(None);
    let report = ReloadReport {
        changes: vec!["group west removed".into()],
        needs_restart: vec!["workers".into()],
    };
    *weir.reload.lock().unwrap() = Ok(report);
    let answer = weir.ask("POST", "/reload", &[], "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["changes"][0], "group west removed");
    assert_eq!(answer.json()["needs_restart"][0], "workers");
    *weir.reload.lock().unwrap() = Err(vec!["line 1".into(), "line 2".into()]);
    let answer = weir.ask("POST", "/reload", &[], "");
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn a_drain_starts_once_and_can_be_taken_back() {
    let weir = Weir::start(None);
    let answer = weir.ask("POST", "/drain", &[], "");
    assert_eq!(answer.json()["phase"], "draining");
    let begun = weir.lifecycle.phase();
    let Phase::Draining { deadline, .. } = begun else {
        panic!("not draining");
    };
    assert!(deadline.saturating_duration_since(tokio::time::Instant::now()) <= Duration::from_secs(30));
    weir.ask("POST", "/drain", &[], "");
    assert_eq!(weir.lifecycle.phase(), begun, "a second call keeps the deadline");
    assert_eq!(weir.get("/readyz").status, 503);
    assert!(
        weir.get("/status").json()["drain_remaining_seconds"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(weir.ask("DELETE", "/drain", &[], "").json()["phase"], "ready");
    assert_eq!(weir.get("/readyz").status, 200);
    let now = tokio::time::Instant::now();
    weir.lifecycle.end(
        now,
        Duration::from_secs(30),
        Duration::from_secs(60),
        End::Process,
    );
    assert_eq!(weir.get("/status").json()["drain_stage"], "notice");
    let answer = weir.ask("DELETE", "/drain", &[], "");
    assert_eq!(answer.status, 409, "a signal is not taken back: {}", answer.body);
    assert_eq!(weir.get("/readyz").status, 503);
}

#[test]
fn an_endpoint_is_disabled_by_its_name_with_a_colon() {
    let weir = Weir::start(None);
    for (path, enabled) in [
        ("/endpoints/east/tm2.example:9611/disable", false),
        ("/endpoints/east/tm2.example%3A9611/enable", true),
    ] {
        let answer = weir.ask("POST", path, &[], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let last = weir.switched.lock().unwrap().pop();
        assert_eq!(last, Some(("east".into(), "tm2.example:9611".into(), enabled)));
    }
    let unknown = weir.ask("POST", "/endpoints/east/tm9:1/disable", &[], "");
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.body.contains("tm1.example:9611, tm2.example:9611"),
        "{}",
        unknown.body
    );
    let unknown = weir.ask("POST", "/endpoints/north/tm1.example:9611/disable", &[], "");
    assert!(unknown.body.contains("there are east, west"), "{}", unknown.body);
    assert_eq!(
        weir.ask("POST", "/endpoints/east/tm1.example:9611/destroy", &[], "")
            .status,
        404
    );
    assert!(weir.switched.lock().unwrap().is_empty());
}

#[test]
fn the_log_level_is_read_and_set() {
    let weir = Weir::start(None);
    assert_eq!(weir.get("/log-level").body, "info\n");
    let set = weir.ask("PUT", "/log-level", &[], "weir::egress=debug,warn\n");
    assert_eq!(
        (set.status, set.body.as_str()),
        (200, "weir::egress=debug,warn\n")
    );
    assert_eq!(weir.get("/status").json()["log_level"], "weir::egress=debug,warn");
    let wrong = weir.ask("PUT", "/log-level", &[], "loud");
    assert_eq!(wrong.status, 400);
    assert!(wrong.json()["error"].as_str().unwrap().contains("loud"));
    assert_eq!(weir.get("/log-level").body, "weir::egress=debug,warn\n");
}
