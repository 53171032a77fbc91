//! `weir run`: configuration from files, signals, exit codes.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::files::{Contents, Seen};
use super::inherited::{FromParent, Parent};
use super::notify::Notify;
use super::{Files, Inherited, StartError, Weir, panics};
use crate::config::{Config, Problem, Warning};
use crate::control::{ReloadReport, ReloadRequest};
use crate::lifecycle::End;
use crate::net::TlsError;
use crate::output::{self, FAILED, MISCONFIGURED};
use crate::status::Snapshot;
use crate::telemetry::{self, LogHandle};

/// How often the files are read for changes; two reads must agree, so a change takes effect within twice that.
const CHECK_FILES_EVERY: Duration = Duration::from_millis(2500);

/// How long the end may take after `drain_timeout`.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// Changes a configuration that was read: what the command line says goes before the files.
pub(crate) type Adjust<'a> = &'a dyn Fn(&mut Config);

/// Reads the configuration and starts the log: what `weir run` and `weir supervise` begin with.
///
/// # Errors
/// The exit code; stderr says what is wrong.
pub(crate) fn prepare(
    files: &Files,
    adjust: Adjust<'_>,
) -> Result<(Config, Vec<String>, LogHandle), ExitCode> {
    let wrong = |problem: &dyn Display| {
        output::note(problem);
        ExitCode::from(MISCONFIGURED)
    };
    let (config, warnings) = adjusted(files.load().map_err(|problems| wrong(&problems))?, adjust);
    let log = telemetry::init(&config.log).map_err(|e| wrong(&format_args!("error: log: {e}")))?;
    Ok((config, warnings, log))
}

fn adjusted((mut config, warnings): (Config, Vec<Warning>), adjust: Adjust<'_>) -> (Config, Vec<String>) {
    adjust(&mut config);
    (config, warnings.iter().map(Warning::to_string).collect())
}

/// Runs until a signal ends it.
#[must_use]
pub fn run(files: &Files, adjust: &dyn Fn(&mut Config)) -> ExitCode {
    let (config, warnings, log) = match prepare(files, adjust) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    panics::end_the_process(&log);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let code = serve(files, adjust, config, warnings, &log).unwrap_or_else(|(code, why)| {
        tracing::error!("cannot start: {why}");
        code
    });
    log.flush();
    ExitCode::from(code)
}

/// From the start to the end; the exit code.
///
/// # Errors
/// Weir could not start: the exit code, and why.
fn serve(
    files: &Files,
    adjust: Adjust<'_>,
    config: Config,
    warnings: Vec<String>,
    log: &LogHandle,
) -> Result<u8, (u8, String)> {
    let failed = |e: io::Error| (FAILED, e.to_string());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    // Before anything is accepted: a signal during the start must not end the process unseen.
    let signals = Signals::listen(&runtime).map_err(failed)?;
    let drain_timeout = config.drain_timeout;
    let (watched, contents) = (config.clone(), files.contents(&config));
    let inherited = Inherited::from_environment().map_err(|e| match e.kind() {
        // A wrong socket unit stays wrong.
        io::ErrorKind::InvalidInput => (MISCONFIGURED, e.to_string()),
        _ => failed(e),
    })?;
    let weir = Weir::start_with(config, warnings, log.clone(), &inherited).map_err(|e| match e {
        StartError::Tls(e) => (MISCONFIGURED, files.locate(&e)),
        StartError::Configuration(why) => (MISCONFIGURED, why),
        StartError::System(why) => (FAILED, why),
    })?;
    for address in inherited.ports.unused() {
        tracing::warn!(
            %address,
            "a listening socket was passed that the configuration does not name: connections to it are not answered"
        );
    }
    let mut service = Service {
        weir,
        files,
        adjust,
        watched,
        seen: Seen::of(Contents::new(), contents),
        notify: Notify::from_environment(),
    };
    service.log_ready(drain_timeout);
    service.notify.ready(&service.summary());
    runtime.spawn(service.notify.clone().keep_alive(service.weir.control().clone()));
    let parent = inherited.parent.map(Parent::ready).transpose().map_err(failed)?;
    runtime.block_on(service.run(signals, parent));
    let last = service.weir.stop();
    // Without waiting: a file that is being read may be on a file system that hangs.
    runtime.shutdown_background();
    Ok(conclude(service.weir.lifecycle().has_failed(), &last))
}

/// Reads files on another thread than the one that serves signals: a file system may hang. `None`: weir is ending.
async fn elsewhere<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(read).await.ok()
}

fn conclude(failed: bool, last: &Snapshot) -> u8 {
    let mut left = 0;
    for group in &last.groups {
        let dropped = group.events.dropped.drain_timeout + group.events.dropped.lost;
        if dropped > 0 {
            tracing::error!(
                group = group.name,
                events = dropped,
                "not delivered before the end"
            );
        }
        left += dropped;
    }
    tracing::info!(not_delivered = left, "weir has ended");
    if left > 0 || failed { FAILED } else { 0 }
}

/// The parent's message; pending for ever where there is no parent.
async fn from_parent(message: Option<oneshot::Receiver<FromParent>>) -> FromParent {
    match message {
        Some(message) => message.await.unwrap_or(FromParent::Gone),
        None => std::future::pending().await,
    }
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn listen(runtime: &Runtime) -> io::Result<Self> {
        let _context = runtime.enter();
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// A running weir with its files and the service manager.
struct Service<'a> {
    weir: Weir,
    files: &'a Files,
    adjust: Adjust<'a>,
    /// As last read, in force or refused: the files it names are watched.
    watched: Config,
    /// What those files held then.
    seen: Seen,
    notify: Notify,
}

impl Service<'_> {
    fn log_ready(&self, drain_timeout: Duration) {
        let at = self.weir.addresses();
        let shown = |a: Option<std::net::SocketAddr>| a.map_or("off".to_owned(), |a| a.to_string());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            tcp = shown(at.tcp),
            tls = shown(at.tls),
            admin = shown(at.admin),
            decisions = shown(at.decisions.or(at.decisions_tls)),
            groups = self.groups().join(","),
            ?drain_timeout,
            "weir is ready"
        );
    }

    /// Returns when weir is drained, is to end at once, or has failed.
    async fn run(&mut self, mut signals: Signals, parent: Option<oneshot::Receiver<FromParent>>) {
        let Signals { term, int, hup } = &mut signals;
        let mut requests = self.weir.reload_requests();
        let stopped = self.weir.lifecycle().stop_token();
        let (why, end) = tokio::select! {
            // Signals first: an end must not wait behind reloads, whatever those wait for.
            biased;
            _ = term.recv() => ("SIGTERM", End::Process),
            _ = int.recv() => ("SIGINT", End::Process),
            message = from_parent(parent) => match message {
                FromParent::Succeeded => ("a successor serves", End::Succeeded),
                FromParent::Gone => ("the supervising process has ended", End::Process),
            },
            // Only a failure stops it while this runs.
            () = stopped.cancelled() => return,
            () = self.follow(hup, &mut requests) => return,
        };
        // From now on a request to reload is answered that weir is stopping.
        drop(requests);
        self.drain(why, end, term, int).await;
    }

    /// Reloads at SIGHUP, when the admin port asks, and when a file has changed.
    async fn follow(&mut self, hup: &mut Signal, requests: &mut Option<mpsc::Receiver<ReloadRequest>>) {
        let mut check = interval(CHECK_FILES_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Requests first: then the check of the files finds nothing new.
                biased;
                _ = hup.recv() => {
                    let _ = self.reload().await;
                }
                Some(request) = next(requests) => {
                    // The caller may have gone meanwhile.
                    let _ = request.answer.send(self.reload().await);
                }
                _ = check.tick() => {
                    let (files, watched) = (self.files.clone(), self.watched.clone());
                    let Some(now) = elsewhere(move || files.contents(&watched)).await else { continue };
                    if self.seen.has_changed_to(now) {
                        tracing::info!("a configuration file has changed");
                        let _ = self.reload().await;
                    }
                }
            }
        }
    }

    async fn reload(&mut self) -> Result<ReloadReport, Vec<String>> {
        self.notify.reloading();
        let (files, watched) = (self.files.clone(), self.watched.clone());
        let read = elsewhere(move || {
            let before = files.contents(&watched);
            let loaded = files.load();
            let watched = loaded.as_ref().map_or(watched, |(config, _)| config.clone());
            let after = files.contents(&watched);
            (loaded, watched, Seen::of(before, after))
        });
        let Some((loaded, watched, seen)) = read.await else {
            return Err(vec!["weir is stopping".to_owned()]);
        };
        (self.watched, self.seen) = (watched, seen);
        let outcome = match loaded {
            Ok(loaded) => {
                let (config, warnings) = adjusted(loaded, self.adjust);
                let files = self.files;
                let locate = |e: &TlsError| files.locate(e);
                self.weir.apply_located(config, warnings, &locate).await
            }
            Err(problems) => {
                let outcome = Err(problems.list().iter().map(Problem::to_string).collect());
                self.weir.reloaded(&outcome);
                outcome
            }
        };
        // Before the caller is answered: the reload must be over when `ExecReload=weir reload` ends.
        let mut status = self.summary();
        if outcome.is_err() {
            status += "; the last reload was refused, the old configuration stays in force: see the log";
        }
        self.notify.ready(&status);
        outcome
    }

    fn groups(&self) -> Vec<String> {
        let config = self.weir.config.borrow();
        config.groups.iter().map(|group| group.name.clone()).collect()
    }

    /// One line for the service manager.
    fn summary(&self) -> String {
        let at = self.weir.addresses();
        let listening: Vec<String> = [at.tcp, at.tls, at.decisions, at.decisions_tls, at.admin]
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        format!(
            "at {}; to groups {}",
            listening.join(", "),
            self.groups().join(", ")
        )
    }

    async fn drain(&self, why: &str, end: End, term: &mut Signal, int: &mut Signal) {
        tracing::info!(signal = why, "draining; a second signal ends at once");
        let longest = self.weir.config.borrow().drain_timeout + AFTER_DRAIN;
        self.notify.stopping("draining", longest);
        tokio::select! {
            // A second signal goes before the end of the drain.
            biased;
            _ = term.recv() => {}
            _ = int.recv() => {}
            in_time = self.weir.end(end) => {
                if !in_time && !self.weir.lifecycle().has_failed() {
                    tracing::warn!("drain_timeout is over");
                }
            }
        }
    }
}

async fn next(requests: &mut Option<mpsc::Receiver<ReloadRequest>>) -> Option<ReloadRequest> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}
