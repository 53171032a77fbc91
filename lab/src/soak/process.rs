//! The weir of a soak: this very binary as a process of its own, so that its memory and descriptors are its
//! alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use weir::net::Dialer;
use weir::status::Events;

use super::plain;
use super::report::Look;
use crate::gateway::DIAL_TIMEOUT;
use crate::{GroupCounts, WeirCounts};

/// A running one; dropping it kills it. Its directory, with the log, stays.
pub(super) struct Weir {
    child: Child,
    dialer: Dialer,
    home: PathBuf,
    tcp: SocketAddr,
    admin: SocketAddr,
}

/// What /status said.
pub(super) struct Status(Value);

impl Weir {
    /// Starts one with these url groups; it is ready when this returns.
    pub(super) async fn start(dialer: Dialer, groups: &str) -> Result<Self, String> {
        let home = std::env::temp_dir().join(format!("weir-soak-{}", std::process::id()));
        let io = |e: std::io::Error| format!("{}: {e}", home.display());
        std::fs::create_dir_all(&home).map_err(io)?;
        // Deadlines short enough for a trouble to be found before it ends.
        let text = format!(
            "[apim.throttling]\nusername = \"admin\"\npassword = \"admin\"\n{groups}\n\
             [listen]\ntcp = \"127.0.0.1:0\"\ntls = \"off\"\n[auth]\nallow_plaintext_login = true\n\
             [link]\nreply_timeout = \"1s\"\nbackoff_max = \"1s\"\nfailback_after = \"1s\"\n\
             heartbeat = {{ delay = 1, timeout_factor = 2.0 }}\n[admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        let config = home.join("weir.toml");
        std::fs::write(&config, text).map_err(io)?;
        let log = std::fs::File::create(home.join("weir.log")).map_err(io)?;
        let child = Command::new(std::env::current_exe().map_err(io)?)
            .arg("weir")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io)?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut weir = Self {
            child,
            dialer,
            home,
            tcp: nowhere,
            admin: nowhere,
        };
        weir.ready().await?;
        Ok(weir)
    }

    async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + DIAL_TIMEOUT * 4;
        loop {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let line = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|line| line.get("message").is_some_and(|m| m == "weir is ready"));
            if let Some(line) = line {
                let address = |key| line.get(key)?.as_str()?.parse().ok();
                let both = address("tcp").zip(address("admin"));
                (self.tcp, self.admin) = both.ok_or_else(|| format!("no addresses in {line}"))?;
                return Ok(());
            }
            if Instant::now() >= deadline || self.child.try_wait().ok().flatten().is_some() {
                return Err(format!("weir does not start: {log}"));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    pub(super) fn log(&self) -> PathBuf {
        self.home.join("weir.log")
    }

    /// GET /status.
    pub(super) async fn status(&self) -> Result<Status, String> {
        let mut stream = self
            .dialer
            .dial(&plain(self.admin), DIAL_TIMEOUT, DIAL_TIMEOUT)
            .await
            .map_err(|e| e.to_string())?;
        let request = format!("GET /status HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
        let mut text = String::new();
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut text).await
        };
        asked.await.map_err(|e| format!("/status: {e}"))?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body)
            .map(Status)
            .map_err(|e| format!("/status: {e}: {text}"))
    }

    /// Asks until it is so.
    pub(super) async fn until(
        &self,
        limit: Duration,
        what: &str,
        is: impl Fn(&Status) -> bool,
    ) -> Result<Status, String> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status().await?;
            if is(&status) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(format!("not within {limit:?}: {what}: {:#}", status.0));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the system and weir say of its size now.
    pub(super) fn look(&self, status: &Status, acked: u64, at: Duration) -> Result<Look, String> {
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let io = |e: std::io::Error| format!("{}: {e}", proc.display());
        let of_process = std::fs::read_to_string(proc.join("status")).map_err(io)?;
        let number = |key: &str| {
            let line = of_process.lines().find_map(|l| l.strip_prefix(key));
            line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        };
        let descriptors = std::fs::read_dir(proc.join("fd")).map_err(io)?.count();
        Ok(Look {
            at_seconds: at.as_secs_f64(),
            rss_bytes: number("VmRSS:").unwrap_or(0) * 1024,
            threads: number("Threads:").unwrap_or(0),
            descriptors: u64::try_from(descriptors).unwrap_or(0),
            gateway_connections: status.number("/ingress/connections_tcp"),
            links: status.links(),
            held: status
                .counts()?
                .groups
                .iter()
                .map(|g| g.events.queued + g.events.inflight)
                .sum(),
            acked,
        })
    }

    /// Asks it to end; its exit code.
    pub(super) async fn end(mut self, limit: Duration) -> Result<Option<i32>, String> {
        let deadline = Instant::now() + limit;
        let pid = self.child.id();
        // The standard library can only kill.
        let asked = Command::new("sh")
            .args(["-c", &format!("kill -TERM {pid}")])
            .status();
        asked.map_err(|e| format!("kill: {e}"))?;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Ok(status.code());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(format!("weir did not end within {limit:?} of SIGTERM"))
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Status {
    fn groups(&self) -> impl Iterator<Item = &Value> {
        self.0
            .get("groups")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    fn endpoints(group: &Value) -> impl Iterator<Item = &Value> {
        group
            .get("endpoints")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    fn number(&self, at: &str) -> u64 {
        self.0.pointer(at).and_then(Value::as_u64).unwrap_or(0)
    }

    fn links(&self) -> u64 {
        self.groups()
            .flat_map(Self::endpoints)
            .filter_map(|e| e.get("links_up")?.as_u64())
            .sum()
    }

    /// Every endpoint has a link.
    pub(super) fn all_up(&self) -> bool {
        self.groups()
            .flat_map(Self::endpoints)
            .all(|e| e.get("links_up").is_some_and(|n| n == 1))
    }

    /// Nothing is queued or in flight, no gateway is connected, and every link is up.
    pub(super) fn at_rest(&self) -> bool {
        let ended = |c: &WeirCounts| c.groups.iter().all(|g| g.events.queued + g.events.inflight == 0);
        self.number("/ingress/connections_tcp") == 0
            && self.all_up()
            && self.counts().is_ok_and(|c| ended(&c))
    }

    /// What the oracle needs.
    pub(super) fn counts(&self) -> Result<WeirCounts, String> {
        let count = |group: &Value| {
            let events: Events = serde_json::from_value(group.get("events")?.clone()).ok()?;
            let failures = Self::endpoints(group)
                .filter_map(|e| e.get("failures_total")?.as_object())
                .flat_map(|classes| classes.values().filter_map(Value::as_u64));
            Some(GroupCounts {
                name: group.get("name")?.as_str()?.to_owned(),
                events,
                resent: group.get("resent_events_total")?.as_u64()?,
                failures: failures.sum(),
            })
        };
        let groups: Option<Vec<GroupCounts>> = self.groups().map(count).collect();
        groups
            .map(|groups| WeirCounts { groups })
            .ok_or_else(|| format!("/status lacks something: {:#}", self.0))
    }
}
