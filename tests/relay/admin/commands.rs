//! The commands to a running weir, as the binary would run them.

use std::net::IpAddr;

use clap::Parser;
use weir::admin::client::{Problem, perform};
use weir::cli::{Cli, Command};
use weir::control::ReloadReport;
use weir::lifecycle::Phase;
use weir::status::{Gateway, Gateways};

use super::support::Weir;

fn run(weir: &Weir, line: &str) -> Result<String, Problem> {
    let url = format!("http://{}", weir.address);
    let words = ["weir"]
        .into_iter()
        .chain(line.split(' '))
        .chain(["--admin", &url]);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Admin(command) => perform(&command),
        other => panic!("{other:?}"),
    }
}

#[test]
fn status_shows_groups_and_endpoints_and_why_one_is_down() {
    let weir = Weir::start(None);
    let text = run(&weir, "status").unwrap();
    for part in [
        "ready",
        "GROUP",
        "east",
        "failover",
        "blocking",
        "tm2.example:9611",
        "refused: connection refused",
        "; next attempt in 1m 20s",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains('\x1b'), "a peer's text steers no terminal");
    let delivered = weir.snapshot.lock().unwrap().groups[0].events.delivered;
    assert!(text.contains(&delivered.to_string()), "{text}");
    let json: serde_json::Value = serde_json::from_str(&run(&weir, "status --json").unwrap()).unwrap();
    assert_eq!(json["groups"][0]["events"]["delivered"], delivered);
}

#[test]
fn status_shows_an_endpoint_that_does_not_answer_and_the_age_of_what_is_undelivered() {
    let weir = Weir::start(None);
    let set = |inflight_ms, undelivered_ms| {
        let mut snapshot = weir.snapshot.lock().unwrap();
        snapshot.groups[1].endpoints[0].oldest_inflight_ms = 0;
        let group = &mut snapshot.groups[0];
        (group.oldest_queued_ms, group.oldest_undelivered_ms) = (0, undelivered_ms);
        group.endpoints[0].oldest_inflight_ms = inflight_ms;
    };
    // The fixture's reply_timeout is a second, so half a second is late.
    set(499, 499);
    let text = run(&weir, "status").unwrap();
    assert!(!text.contains("not answering"), "{text}");
    set(14_200, 75_000);
    let text = run(&weir, "status").unwrap();
    for part in ["up, not answering for 14s", "1m 15s"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("return leg"), "it is off: {text}");
}

#[test]
fn status_lists_who_is_still_connected_in_a_drain_and_how_many_addresses_are_left_out() {
    let weir = Weir::start(None);
    // The last address has the most connections.
    let gateway = |n: u8| Gateway {
        connections: 100 + u64::from(n),
        sent_away: 70 + u64::from(n),
        publishing: 50,
        idle: 3,
    };
    let all = (0..40).map(|n| (IpAddr::from([10, 0, 0, n]), gateway(n)));
    weir.snapshot.lock().unwrap().gateways = all.collect();
    let json = weir.get("/status").json();
    let (list, more) = (
        json["gateways"]["list"].as_array().unwrap(),
        &json["gateways"]["more"],
    );
    assert_eq!((list.len(), more), (32, &8.into()));
    let first = serde_json::json!({
        "address": "10.0.0.39", "connections": 139, "sent_away": 109, "publishing": 50, "idle": 3
    });
    assert_eq!((&list[0], &list[31]["address"]), (&first, &"10.0.0.8".into()));
    let text = run(&weir, "status").unwrap();
    assert!(!text.contains("10.0.0."), "weir does not drain: {text}");

    let time = std::time::Duration::from_secs;
    weir.lifecycle
        .drain(tokio::time::Instant::now(), time(30), time(60));
    let text = run(&weir, "status").unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    for line in [
        "GATEWAY CONNECTIONS SENT_AWAY PUBLISHING IDLE",
        "10.0.0.39 139 109 50 3",
        "10.0.0.8 108 78 50 3",
        "and 8 more addresses with fewer connections",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(lines.contains(&words), "{line:?} is missing:\n{text}");
    }
    assert!(!text.contains("10.0.0.7 "), "{text}");
    weir.snapshot.lock().unwrap().gateways = Gateways::default();
    let text = run(&weir, "status").unwrap();
    assert!(text.contains("no gateway is connected"), "{text}");
}

#[test]
fn reload_prints_changes_or_problems_and_exits_accordingly() {
    let weir = Weir::start(None);
    assert_eq!(run(&weir, "reload").unwrap(), "reloaded: no changes\n");
    let report = ReloadReport {
        changes: vec!["group west removed".into()],
        needs_restart: vec!["workers".into()],
    };
    *weir.reload.lock().unwrap() = Ok(report);
    assert_eq!(
        run(&weir, "reload").unwrap(),
        "reloaded:\n  - group west removed\nthese take effect after a restart:\n  - workers\n"
    );
    *weir.reload.lock().unwrap() = Err(vec!["line 3: unknown key".into()]);
    let problem = run(&weir, "reload").unwrap_err();
    assert_eq!(problem.code, 2);
    assert!(
        problem.message.contains("refused") && problem.message.contains("  - line 3: unknown key"),
        "{problem:?}"
    );
}

#[test]
fn drain_endpoint_and_log_level_take_effect() {
    let weir = Weir::start(Some("s3cret"));
    assert!(
        run(&weir, "drain --token s3cret")
            .unwrap()
            .starts_with("draining: sending away, ")
    );
    assert_eq!(run(&weir, "drain --undo --token s3cret").unwrap(), "ready\n");
    assert_eq!(weir.lifecycle.phase(), Phase::Ready);
    let text = run(&weir, "endpoint disable east tm2.example:9611 --token s3cret").unwrap();
    assert_eq!(text, "disabled tm2.example:9611 of group east\n");
    assert_eq!(weir.switched.lock().unwrap().len(), 1);
    assert_eq!(run(&weir, "log-level debug --token s3cret").unwrap(), "debug\n");
    assert_eq!(run(&weir, "log-level").unwrap(), "debug\n");
}

#[test]
fn a_refusal_exits_with_two_and_an_unreachable_weir_with_one() {
    let weir = Weir::start(Some("s3cret"));
    let problem = run(&weir, "drain --token wrong").unwrap_err();
    assert!(
        problem.code == 2 && problem.message.contains("admin.token"),
        "{problem:?}"
    );
    let problem = run(&weir, "endpoint enable east nobody:1 --token s3cret").unwrap_err();
    assert!(
        problem.code == 2 && problem.message.contains("tm1.example:9611"),
        "{problem:?}"
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let line = format!("weir status --admin http://{nobody}");
    let Command::Admin(command) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
        panic!("not an admin command");
    };
    let problem = perform(&command).unwrap_err();
    assert!(
        problem.code == 1 && problem.message.contains("is weir running"),
        "{problem:?}"
    );
}
