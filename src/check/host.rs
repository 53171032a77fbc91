//! What weir needs on this host: free ports, trust anchors, and its own certificate.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::Keys;
use super::certificates::{DAYS_LEFT_NOTE, days_left};
use super::own_sessions::reached;
use super::report::{Row, Section, Step};
use crate::admin::client::http::{self, Target};
use crate::config::{Config, Verify};
use crate::net::{ServerTls, bind};

/// Deadline of the reply of a weir that runs here.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The ports, and those of a weir that runs on this host.
pub(super) async fn section(config: &Config, keys: &Keys) -> (Section, Option<Vec<u16>>) {
    let ports = config.ports();
    // Each socket closes before the next one opens, and before anything can connect for long.
    let tried: Vec<io::Result<()>> = ports.iter().map(|(_, at)| bind(*at, false).map(drop)).collect();
    let taken = tried
        .iter()
        .any(|tried| matches!(tried, Err(e) if e.kind() == io::ErrorKind::AddrInUse));
    let running = match (&config.admin, taken) {
        (Some(admin), true) => running_weir(admin.listen).await,
        _ => None,
    };
    let rows = ports.iter().zip(tried);
    let rows = rows.map(|((key, at), tried)| port(key, *at, tried, running.as_deref()));
    let mut section = Section {
        title: "This host",
        rows: rows.collect(),
    };
    // Pins need no anchors.
    if keys.client.anchors() == 0 && !matches!(config.tls.verify, Verify::Pin(_)) {
        let step = Step::ok("state", "empty");
        let mut row = Row::new(None, "tls.trust", vec![Step::skipped("at", "-"), step]);
        row.notes.push(
            "no certificate is trusted, so no ssl:// URL can work: set tls.trust, or install ca-certificates"
                .into(),
        );
        section.rows.push(row);
    }
    (section, running)
}

/// `running`: the ports of a weir that runs on this host.
fn port(key: &'static str, at: SocketAddr, tried: io::Result<()>, running: Option<&[u16]>) -> Row {
    let mut notes = Vec::new();
    let state = match tried {
        Ok(()) => Step::ok("state", "free"),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => match running {
            Some(ports) if ports.contains(&at.port()) => {
                notes.push("a weir is running here and listens on this port".to_owned());
                Step::ok("state", "taken by weir")
            }
            _ => Step::failed("state", "taken", e.to_string()),
        },
        Err(e) => Step::failed("state", "other", e.to_string()),
    };
    let mut row = Row::new(None, key, vec![Step::ok("at", at.to_string()), state]);
    row.notes = notes;
    row
}

/// The ports a weir on this host says it listens on, `None` when none answers at the admin port.
async fn running_weir(admin: SocketAddr) -> Option<Vec<u16>> {
    let target = Target::parse(&format!(
        "http://{}",
        SocketAddr::new(reached(admin), admin.port())
    ))
    .ok()?;
    let reply = http::call(&target, None, "GET", "/status", "", ADMIN_TIMEOUT)
        .await
        .ok()?;
    let status: Value = serde_json::from_str(&reply.body).ok()?;
    let listens_on = status.get("config")?.as_object()?;
    let listens = ["tcp", "tls", "decisions", "decisions_tls"].iter();
    let listens = listens.filter_map(|key| listens_on.get(*key)?.as_str()?.parse::<SocketAddr>().ok());
    Some(listens.map(|at| at.port()).chain([admin.port()]).collect())
}

/// Weir's own certificate: an expired or weak one is a problem of the configuration, one that is not valid yet a
/// failure here. `now` in Unix seconds.
pub(super) fn certificate(server: &ServerTls, now: i64) -> Row {
    let info = server.certificate();
    let days = days_left(info, now);
    let state = match (server.notice(), info.not_yet_valid(now)) {
        (Some(_), _) => Step::ok("state", "generated at start"),
        (None, None) => Step::ok("state", format!("{days} days left")),
        (None, Some(early)) => {
            let why = format!("it is {early}: gateways refuse it until then (is this host's clock correct?)");
            Step::failed("state", "not valid yet", why)
        }
    };
    let mut row = Row::new(None, "tls certificate", vec![Step::skipped("at", "-"), state]);
    let note = if server.notice().is_some() {
        Some(
            "neither tls.certificate nor tls.keystore is set: weir generates a self-signed certificate at every start, which \
             gateways must be made to trust each time; set one of them, except for trials"
                .to_owned(),
        )
    } else if info.subject == info.issuer {
        Some("it is self-signed: gateways must have it in their client-truststore.jks".to_owned())
    } else {
        None
    };
    row.notes.extend(note);
    if days <= DAYS_LEFT_NOTE {
        row.notes.push(format!(
            "it expires on {}, in {days} days: renew it",
            info.last_day()
        ));
    }
    row
}
