//! The log of a weir process: JSON lines from its standard error.

use std::io::{BufRead, BufReader};
use std::process::ChildStderr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The lines of the log, read by a thread.
#[derive(Default)]
pub struct Log {
    pub lines: Arc<Mutex<Vec<Value>>>,
    pub stopped: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    pub fn read(stderr: ChildStderr) -> Self {
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

    pub async fn finished(&self, deadline: Instant) {
        while self.thread.as_ref().is_some_and(|t| !t.is_finished())
            && !self.stopped.load(Ordering::SeqCst)
            && Instant::now() < deadline
        {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
