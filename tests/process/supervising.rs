//! Ports that outlive the process: passed by a service manager, or held by `weir supervise`.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use weir_lab::gateway::{Answer, Gateway, frame};
use weir_lab::load::TwinOptions;
use weir_lab::sink::Answer as Tm;
use weir_lab::{Events, Load, LoadOptions, Sizes};

use crate::support::machine::own_addresses;
use crate::support::process::{Start, WEIR};
use crate::support::stage::Stage;
use crate::support::{Plan, agent, dialer, long_story, sabotage, story, url};

/// Long enough for a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);

fn supervised() -> Start {
    Start {
        supervised: true,
        ..Start::default()
    }
}

/// An agent whose idle connections are closed at once: weir is killed again and again.
fn hasty() -> TwinOptions {
    let soon = Duration::from_millis(100);
    agent().closing_idle(soon, soon)
}

/// A configuration to start with; nobody listens at its Traffic Manager.
fn one_group() -> String {
    let group = crate::support::url_group("one", "failover", "\"tcp://127.0.0.1:1\"");
    crate::support::toml(&Plan::groups(&[]), &group)
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

/// How many gateways publish, how many events a second in all, and how often weir goes.
struct Size {
    connections: u32,
    rate: f64,
    times: usize,
}

const SMALL: Size = Size {
    connections: 4,
    rate: 2_000.0,
    times: 5,
};

/// A hundred times; a machine that is too slow for 20,000 events/s is told another rate by `WEIR_LONG_RATE`.
fn large() -> Size {
    let rate = std::env::var("WEIR_LONG_RATE").map_or(20_000.0, |rate| rate.parse().unwrap());
    Size {
        connections: 64,
        rate,
        times: 100,
    }
}

/// Weir goes and comes back by `away` again and again while agents publish: they refuse nothing and lose nothing.
fn nothing_is_refused_or_lost(start: Start, size: &Size, away: impl AsyncFn(Stage, usize) -> Stage) {
    let plan = Plan {
        top: "ack = \"delivered\"",
        ..Plan::groups(&["one", "two"])
    };
    let (own, admin) = own_addresses();
    let tcp = start.passed.as_ref().map_or(own, |s| s.local_addr().unwrap());
    long_story(Duration::from_secs(1_200), async move {
        let mut stage = Stage::start_at(plan, start, (tcp, admin), [127, 0, 0, 1].into()).await;
        let load = Load::start(LoadOptions {
            connections: size.connections,
            rate: Some(size.rate),
            agent: Some(hasty()),
            ..stage.agents()
        });
        for nth in 0..size.times {
            let acked = load.counts().events_acked;
            stage
                .weir
                .until("traffic", |_| load.counts().events_acked > acked + 1_000)
                .await;
            // Until the agents have closed the connections that they logged in on.
            sleep(Duration::from_millis(400)).await;
            stage = away(stage, nth).await;
        }
        load.stop();
        let report = load.finish().await;
        let (counts, latency) = (report.counts, report.latency);
        println!(
            "{} events in {:.0?}, answered within p50 {:.0?}, p99 {:.0?}, max {:.0?}; {counts:?}",
            counts.events_acked,
            report.elapsed,
            latency.p50(),
            latency.p99(),
            latency.max(),
        );
        assert_eq!((counts.queue_full, counts.login_failures), (0, 0), "{counts:?}");
        let verdict = stage
            .judge
            .verdict(None)
            .witness("events sent again", counts.events_resent);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.acked, verdict.issued, "all was answered in the end");
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0));
    });
}

/// SIGKILL to the process that serves.
async fn kill(mut stage: Stage, nth: usize) -> Stage {
    signal(serving(&stage, nth), "KILL");
    stage.weir.logged_times("weir is ready", nth + 2).await;
    stage
}

/// SIGUSR2 to the parent, until the old process has ended.
async fn succeed(mut stage: Stage, nth: usize) -> Stage {
    stage.weir.signal("USR2");
    stage.weir.logged_times("weir is ready", nth + 2).await;
    stage.weir.logged_times("weir has ended", nth + 1).await;
    stage
}

/// As a service manager restarts a service.
async fn restart(mut stage: Stage, _: usize) -> Stage {
    stage.weir.signal("TERM");
    assert_eq!(stage.weir.end().await, Some(0));
    stage.weir = stage.weir.again().await;
    stage
}

fn passed() -> Start {
    Start {
        passed: Some(Arc::new(TcpListener::bind("127.0.0.1:0").unwrap())),
        ..Start::default()
    }
}

#[test]
fn a_killed_weir_is_started_again_and_the_agents_refuse_nothing_and_lose_nothing() {
    nothing_is_refused_or_lost(supervised(), &SMALL, kill);
}

#[test]
fn an_upgrade_under_load_is_refused_and_lost_by_nobody() {
    nothing_is_refused_or_lost(supervised(), &SMALL, succeed);
}

#[test]
fn a_restart_with_passed_sockets_under_load_is_refused_and_lost_by_nobody() {
    nothing_is_refused_or_lost(passed(), &SMALL, restart);
}

#[test]
#[ignore = "nightly: takes minutes"]
fn a_hundred_kills_in_a_row_are_refused_and_lost_by_nobody() {
    nothing_is_refused_or_lost(supervised(), &large(), kill);
}

#[test]
#[ignore = "nightly: takes minutes"]
fn a_hundred_upgrades_in_a_row_are_refused_and_lost_by_nobody() {
    nothing_is_refused_or_lost(supervised(), &large(), succeed);
}

#[test]
#[ignore = "nightly: takes minutes"]
fn a_hundred_restarts_with_passed_sockets_are_refused_and_lost_by_nobody() {
    nothing_is_refused_or_lost(passed(), &large(), restart);
}

/// Exit code and output of `weir upgrade`.
fn upgrade(stage: &Stage) -> (i32, String) {
    let output = std::process::Command::new(WEIR)
        .args(["upgrade", "--admin", &format!("http://{}", stage.weir.admin)])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn weir_upgrade_waits_for_the_new_process_and_names_both() {
    story(async {
        let mut stage = Stage::start_as(Plan::groups(&["one"]), supervised()).await;
        let old = serving(&stage, 0);
        let (code, said) = upgrade(&stage);
        let new = serving(&stage, 1);
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("upgraded: version {version}, pid {old} -> version {version}, pid {new}\n");
        assert_eq!((code, said), (0, expected));
        stage.weir.logged("weir has ended").await;
        signal(new, "0");
    });
}

#[test]
fn while_an_old_process_drains_only_the_new_one_answers_at_the_admin_port() {
    story(async {
        let plan = Plan {
            top: "drain_timeout = \"2m\"",
            ..Plan::groups(&["one"])
        };
        let mut stage = Stage::start_as(plan, supervised()).await;
        // An idle gateway keeps the old process.
        let mut gateway = Gateway::connect(&dialer(), &stage.url()).await.unwrap();
        let login = gateway.login("admin", "admin", LIMIT).await;
        assert!(matches!(login, Answer::Session(_)), "{login:?}");
        for nth in 1..=2 {
            let (code, said) = upgrade(&stage);
            let new = serving(&stage, nth);
            assert!(
                code == 0 && said.contains(&format!("-> version {}, pid {new}\n", env!("CARGO_PKG_VERSION"))),
                "{said}"
            );
            stage.weir.logged_times("draining", nth).await;
            // The port is closed a moment after that line; shared, it would serve one as often as the other.
            let in_a_row = std::cell::Cell::new(0);
            stage
                .weir
                .until("the new process answers a hundred times in a row", |s| {
                    let is_new = s.number("/pid") == new && s.0["phase"] == "ready";
                    in_a_row.set(if is_new { in_a_row.get() + 1 } else { 0 });
                    in_a_row.get() == 100
                })
                .await;
        }
        assert!(
            stage.weir.lines("weir has ended").len() < 2,
            "the first one drains still"
        );
    });
}

#[test]
fn weir_upgrade_says_why_the_old_process_stays() {
    story(async {
        let stage = Stage::start_as(Plan::groups(&["one"]), supervised()).await;
        std::fs::write(stage.weir.config_file(), "nonsense = 1").unwrap();
        let expected = "weir: the old weir stays: the new weir ended before it was ready, with exit code 2; its \
                        configuration is wrong, `weir check` says where\n";
        assert_eq!(upgrade(&stage), (1, expected.to_owned()));
        std::fs::write(stage.weir.config_file(), &stage.toml).unwrap();
        let (code, said) = upgrade(&stage);
        assert_eq!(code, 0, "{said}");
    });
}

#[test]
fn weir_upgrade_of_a_weir_without_a_supervisor_fails_and_says_what_to_do() {
    story(async {
        let stage = Stage::start(Plan::groups(&["one"])).await;
        let (code, said) = upgrade(&stage);
        assert_eq!(code, 1);
        assert!(
            said.contains("was not started by `weir supervise`") && said.contains("systemctl restart weir"),
            "{said}"
        );
    });
}

#[test]
fn a_passed_connection_in_the_place_of_a_listening_socket_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("weir.toml");
    std::fs::write(&file, one_group()).unwrap();
    let ended = std::process::Command::new("sh")
        .args([
            "-c",
            "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"",
            "sh",
            WEIR,
            "run",
            "--config",
        ])
        .arg(&file)
        .stdin(std::os::fd::OwnedFd::from(connection))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(
        said.contains("descriptor 3 of LISTEN_FDS: it does not listen"),
        "{said}"
    );
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
        stage
            .weir
            .logged("the old weir stays: the new weir ended before it was ready")
            .await;
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
    let ended = std::process::Command::new(WEIR)
        .args(["supervise", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("nonsense"));
}

#[test]
fn a_stop_while_the_configuration_is_read_ends_the_supervisor_before_anything_is_started() {
    if !sabotage::possible() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("weir.toml");
    std::fs::write(&file, one_group()).unwrap();
    // The signal comes when the file is opened for the first time.
    let ended = std::process::Command::new("timeout")
        .args([
            "60",
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=openat",
            "-P",
        ])
        .arg(&file)
        .args(["-e", "inject=openat:signal=SIGTERM:when=1"])
        .args([WEIR, "supervise", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{:?}: {said}", ended.status);
    assert!(!said.contains("weir started"), "{said}");
}

#[test]
fn a_child_of_another_process_group_is_reaped() {
    story(async {
        let home = tempfile::tempdir().unwrap();
        let pipe = home.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        // As an orphan comes to process 1: not started by the supervisor, and with a session of its own.
        let start = Start {
            before: format!("setsid cat {} &", pipe.display()),
            ..supervised()
        };
        let stage = Stage::start_as(Plan::groups(&["one"]), start).await;
        let children = format!("/proc/{0}/task/{0}/children", stage.weir.pid());
        let count = || {
            std::fs::read_to_string(&children)
                .unwrap()
                .split_whitespace()
                .count()
        };
        assert_eq!(count(), 2);
        // It ends with its input.
        drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());
        while count() == 2 {
            sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn a_signal_to_the_process_group_is_one_signal_and_drains() {
    story(async {
        let plan = Plan {
            top: "drain_notice = \"1ms\"\ndrain_timeout = \"500ms\"\ndrain_sends_away = false",
            ..Plan::groups(&["one"])
        };
        let start = Start {
            prefix: vec!["setsid".to_owned()],
            ..supervised()
        };
        let mut stage = Stage::start_as(plan, start).await;
        stage.sinks[0].set(|b| b.answer(Tm::Stall));
        let mut gateway = Gateway::connect(&dialer(), &stage.url()).await.unwrap();
        let Answer::Session(session) = gateway.login("admin", "admin", LIMIT).await else {
            panic!("no session");
        };
        let publish = frame(&session, &Events::new(Sizes::Typical, 0), 0, 0, 1);
        assert_eq!(gateway.ask(&publish, LIMIT).await, Answer::Ok);
        // As Ctrl-C does; a second signal would end it at once.
        let group = format!("-{}", stage.weir.pid());
        let killed = std::process::Command::new("kill")
            .args(["-INT", "--", &group])
            .status();
        assert!(killed.unwrap().success());
        stage.weir.logged("drain_timeout is over").await;
        assert_eq!(stage.weir.end().await, Some(1));
    });
}

#[test]
fn a_port_that_cannot_be_opened_ends_the_supervisor_as_it_ends_weir() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("weir.toml");
    let address = taken.local_addr().unwrap().to_string();
    let toml = one_group().replacen("127.0.0.1:0", &address, 1);
    std::fs::write(&file, toml).unwrap();
    for command in ["run", "supervise"] {
        let ended = std::process::Command::new(WEIR)
            .args([command, "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("listen.tcp"), "{command}: {said}");
    }
}

#[test]
fn gateways_that_connect_between_two_processes_wait_in_a_socket_that_was_passed() {
    story(async {
        let start = passed();
        let at = start.passed.as_ref().unwrap().local_addr().unwrap();
        let (_, admin) = own_addresses();
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
