//! A test bed: stand-in Traffic Managers with an oracle, and a whole weir between them and the gateways.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod certificates;
pub mod faults;
pub mod log;
pub mod machine;
pub mod peer;
mod pieces;
pub mod process;
pub mod sabotage;
pub mod stage;
mod status;
mod weir_log;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{Instant, sleep, timeout};
use weir::app::Weir;
use weir::config::{Config, Log, LogFormat, Scheme, Source, Url, parse};
use weir::net::{ClientTls, Dialer, SocketOptions};
use weir::status::{Group, Snapshot};
use weir::telemetry;
use weir_lab::load::{TwinOptions, Version};
use weir_lab::{
    Events, Judge, Load, LoadCounts, LoadOptions, LoadReport, Oracle, Sink, SinkOptions, Sizes, Verdict,
    WeirCounts,
};

/// Runs a story on a runtime of its own; a story that hangs fails.
pub fn story<F: Future>(work: F) -> F::Output {
    long_story(Duration::from_secs(120), work)
}

/// The same for one that may take longer.
pub fn long_story<F: Future>(limit: Duration, work: F) -> F::Output {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async { timeout(limit, work).await.expect("the story hangs") })
}

/// The same in a process of its own.
pub fn story_alone<F: Future>(work: F) {
    in_own_process::<F>(|| drop(story(work)));
}

/// Runs a test in a process of its own: this program again, with this one test. For tests that look at the memory or the
/// log of their whole process.
pub fn alone<F: FnOnce()>(test: F) {
    in_own_process::<F>(test);
}

/// `T` is written in the test, and named after it.
fn in_own_process<T>(test: impl FnOnce()) {
    const ALONE: &str = "WEIR_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let name = std::any::type_name::<T>().split_once("::").unwrap().1;
    let name = name.split_once("::{{closure}}").unwrap().0;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let said = said.join("\n");
    print!("{said}");
    assert!(said.contains("test result: ok. 1 passed"), "{name} failed");
}

/// What a bed is made of. The texts are the insides of the tables of weir.toml.
#[derive(Default)]
pub struct Plan {
    /// Name, policy, number of Traffic Managers.
    pub groups: Vec<(&'static str, &'static str, usize)>,
    pub top: &'static str,
    pub listen: &'static str,
    pub auth: &'static str,
    pub queue: &'static str,
    pub link: &'static str,
    /// With a TLS listener too, with the certificate of rsa2048.jks.
    pub tls: bool,
    /// The same with the certificate that `tables` name.
    pub own_tls: bool,
    /// Shorter than weir.toml allows.
    pub tune: Option<fn(&mut Config)>,
    /// Whole tables.
    pub tables: String,
    pub sizes: Option<Sizes>,
    /// In place of typical ones of these sizes, dated 1970.
    pub events: Option<Events>,
}

impl Plan {
    /// One group of one Traffic Manager each.
    pub fn groups(names: &[&'static str]) -> Self {
        Self {
            groups: names.iter().map(|n| (*n, "failover", 1)).collect(),
            ..Self::default()
        }
    }
}

pub struct Bed {
    pub judge: Judge,
    pub names: Vec<&'static str>,
    /// By group, then by endpoint.
    pub sinks: Vec<Vec<Sink>>,
    pub weir: Weir,
    pub config: Config,
}

impl Bed {
    /// Starts Traffic Managers and weir; every link is up when it returns.
    pub async fn start(plan: Plan) -> Self {
        let bed = Self::start_cold(plan).await;
        bed.links_up().await;
        bed
    }

    pub async fn links_up(&self) {
        self.until("every link is up", |s| {
            s.groups
                .iter()
                .all(|g| g.endpoints.iter().all(|e| e.links_up == 1))
        })
        .await;
    }

    /// The same without waiting for links.
    pub async fn start_cold(plan: Plan) -> Self {
        Self::start_adjusted(plan, |_, _, _| {}).await
    }

    /// Cold, with a last word on what weir will read and on who stands behind it: proxies in between, other
    /// sinks in place of the plain ones.
    pub async fn start_adjusted(
        plan: Plan,
        adjust: impl FnOnce(&mut Config, &Judge, &mut Vec<Vec<Sink>>),
    ) -> Self {
        let names: Vec<&'static str> = plan.groups.iter().map(|g| g.0).collect();
        let events = Events::new(plan.sizes.unwrap_or(Sizes::Typical), 0);
        let judge = Judge::new(Oracle::new(plan.events.clone().unwrap_or(events), &names, true));
        let mut sinks = Vec::new();
        let mut blocks = String::new();
        for (i, (name, policy, count)) in plan.groups.iter().enumerate() {
            let sink = |_| Sink::start(SinkOptions::local().judged_by(&judge, i)).unwrap();
            let group: Vec<Sink> = (0..*count).map(sink).collect();
            let urls: Vec<String> = group
                .iter()
                .map(|s| format!("\"tcp://{}\"", s.data_address()))
                .collect();
            blocks += &url_group(name, policy, &urls.join(", "));
            sinks.push(group);
        }
        let mut config = config(&toml(&plan, &blocks));
        adjust(&mut config, &judge, &mut sinks);
        if let Some(tune) = plan.tune {
            tune(&mut config);
        }
        let weir = Weir::start(config.clone(), Vec::new(), quiet_log()).unwrap_or_else(|e| panic!("{e}"));
        Self {
            judge,
            names,
            sinks,
            weir,
            config,
        }
    }

    /// Friendly publishers, judged: for throughput, for frames of a given size and number, and where gateways are only
    /// the source of what happens at Traffic Managers.
    pub fn load(&self) -> LoadOptions {
        LoadOptions {
            settle: Duration::from_secs(40),
            ..LoadOptions::new(dialer(), self.url()).judged_by(&self.judge)
        }
    }

    /// Gateways with WSO2's agent, judged: where it matters what becomes of them.
    pub fn agents(&self) -> LoadOptions {
        agents(self.load())
    }

    pub fn url(&self) -> Url {
        url(self.weir.addresses().tcp.unwrap())
    }

    pub async fn snapshot(&self) -> Snapshot {
        let snapshot = self.weir.control().snapshot().await;
        for group in &snapshot.groups {
            assert!(group.events.balanced(), "out of balance: {group:?}");
        }
        snapshot
    }

    pub async fn group(&self, name: &str) -> Group {
        let snapshot = self.snapshot().await;
        snapshot.groups.into_iter().find(|g| g.name == name).unwrap()
    }

    /// Waits until weir reports it; the balance is checked each time.
    pub async fn until(&self, what: &str, is: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let snapshot = self.snapshot().await;
            if is(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "never: {what}: {snapshot:#?}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until nothing is queued or in flight, then lets the oracle judge, and holds /metrics against
    /// the snapshot.
    pub async fn verdict(&self) -> Verdict {
        let snapshot = self.at_rest().await;
        self.judge.verdict(Some(&WeirCounts::from(&snapshot)))
    }

    /// The same where only this group was there from beginning to end: of others what arrived is judged.
    pub async fn verdict_of(&self, group: &str) -> Verdict {
        let snapshot = self.at_rest().await;
        let mut counts = WeirCounts::from(&snapshot);
        counts.groups.retain(|g| g.name == group);
        self.judge.verdict(Some(&counts))
    }

    async fn at_rest(&self) -> Snapshot {
        let snapshot = self
            .until("everything has ended", |s| {
                s.groups.iter().all(|g| g.events.queued + g.events.inflight == 0)
            })
            .await;
        self.metrics_agree(&snapshot);
        snapshot
    }

    /// The scrape says what the snapshot says, once nothing moves.
    pub fn metrics_agree(&self, snapshot: &Snapshot) {
        let Some(admin) = self.weir.addresses().admin else {
            return;
        };
        let scrape = scrape(admin);
        for g in &snapshot.groups {
            let e = &g.events;
            for (metric, value) in [
                ("weir_events_accepted_total", e.accepted),
                ("weir_events_delivered_total", e.delivered),
                ("weir_events_rejected_total", e.rejected),
                ("weir_events_queued", e.queued),
                ("weir_events_inflight", e.inflight),
            ] {
                let series = format!("{metric}{{group=\"{}\"}}", g.name);
                assert_eq!(scrape.get(&series).copied(), Some(value as f64), "{series}");
            }
            let dropped: f64 = scrape
                .iter()
                .filter(|(s, _)| s.starts_with(&format!("weir_events_dropped_total{{group=\"{}\"", g.name)))
                .map(|(_, v)| v)
                .sum();
            assert_eq!(dropped, e.dropped.total() as f64, "dropped of {}", g.name);
        }
    }

    /// Everything accepted was delivered to every group, once, in order.
    pub async fn assert_clean(&self, acked: u64) {
        let verdict = self.verdict().await;
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.acked, acked);
        for group in &verdict.groups {
            assert_eq!((group.distinct, group.copies), (acked, acked), "{verdict}");
        }
    }
}

pub fn url_group(name: &str, policy: &str, urls: &str) -> String {
    format!(
        "[[apim.throttling.url_group]]\nname = \"{name}\"\ntype = \"{policy}\"\n\
         traffic_manager_urls = [{urls}]\ntraffic_manager_auth_urls = [{urls}]\n"
    )
}

/// weir.toml with these url groups.
pub fn toml(plan: &Plan, blocks: &str) -> String {
    let (tls, keystore) = if plan.tls {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rsa2048.jks");
        let keystore = format!("[tls.keystore]\nfile = \"{file}\"\npassword = \"wso2carbon\"\n");
        ("127.0.0.1:0", keystore)
    } else if plan.own_tls {
        ("127.0.0.1:0", String::new())
    } else {
        ("off", String::new())
    };
    // Stories about other things need not wait for balancers, or for gateways that have nowhere to go.
    let tables = plan.top.lines().any(|line| line.starts_with('['));
    let own = |key: &str, value: &str| match tables || plan.top.contains(key) {
        true => String::new(),
        false => format!("{key} = \"{value}\"\n"),
    };
    let drain = own("drain_notice", "0s") + &own("drain_timeout", "1s");
    format!(
        "{}\n{drain}[apim.throttling]\nusername = \"admin\"\npassword = \"admin\"\n{blocks}\n\
         [listen]\ntcp = \"127.0.0.1:0\"\ntls = \"{tls}\"\n{}\n[auth]\nallow_plaintext_login = true\n{}\n\
         [queue]\n{}\n[link]\nbackoff_min = \"20ms\"\nbackoff_max = \"200ms\"\n{}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n{keystore}{}\n",
        plan.top, plan.listen, plan.auth, plan.queue, plan.link, plan.tables
    )
}

pub fn config(toml: &str) -> Config {
    let source = Source {
        weir_toml: Some(("weir.toml".into(), toml.to_owned())),
        ..Source::default()
    };
    parse(&source).unwrap_or_else(|problems| panic!("{problems}")).0
}

pub fn dialer() -> Dialer {
    Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default())
}

/// WSO2's agent, but for its pool: an idle connection is closed soon. The one on which it has logged in must be gone
/// before a reset, or it waits for 30 s; and each drain would take ten seconds.
pub fn agent() -> TwinOptions {
    let (min_idle, period) = (Duration::from_millis(300), Duration::from_millis(200));
    TwinOptions::new(Version::V5_4).closing_idle(min_idle, period)
}

/// The same load by such gateways.
pub fn agents(load: LoadOptions) -> LoadOptions {
    LoadOptions {
        dialer: agents_dialer(),
        agent: Some(agent()),
        ..load
    }
}

/// Nothing was refused by an agent, lost on its way or sent twice, and no connection or login has failed.
pub fn noticed_nothing(report: &LoadReport) {
    let c = report.counts;
    let nothing = LoadCounts {
        frames_acked: c.frames_acked,
        events_acked: c.events_acked,
        connections: c.connections,
        logins: c.logins,
        ..LoadCounts::default()
    };
    assert_eq!(c, nothing, "{:?}", report.last_error);
    assert!(c.events_acked > 0);
}

/// One agent with its own pool at 20,000 events/s over one connection: it refuses none. Returns how many were answered ok. With a
/// stall in every frame no more than 5,000 events a second were answered, half of them after seconds.
pub async fn refuses_none_at_20_000_a_second(load: LoadOptions) -> u64 {
    let load = Load::start(LoadOptions {
        dialer: agents_dialer(),
        rate: Some(20_000.0),
        duration: Some(Duration::from_secs(3)),
        agent: Some(TwinOptions::new(Version::V5_4)),
        ..load
    });
    let report = load.finish().await;
    let (counts, p50) = (report.counts, report.latency.p50());
    println!("p50 {p50:?}, p99 {:?}, {counts:?}", report.latency.p99());
    assert_eq!(counts.queue_full, 0, "{counts:?}");
    assert!(p50 < Duration::from_millis(500), "{p50:?}");
    counts.events_acked
}

/// As WSO2's agent connects: with Nagle's algorithm.
pub fn agents_dialer() -> Dialer {
    Dialer::new(ClientTls::trusting_nobody().unwrap(), TwinOptions::sockets())
}

pub fn url(address: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Tcp,
        host: address.ip().to_string(),
        port: address.port(),
    }
}

/// A log that nobody reads.
pub fn quiet_log() -> telemetry::LogHandle {
    let log = Log {
        level: "info".into(),
        format: LogFormat::Text,
    };
    telemetry::build(&log, std::io::sink).unwrap().1
}

/// GET over HTTP/1.0: the body of a 200.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"),
        "{head}"
    );
    body.to_owned()
}

/// Every series of /metrics with its value.
pub fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let text = get(address, "/metrics");
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .filter_map(|l| l.rsplit_once(' '))
        .map(|(s, v)| (s.to_owned(), v.parse().unwrap()))
        .collect()
}
