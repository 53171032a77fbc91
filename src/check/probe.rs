//! One Traffic Manager, step by step: DNS, TCP, TLS, login, heartbeat, logout.
//!
//! It does what a link does: logs in at the auth URL and publishes (a frame of zero events) at the data URL. A
//! Traffic Manager keeps a session for 30 minutes, so the check ends its own. Deadlines are those of `[link]`.

use std::time::Duration;

use tokio::time::Instant;

use super::certificates::Shown;
use super::dial::{Deadlines, listed, open, report_once};
use super::own_sessions::{OwnSessions, SessionOwner};
use super::report::{Row, Step, milliseconds};
use super::session::{close, heartbeat, logout};
use crate::config::{Endpoint, Group, Link, Url};
use crate::egress::{Failure, leads_back, login_over};
use crate::net::{Dialer, resolve};

/// What was found, and the certificates that were shown.
pub(super) struct Probe {
    pub(super) row: Row,
    pub(super) shown: Vec<Shown>,
}

/// Tries one endpoint of a group.
pub(super) async fn probe(
    dialer: &Dialer,
    group: &Group,
    endpoint: &Endpoint,
    link: &Link,
    own_sessions: &OwnSessions,
) -> Probe {
    let (auth, data) = (&endpoint.auth, &endpoint.data);
    let within = Deadlines {
        connect: link.connect_timeout,
        tls: link.tls_timeout,
    };
    let names = names(auth, data, link.connect_timeout).await;
    let login_side = async {
        let mut side = open(dialer, auth, ["auth tcp", "auth tls"], names.auth, within).await;
        let logged_in = match &mut side.stream {
            None => None,
            Some(stream) => {
                let began = Instant::now();
                let times = link.login_timeout;
                let answer = login_over(stream, auth, &group.username, &group.password, times).await;
                Some((answer, began.elapsed()))
            }
        };
        (side, logged_in)
    };
    let data_side = open(dialer, data, ["data tcp", "data tls"], names.data, within);
    let ((auth_side, logged_in), mut data_side) = tokio::join!(login_side, data_side);

    report_once(&auth_side, &mut data_side, auth);

    let mut issuer = SessionOwner::TrafficManager;
    let (login, session) = match logged_in {
        None => (Step::skipped("login", "-"), None),
        Some((Ok(session), took)) => {
            issuer = own_sessions.issuer(&session, dialer, link).await;
            let login = match issuer {
                SessionOwner::ThisWeir => {
                    let failure = leads_back(auth);
                    Step::failed("login", failure.class, failure.message)
                }
                _ => Step::ok("login", "ok"),
            };
            (login.took(took), Some(session))
        }
        Some((Err(failure), took)) => (refused_login(&failure, group).took(took), None),
    };
    let heartbeat = match (&mut data_side.stream, &session) {
        (Some(stream), Some(session)) if issuer != SessionOwner::ThisWeir => {
            let began = Instant::now();
            let answered = heartbeat(stream, endpoint, session, link.reply_timeout).await;
            Some((answered, began.elapsed()))
        }
        _ => None,
    };
    let waits = matches!(&heartbeat, Some((Err(failure), _)) if failure.class == "timeout");
    let (left, ()) = tokio::join!(
        logout(auth_side.stream, session.as_deref()),
        close(data_side.stream, !waits)
    );

    let round_trip = match &heartbeat {
        Some((Ok(()), took)) => Some(*took),
        _ => None,
    };
    let heartbeat = match heartbeat {
        None => Step::skipped("heartbeat", "-"),
        Some((Ok(()), took)) => Step::ok("heartbeat", "ok").took(took),
        Some((Err(failure), took)) => Step::failed("heartbeat", failure.class, failure.message).took(took),
    };
    let steps = vec![
        names.step,
        auth_side.tcp,
        auth_side.tls,
        login,
        data_side.tcp,
        data_side.tls,
        heartbeat,
    ];
    let mut row = Row::new(Some(&group.name), &endpoint.name, steps);
    row.round_trip_ms = round_trip.map(milliseconds);
    row.notes.extend(left.err());
    if issuer == SessionOwner::AnotherWeir {
        row.notes.push(format!(
            "{auth} is a weir: name a Traffic Manager, or make sure that its events do not return to this weir"
        ));
    }
    let shown = [auth_side.shown, data_side.shown].into_iter().flatten().collect();
    Probe { row, shown }
}

/// Name resolution of both URLs.
struct Names {
    step: Step,
    /// Whether the host of the auth URL has an address.
    auth: bool,
    /// Whether the host of the data URL has one.
    data: bool,
}

async fn names(auth: &Url, data: &Url, within: Duration) -> Names {
    let began = Instant::now();
    let (of_auth, of_data) = if auth.host == data.host {
        let found = resolve(auth, within).await;
        (found.clone(), found)
    } else {
        tokio::join!(resolve(auth, within), resolve(data, within))
    };
    let took = began.elapsed();
    let (auth, data) = (of_auth.is_ok(), of_data.is_ok());
    let step = match (of_auth, of_data) {
        (Ok(a), Ok(d)) => Step::ok("dns", listed(a.into_iter().chain(d))),
        (Err(e), _) | (_, Err(e)) => Step::failed("dns", e.class.as_str(), e.message),
    };
    Names {
        step: step.took(took),
        auth,
        data,
    }
}

fn refused_login(failure: &Failure, group: &Group) -> Step {
    let why = if failure.class == "authentication" {
        format!(
            "{}. Correct username and password in [apim.throttling], or in [group.{}] for this group alone",
            failure.message, group.name
        )
    } else {
        failure.message.clone()
    };
    Step::failed("login", failure.class, why)
}
