//! `weir run`: configuration from files, signals, exit codes.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::files::{Contents, Seen};
use super::given::{Parent, Word};
use super::notify::Notify;
use super::{Files, Given, StartError, Weir, panics};
use crate::config::Config;
use crate::config::{Problem, Problems, Warning};
use crate::control::{ReloadReport, ReloadRequest};
use crate::lifecycle::End;
use crate::net::TlsError;
use crate::output;
use crate::status::Snapshot;
use crate::telemetry;

/// How often the files are looked at; two looks must agree, so a change counts within twice that.
const LOOK_AT_FILES_EVERY: Duration = Duration::from_millis(2500);

/// What an end may take after `drain_timeout`.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

/// Something failed, or something was lost.
const FAILED: u8 = 1;
/// The configuration is wrong, and nothing was done.
const MISCONFIGURED: u8 = 2;

/// Runs until a signal ends it. `adjust` has the last word on the configuration (the command line's).
#[must_use]
pub fn run(files: &Files, adjust: &dyn Fn(&mut Config)) -> ExitCode {
    let (config, warnings) = match load(files, adjust) {
        Ok(loaded) => loaded,
        Err(problems) => {
            output::note(problems);
            return ExitCode::from(MISCONFIGURED);
        }
    };
    let log = match telemetry::init(&config.log) {
        Ok(log) => log,
        Err(e) => {
            output::note(format_args!("error: log: {e}"));
            return ExitCode::from(MISCONFIGURED);
        }
    };
    panics::end_the_process(&log);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let end = |code: u8| {
        log.flush();
        ExitCode::from(code)
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            tracing::error!("cannot start: {e}");
            return end(FAILED);
        }
    };
    // Before anything is accepted: a signal that comes while weir starts must not end it unheard.
    let signals = match Signals::listen(&runtime) {
        Ok(signals) => signals,
        Err(e) => {
            tracing::error!("cannot listen for signals: {e}");
            return end(FAILED);
        }
    };
    let drain_timeout = config.drain_timeout;
    let (watched, seen) = (config.clone(), files.contents(&config));
    let groups: Vec<String> = config.groups.iter().map(|g| g.name.clone()).collect();
    let given = match Given::from_environment() {
        Ok(given) => given,
        Err(e) => {
            tracing::error!("cannot start: {e}");
            // A wrong socket unit does not mend itself.
            let is_wrong = e.kind() == io::ErrorKind::InvalidInput;
            return end(if is_wrong { MISCONFIGURED } else { FAILED });
        }
    };
    let weir = match Weir::start_with(config, warnings, log.clone(), &given) {
        Ok(weir) => weir,
        Err(StartError::Tls(e)) => {
            tracing::error!("cannot start: {}", files.locate(&e));
            return end(MISCONFIGURED);
        }
        Err(e) => {
            tracing::error!("cannot start: {e}");
            let code = if matches!(e, StartError::Configuration(_)) {
                MISCONFIGURED
            } else {
                FAILED
            };
            return end(code);
        }
    };
    for address in given.ports.unused() {
        tracing::warn!(
            %address,
            "a listening socket was passed that the configuration does not name: who connects there is not answered"
        );
    }
    let at = weir.addresses();
    let shown = |a: Option<std::net::SocketAddr>| a.map_or("off".to_owned(), |a| a.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), tcp = shown(at.tcp), tls = shown(at.tls), admin = shown(at.admin),
        decisions = shown(at.decisions.or(at.decisions_tls)),
        groups = groups.join(","), drain_timeout = ?drain_timeout, "weir is ready"
    );
    let mut supervisor = Supervisor {
        weir: Arc::new(weir),
        files,
        adjust,
        watched,
        seen: Seen::of(Contents::new(), seen),
        notify: Notify::from_environment(),
    };
    supervisor.notify.ready(&supervisor.serving());
    runtime.spawn(
        supervisor
            .notify
            .clone()
            .keep_alive(supervisor.weir.control().clone()),
    );
    let word = match given.parent.map(Parent::ready).transpose() {
        Ok(word) => word,
        Err(e) => {
            tracing::error!("cannot start: {e}");
            return end(FAILED);
        }
    };
    runtime.block_on(supervisor.run(signals, word));
    let last = supervisor.weir.stop();
    // Without waiting: a file that is being read may be on a file system that hangs.
    runtime.shutdown_background();
    end(conclude(supervisor.weir.lifecycle().has_failed(), &last))
}

fn load(files: &Files, adjust: &dyn Fn(&mut Config)) -> Result<(Config, Vec<String>), Problems> {
    Ok(adjusted(files.load()?, adjust))
}

fn adjusted(loaded: (Config, Vec<Warning>), adjust: &dyn Fn(&mut Config)) -> (Config, Vec<String>) {
    let (mut config, warnings) = loaded;
    adjust(&mut config);
    (config, warnings.iter().map(Warning::to_string).collect())
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

/// What the parent says; never, where there is none.
async fn said(word: Option<oneshot::Receiver<Word>>) -> Word {
    match word {
        Some(word) => word.await.unwrap_or(Word::Gone),
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

struct Supervisor<'a> {
    weir: Arc<Weir>,
    files: &'a Files,
    adjust: &'a dyn Fn(&mut Config),
    /// As last read, in force or refused: its files are the ones to look at.
    watched: Config,
    /// What they held then.
    seen: Seen,
    notify: Notify,
}

impl Supervisor<'_> {
    /// Returns when weir is drained, is to end at once, or has failed.
    async fn run(&mut self, signals: Signals, word: Option<oneshot::Receiver<Word>>) {
        let Signals {
            mut term,
            mut int,
            mut hup,
        } = signals;
        let mut requests = self.weir.reload_requests();
        let stopped = self.weir.lifecycle().stop_token();
        let (why, end) = tokio::select! {
            // Signals first: an end must not wait behind reloads, whatever those wait for.
            biased;
            _ = term.recv() => ("SIGTERM", End::Process),
            _ = int.recv() => ("SIGINT", End::Process),
            said = said(word) => match said {
                Word::Succeeded => ("a successor serves", End::Succeeded),
                Word::Gone => ("the supervising process has ended", End::Process),
            },
            // Nobody else stops it while this runs.
            () = stopped.cancelled() => return,
            () = self.follow(&mut hup, &mut requests) => return,
        };
        // Whoever asks for a reload from now on is told that weir is stopping.
        drop(requests);
        self.drain(why, end, &mut term, &mut int).await;
    }

    /// Reloads whenever somebody asks for it or a file has changed.
    async fn follow(&mut self, hup: &mut Signal, requests: &mut Option<mpsc::Receiver<ReloadRequest>>) {
        let mut look = interval(LOOK_AT_FILES_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Who asks first: then the look at the files finds nothing new.
                biased;
                _ = hup.recv() => {
                    let _ = self.reload().await;
                }
                Some(request) = next(requests) => {
                    // Whoever asked may have gone meanwhile.
                    let _ = request.answer.send(self.reload().await);
                }
                _ = look.tick() => {
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
        // Before whoever asked is answered: `ExecReload=weir reload` must find the reload over when it ends.
        let serving = self.serving();
        self.notify.ready(&match &outcome {
            Ok(_) => serving,
            Err(_) => {
                format!("{serving}; the last reload was refused, the old configuration stays in force: see the log")
            }
        });
        outcome
    }

    /// What weir does, in a line for the service manager.
    fn serving(&self) -> String {
        let at = self.weir.addresses();
        let listening: Vec<String> = [at.tcp, at.tls, at.decisions, at.decisions_tls, at.admin]
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let config = self.weir.config.borrow();
        let groups: Vec<&str> = config.groups.iter().map(|g| g.name.as_str()).collect();
        format!("at {}; to groups {}", listening.join(", "), groups.join(", "))
    }

    async fn drain(&self, why: &str, end: End, term: &mut Signal, int: &mut Signal) {
        tracing::info!(signal = why, "draining; a second signal ends at once");
        let longest = self.weir.config.borrow().drain_timeout + AFTER_DRAIN;
        self.notify.stopping("draining", longest);
        tokio::select! {
            // The second signal first: it is meant.
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
