//! The built binary as a process: its configuration in a directory of its own, its log read line by line,
//! its signals, its end. Whatever happens to the test, the process does not outlive it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weir::lab::{GroupCounts, WeirCounts};
use weir::status::{Dropped, Events};

/// The binary under test.
pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Generous: other tests and other people use this machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the log goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stderr {
    /// The test reads it.
    #[default]
    Read,
    /// A disk without room.
    Full,
}

/// How to start it.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Shell commands before it, such as `ulimit -n 64`.
    pub before: String,
    /// Words in front of the command, such as `ip netns exec name`.
    pub prefix: Vec<String>,
    /// Further arguments of `weir run`.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub stderr: Stderr,
}

/// A running `weir run`.
pub struct Process {
    child: Child,
    start: Start,
    log: Log,
    pub home: Arc<TempDir>,
    pub tcp: SocketAddr,
    pub admin: SocketAddr,
}

impl Process {
    /// Writes weir.toml and starts; returns when it is ready. With a log that nobody can read, ports must be
    /// named in the configuration: `known` has the plain and the admin listener.
    pub async fn start(toml: &str, start: Start, known: Option<(SocketAddr, SocketAddr)>) -> Self {
        let home = Arc::new(TempDir::new().unwrap());
        std::fs::write(home.path().join("weir.toml"), toml).unwrap();
        Self::start_in(home, start, known).await
    }

    async fn start_in(home: Arc<TempDir>, start: Start, known: Option<(SocketAddr, SocketAddr)>) -> Self {
        let mut child = spawn(&home.path().join("weir.toml"), &start);
        let log = child.stderr.take().map(Log::read).unwrap_or_default();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (tcp, admin) = known.unwrap_or((nowhere, nowhere));
        let mut process = Self {
            child,
            start,
            log,
            home,
            tcp,
            admin,
        };
        if process.start.stderr == Stderr::Full {
            process.answers().await;
            return process;
        }
        let ready = process.logged("weir is ready").await;
        let address = |key: &str| ready[key].as_str().and_then(|a| a.parse().ok());
        process.tcp = address("tcp").unwrap_or(process.tcp);
        process.admin = address("admin").unwrap_or(process.admin);
        process
    }

    /// The same configuration once more, after the end of this one.
    pub async fn again(mut self) -> Self {
        self.kill().await;
        let (home, start) = (Arc::clone(&self.home), self.start.clone());
        let known = (self.tcp, self.admin);
        drop(self);
        Self::start_in(home, start, Some(known)).await
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn config_file(&self) -> PathBuf {
        self.home.path().join("weir.toml")
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid();
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {pid}")])
            .status();
        assert!(status.unwrap().success(), "no process {pid}");
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
        }
        self.end().await;
    }

    /// Waits for its end: the exit code, none after a signal.
    pub async fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.finished(deadline.into_std()).await;
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.log());
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Every line of the log so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Lines with this message.
    pub fn lines(&self, message: &str) -> Vec<Value> {
        self.log()
            .into_iter()
            .filter(|l| l["message"].as_str().is_some_and(|m| m.starts_with(message)))
            .collect()
    }

    /// Waits for the first line whose message begins so.
    pub async fn logged(&mut self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.lines(message).into_iter().next() {
                return line;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.finished(deadline.into_std()).await;
                assert!(!self.lines(message).is_empty(), "{status}: {:#?}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "never logged: {message}: {:#?}",
                self.log()
            );
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Nobody reads the log from now on, or somebody does again.
    pub fn read_log(&self, reading: bool) {
        self.log.stopped.store(!reading, Ordering::SeqCst);
    }

    async fn answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(self.admin).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended");
            assert!(Instant::now() < deadline, "it does not listen on {}", self.admin);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// /status; the law holds at every look.
    pub fn status(&self) -> Status {
        let status = Status(serde_json::from_str(&super::get(self.admin, "/status")).unwrap());
        for counts in status.counts().groups {
            assert!(counts.events.balanced(), "the law is broken: {counts:?}");
        }
        status
    }

    /// Waits until /status says so.
    pub async fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never: {what}: {:#}", status.0);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
        kib * 1024
    }

    /// SIGSTOP; returns when it stands still.
    pub async fn freeze(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.pid());
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(Instant::now() < deadline, "it does not stop");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.read_log(true);
    }
}

/// `weir` with these arguments, to its end.
pub fn weir(arguments: &[&str]) -> Output {
    plain(Command::new(WEIR).args(arguments)).output().unwrap()
}

fn spawn(config: &Path, start: &Start) -> Child {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{}\nexec \"$@\"", start.before))
        .arg("sh")
        .args(&start.prefix)
        .args([WEIR, "run", "--log-format", "json", "--config"])
        .arg(config)
        .args(&start.arguments)
        .envs(start.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    match start.stderr {
        Stderr::Read => command.stderr(Stdio::piped()),
        Stderr::Full => command.stderr(std::fs::File::create("/dev/full").unwrap()),
    };
    plain(&mut command).spawn().unwrap()
}

/// Nothing of the environment that weir would listen to.
fn plain(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    command
}

/// The lines of the log, read by a thread.
#[derive(Default)]
struct Log {
    lines: Arc<Mutex<Vec<Value>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    fn read(stderr: ChildStderr) -> Self {
        let log = Self::default();
        let (lines, stopped) = (Arc::clone(&log.lines), Arc::clone(&log.stopped));
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                while stopped.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // What is no JSON (a panic, a shell) is shown as it is.
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().unwrap().push(value);
            }
        });
        Self {
            thread: Some(thread),
            ..log
        }
    }

    async fn finished(&self, deadline: std::time::Instant) {
        while self.thread.as_ref().is_some_and(|t| !t.is_finished())
            && !self.stopped.load(Ordering::SeqCst)
            && std::time::Instant::now() < deadline
        {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What /status said.
pub struct Status(pub Value);

impl Status {
    /// The number at a JSON pointer.
    pub fn number(&self, at: &str) -> u64 {
        let found = self.0.pointer(at).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no number at {at}: {:#}", self.0))
    }

    /// The number at a pointer within a group.
    pub fn of(&self, group: &str, at: &str) -> u64 {
        let groups = self.0["groups"].as_array().unwrap();
        let i = groups.iter().position(|g| g["name"] == group);
        let i = i.unwrap_or_else(|| panic!("no group {group}: {:#}", self.0));
        self.number(&format!("/groups/{i}/{at}"))
    }

    pub fn groups(&self) -> Vec<String> {
        let groups = self.0["groups"].as_array().unwrap();
        groups
            .iter()
            .map(|g| g["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Every endpoint has a link.
    pub fn all_up(&self) -> bool {
        let groups = self.0["groups"].as_array().unwrap();
        groups
            .iter()
            .flat_map(|g| g["endpoints"].as_array().unwrap())
            .all(|e| e["links_up"] == 1)
    }

    pub fn at_rest(&self) -> bool {
        self.counts()
            .groups
            .iter()
            .all(|g| g.events.queued + g.events.inflight == 0)
    }

    /// What the oracle needs.
    pub fn counts(&self) -> WeirCounts {
        let groups = self.groups().into_iter().map(|name| {
            let n = |at: &str| self.of(&name, at);
            let dropped = |reason: &str| n(&format!("events/dropped/{reason}"));
            let group = self.0["groups"]
                .as_array()
                .unwrap()
                .iter()
                .find(|g| g["name"] == name.as_str());
            let failures = group.unwrap()["endpoints"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|e| e["failures_total"].as_object().unwrap().values())
                .map(|n| n.as_u64().unwrap());
            GroupCounts {
                events: Events {
                    accepted: n("events/accepted"),
                    delivered: n("events/delivered"),
                    rejected: n("events/rejected"),
                    dropped: Dropped {
                        queue_full: dropped("queue_full"),
                        unavailable: dropped("unavailable"),
                        max_age: dropped("max_age"),
                        drain_timeout: dropped("drain_timeout"),
                        group_removed: dropped("group_removed"),
                        lost: dropped("lost"),
                    },
                    queued: n("events/queued"),
                    inflight: n("events/inflight"),
                },
                resent: n("resent_events_total"),
                failures: failures.sum(),
                name: name.clone(),
            }
        });
        WeirCounts {
            groups: groups.collect(),
        }
    }
}

/// Addresses that nobody else on this machine uses: every test has a loopback address of its own, so a port
/// can be known before it is opened, and opened again.
pub fn own_addresses() -> (SocketAddr, SocketAddr) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, a, b, c] = n.to_be_bytes();
    // 127.128.0.0/9: away from everything well known.
    let ip = [127, 128 | a, b, c];
    (SocketAddr::from((ip, 9611)), SocketAddr::from((ip, 9619)))
}

/// Raises this process' limit of open files to `wanted`; why it cannot be.
pub fn allow_descriptors(wanted: u64) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))
        .unwrap();
    let hard = line.split_whitespace().nth(1).unwrap();
    if hard.parse().is_ok_and(|hard: u64| hard < wanted) {
        return Err(format!(
            "the hard limit of open files is {hard}, {wanted} are needed"
        ));
    }
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &own, &format!("--nofile={wanted}:{hard}")])
        .status();
    match raised {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("prlimit: {status}")),
        Err(e) => Err(format!("prlimit: {e}")),
    }
}
