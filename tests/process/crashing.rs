//! A part of weir that panics or hangs: the process never goes on without it as if nothing had happened.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::time::Instant;
use weir_lab::{Close, Load, LoadOptions};

use crate::support::process::Process;
use crate::support::sabotage::{self, Sabotage};
use crate::support::stage::Stage;
use crate::support::{Plan, get, story};

/// With a return leg, as it has a thread of its own.
fn plan(top: &'static str) -> Plan {
    let beat = "{ delay = 2, timeout_factor = 2.0 }";
    Plan {
        top,
        tables: format!(
            "[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://127.0.0.1:1\"]\nheartbeat = {beat}\nclient_heartbeat = {beat}\n"
        ),
        ..Plan::groups(&["dead", "alive"])
    }
}

/// Its first group is away and holds this many events.
async fn holding(stage: &Stage, events: u64) {
    stage.sinks[0].kill(Close::Rst).await;
    let load = Load::start(LoadOptions {
        connections: 4,
        count: Some(events),
        ..stage.load()
    });
    assert_eq!(load.finish().await.counts.events_acked, events);
    let is = |s: &crate::support::process::Status| {
        s.of("dead", "events/queued") == events && s.of("alive", "events/delivered") == events
    };
    stage
        .weir
        .until("one group holds all, the other nothing", is)
        .await;
}

/// The status line of an answer.
fn asked(weir: &Process, path: &str) -> String {
    let mut stream = TcpStream::connect(weir.admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", weir.admin).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn a_panic_in_any_thread_ends_the_process_and_resets_every_gateway() {
    if !sabotage::possible() {
        return;
    }
    story(async {
        for thread in ["weir-worker-0", "weir-admin", "weir-decisions", "weir"] {
            let mut stage = Stage::start(plan("")).await;
            assert_eq!(get(stage.weir.admin, "/readyz"), "ok\n");
            let mut gateways: Vec<TcpStream> = (0..8)
                .map(|_| TcpStream::connect(stage.weir.tcp).unwrap())
                .collect();
            stage
                .weir
                .until("gateways", |s| s.number("/ingress/connections_tcp") >= 8)
                .await;
            let _sabotage = Sabotage::panic(stage.weir.pid(), thread);
            assert_eq!(stage.weir.end().await, None, "ended by SIGABRT: {thread}");
            let line = &stage.weir.lines("weir has a defect and ends at once")[0];
            assert_eq!(line["thread"], *if thread == "weir" { "main" } else { thread });
            assert!(line["at"].as_str().unwrap().contains(".rs:"), "{line}");
            assert!(line["message"].as_str().unwrap().contains("I/O driver"), "{line}");
            for gateway in &mut gateways {
                let error = gateway.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{thread}");
            }
        }
    });
}

#[test]
fn a_worker_that_crashes_during_a_drain_is_never_exit_code_0() {
    if !sabotage::possible() {
        return;
    }
    story(async {
        let mut stage = Stage::start(plan("drain_timeout = \"10m\"")).await;
        holding(&stage, 300).await;
        stage.weir.signal("TERM");
        stage.weir.logged("draining").await;
        let _sabotage = Sabotage::panic(stage.weir.pid(), "weir-worker-0");
        assert_eq!(stage.weir.end().await, None, "ended by SIGABRT");
        assert_eq!(stage.weir.lines("weir has a defect").len(), 1);
    });
}

#[test]
fn a_worker_that_hangs_fails_the_probe_and_the_drain_ends_in_time_with_1_and_what_was_last_seen() {
    if !sabotage::possible() {
        return;
    }
    story(async {
        let mut stage = Stage::start(plan("drain_timeout = \"2s\"")).await;
        holding(&stage, 300).await;
        assert!(asked(&stage.weir, "/livez").ends_with("200 OK"));
        let _sabotage = Sabotage::hang(stage.weir.pid(), "weir-worker-0");
        // What woke it up before is still done.
        let hangs = || asked(&stage.weir, "/livez").contains("503");
        weir_lab::thread::until("the probe fails", Duration::from_secs(60), hangs)
            .await
            .unwrap();
        stage.weir.logged("a worker does not answer").await;
        let before = Instant::now();
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(1), "{:#?}", stage.weir.log());
        // drain_timeout, five seconds for the worker to end, and a busy machine.
        assert!(
            before.elapsed() < Duration::from_secs(20),
            "{:?}",
            before.elapsed()
        );
        let lines = stage.weir.lines("a worker does not end; what it held is lost");
        let dead = lines.iter().find(|l| l["group"] == "dead").unwrap();
        assert_eq!(
            (dead["worker"].as_u64(), dead["queued"].as_u64()),
            (Some(0), Some(300))
        );
        let alive = lines.iter().find(|l| l["group"] == "alive").unwrap();
        assert_eq!(alive["queued"], 0);
    });
}

#[test]
fn a_file_system_that_hangs_keeps_a_reload_waiting_and_no_signal() {
    if !sabotage::possible() {
        return;
    }
    story(async {
        let mut stage = Stage::start(Plan::groups(&["one"])).await;
        let sabotage = Sabotage::hang_at(stage.weir.pid(), &stage.weir.config_file());
        stage.weir.signal("HUP");
        sabotage.met("read").await;
        assert_eq!(get(stage.weir.admin, "/readyz"), "ok\n");
        stage.weir.signal("TERM");
        stage.weir.logged("weir has ended").await;
        // The read still hangs; strace itself would keep the thread in it from ending.
        drop(sabotage);
        assert_eq!(stage.weir.end().await, Some(0), "{:#?}", stage.weir.log());
        let reloaded = stage.weir.lines("reloaded: no changes");
        assert_eq!(reloaded.len(), 0, "{reloaded:?}");
    });
}
