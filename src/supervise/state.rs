//! Which processes there are, and what to do when one starts, is ready, or ends. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::output::MISCONFIGURED;

/// The delay before a process that ended before it was ready is started again; doubles up to the maximum.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How long a new process may take to be ready beside the old one.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The id of a process.
pub(super) type Pid = i32;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a process, then call [`Processes::started`] or [`Processes::not_started`].
    Start,
    /// Tell it that its successor serves, so that it drains and ends.
    Retire(Pid),
    /// End it at once.
    Kill(Pid),
    /// Pass the signal on that ends it.
    Terminate(Pid),
    /// Tell it that there is no successor, and why.
    Refuse(Pid, String),
    /// End `weir supervise` with this exit code.
    End(u8),
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    /// When it must be ready; `None` = it is.
    ready_by: Option<Instant>,
}

/// The processes of one `weir supervise`.
#[derive(Debug, Default)]
pub(super) struct Processes {
    serving: Option<Process>,
    /// Started by an upgrade, and when it must be ready.
    successor: Option<(Pid, Instant)>,
    /// Predecessors that drain.
    retired: Vec<Pid>,
    /// When to start the next one.
    start_at: Option<Instant>,
    upgrading: bool,
    /// Starts in a row that were not ready.
    failures: u32,
    was_ever_ready: bool,
    stopping: bool,
    exit_code: u8,
}

impl Processes {
    /// No process yet; the first start is due.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start_at: Some(now),
            ..Self::default()
        }
    }

    /// Handles what is due.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_at = None;
            actions.push(Action::Start);
        }
        if let Some((pid, _)) = self.successor.filter(|(_, deadline)| *deadline <= now) {
            actions.push(Action::Kill(pid));
            self.successor = None;
            self.retired.push(pid);
            actions.extend(self.refuse(format!("the new weir was not ready within {READY_TIMEOUT:?}")));
        }
        if let Some(process) = self
            .serving
            .as_mut()
            .filter(|p| p.ready_by.is_some_and(|at| at <= now))
        {
            tracing::error!(
                pid = process.pid,
                "weir was not ready within {READY_TIMEOUT:?}: killed"
            );
            // It is started again when it has ended.
            process.ready_by = Some(now + READY_TIMEOUT);
            actions.push(Action::Kill(process.pid));
        }
        actions
    }

    /// When [`Processes::tick`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let successor = self.successor.map(|(_, deadline)| deadline);
        let serving = self.serving.as_ref().and_then(|p| p.ready_by);
        self.start_at.into_iter().chain(successor).chain(serving).min()
    }

    pub(super) fn started(&mut self, pid: Pid, now: Instant) {
        if std::mem::take(&mut self.upgrading) {
            self.successor = Some((pid, now + READY_TIMEOUT));
        } else {
            let ready_by = Some(now + READY_TIMEOUT);
            self.serving = Some(Process { pid, ready_by });
        }
    }

    /// The process could not be started at all.
    pub(super) fn not_started(&mut self, why: &str, now: Instant) -> Vec<Action> {
        if std::mem::take(&mut self.upgrading) {
            return self.refuse(format!("the new weir cannot be started: {why}"));
        }
        tracing::error!("cannot start weir: {why}");
        self.start_later(now);
        Vec::new()
    }

    pub(super) fn ready(&mut self, pid: Pid) -> Vec<Action> {
        self.was_ever_ready = true;
        if let Some(process) = self.serving.as_mut().filter(|p| p.pid == pid) {
            process.ready_by = None;
            self.failures = 0;
            return Vec::new();
        }
        if self.successor.is_none_or(|(successor, _)| successor != pid) {
            return Vec::new();
        }
        self.successor = None;
        self.start_at = None;
        tracing::info!(pid, "the new weir is ready");
        let before = self.serving.replace(Process { pid, ready_by: None });
        let retire = before.map(|old| {
            self.retired.push(old.pid);
            Action::Retire(old.pid)
        });
        retire.into_iter().collect()
    }

    /// A process has ended with this exit code (128 and the signal's number where a signal ended it).
    pub(super) fn ended(&mut self, pid: Pid, code: u8, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.retired.retain(|retired| *retired != pid);
        if self.successor.is_some_and(|(successor, _)| successor == pid) {
            self.successor = None;
            let advice = match code {
                MISCONFIGURED => "; its configuration is wrong, `weir check` says where",
                _ => "; the log says why",
            };
            actions = self.refuse(format!(
                "the new weir ended before it was ready, with exit code {code}{advice}"
            ));
        }
        if let Some(process) = self.serving.take_if(|p| p.pid == pid) {
            if self.stopping {
                self.exit_code = code;
            } else if !self.was_ever_ready && code == MISCONFIGURED {
                return vec![Action::End(code)];
            } else if let Some((successor, deadline)) = self.successor.take() {
                tracing::error!(pid, code, "weir ended unexpectedly; the new one takes over");
                self.serving = Some(Process {
                    pid: successor,
                    ready_by: Some(deadline),
                });
            } else if process.ready_by.is_none() {
                tracing::error!(pid, code, "weir ended unexpectedly: restarting it");
                // What starts now is not a successor.
                self.upgrading = false;
                self.start_at = Some(now);
            } else {
                self.start_later(now);
                tracing::error!(
                    pid,
                    code,
                    "weir ended before it was ready: restarting it after a pause"
                );
            }
        }
        if self.stopping && self.serving.is_none() && self.successor.is_none() && self.retired.is_empty() {
            return vec![Action::End(self.exit_code)];
        }
        actions
    }

    /// Replaces the process that serves. Does nothing while a replacement is on its way.
    pub(super) fn upgrade(&mut self, now: Instant) -> Vec<Action> {
        if self.upgrading || self.successor.is_some() {
            tracing::info!("an upgrade is already in progress");
            return Vec::new();
        }
        let is_ready = self.serving.as_ref().is_some_and(|p| p.ready_by.is_none());
        if self.stopping || !is_ready {
            return self.refuse("weir is starting or stopping".to_owned());
        }
        tracing::info!("upgrade: starting a new weir beside the old one");
        self.upgrading = true;
        self.start_at = Some(now);
        Vec::new()
    }

    /// A process asks for a successor.
    pub(super) fn asked(&mut self, pid: Pid, now: Instant) -> Vec<Action> {
        match self.serving() {
            Some(serving) if serving == pid => self.upgrade(now),
            _ => vec![Action::Refuse(
                pid,
                "this process is ending; another one serves".to_owned(),
            )],
        }
    }

    /// An upgrade has failed: the process that serves stays, and is told why.
    fn refuse(&self, why: String) -> Vec<Action> {
        tracing::error!("the old weir stays: {why}");
        self.serving()
            .map(|pid| Action::Refuse(pid, why))
            .into_iter()
            .collect()
    }

    /// Ends every process; a second call signals them again.
    pub(super) fn stop(&mut self) -> Vec<Action> {
        self.stopping = true;
        self.start_at = None;
        let all = self.pids();
        if all.is_empty() {
            return vec![Action::End(0)];
        }
        all.into_iter().map(Action::Terminate).collect()
    }

    /// The process that serves.
    pub(super) fn serving(&self) -> Option<Pid> {
        self.serving.as_ref().map(|p| p.pid)
    }

    fn pids(&self) -> Vec<Pid> {
        let successor = self.successor.map(|(pid, _)| pid);
        let serving = self.serving.iter().map(|p| p.pid);
        serving
            .chain(successor)
            .chain(self.retired.iter().copied())
            .collect()
    }

    fn start_later(&mut self, now: Instant) {
        let delay = BACKOFF_MIN
            .saturating_mul(1 << self.failures.min(16))
            .min(BACKOFF_MAX);
        self.failures += 1;
        self.start_at = Some(now + delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Process 1 serves.
    fn serving(now: Instant) -> Processes {
        let mut processes = Processes::new(now);
        assert_eq!(processes.tick(now), [Action::Start]);
        processes.started(1, now);
        assert_eq!(processes.ready(1), []);
        processes
    }

    #[test]
    fn a_process_that_dies_is_started_again_at_once() {
        let now = Instant::now();
        let mut processes = serving(now);
        assert_eq!(processes.ended(1, 137, now), []);
        assert_eq!(processes.due(), Some(now));
        assert_eq!(processes.tick(now), [Action::Start]);
    }

    #[test]
    fn the_delay_doubles_for_a_process_that_dies_before_it_is_ready() {
        let mut now = Instant::now();
        let mut processes = serving(now);
        assert_eq!(processes.ended(1, 1, now), []);
        let mut delays = Vec::new();
        for pid in 2..12 {
            assert_eq!(processes.tick(now), [Action::Start]);
            processes.started(pid, now);
            assert_eq!(processes.ended(pid, 1, now), []);
            delays.push(processes.due().unwrap() - now);
            now = processes.due().unwrap();
        }
        assert_eq!(delays[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(delays[9], BACKOFF_MAX);
        processes.tick(now);
        processes.started(20, now);
        processes.ready(20);
        processes.ended(20, 1, now);
        assert_eq!(
            processes.due(),
            Some(now),
            "one that was ready is started at once"
        );
    }

    #[test]
    fn a_wrong_configuration_at_the_first_start_ends_everything() {
        let now = Instant::now();
        let mut processes = Processes::new(now);
        processes.tick(now);
        processes.started(1, now);
        assert_eq!(processes.ended(1, 2, now), [Action::End(2)]);
    }

    #[test]
    fn an_upgrade_retires_the_old_process_when_the_new_one_is_ready() {
        let now = Instant::now();
        let mut processes = serving(now);
        processes.upgrade(now);
        assert_eq!(processes.tick(now), [Action::Start]);
        processes.started(2, now);
        assert_eq!(processes.serving(), Some(1));
        assert_eq!(processes.ready(2), [Action::Retire(1)]);
        assert_eq!(processes.serving(), Some(2));
        assert_eq!(processes.ended(1, 0, now), []);
        assert_eq!(processes.due(), None, "the old one is not started again");
    }

    #[test]
    fn a_failed_upgrade_keeps_the_old_process() {
        let now = Instant::now();
        let mut processes = serving(now);
        processes.upgrade(now);
        processes.tick(now);
        processes.started(2, now);
        let why = "the new weir ended before it was ready, with exit code 2; its configuration is wrong, `weir \
                   check` says where";
        assert_eq!(processes.ended(2, 2, now), [Action::Refuse(1, why.to_owned())]);
        assert_eq!((processes.serving(), processes.due()), (Some(1), None));

        processes.upgrade(now);
        processes.tick(now);
        processes.started(3, now);
        let why = "the new weir was not ready within 60s".to_owned();
        assert_eq!(
            processes.tick(now + READY_TIMEOUT),
            [Action::Kill(3), Action::Refuse(1, why)]
        );
        assert_eq!(processes.ended(3, 137, now), []);
        assert_eq!((processes.serving(), processes.due()), (Some(1), None));

        processes.upgrade(now);
        processes.tick(now);
        let why = "the new weir cannot be started: no such file".to_owned();
        assert_eq!(
            processes.not_started("no such file", now),
            [Action::Refuse(1, why)]
        );
        assert_eq!((processes.serving(), processes.due()), (Some(1), None));
    }

    #[test]
    fn only_the_process_that_serves_is_upgraded_when_it_asks() {
        let now = Instant::now();
        let mut processes = serving(now);
        assert_eq!(processes.asked(1, now), []);
        assert_eq!(processes.tick(now), [Action::Start]);
        processes.started(2, now);
        processes.ready(2);
        let [Action::Refuse(1, _)] = &processes.asked(1, now)[..] else {
            panic!("one that is retired is succeeded already")
        };
        assert_eq!(processes.due(), None);
        processes.stop();
        assert!(matches!(processes.asked(2, now)[..], [Action::Refuse(2, _)]));
    }

    #[test]
    fn a_process_that_is_never_ready_is_killed_and_started_again() {
        let now = Instant::now();
        let mut processes = Processes::new(now);
        processes.tick(now);
        processes.started(1, now);
        let late = processes.due().unwrap();
        assert_eq!(late, now + READY_TIMEOUT);
        assert_eq!(processes.tick(late), [Action::Kill(1)]);
        assert_eq!(processes.tick(late), [], "killed once");
        assert_eq!(processes.ended(1, 137, late), []);
        assert_eq!(processes.due(), Some(late + BACKOFF_MIN));
    }

    #[test]
    fn a_process_that_dies_before_its_successor_started_is_started_again() {
        let now = Instant::now();
        let mut processes = serving(now);
        processes.upgrade(now);
        processes.ended(1, 137, now);
        assert_eq!(processes.tick(now), [Action::Start]);
        processes.started(2, now);
        assert_eq!(processes.serving(), Some(2));
        processes.ended(2, 1, now);
        assert!(processes.due().is_some(), "and again where it fails");
    }

    #[test]
    fn a_second_upgrade_does_nothing_during_the_first() {
        let now = Instant::now();
        let mut processes = serving(now);
        processes.upgrade(now);
        processes.upgrade(now);
        assert_eq!(processes.tick(now), [Action::Start]);
        processes.started(2, now);
        processes.upgrade(now);
        assert_eq!(processes.tick(now), []);
    }

    #[test]
    fn the_new_process_takes_over_when_the_old_one_dies_during_an_upgrade() {
        let now = Instant::now();
        let mut processes = serving(now);
        processes.upgrade(now);
        processes.tick(now);
        processes.started(2, now);
        assert_eq!(processes.ended(1, 137, now), []);
        assert_eq!(processes.serving(), Some(2));
        assert_eq!(processes.due(), Some(now + READY_TIMEOUT));
        assert_eq!(processes.ready(2), []);
    }

    #[test]
    fn a_stop_is_passed_on_and_returns_the_exit_code_of_the_process_that_served() {
        let now = Instant::now();
        let mut processes = serving(now);
        processes.upgrade(now);
        processes.tick(now);
        processes.started(2, now);
        processes.ready(2);
        assert_eq!(processes.stop(), [Action::Terminate(2), Action::Terminate(1)]);
        assert_eq!(processes.ended(2, 1, now), []);
        assert_eq!(processes.stop(), [Action::Terminate(1)], "told again");
        assert_eq!(processes.ended(1, 0, now), [Action::End(1)]);
    }
}
