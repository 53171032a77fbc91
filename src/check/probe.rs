//! One Traffic Manager, step by step: names, TCP, TLS, login, heartbeat; and out again politely.
//!
//! It does what a link does: logs in at the auth URL and publishes (a frame of zero events) at the data URL. A
//! Traffic Manager keeps a session for 30 minutes, so the check ends its own. Deadlines are those of `[link]`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::certificates::Shown;
use super::report::{Row, Step, milliseconds};
use super::talk::{end, heartbeat, leave};
use crate::config::{Endpoint, Group, Link, Scheme, Url};
use crate::egress::{Failure, login_over};
use crate::net::{DialError, Dialer, Stream, resolve};

/// What was found, and the certificates that were shown.
pub(super) struct Probe {
    pub(super) row: Row,
    pub(super) shown: Vec<Shown>,
}

/// Tries one endpoint of a group.
pub(super) async fn probe(dialer: &Dialer, group: &Group, endpoint: &Endpoint, link: &Link) -> Probe {
    let (auth, data) = (&endpoint.auth, &endpoint.data);
    let names = names(auth, data, link.connect_timeout).await;
    let login_side = async {
        let mut side = open(dialer, auth, "auth tcp", "auth tls", names.auth, link).await;
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
    let data_side = open(dialer, data, "data tcp", "data tls", names.data, link);
    let ((auth_side, logged_in), mut data_side) = tokio::join!(login_side, data_side);

    say_once(&auth_side, &mut data_side, auth);

    let (login, session) = match logged_in {
        None => (Step::skipped("login", "-"), None),
        Some((Ok(session), took)) => (Step::ok("login", "ok").took(took), Some(session)),
        Some((Err(failure), took)) => (refused_login(&failure, group).took(took), None),
    };
    let heartbeat = match (&mut data_side.stream, &session) {
        (Some(stream), Some(session)) => {
            let began = Instant::now();
            let answered = heartbeat(stream, endpoint, session, link.reply_timeout).await;
            Some((answered, began.elapsed()))
        }
        _ => None,
    };
    let waits = matches!(&heartbeat, Some((Err(failure), _)) if failure.class == "timeout");
    let (left, ()) = tokio::join!(
        leave(auth_side.stream, session.as_deref()),
        end(data_side.stream, !waits)
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
    let shown = [auth_side.shown, data_side.shown].into_iter().flatten().collect();
    Probe { row, shown }
}

/// What the name servers say about both URLs.
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

/// Each address once.
fn listed(addresses: impl Iterator<Item = SocketAddr>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for address in addresses.map(|address| address.ip().to_string()) {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen.join(" ")
}

/// A connection to one of the two URLs, as far as it came.
struct Side {
    tcp: Step,
    tls: Step,
    stream: Option<Stream>,
    shown: Option<Shown>,
}

async fn open(
    dialer: &Dialer,
    url: &Url,
    tcp: &'static str,
    tls: &'static str,
    has_address: bool,
    link: &Link,
) -> Side {
    let not_tried = match url.scheme {
        Scheme::Tcp => Step::skipped(tls, "plain"),
        Scheme::Ssl => Step::skipped(tls, "-"),
    };
    let side = |tcp, tls, stream, shown| Side {
        tcp,
        tls,
        stream,
        shown,
    };
    if !has_address {
        return side(Step::skipped(tcp, "-"), not_tried, None, None);
    }
    let began = Instant::now();
    let raw = match dialer.dial_raw(url, link.connect_timeout).await {
        Ok(raw) => raw,
        Err(e) => {
            let step = Step::failed(tcp, e.class.as_str(), advised(&e));
            return side(step.took(began.elapsed()), not_tried, None, None);
        }
    };
    let tcp = Step::ok(tcp, "ok").took(began.elapsed());
    if url.scheme == Scheme::Tcp {
        return side(tcp, not_tried, Some(Stream::Plain(raw)), None);
    }
    let began = Instant::now();
    let shaken = dialer.tls().handshake(url, raw, link.tls_timeout).await;
    let took = began.elapsed();
    let shown = |info, accepted| Shown {
        by: url.to_string(),
        accepted,
        info,
    };
    match shaken {
        Ok(stream) => {
            let version = stream.tls_version().unwrap_or("ok");
            let certificate = stream.peer_certificate().map(|info| shown(info, true));
            let tls = Step::ok(tls, version).took(took);
            side(tcp, tls, Some(stream), certificate)
        }
        Err(e) => {
            let certificate = e.certificate.map(|info| shown(*info, false));
            let tls = Step::failed(tls, e.class.as_str(), e.message).took(took);
            side(tcp, tls, None, certificate)
        }
    }
}

/// One certificate that both URLs show need not be complained about twice.
fn say_once(first: &Side, second: &mut Side, first_url: &Url) {
    if let (Some(a), Some(b)) = (&first.shown, &second.shown)
        && !a.accepted
        && !b.accepted
        && a.info == b.info
    {
        second.tls.why = Some(format!(
            "it shows the certificate that is refused from {first_url}"
        ));
    }
}

fn advised(e: &DialError) -> String {
    match e.class.as_str() {
        "refused" => format!(
            "{} (nothing listens there: is the Traffic Manager up, and is the port right?)",
            e.message
        ),
        _ => e.message.clone(),
    }
}

fn refused_login(failure: &Failure, group: &Group) -> Step {
    let why = if failure.class == "authentication" {
        format!(
            "{}. Mend username and password in [apim.throttling], or in [group.{}] for this group alone",
            failure.message, group.name
        )
    } else {
        failure.message.clone()
    };
    Step::failed("login", failure.class, why)
}
