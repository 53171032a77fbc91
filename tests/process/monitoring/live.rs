//! A real Prometheus scrapes a weir: every expression is evaluated there, which finds what no reading of its text
//! can (labels that do not match one to one), and the death of a Traffic Manager arrives as an alert.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weir_lab::decisions::{Book, Broker};
use weir_lab::sink::Close;
use weir_lab::{Load, LoadOptions};

use super::{dashboard, deploy};
use crate::support::machine::own_addresses;
use crate::support::{Bed, Plan, story};

/// Debian's package is `prometheus`.
const PROGRAM: &str = "prometheus";

/// A Prometheus with the rules; dropping it ends it.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn start(weir: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        let rules = deploy("prometheus/weir.rules.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: weir\n    static_configs: [{{targets: ['{weir}']}}]\n",
            rules.display()
        );
        std::fs::write(&file, text).unwrap();
        // An address of this test's own, so that no port is fought for.
        let (_, address) = own_addresses();
        let process = Command::new(PROGRAM)
            .arg(flag("config.file", &file))
            .arg(flag("storage.tsdb.path", &folder.path().join("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    /// Asks off the runtime, on which the Traffic Managers are; an error is an answer, too.
    async fn ask(&self, path: String) -> Value {
        let address = self.address;
        let asked = tokio::task::spawn_blocking(move || super::get(address, &path));
        let answer = asked.await.unwrap();
        answer.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
    }

    async fn query(&self, expression: &str) -> Value {
        let coded: String = expression.bytes().map(|b| format!("%{b:02X}")).collect();
        self.ask(format!("/api/v1/query?query={coded}")).await
    }

    /// The rule of this name, as it stands.
    async fn rule(&self, name: &str) -> Value {
        let rules = self.rules().await;
        rules.into_iter().find(|r| r["name"] == name).unwrap_or_default()
    }

    async fn rules(&self) -> Vec<Value> {
        let answer = self.ask("/api/v1/rules".into()).await;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        groups
            .iter()
            .flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default())
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !is().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[test]
#[ignore = "nightly: needs Prometheus"]
fn a_prometheus_evaluates_everything_and_alerts_when_a_traffic_manager_dies() {
    if Command::new(PROGRAM).arg("--version").output().is_err() {
        return println!("skipped: prometheus is missing (apt install prometheus)");
    }
    story(async {
        let broker = Broker::start(&Book::open(), Duration::from_secs(1)).unwrap();
        let bed = Bed::start(Plan {
            tls: true,
            tables: format!(
                "[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://{}\"]\n",
                broker.address()
            ),
            queue: "max_events = 1_000\nblock_timeout = \"100ms\"",
            ..Plan::groups(&["east", "west"])
        })
        .await;
        let load = Load::start(LoadOptions {
            rate: Some(500.0),
            ..LoadOptions::new(crate::support::dialer(), bed.url())
        });
        let prometheus = Prometheus::start(bed.weir.addresses().admin.unwrap());
        eventually("rates are known", async || {
            let answer = prometheus.query("rate(weir_gateway_events_total[5s]) > 0").await;
            !answer["data"]["result"].as_array().is_none_or(Vec::is_empty)
        })
        .await;
        for (expression, _) in dashboard::expressions(&dashboard::dashboard()) {
            let answer = prometheus.query(&expression).await;
            assert_eq!(answer["status"], "success", "{expression}: {answer}");
        }
        eventually("every rule is evaluated", async || {
            let rules = prometheus.rules().await;
            !rules.is_empty() && rules.iter().all(|r| r["health"] != "unknown")
        })
        .await;
        for rule in prometheus.rules().await {
            assert_eq!(rule["health"], "ok", "{rule:#}");
            assert_eq!(rule["state"], "inactive", "nothing is wrong: {rule:#}");
        }

        // No gateway is there to notice.
        broker.stop().await;
        eventually("WeirBrokerDown", async || {
            prometheus.rule("WeirBrokerDown").await["state"] == "pending"
        })
        .await;

        bed.sinks[0][0].kill(Close::Rst).await;
        for (alert, state) in [("WeirEndpointDown", "pending"), ("WeirShedding", "firing")] {
            eventually(alert, async || prometheus.rule(alert).await["state"] == state).await;
            let rule = prometheus.rule(alert).await;
            assert_eq!(rule["alerts"].as_array().map(Vec::len), Some(1), "{rule:#}");
            assert_eq!(rule["alerts"][0]["labels"]["group"], "east", "{rule:#}");
        }
        load.stop();
        load.finish().await;
    });
}
