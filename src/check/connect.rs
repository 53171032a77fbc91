//! `--connect`: everything the configuration points to, tried at once.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::certificates::{self, Certificate, Shown};
use super::host;
use super::own_sessions::OwnSessions;
use super::probe::{Probe, probe};
use super::report::{Row, Section, Step};
use super::{Keys, brokers};
use crate::config::Config;
use crate::net::{Dialer, SocketOptions};

/// What was tried over the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connect {
    /// One for each kind of thing.
    pub sections: Vec<Section>,
    /// Every certificate that was shown, refused ones too, and weir's own.
    pub certificates: Vec<Certificate>,
    /// Lines of configuration that make weir accept the certificates it refused, as they are; empty when none was
    /// refused, or nothing but another certificate helps.
    pub paste: Vec<String>,
}

impl Connect {
    /// Whether nothing failed.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.sections
            .iter()
            .flat_map(|section| &section.rows)
            .all(|row| row.ok)
    }
}

/// Tries everything, in parallel. Every step has a deadline of its own, so it ends.
pub(super) fn connect(config: &Config, keys: &Keys) -> Connect {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let step = Step::failed("state", "other", format!("weir cannot use the network: {e}"));
            let rows = vec![Row::new(None, "runtime", vec![step])];
            let sections = vec![Section {
                title: "This host",
                rows,
            }];
            return Connect {
                sections,
                certificates: Vec::new(),
                paste: Vec::new(),
            };
        }
    };
    let connect = runtime.block_on(try_all(config, keys));
    // A name server that does not reply would block a thread for long.
    runtime.shutdown_background();
    connect
}

async fn try_all(config: &Config, keys: &Keys) -> Connect {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let dialer = Dialer::new(keys.client.clone(), SocketOptions::default());
    let brokers = async {
        match &config.decisions {
            Some(decisions) => Some(brokers::section(decisions, &dialer).await),
            None => None,
        }
    };
    // Before the others: a URL that leads here must not meet a port that is only tried.
    let (mut own, running) = host::section(config, keys).await;
    let own_sessions = Arc::new(OwnSessions::of(config, running.as_deref()));
    let (managers, brokers) = tokio::join!(traffic_managers(config, &dialer, &own_sessions), brokers);

    let mut shown = Vec::new();
    let mut rows = Vec::new();
    for mut probe in managers {
        let notes = probe.shown.iter().filter_map(|shown| shown.note(now));
        probe.row.notes.extend(notes);
        shown.extend(probe.shown);
        rows.push(probe.row);
    }
    let mut sections = vec![Section {
        title: "Traffic Managers",
        rows,
    }];
    if let Some((mut section, by_brokers)) = brokers {
        for (row, shown) in section.rows.iter_mut().zip(&by_brokers) {
            row.notes.extend(shown.iter().filter_map(|shown| shown.note(now)));
        }
        shown.extend(by_brokers.into_iter().flatten());
        sections.push(section);
    }
    let paste = certificates::paste(&config.tls.verify, &shown);
    if let Some(server) = &keys.server {
        own.rows.push(host::certificate(server, now));
        shown.extend(server.notice().is_none().then(|| Shown {
            by: "weir".into(),
            accepted: true,
            info: server.certificate().clone(),
        }));
    }
    sections.push(own);
    Connect {
        sections,
        certificates: certificates::list(&shown, now),
        paste,
    }
}

/// In the order of the configuration.
async fn traffic_managers(config: &Config, dialer: &Dialer, own_sessions: &Arc<OwnSessions>) -> Vec<Probe> {
    let mut tasks = JoinSet::new();
    for (g, group) in config.groups.iter().enumerate() {
        for (e, endpoint) in group.endpoints.iter().enumerate() {
            let (dialer, group, endpoint) = (dialer.clone(), group.clone(), endpoint.clone());
            let (link, own_sessions) = (config.link.clone(), Arc::clone(own_sessions));
            tasks.spawn(async move {
                (
                    (g, e),
                    probe(&dialer, &group, &endpoint, &link, &own_sessions).await,
                )
            });
        }
    }
    let mut probes = tasks.join_all().await;
    probes.sort_by_key(|(place, _)| *place);
    probes.into_iter().map(|(_, probe)| probe).collect()
}
