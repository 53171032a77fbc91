//! Applies another configuration while weir runs: all of it, or nothing and every reason why.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::spawn_blocking;

use super::{Weir, note_certificate, warn};
use crate::config::Change;
use crate::config::Config;
use crate::control::ReloadReport;
use crate::net::{ClientTls, ServerTls, TlsError};

impl Weir {
    /// Applies `new`, except for what only a restart can change. What can fail is tried first.
    ///
    /// # Errors
    /// Every reason why it cannot; then nothing has changed.
    pub async fn apply(&self, new: Config, warnings: Vec<String>) -> Result<ReloadReport, Vec<String>> {
        self.apply_located(new, warnings, &TlsError::to_string).await
    }

    /// The same; `locate` adds to a problem with a file where the configuration names it.
    pub(super) async fn apply_located(
        &self,
        new: Config,
        warnings: Vec<String>,
        locate: &(dyn Fn(&TlsError) -> String + Sync),
    ) -> Result<ReloadReport, Vec<String>> {
        let outcome = self.try_apply(new, warnings, locate).await;
        self.reloaded(&outcome);
        outcome
    }

    /// Records the outcome of a reload, also of one that failed before there was a configuration to apply.
    pub(super) fn reloaded(&self, outcome: &Result<ReloadReport, Vec<String>>) {
        // Before the log, so that status and metrics agree with its line.
        self.facts
            .send_modify(|facts| facts.reloaded(SystemTime::now(), outcome.clone()));
        match outcome {
            Ok(report) if report.changes.is_empty() && report.needs_restart.is_empty() => {
                tracing::info!("reloaded: no changes");
            }
            Ok(report) => {
                tracing::info!(changes = report.changes.join("; "), "configuration reloaded");
                if !report.needs_restart.is_empty() {
                    tracing::warn!(
                        keys = report.needs_restart.join(", "),
                        "these changes take effect after a restart"
                    );
                }
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("reload refused, the old configuration stays in force: {problem}");
                }
            }
        }
    }

    async fn try_apply(
        &self,
        new: Config,
        warnings: Vec<String>,
        locate: &(dyn Fn(&TlsError) -> String + Sync),
    ) -> Result<ReloadReport, Vec<String>> {
        let old = Arc::clone(&self.config.borrow());
        let change = Change::between(&old, &new);
        let effective = Arc::new(keep_what_needs_a_restart(&old, new));
        let mut problems = Vec::new();
        // A self-signed certificate is made once: gateways would not trust a new one.
        let remade = effective.tls.identity.is_some() || old.tls.identity.is_some();
        let remade = remade && self.certificates.is_some();
        // Reading files and deriving keys takes time, so not on the thread that handles signals.
        let read = Arc::clone(&effective);
        let loaded = spawn_blocking(move || {
            let server = remade.then(|| ServerTls::load(&read.tls)).transpose();
            (ClientTls::load(&read.tls), server)
        });
        let (client, server) = loaded.await.map_err(|e| vec![e.to_string()])?;
        let client = client.map_err(|e| problems.push(locate(&e))).ok();
        let server = server.map_err(|e| problems.push(locate(&e))).ok().flatten();
        if problems.is_empty()
            && let Err(e) = self.try_the_rest(&old, &effective)
        {
            problems.push(e);
        }
        let (Some(client), true) = (client, problems.is_empty()) else {
            return Err(problems);
        };
        let renewed = server.as_ref().and_then(|server| self.renewed(server));
        self.client_tls.replace(&client);
        self.facts.send_modify(|facts| {
            facts.warnings = warnings;
            facts.connections_max = effective.ingress.connections_max;
            warn(client.not_yet_valid(), facts);
        });
        if let (Some(certificates), Some(server)) = (&self.certificates, server) {
            certificates.replace(&server);
            self.facts.send_modify(|facts| note_certificate(&server, facts));
        }
        self.control.apply(&effective).await;
        // After the workers know the new users: a recheck is not repeated.
        if old.auth.users != effective.auth.users {
            self.tokens.recheck();
        }
        self.config.send_replace(effective);
        let mut report = report(&change);
        report.changes.extend(renewed);
        Ok(report)
    }

    /// A line about weir's certificate if it was replaced.
    fn renewed(&self, server: &ServerTls) -> Option<String> {
        let new = server.certificate();
        let other = self.facts.borrow().certificate_sha256 != Some(new.sha256);
        other.then(|| {
            format!(
                "weir's own certificate was replaced, valid until {}",
                new.last_day()
            )
        })
    }

    /// Applies what fails only for reasons that validation rules out, or without randomness.
    fn try_the_rest(&self, old: &Config, new: &Config) -> Result<(), String> {
        if old.log.level != new.log.level {
            self.log.set_level(&new.log.level)?;
        }
        if old.auth.session_secret != new.auth.session_secret {
            self.tokens
                .set_secret(new.auth.session_secret.as_ref().map(|s| s.expose()))?;
        }
        match (&self.decisions, &new.decisions) {
            (Some(running), Some(wanted)) if old.decisions != new.decisions => running
                .apply(wanted.clone())
                .map_err(|e| format!("[decisions]: {e}")),
            _ => Ok(()),
        }
    }
}

/// `new` with the settings of `old` that threads and sockets were made from.
fn keep_what_needs_a_restart(old: &Config, new: Config) -> Config {
    let mut kept = new;
    kept.workers = old.workers;
    kept.ingress.tcp = old.ingress.tcp;
    kept.ingress.tls = old.ingress.tls;
    kept.decisions = match (old.decisions.clone(), kept.decisions.take()) {
        (Some(was), Some(new)) => Some(crate::config::Decisions {
            listen: was.listen,
            listen_tls: was.listen_tls,
            ..new
        }),
        (was, _) => was,
    };
    kept.log.format = old.log.format;
    kept.admin = match (old.admin.clone(), kept.admin.take()) {
        (Some(was), Some(new)) => Some(crate::config::Admin {
            listen: was.listen,
            ..new
        }),
        (was, _) => was,
    };
    kept
}

fn report(change: &Change) -> ReloadReport {
    let mut changes = Vec::new();
    changes.extend(change.groups_added.iter().map(|g| format!("group {g} added")));
    changes.extend(
        change
            .groups_removed
            .iter()
            .map(|g| format!("group {g} removed, it drains first")),
    );
    for (name, group) in &change.groups_changed {
        let mut parts = Vec::new();
        parts.extend(group.endpoints_added.iter().map(|e| format!("{e} added")));
        parts.extend(group.endpoints_removed.iter().map(|e| format!("{e} removed")));
        parts.extend(group.endpoints_changed.iter().map(|e| format!("{e} reconnects")));
        parts.extend(group.policy.then(|| "policy".to_owned()));
        parts.extend(group.queue.then(|| "queue limits".to_owned()));
        changes.push(format!("group {name}: {}", parts.join(", ")));
    }
    changes.extend(change.hot.iter().map(|key| (*key).to_owned()));
    let needs_restart = change.restart.iter().map(|key| (*key).to_owned()).collect();
    ReloadReport {
        changes,
        needs_restart,
    }
}
