//! `POST /tap`: passing events as lines of JSON, for as long as the caller reads.
//!
//! Workers put copies into a bounded channel (`crate::tap`); everything else happens here: decoding, filtering, masking,
//! writing. The channel is polled at intervals, because a wake-up would cost the worker a system call. A caller that
//! reads slowly gets fewer events, which the counts say, and one that does not read is cut off ([`super::listener`]).
//!
//! Between the events stand lines `{"tap":{…}}` in which seen = shown + filtered + skipped: at the beginning, every ten
//! seconds, and at the end with the reason.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, interval, timeout};
use tokio_util::io::ReaderStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Handles;
use super::actions::error;
use super::listener::Peer;
use crate::config::{Config, TapMode, read_file};
use crate::lifecycle::Phase;
use crate::tap::{Budget, Counts, Definitions, Feed, Mask, Sample, TapOptions, event, show};

/// Taps at a time.
const TAPS_MAX: usize = 4;

/// Events that may wait for one tap. With [`EVENT_COPY_MAX_BYTES`](crate::tap::EVENT_COPY_MAX_BYTES) this bounds the
/// memory of a tap.
const WAITING_MAX: usize = 256;

/// How often a tap takes what waits.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often a tap reports its counts.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Longest wait for the workers to open a tap.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Capacity of the pipe to the caller.
const PIPE_BYTES: usize = 64 * 1024;

/// Longest file of stream definitions.
const DEFINITIONS_MAX_BYTES: u64 = 1 << 20;

/// Bounds the number of taps.
#[derive(Clone)]
pub(super) struct TapSlots(Arc<Semaphore>);

impl TapSlots {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TAPS_MAX)))
    }
}

pub(super) async fn open(
    State(handles): State<Arc<Handles>>,
    Extension(slots): Extension<TapSlots>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Bytes,
) -> Response {
    let options = match TapOptions::parse(&body) {
        Ok(options) => options,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    let config = Arc::clone(&handles.config.borrow());
    if !may(&config, &options) {
        let problem = match mode(&config) {
            TapMode::Off => "admin.tap is \"off\" in weir's configuration",
            _ => "unmasking needs admin.tap = \"full\" in weir's configuration",
        };
        return error(StatusCode::FORBIDDEN, problem);
    }
    let definitions = match definitions(&config).await {
        Ok(definitions) => definitions,
        Err(problem) => return error(StatusCode::INTERNAL_SERVER_ERROR, &problem),
    };
    let mut key = [0; 32];
    if getrandom::fill(&mut key).is_err() {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the system has no random numbers",
        );
    }
    let Ok(slot) = slots.0.try_acquire_owned() else {
        let problem = format!("{TAPS_MAX} taps are open already, which is the most");
        return error(StatusCode::CONFLICT, &problem);
    };
    let counts = Arc::<Counts>::default();
    let (out, samples) = mpsc::channel(WAITING_MAX);
    let per_second = options.copied_per_second();
    let feed = Feed::new(
        options.stream.as_deref(),
        options.sample,
        per_second,
        Arc::clone(&counts),
        out,
    );
    if timeout(OPEN_TIMEOUT, handles.control.tap(&feed)).await.is_err() {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "a worker has not answered for two seconds",
        );
    }
    let gone = CancellationToken::new();
    let (pipe, answer) = tokio::io::duplex(PIPE_BYTES);
    let now = Instant::now();
    let tap = Tap {
        shown: 0,
        filtered: 0,
        budget: Budget::new(options.rate),
        mask: (!options.unmask).then(|| Mask::new(&key)),
        ends_at: options
            .duration_ms
            .and_then(|ms| now.checked_add(Duration::from_millis(ms))),
        report_at: now,
        options,
        definitions,
        counts,
        samples,
        handles,
        _slot: slot,
    };
    peer.keep_open();
    tracing::info!(peer = %peer.address, unmasked = tap.mask.is_none(), "tap opened");
    tokio::spawn(tap.run(pipe, gone.clone()));
    let answer = Answer {
        pipe: answer,
        _gone: gone.drop_guard(),
    };
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(ReaderStream::new(answer))).into_response()
}

fn mode(config: &Config) -> TapMode {
    config.admin.as_ref().map_or(TapMode::Off, |admin| admin.tap)
}

fn may(config: &Config, options: &TapOptions) -> bool {
    match mode(config) {
        TapMode::Off => false,
        TapMode::Masked => !options.unmask,
        TapMode::Full => true,
    }
}

/// The built-in definitions and those of the file, which is read for each tap.
async fn definitions(config: &Config) -> Result<Definitions, String> {
    let Some(path) = config.admin.as_ref().and_then(|a| a.tap_streams.clone()) else {
        return Ok(Definitions::built_in());
    };
    // On a thread that may block: a file system that hangs must not take the admin port with it.
    let read = tokio::task::spawn_blocking(move || read_definitions(&path)).await;
    let read = read.map_err(|e| e.to_string()).and_then(|read| read);
    read.map_err(|e| format!("admin.tap_streams: {e}"))
}

/// The built-in stream definitions and those of a file. Blocks.
///
/// # Errors
/// The file, and why no tap can use it.
pub fn read_definitions(path: &Path) -> Result<Definitions, String> {
    let mut all = Definitions::built_in();
    let bytes = read_file(path, DEFINITIONS_MAX_BYTES).map_err(|e| e.to_string());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|e| e.to_string()));
    let added = text.and_then(|text| all.add(&text));
    added.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(all)
}

/// One open tap.
struct Tap {
    options: TapOptions,
    definitions: Definitions,
    mask: Option<Mask>,
    counts: Arc<Counts>,
    samples: mpsc::Receiver<Sample>,
    budget: Budget,
    shown: u64,
    filtered: u64,
    ends_at: Option<Instant>,
    report_at: Instant,
    handles: Arc<Handles>,
    _slot: OwnedSemaphorePermit,
}

impl Tap {
    async fn run(mut self, mut pipe: DuplexStream, gone: CancellationToken) {
        let mut poll = interval(POLL_INTERVAL);
        let mut phase = self.handles.lifecycle.watch();
        let ended = loop {
            tokio::select! {
                // The end must not wait behind events.
                biased;
                () = gone.cancelled() => break "disconnect",
                changed = phase.changed() => if changed.is_err() { break "draining" },
                _ = poll.tick() => {}
            }
            let now = Instant::now();
            let mut lines = String::new();
            self.take(&mut lines, now);
            let ended = self.ended(now);
            if ended.is_some() || now >= self.report_at {
                lines += &self.report(ended);
                self.report_at = now + REPORT_EVERY;
            }
            if pipe.write_all(lines.as_bytes()).await.is_err() {
                break "disconnect";
            }
            if let Some(ended) = ended {
                break ended;
            }
        };
        // Ends the answer.
        drop(pipe);
        tracing::info!(shown = self.shown, why = ended, "tap closed");
    }

    /// Takes what waits in the channel.
    fn take(&mut self, lines: &mut String, now: Instant) {
        for _ in 0..WAITING_MAX {
            if self.has_enough() {
                return;
            }
            let Ok(sample) = self.samples.try_recv() else {
                return;
            };
            let event = event::decode(&sample, |id| self.definitions.of(id));
            match event.filter(|event| self.options.matches(event)) {
                None => self.filtered += 1,
                Some(event) if self.budget.take(now) => {
                    lines.push_str(&show::line(&event, sample.length, self.mask.as_ref()));
                    lines.push('\n');
                    self.shown += 1;
                }
                Some(_) => {}
            }
        }
    }

    fn has_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.shown >= count)
    }

    fn ended(&self, now: Instant) -> Option<&'static str> {
        if self.has_enough() {
            Some("count")
        } else if self.ends_at.is_some_and(|at| now >= at) {
            Some("duration")
        } else if self.handles.lifecycle.phase() != Phase::Ready {
            Some("draining")
        } else if !may(&self.handles.config.borrow(), &self.options) {
            Some("configuration")
        } else {
            None
        }
    }

    /// Events that were sampled out, over a limit, or dropped because the caller was slow count as skipped.
    fn report(&self, ended: Option<&str>) -> String {
        let filtered = self.filtered + self.counts.other_streams.load(Ordering::Relaxed);
        // Read last: what passes meanwhile counts as skipped.
        let seen = self
            .counts
            .seen
            .load(Ordering::Relaxed)
            .max(self.shown + filtered);
        let report = json!({ "tap": {
            "seen": seen,
            "shown": self.shown,
            "filtered": filtered,
            "skipped": seen - self.shown - filtered,
            "masked": self.mask.is_some(),
            "ended": ended,
        }});
        format!("{report}\n")
    }
}

/// The caller's end of the pipe: dropped with the connection, and ends the tap.
struct Answer {
    pipe: DuplexStream,
    _gone: DropGuard,
}

impl AsyncRead for Answer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}
