//! Another configuration while weir runs: all of it in force, or nothing changed and every reason why.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Weir, note_certificate};
use crate::config::Change;
use crate::config::Config;
use crate::control::ReloadReport;
use crate::net::{ClientTls, ServerTls};

impl Weir {
    /// Puts `new` in force, but for what only a restart can change. What can fail is tried first.
    ///
    /// # Errors
    /// Every reason why it cannot; then nothing has changed.
    pub async fn apply(&self, new: Config, warnings: Vec<String>) -> Result<ReloadReport, Vec<String>> {
        let outcome = self.try_apply(new, warnings).await;
        self.reloaded(outcome.clone());
        outcome
    }

    /// Takes note of a reload that ended, or that failed before there was a configuration to apply.
    pub(super) fn reloaded(&self, outcome: Result<ReloadReport, Vec<String>>) {
        match &outcome {
            Ok(report) if report.changes.is_empty() && report.needs_restart.is_empty() => {
                tracing::info!("configuration read again: nothing has changed");
            }
            Ok(report) => {
                tracing::info!(changes = report.changes.join("; "), "configuration reloaded");
                if !report.needs_restart.is_empty() {
                    tracing::warn!(
                        keys = report.needs_restart.join(", "),
                        "these changes wait for a restart"
                    );
                }
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("reload refused, the old configuration stays in force: {problem}");
                }
            }
        }
        self.facts
            .send_modify(|facts| facts.reloaded(SystemTime::now(), outcome));
    }

    async fn try_apply(&self, new: Config, warnings: Vec<String>) -> Result<ReloadReport, Vec<String>> {
        let old = Arc::clone(&self.config.borrow());
        let change = Change::between(&old, &new);
        let effective = Arc::new(keep_what_needs_a_restart(&old, new));
        let mut problems = Vec::new();
        let client = ClientTls::load(&effective.tls)
            .map_err(|e| problems.push(e.to_string()))
            .ok();
        // A self-signed certificate is made once: made anew, no gateway would trust it any more.
        let remade = effective.tls.identity.is_some() || old.tls.identity.is_some();
        let server = match &self.acceptor {
            Some(_) if remade => ServerTls::load(&effective.tls)
                .map_err(|e| problems.push(e.to_string()))
                .ok(),
            _ => None,
        };
        if old.log.level != effective.log.level
            && let Err(e) = self.log.set_level(&effective.log.level)
        {
            problems.push(e);
        }
        let secret = effective.auth.session_secret.as_ref().map(|s| s.expose());
        if problems.is_empty()
            && old.auth.session_secret != effective.auth.session_secret
            && let Err(e) = self.tokens.set_secret(secret)
        {
            problems.push(e);
        }
        let (Some(client), true) = (client, problems.is_empty()) else {
            return Err(problems);
        };
        self.client_tls.replace(&client);
        self.facts.send_modify(|facts| facts.warnings = warnings);
        if let (Some(acceptor), Some(server)) = (&self.acceptor, server) {
            acceptor.replace(&server);
            self.facts.send_modify(|facts| note_certificate(&server, facts));
        }
        self.control.apply(&effective).await;
        self.config.send_replace(effective);
        Ok(report(&change))
    }
}

/// What the threads and sockets were made from stays as it was.
fn keep_what_needs_a_restart(old: &Config, new: Config) -> Config {
    let mut kept = new;
    kept.workers = old.workers;
    kept.ingress.tcp = old.ingress.tcp;
    kept.ingress.tls = old.ingress.tls;
    kept.decisions.clone_from(&old.decisions);
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
        parts.extend(
            group
                .endpoints_changed
                .iter()
                .map(|e| format!("{e} connects anew")),
        );
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
