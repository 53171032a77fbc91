//! A headless Chromium, driven by the DevTools protocol over a pair of pipes (`--remote-debugging-pipe`: file
//! descriptor 3 takes messages, 4 gives them, each ended by a zero byte). No port, no WebSocket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Debian's package and program.
const PROGRAM: &str = "chromium";
/// A browser that does not answer one question has failed. Its start may take long on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One browser at a time: what is measured is the page, not a machine with three browsers on it.
static TURN: Mutex<()> = Mutex::new(());

/// The right to open a browser, or why there is none here.
pub(crate) fn turn() -> Result<MutexGuard<'static, ()>, String> {
    match Command::new(PROGRAM).arg("--version").output() {
        Ok(out) if out.status.success() => Ok(TURN.lock().unwrap_or_else(PoisonError::into_inner)),
        Ok(out) => Err(format!("{PROGRAM} --version: {}", out.status)),
        Err(_) => Err(format!(
            "{PROGRAM} is missing (apt install chromium fonts-dejavu-core)"
        )),
    }
}

/// A browser with one tab.
pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: mpsc::Receiver<Value>,
    session: String,
    asked: u64,
    /// Exceptions, errors on the console, refusals by the page's policy.
    pub(crate) complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Opens `url` in a window of `width` by `height` and waits until it is loaded.
    pub(crate) async fn open(url: &str, (width, height): (u32, u32)) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The shell moves the pipes to where Chromium looks for them.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .args([PROGRAM, "--headless", "--remote-debugging-pipe"])
            // It refuses to run as root otherwise; it sees nothing but this page.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
            ])
            .args(["--hide-scrollbars", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .arg("about:blank");
        // A group of its own, so that its helpers end with it.
        command.process_group(0);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = process.stdin.take().unwrap();
        let from = messages(BufReader::new(process.stdout.take().unwrap()));
        let mut browser = Self {
            process,
            to,
            from,
            session: String::new(),
            asked: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser
            .ask("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attached = browser
            .ask(
                "Target.attachToTarget",
                json!({"targetId": target["targetId"], "flatten": true}),
            )
            .await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({})).await;
        }
        browser.resize(width, height).await;
        browser.ask("Page.navigate", json!({"url": url})).await;
        browser
            .until(
                "the page is loaded",
                "document.readyState === 'complete' && document.title === 'weir'",
            )
            .await;
        browser
    }

    /// The window, in CSS pixels.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`, as the user's system would ask for it.
    pub(crate) async fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let wanted = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", wanted).await;
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {:#}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].clone()
    }

    /// Looks until an expression is true; how long that took.
    pub(crate) async fn until(&mut self, what: &str, expression: &str) -> Duration {
        let begun = Instant::now();
        while self.value(expression).await != Value::Bool(true) {
            if begun.elapsed() > ANSWER_WITHIN {
                let text = self.value("document.body.innerText").await;
                panic!(
                    "never: {what}\n{}\n{:?}",
                    text.as_str().unwrap_or(""),
                    self.complaints
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// The whole page as PNG.
    pub(crate) async fn picture(&mut self) -> Vec<u8> {
        let wanted = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.ask("Page.captureScreenshot", wanted).await;
        STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = timeout(ANSWER_WITHIN, self.from.recv())
                .await
                .unwrap_or_else(|_| panic!("{PROGRAM} does not answer {method}"))
                .unwrap_or_else(|| panic!("{PROGRAM} has ended"));
            if message["id"] == json!(id) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.complaints.extend(complaint(&message));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The group, which is the browser's own.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// What the browser says, read by a thread of its own until the browser ends.
fn messages(mut pipe: impl BufRead + Send + 'static) -> mpsc::Receiver<Value> {
    let (sender, messages) = mpsc::channel(64);
    std::thread::spawn(move || {
        let mut text = Vec::new();
        while pipe.read_until(0, &mut text).is_ok_and(|n| n > 0) {
            let message = serde_json::from_slice(text.strip_suffix(&[0]).unwrap_or(&text));
            text.clear();
            if message.is_ok_and(|m| sender.blocking_send(m).is_err()) {
                return;
            }
        }
    });
    messages
}

/// What a message of the browser has to say against the page.
fn complaint(message: &Value) -> Option<String> {
    let params = &message["params"];
    let said = match message["method"].as_str()? {
        "Runtime.exceptionThrown" => &params["exceptionDetails"],
        "Runtime.consoleAPICalled"
            if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) =>
        {
            &params["args"]
        }
        "Log.entryAdded" if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) => {
            &params["entry"]["text"]
        }
        _ => return None,
    };
    Some(said.to_string())
}
