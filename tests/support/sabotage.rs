//! Trouble from outside for a running process: strace makes system calls of one thread fail or hang. What follows
//! in the process is its own, nothing of it is compiled in for tests. Or strace only watches.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;
use weir_lab::thread::until;

/// Traces as long as it lives.
pub struct Sabotage {
    strace: Child,
    /// The calls that it has seen.
    seen: NamedTempFile,
}

/// Whether this machine lets one process trace another; says what is skipped where not.
pub fn possible() -> bool {
    let traced = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    let possible = traced.is_ok_and(|status| status.success());
    if !possible {
        println!("SKIPPED: strace cannot trace here (Debian: apt install strace)");
    }
    possible
}

impl Sabotage {
    /// The event loop of this thread cannot wait any more: tokio panics.
    pub fn panic(pid: u32, thread: &str) -> Self {
        let calls = "epoll_wait,epoll_pwait";
        Self::attach(&["-p", &tid(pid, thread)], &format!("inject={calls}:error=EBADF"))
    }

    /// The event loop of this thread does not come back from waiting.
    pub fn hang(pid: u32, thread: &str) -> Self {
        let calls = "epoll_wait,epoll_pwait";
        Self::attach(
            &["-p", &tid(pid, thread)],
            &format!("inject={calls}:delay_enter=600s"),
        )
    }

    /// Whoever reads this file waits.
    pub fn hang_at(pid: u32, path: &Path) -> Self {
        let (pid, path) = (pid.to_string(), path.to_str().unwrap());
        Self::attach(&["-f", "-p", &pid, "-P", path], "inject=read:delay_enter=600s")
    }

    /// No trouble: notes these calls of all threads.
    pub fn watch(pid: u32, calls: &str) -> Self {
        Self::attach(&["-f", "-p", &pid.to_string()], &format!("trace={calls}"))
    }

    /// Returns when it is attached.
    fn attach(to: &[&str], what: &str) -> Self {
        let seen = NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace")
            .args(to)
            .arg("-o")
            .arg(seen.path())
            .args(["-e", what])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(strace.stderr.take().unwrap());
        let attached = said.lines().any(|line| line.unwrap().contains("attached"));
        assert!(attached, "strace ended: {what}");
        Self { strace, seen }
    }

    /// Waits until the process has made this call.
    pub async fn met(&self, call: &str) {
        let has = || self.times(&format!("{call}(")) > 0;
        until(call, Duration::from_secs(60), has).await.unwrap();
    }

    /// How often this is in what was seen.
    pub fn times(&self, words: &str) -> usize {
        let seen = std::fs::read_to_string(self.seen.path()).unwrap();
        seen.matches(words).count()
    }
}

impl Drop for Sabotage {
    fn drop(&mut self) {
        // It may have ended with what it traced.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn tid(pid: u32, thread: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let named = |task: &PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == thread)
    };
    let task = tasks.find(named).unwrap_or_else(|| panic!("no thread {thread}"));
    task.file_name().unwrap().to_str().unwrap().to_owned()
}
