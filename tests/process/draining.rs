//! Stops and drains under the load of agents: what a drain sends away arrives elsewhere, once.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};
use weir::status::Gateway;
use weir_lab::load::{Pools, TwinOptions};
use weir_lab::{Load, LoadOptions};

use crate::support::machine::own_addresses;
use crate::support::process::{Process, Start, Status, WEIR};
use crate::support::stage::Stage;
use crate::support::{Plan, agent, story, url};

/// Weirs of one tier.
fn tier(top: &'static str) -> Plan {
    Plan {
        top,
        auth: "session_secret = \"0123456789abcdef0123456789abcdef\"",
        ..Plan::groups(&["one", "two"])
    }
}

/// The same weir once more, at other addresses.
async fn sibling(stage: &Stage) -> Process {
    let (tcp, admin) = own_addresses();
    let text = stage
        .toml
        .replace(&stage.weir.tcp.to_string(), &tcp.to_string())
        .replace(&stage.weir.admin.to_string(), &admin.to_string());
    let sibling = Process::start(&text, Start::default(), None).await;
    sibling.until("every link is up", |s| s.all_up()).await;
    sibling
}

fn load(stage: &Stage, at: SocketAddr, agent: TwinOptions) -> Load {
    Load::start(LoadOptions {
        data: url(at),
        connections: 4,
        rate: Some(2_000.0),
        agent: Some(agent),
        ..stage.agents()
    })
}

/// Until the agents have published so many events more.
async fn traffic(load: &Load, events: u64) {
    let wanted = load.counts().events_acked + events;
    weir_lab::thread::until("traffic", Duration::from_secs(60), || {
        load.counts().events_acked >= wanted
    })
    .await
    .unwrap();
}

/// Everything that the agents were asked to publish was delivered, once.
async fn nothing_lost_refused_or_copied(stage: &Stage, load: Load) {
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!((counts.queue_full, counts.acked_by_fin), (0, 0), "{counts:?}");
    let delivered = Instant::now() + Duration::from_secs(20);
    let done = || {
        let oracle = stage.judge.oracle();
        (0..2).all(|group| oracle.received(group) >= counts.events_acked)
    };
    while !done() && Instant::now() < delivered {
        sleep(Duration::from_millis(5)).await;
    }
    let verdict = stage
        .judge
        .verdict(None)
        .witness("events sent away", counts.events_resent);
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(
        verdict.acked, verdict.issued,
        "all was answered: {counts:?} {verdict}"
    );
    for group in &verdict.groups {
        assert_eq!(
            (group.missing.count, group.copies),
            (0, verdict.issued),
            "{counts:?} {verdict}"
        );
    }
}

/// Nor was a login refused, which costs an agent 30 s.
fn nobody_was_reset(load: &Load) {
    let counts = load.counts();
    assert_eq!((counts.resets, counts.login_failures), (0, 0), "{counts:?}");
}

/// A weir's command, at its admin port.
fn command(weir: &Process, words: &[&str]) -> String {
    let ran = Command::new(WEIR)
        .args(words)
        .args(["--admin", &format!("http://{}", weir.admin)])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

fn sent_away(weir: &Process) -> u64 {
    weir.status().number("/ingress/publishes_sent_away_total")
}

#[test]
fn a_drain_with_nowhere_to_go_costs_nothing_undone_or_not() {
    story(async {
        let stage = Stage::start(tier("drain_notice = \"500ms\"")).await;
        let load = load(&stage, stage.weir.tcp, agent());
        traffic(&load, 1_000).await;
        assert!(command(&stage.weir, &["drain"]).starts_with("draining: notice"));
        assert_eq!(command(&stage.weir, &["drain", "--undo"]), "ready\n");
        traffic(&load, 2_000).await;
        assert_eq!(sent_away(&stage.weir), 0, "taken back in time");
        for times in 1..=2 {
            command(&stage.weir, &["drain"]);
            stage
                .weir
                .until("all are sent away once", |s| {
                    s.number("/ingress/publishes_sent_away_total") >= 4 * times
                })
                .await;
            traffic(&load, 2_000).await;
            assert!(command(&stage.weir, &["status"]).contains("draining: sending away"));
            assert_eq!(command(&stage.weir, &["drain", "--undo"]), "ready\n");
            traffic(&load, 1_000).await;
            assert_eq!(sent_away(&stage.weir), 4 * times, "once");
        }
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}

/// What /status says of the connections of an address.
fn gateway(status: &Status, address: [u8; 4]) -> Option<Gateway> {
    let address = IpAddr::from(address).to_string();
    let list = status.0["gateways"]["list"].as_array().unwrap();
    let found = list.iter().find(|g| g["address"] == address.as_str())?;
    let number = |key: &str| found[key].as_u64().unwrap();
    Some(Gateway {
        connections: number("connections"),
        sent_away: number("sent_away"),
        publishing: number("publishing"),
        idle: number("idle"),
    })
}

#[test]
fn a_drain_says_by_address_who_is_still_connected() {
    const AGENTS: [u8; 4] = [127, 0, 0, 1];
    const IDLE: [u8; 4] = [127, 0, 0, 2];
    story(async {
        let stage = Stage::start(tier("drain_notice = \"500ms\"")).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((IDLE, 0))).unwrap();
        let _idle = socket.connect(stage.weir.tcp).await.unwrap();
        let load = load(&stage, stage.weir.tcp, agent());
        traffic(&load, 1_000).await;
        assert!(!command(&stage.weir, &["status"]).contains("GATEWAY"));
        let is_idle = |s: &Status| {
            gateway(s, IDLE)
                == Some(Gateway {
                    connections: 1,
                    idle: 1,
                    ..Gateway::default()
                })
        };
        for _ in 0..2 {
            command(&stage.weir, &["drain"]);
            // Each agent came back: with a connection that publishes, and one on which it has logged in.
            let sent = stage
                .weir
                .until("all are sent away, and publish again", |s| {
                    gateway(s, AGENTS).is_some_and(|g| g.sent_away >= 4 && g.publishing == 4)
                })
                .await;
            assert!(is_idle(&sent), "{:#}", sent.0["gateways"]);
            let text = command(&stage.weir, &["status"]);
            let row = |address: &str| {
                let line = text.lines().find(|l| l.starts_with(address)).expect(&text);
                line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(row("127.0.0.2 "), ["127.0.0.2", "1", "0", "0", "1"], "{text}");
            assert_eq!(row("127.0.0.1 ")[3], "4", "{text}");
            assert_eq!(command(&stage.weir, &["drain", "--undo"]), "ready\n");
            let ready = stage.weir.status();
            let agents = gateway(&ready, AGENTS).unwrap();
            assert!(agents.sent_away == 0 && agents.connections >= 4, "{agents:?}");
            traffic(&load, 1_000).await;
        }
        let status = stage.weir.status();
        let agents = gateway(&status, AGENTS).unwrap();
        assert_eq!(
            agents.connections + gateway(&status, IDLE).unwrap().connections,
            status.number("/ingress/connections_tcp"),
            "of the same moment"
        );
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}

#[test]
fn a_stop_without_gateways_waits_for_nobody() {
    story(async {
        let mut stage = Stage::start(tier("drain_notice = \"10m\"\ndrain_timeout = \"20m\"")).await;
        // Whoever was there before does not count.
        let report = Load::start(LoadOptions {
            count: Some(100),
            ..stage.load()
        });
        assert_eq!(report.finish().await.counts.events_acked, 100);
        stage
            .weir
            .until("nobody is connected", |s| {
                s.number("/ingress/connections_tcp") == 0
            })
            .await;
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0), "{:#?}", stage.weir.log());
    });
}

#[test]
fn a_stop_of_one_of_two_weirs_of_a_gateway_costs_nothing() {
    story(async {
        let mut stage = Stage::start(tier("drain_notice = \"500ms\"\ndrain_timeout = \"3s\"")).await;
        let other = sibling(&stage).await;
        let two = TwinOptions {
            others: vec![(url(other.tcp), url(other.tcp))],
            ..agent()
        };
        let load = load(&stage, stage.weir.tcp, two);
        traffic(&load, 2_000).await;
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0), "{:#?}", stage.weir.log());
        traffic(&load, 2_000).await;
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}

#[test]
fn upgrades_in_a_row_cost_nothing() {
    story(async {
        let supervised = Start {
            supervised: true,
            ..Start::default()
        };
        let mut stage = Stage::start_as(tier("drain_timeout = \"10s\""), supervised).await;
        let load = load(&stage, stage.weir.tcp, agent());
        for nth in 1..=3 {
            traffic(&load, 1_000).await;
            stage.weir.signal("USR2");
            stage.weir.logged_times("weir has ended", nth).await;
        }
        traffic(&load, 1_000).await;
        let reset = stage.weir.lines("drain_timeout is over");
        assert!(
            reset.is_empty(),
            "each ends when its gateways have gone: {reset:?}"
        );
        nobody_was_reset(&load);
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}

/// A balancer before two weirs.
struct Balancer {
    child: Child,
    folder: TempDir,
    at: SocketAddr,
}

impl Balancer {
    fn start(
        program: &str,
        arguments: impl Fn(&PathBuf) -> Vec<String>,
        config: impl Fn(&SocketAddr, &PathBuf) -> String,
    ) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let (at, _) = own_addresses();
        let path = folder.path().to_owned();
        std::fs::write(path.join("config"), config(&at, &path)).unwrap();
        let said = File::create(path.join("said")).unwrap();
        let mut command = Command::new(program);
        command
            .args(arguments(&path))
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(e) => {
                println!("SKIPPED: {program} cannot be started: {e}");
                return None;
            }
        };
        Some(Self { child, folder, at })
    }

    async fn listens(&self) {
        weir_lab::thread::until("the balancer listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(self.at).is_ok()
        })
        .await
        .unwrap_or_else(|e| {
            let said = std::fs::read_to_string(self.folder.path().join("said"));
            panic!("{e}: {said:?}")
        });
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The group, which is the balancer's own: a killed master of nginx leaves its workers behind. It may have ended
        // already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// HAProxy in TCP mode, with a health check of /readyz.
fn haproxy(weirs: [&Process; 2]) -> Option<Balancer> {
    let servers: Vec<String> = weirs
        .iter()
        .zip(["a", "b"])
        .map(|(w, name)| {
            format!(
                "  server {name} {} check addr {} port {}\n",
                w.tcp,
                w.admin.ip(),
                w.admin.port()
            )
        })
        .collect();
    Balancer::start(
        "haproxy",
        |path| {
            vec![
                "-db".into(),
                "-f".into(),
                path.join("config").display().to_string(),
            ]
        },
        |at, path| {
            format!(
                "global\n  stats socket {}\n\
                 defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
                 frontend gateways\n  bind {at}\n  default_backend weirs\n\
                 backend weirs\n  balance roundrobin\n  option httpchk GET /readyz\n\
                 \x20 default-server inter 200ms fall 1 rise 1\n{}",
                path.join("socket").display(),
                servers.concat()
            )
        },
    )
}

/// Waits until HAProxy finds this weir up, or down.
async fn found(balancer: &Balancer, name: &str, up: bool) {
    let socket = balancer.folder.path().join("socket");
    let state = || {
        // Not there while HAProxy starts.
        let mut stats = UnixStream::connect(&socket).ok()?;
        stats.write_all(b"show stat\n").ok()?;
        let mut text = String::new();
        stats.read_to_string(&mut text).ok()?;
        let line = text.lines().find(|l| l.starts_with(&format!("weirs,{name},")))?;
        Some(
            line.split(',')
                .nth(17)?
                .starts_with(if up { "UP" } else { "DOWN" }),
        )
    };
    weir_lab::thread::until("HAProxy notices", Duration::from_secs(20), || {
        state() == Some(true)
    })
    .await
    .unwrap();
}

#[test]
fn a_rolling_restart_behind_haproxy_costs_nothing() {
    let top = "drain_notice = \"1s\"\ndrain_timeout = \"15s\"";
    rolling_restart_behind_haproxy(top, Duration::ZERO, agent());
}

#[test]
fn a_rolling_restart_behind_haproxy_costs_nothing_where_publishers_share_their_connections() {
    // Answers take their time, so that one publisher finds the connection that another was sent away on.
    let agent = TwinOptions {
        pools: Some(Pools::default()),
        ..agent()
    };
    let top = "ack = \"delivered\"\ndrain_notice = \"1s\"\ndrain_timeout = \"15s\"";
    rolling_restart_behind_haproxy(top, Duration::from_millis(20), agent);
}

fn rolling_restart_behind_haproxy(top: &'static str, answer: Duration, agent: TwinOptions) {
    story(async {
        let mut stage = Stage::start(tier(top)).await;
        for sink in &stage.sinks {
            sink.set(|b| b.delay = answer);
        }
        let mut other = sibling(&stage).await;
        let Some(balancer) = haproxy([&stage.weir, &other]) else {
            return;
        };
        balancer.listens().await;
        found(&balancer, "a", true).await;
        found(&balancer, "b", true).await;
        let load = load(&stage, balancer.at, agent);
        traffic(&load, 2_000).await;
        for name in ["a", "b"] {
            let weir = if name == "a" { &mut stage.weir } else { &mut other };
            weir.signal("TERM");
            found(&balancer, name, false).await;
            assert_eq!(weir.end().await, Some(0), "{:#?}", weir.log());
            let reset = weir.lines("drain_timeout is over");
            assert!(reset.is_empty(), "it ends when its gateways have gone: {reset:?}");
            if name == "a" {
                stage.weir = stage.weir.again().await;
                found(&balancer, name, true).await;
            }
            traffic(&load, 2_000).await;
        }
        nobody_was_reset(&load);
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}

#[test]
fn drains_behind_haproxy_that_are_taken_back_cost_nothing() {
    story(async {
        let stage = Stage::start(tier("drain_notice = \"1s\"")).await;
        let other = sibling(&stage).await;
        let Some(balancer) = haproxy([&stage.weir, &other]) else {
            return;
        };
        balancer.listens().await;
        found(&balancer, "a", true).await;
        found(&balancer, "b", true).await;
        let load = load(&stage, balancer.at, agent());
        traffic(&load, 2_000).await;
        for (name, weir) in [("a", &stage.weir), ("b", &other)] {
            command(weir, &["drain"]);
            found(&balancer, name, false).await;
            weir.until("no gateway is left", |s| {
                s.number("/ingress/connections_tcp") == 0
            })
            .await;
            traffic(&load, 2_000).await;
            command(weir, &["drain", "--undo"]);
            found(&balancer, name, true).await;
        }
        nobody_was_reset(&load);
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}

/// nginx before two weirs; it sends nobody to those that are `down`. It does not look at /readyz: the operator says so.
fn nginx_config(at: SocketAddr, folder: &Path, weirs: [(SocketAddr, bool); 2]) -> String {
    let folder = folder.display();
    // Where Debian puts it; elsewhere it may be built in.
    let debian = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    let module = match debian.exists() {
        true => format!("load_module {};\n", debian.display()),
        false => String::new(),
    };
    let servers = weirs.map(|(at, down)| format!("server {at}{};", if down { " down" } else { "" }));
    format!(
        "{module}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\n\
         error_log {folder}/nginx.log info;\nevents {{ worker_connections 1024; }}\n\
         stream {{\n  upstream weirs {{ zone weirs 64k; {} }}\n\
         \x20 server {{ listen {at}; proxy_pass weirs; proxy_timeout 1h; }}\n}}\n",
        servers.concat()
    )
}

#[test]
fn a_rolling_restart_behind_nginx_costs_nothing() {
    story(async {
        let mut stage = Stage::start(tier("drain_notice = \"1s\"\ndrain_timeout = \"15s\"")).await;
        let mut other = sibling(&stage).await;
        let both = [stage.weir.tcp, other.tcp];
        let started = Balancer::start(
            "nginx",
            |path| {
                let config = path.join("config").display().to_string();
                vec!["-p".into(), path.display().to_string(), "-c".into(), config]
            },
            |at, path| nginx_config(*at, path, both.map(|weir| (weir, false))),
        );
        let Some(balancer) = started else { return };
        balancer.listens().await;
        // Old workers of nginx stay until their connections have ended: a new one is the sign of a reload.
        let tell = async |down: [bool; 2]| {
            let folder = balancer.folder.path();
            let log = folder.join("nginx.log");
            let reloads = || {
                let text = std::fs::read_to_string(&log).unwrap();
                text.matches("gracefully shutting down").count()
            };
            let before = reloads();
            let config = nginx_config(balancer.at, folder, [(both[0], down[0]), (both[1], down[1])]);
            std::fs::write(folder.join("config"), config).unwrap();
            let pid = balancer.child.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-HUP", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
            weir_lab::thread::until("nginx has reloaded", Duration::from_secs(20), || {
                reloads() > before
            })
            .await
            .unwrap();
        };
        let load = load(&stage, balancer.at, agent());
        traffic(&load, 2_000).await;
        for nth in 0..2 {
            let weir = if nth == 0 { &mut stage.weir } else { &mut other };
            weir.signal("TERM");
            weir.logged("draining").await;
            tell([nth == 0, nth == 1]).await;
            assert_eq!(weir.end().await, Some(0), "{:#?}", weir.log());
            let reset = weir.lines("drain_timeout is over");
            assert!(reset.is_empty(), "it ends when its gateways have gone: {reset:?}");
            if nth == 0 {
                stage.weir = stage.weir.again().await;
                tell([false, false]).await;
            }
            traffic(&load, 2_000).await;
        }
        nobody_was_reset(&load);
        nothing_lost_refused_or_copied(&stage, load).await;
    });
}
