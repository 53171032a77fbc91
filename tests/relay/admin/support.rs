//! An admin port with everything behind it but the relay, and a client of few words.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use weir::admin::{self, Handles};
use weir::config::{Config, LogFormat};
use weir::control::{Command, Control, Facts, ReloadReport, ReloadRequest};
use weir::lifecycle::Lifecycle;
use weir::metrics::Metrics;
use weir::net::Ports;
use weir::status::Snapshot;
use weir::telemetry;

use super::fixture;

/// What the worker was told: group, endpoint, on or off.
type Switched = Arc<Mutex<Vec<(String, String, bool)>>>;

pub(crate) struct Weir {
    pub(crate) address: SocketAddr,
    pub(crate) snapshot: Arc<Mutex<Snapshot>>,
    pub(crate) switched: Switched,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) facts: watch::Sender<Facts>,
    pub(crate) reload: Arc<Mutex<Result<ReloadReport, Vec<String>>>>,
    admin: Option<thread::JoinHandle<()>>,
    _log: tracing::Dispatch,
}

impl Weir {
    pub(crate) fn start(token: Option<&str>) -> Self {
        let (control, ends) = Control::new(1);
        let snapshot = Arc::new(Mutex::new(fixture::snapshot()));
        let switched = Switched::default();
        for end in ends {
            work(end, Arc::clone(&snapshot), Arc::clone(&switched));
        }
        Self::over(control, snapshot, switched, token)
    }

    /// A weir whose only worker has stopped turning.
    pub(crate) fn stuck() -> (Self, Vec<mpsc::Receiver<Command>>) {
        let (control, ends) = Control::new(1);
        (
            Self::over(control, Arc::default(), Switched::default(), None),
            ends,
        )
    }

    fn over(
        control: Control,
        snapshot: Arc<Mutex<Snapshot>>,
        switched: Switched,
        token: Option<&str>,
    ) -> Self {
        let reload: Arc<Mutex<Result<ReloadReport, _>>> = Arc::new(Mutex::new(Ok(ReloadReport::default())));
        let (reload_tx, mut reload_rx) = mpsc::channel::<ReloadRequest>(1);
        let outcome = Arc::clone(&reload);
        thread::spawn(move || {
            while let Some(request) = reload_rx.blocking_recv() {
                request.answer.send(outcome.lock().unwrap().clone()).ok();
            }
        });
        let log = weir::config::Log {
            level: "info".into(),
            format: LogFormat::Text,
        };
        let (subscriber, log) = telemetry::build(&log, std::io::sink).unwrap();
        let lifecycle = Lifecycle::new();
        lifecycle.ready();
        let config = watch::Sender::new(Arc::new(fixture::config(token)));
        let facts = watch::Sender::new(Facts::new(SystemTime::now()));
        let listener = admin::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &Ports::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let handles = Handles {
            control,
            lifecycle: lifecycle.clone(),
            reload: reload_tx,
            log,
            config: config.subscribe(),
            facts: facts.subscribe(),
            metrics: Metrics::new(),
            decisions: None,
            upgrades: None,
        };
        Self {
            address,
            snapshot,
            switched,
            lifecycle,
            config,
            facts,
            reload,
            admin: Some(admin::spawn(listener, handles).unwrap()),
            _log: tracing::Dispatch::new(subscriber),
        }
    }

    /// One request with any headers; the whole answer.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|h| h.starts_with("Host:")) {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        self.send(format!("{request}\r\n{body}").as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Any bytes; whatever comes back until the connection ends.
    pub(crate) fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // Weir may have answered and closed before all was written.
        stream.write_all(bytes).ok();
        Answer::read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.lifecycle.stop();
        if let Some(admin) = self.admin.take() {
            admin.join().ok();
        }
    }
}

fn work(mut end: mpsc::Receiver<Command>, snapshot: Arc<Mutex<Snapshot>>, switched: Switched) {
    thread::spawn(move || {
        while let Some(command) = end.blocking_recv() {
            match command {
                Command::Snapshot(to) | Command::Status(to) => answer(to, snapshot.lock().unwrap().clone()),
                Command::Apply(_, to) => answer(to, ()),
                Command::Tap(_, to) => answer(to, ()),
                Command::Enable {
                    group,
                    endpoint,
                    enabled,
                    found,
                } => {
                    let exists = snapshot
                        .lock()
                        .unwrap()
                        .groups
                        .iter()
                        .any(|g| g.name == group && g.endpoints.iter().any(|e| e.name == endpoint));
                    if exists {
                        switched.lock().unwrap().push((group, endpoint, enabled));
                    }
                    answer(found, exists);
                }
            }
        }
    });
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads to the end; status 0 when nothing came.
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "weir left the connection open"
            );
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self {
            status,
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// A caller that has gone needs no answer.
fn answer<T>(to: tokio::sync::oneshot::Sender<T>, value: T) {
    to.send(value).ok();
}
