//! Ports that outlive the process: passed by a service manager, or held by `weir supervise`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use weir::lab::gateway::{Answer, Gateway, frame};
use weir::lab::load::{TwinOptions, Version};
use weir::lab::{Events, Load, LoadOptions, Sizes};

use crate::support::process::Start;
use crate::support::stage::Stage;
use crate::support::{Plan, agents_dialer, dialer, story, url};

/// Long enough for a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

fn supervised() -> Start {
    Start {
        supervised: true,
        ..Start::default()
    }
}

/// An agent whose idle connections are closed soon: its login's connection must be gone when weir is killed again,
/// or the agent waits for 30 s.
fn agent() -> TwinOptions {
    TwinOptions {
        min_idle: Duration::from_millis(100),
        eviction_period: Duration::from_millis(100),
        ..TwinOptions::new(Version::V5_4)
    }
}

/// The number of the process that serves.
fn serving(stage: &Stage, nth: usize) -> u64 {
    stage.weir.lines("weir started")[nth]["pid"].as_u64().unwrap()
}

fn signal(pid: u64, name: &str) {
    let killed = std::process::Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(killed.unwrap().success(), "no process {pid}");
}

#[test]
fn a_killed_weir_is_started_again_and_the_agents_refuse_nothing_and_lose_nothing() {
    story(async {
        let mut stage = Stage::start_as(
            Plan {
                top: "ack = \"delivered\"",
                ..Plan::groups(&["one", "two"])
            },
            supervised(),
        )
        .await;
        let load = Load::start(LoadOptions {
            dialer: agents_dialer(),
            connections: 4,
            rate: Some(2_000.0),
            agent: Some(agent()),
            ..stage.load()
        });
        for nth in 0..5 {
            let acked = load.counts().events_acked;
            stage
                .weir
                .until("traffic", |_| load.counts().events_acked > acked + 1_000)
                .await;
            // Until the agents have closed the connections that they logged in on.
            sleep(Duration::from_millis(400)).await;
            signal(serving(&stage, nth), "KILL");
            stage.weir.logged_times("weir is ready", nth + 2).await;
        }
        load.stop();
        let counts = load.finish().await.counts;
        assert_eq!((counts.queue_full, counts.login_failures), (0, 0), "{counts:?}");
        let verdict = stage
            .judge
            .verdict(None)
            .witness("connections reset", counts.resets);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.acked, verdict.issued, "all was answered in the end");
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0));
    });
}

#[test]
fn a_session_outlives_the_process_that_gave_it() {
    story(async {
        let stage = Stage::start_as(Plan::groups(&["one"]), supervised()).await;
        let mut gateway = Gateway::connect(&dialer(), &stage.url()).await.unwrap();
        let Answer::Session(session) = gateway.login("admin", "admin", LIMIT).await else {
            panic!("no session");
        };
        signal(serving(&stage, 0), "KILL");
        let mut gateway = Gateway::connect(&dialer(), &stage.url()).await.unwrap();
        let publish = frame(&session, &Events::new(Sizes::Typical, 0), 0, 0, 1);
        assert_eq!(gateway.ask(&publish, LIMIT).await, Answer::Ok);
    });
}

#[test]
fn an_upgrade_starts_a_new_process_and_one_that_fails_leaves_the_old_one() {
    story(async {
        let mut stage = Stage::start_as(Plan::groups(&["one"]), supervised()).await;
        stage.weir.signal("USR2");
        stage.weir.logged("the new weir is ready").await;
        stage.weir.logged("weir has ended").await;
        let second = serving(&stage, 1);

        std::fs::write(stage.weir.config_file(), "nonsense = 1").unwrap();
        stage.weir.signal("USR2");
        stage.weir.logged("the new weir ended before it was ready").await;
        let mut gateway = Gateway::connect(&dialer(), &stage.url()).await.unwrap();
        assert!(matches!(
            gateway.login("admin", "admin", LIMIT).await,
            Answer::Session(_)
        ));
        signal(second, "0");
    });
}

#[test]
fn a_wrong_configuration_ends_the_supervisor_with_its_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("weir.toml");
    std::fs::write(&file, "nonsense = 1").unwrap();
    let ended = std::process::Command::new(crate::support::process::WEIR)
        .args(["supervise", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("nonsense"));
}

#[test]
fn gateways_that_connect_between_two_processes_wait_in_a_socket_that_was_passed() {
    story(async {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let start = Start {
            passed: Some(Arc::new(socket)),
            ..Start::default()
        };
        let (_, admin) = crate::support::machine::own_addresses();
        let local = std::net::IpAddr::from([127, 0, 0, 1]);
        let mut stage = Stage::start_at(Plan::groups(&["one"]), start, (at, admin), local).await;
        stage.weir.kill().await;
        let mut gateway = Gateway::connect(&dialer(), &url(at)).await.unwrap();
        stage.weir = stage.weir.again().await;
        assert!(matches!(
            gateway.login("admin", "admin", LIMIT).await,
            Answer::Session(_)
        ));
    });
}
