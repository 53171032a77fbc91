//! The log: lines of text for people or JSON for collectors, on stderr, at a level changed at run time.
//!
//! Text from peers (user names, host names, error texts) reaches the log as fields. It can neither begin a new line nor
//! control a terminal: each event is one write, and `OneLine` escapes every control character but the last newline. That
//! is also why the log has no colours.

mod non_blocking;

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat};
use crate::output::one_line_json;
use non_blocking::NonBlocking;

/// Changes the level while weir runs; clones act on the same log.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<Mutex<String>>,
    out: Option<Arc<NonBlocking>>,
}

/// Starts logging to stderr for the whole process, on a thread of its own. Call [`LogHandle::flush`] before the process
/// ends.
///
/// # Errors
///
/// An invalid level, a second call, or no thread, in a sentence.
pub fn init(log: &Log) -> Result<LogHandle, String> {
    let notice = match log.format {
        LogFormat::Text => |n| format!("WARN {n} lines of the log were lost: stderr is read too slowly\n"),
        LogFormat::Json => |n| {
            let message = "lines of the log were lost: stderr is read too slowly";
            format!("{{\"level\":\"WARN\",\"message\":\"{message}\",\"lost\":{n}}}\n")
        },
    };
    let out =
        NonBlocking::new(io::stderr(), notice).map_err(|e| format!("cannot start the log's thread: {e}"))?;
    let out = Arc::new(out);
    let (subscriber, mut handle) = build(log, Arc::clone(&out))?;
    tracing::subscriber::set_global_default(subscriber).map_err(|e| e.to_string())?;
    handle.out = Some(out);
    Ok(handle)
}

/// A log that goes to `writer`, and its handle.
///
/// # Errors
///
/// An invalid level, in a sentence.
pub fn build<W>(log: &Log, writer: W) -> Result<(impl Subscriber + Send + Sync + use<W>, LogHandle), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, filter_handle) = reload::Layer::new(parse_level(&log.level)?);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(OneLine(writer));
    let layer = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let handle = LogHandle {
        filter: filter_handle,
        level: Arc::new(Mutex::new(log.level.clone())),
        out: None,
    };
    Ok((
        tracing_subscriber::registry().with(layer.with_filter(filter)),
        handle,
    ))
}

impl LogHandle {
    /// The level in force, as it was written.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything logged so far is written, a second at most.
    pub fn flush(&self) {
        if let Some(out) = &self.out {
            out.flush(Duration::from_secs(1));
        }
    }

    /// Changes the level.
    ///
    /// # Errors
    ///
    /// An invalid level, in a sentence; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let targets = parse_level(level)?;
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(targets).map_err(|e| e.to_string())?;
        level.trim().clone_into(&mut current);
        Ok(())
    }
}

/// Reads `info` or `weir::egress=debug,info`. Stricter than [`Targets`], which takes a misspelt level for the name of a
/// module.
///
/// # Errors
///
/// What is wrong and what to write, in a sentence.
pub fn parse_level(text: &str) -> Result<Targets, String> {
    const LEVELS: &str = "off, error, warn, info, debug or trace";
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, part),
        };
        let known = level.bytes().all(|b| b.is_ascii_alphanumeric());
        let level: LevelFilter = Some(level)
            .filter(|l| known && !l.is_empty())
            .and_then(|l| l.parse().ok())
            .ok_or_else(|| format!("\"{}\" is not a log level; write {LEVELS}", level.escape_debug()))?;
        targets = match target {
            None => targets.with_default(level),
            Some("") => {
                return Err(format!(
                    "\"{}\" names no module before the =",
                    part.escape_debug()
                ));
            }
            Some(target) => targets.with_target(target, level),
        };
    }
    Ok(targets)
}

/// Keeps each event on one line without control characters. The formatter writes an event in one call, with the newline
/// at its end.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        match one_line_json(text.strip_suffix('\n').unwrap_or(&text)) {
            Cow::Borrowed(_) => self.0.write_all(event)?,
            Cow::Owned(line) => self.0.write_all((line + "\n").as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(level: &str, format: LogFormat, run: impl FnOnce(&LogHandle)) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let log = Log {
            level: level.into(),
            format,
        };
        let (subscriber, handle) = build(&log, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || run(&handle));
        memory.text()
    }

    const NASTY: &str = "admin\n2026-01-01 ERROR forged\r\x1b[2J\u{9b}31m\u{202e}";

    #[test]
    fn text_from_a_peer_stays_on_one_line_without_control_characters() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged("info", format, |_| {
                tracing::info!(user = %NASTY, reason = ?NASTY, plain = NASTY, "login refused for {NASTY}");
            });
            let line = text.strip_suffix('\n').unwrap();
            assert!(!line.contains(crate::output::steers), "{line:?}");
            assert!(line.contains("login refused"), "{line}");
            if format == LogFormat::Json {
                let json: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(json["user"], NASTY, "JSON keeps the text as it was sent");
            }
        }
    }

    #[test]
    fn the_level_of_one_module_is_changed_at_run_time() {
        let text = logged("info", LogFormat::Text, |handle| {
            tracing::debug!(target: "weir::egress", "one");
            handle.set_level("weir::egress=debug,warn").unwrap();
            assert_eq!(handle.level(), "weir::egress=debug,warn");
            tracing::debug!(target: "weir::egress::link", "two");
            tracing::info!(target: "weir::ingress", "three");
            assert!(handle.set_level("debgu").is_err());
            assert_eq!(
                handle.level(),
                "weir::egress=debug,warn",
                "a refused level changes nothing"
            );
            tracing::debug!(target: "weir::egress", "four");
        });
        let seen: Vec<bool> = ["one", "two", "three", "four"]
            .iter()
            .map(|w| text.contains(w))
            .collect();
        assert_eq!(seen, [false, true, false, true], "{text}");
    }

    #[test]
    fn an_invalid_level_is_named() {
        for bad in [
            "",
            "debgu",
            "weir=loud",
            "info,,warn",
            "=info",
            "6",
            "weir=",
            "info\nwarn",
        ] {
            let error = parse_level(bad).unwrap_err();
            assert!(
                error.contains("log level") || error.contains("no module"),
                "{bad}: {error}"
            );
            assert!(!error.contains('\n'));
        }
        for good in ["info", "OFF", "weir::egress=debug, info", "weir=trace"] {
            parse_level(good).unwrap();
        }
    }
}
