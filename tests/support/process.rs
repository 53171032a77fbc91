//! The built binary as a process: its configuration in a directory of its own, its log read line by line,
//! its signals, its end. Whatever happens to the test, the process does not outlive it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub use super::status::Status;
use super::weir_log::Log;

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
    /// `weir supervise` in place of `weir run`.
    pub supervised: bool,
    /// A listening socket that is passed by LISTEN_FDS.
    pub passed: Option<Arc<TcpListener>>,
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
                self.log.finished(deadline).await;
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
                self.log.finished(deadline).await;
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

    /// Waits for the `times`-th line whose message begins so.
    pub async fn logged_times(&mut self, message: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines(message).len() < times {
            assert!(Instant::now() < deadline, "{message}: {:#?}", self.log());
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

    /// `/status`, which must be in balance each time.
    pub fn status(&self) -> Status {
        let status = Status(serde_json::from_str(&super::get(self.admin, "/status")).unwrap());
        for counts in status.counts().groups {
            assert!(counts.events.balanced(), "out of balance: {counts:?}");
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
        self.memory_bytes("VmRSS:")
    }

    /// The most it ever had.
    pub fn rss_peak_bytes(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
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
    let (stdin, passing) = match &start.passed {
        None => (Stdio::null(), ""),
        Some(socket) => (
            Stdio::from(OwnedFd::from(socket.try_clone().unwrap())),
            "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$",
        ),
    };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{}\n{passing}\nexec \"$@\"", start.before))
        .arg("sh")
        .args(&start.prefix)
        .args([
            WEIR,
            if start.supervised { "supervise" } else { "run" },
            "--log-format",
            "json",
            "--config",
        ])
        .arg(config)
        .args(&start.arguments)
        .envs(start.environment.iter().cloned())
        .stdin(stdin)
        .stdout(Stdio::null());
    match start.stderr {
        Stderr::Read => command.stderr(Stdio::piped()),
        Stderr::Full => command.stderr(std::fs::File::create("/dev/full").unwrap()),
    };
    plain(&mut command).spawn().unwrap()
}

/// Nothing of the environment that weir would listen to.
pub fn plain(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    command
}
