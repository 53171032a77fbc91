//! The steps that every probe begins with: TCP, TLS, and the certificate that was shown.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::certificates::Shown;
use super::report::Step;
use crate::config::{Scheme, Url};
use crate::net::{DialError, Dialer, Stream};

/// Deadlines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) tls: Duration,
}

/// A connection to a URL, as far as it got.
pub(super) struct Dialed {
    pub(super) tcp: Step,
    pub(super) tls: Step,
    pub(super) stream: Option<Stream>,
    pub(super) shown: Option<Shown>,
}

/// Connects, step by step. `tcp` and `tls` are the heads of the columns.
pub(super) async fn open(
    dialer: &Dialer,
    url: &Url,
    [tcp, tls]: [&'static str; 2],
    has_address: bool,
    within: Deadlines,
) -> Dialed {
    let not_tried = match url.scheme {
        Scheme::Tcp => Step::skipped(tls, "plain"),
        Scheme::Ssl => Step::skipped(tls, "-"),
    };
    let side = |tcp, tls, stream, shown| Dialed {
        tcp,
        tls,
        stream,
        shown,
    };
    if !has_address {
        return side(Step::skipped(tcp, "-"), not_tried, None, None);
    }
    let began = Instant::now();
    let raw = match dialer.dial_raw(url, within.connect).await {
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
    let shaken = dialer.tls().handshake(url, raw, within.tls).await;
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

/// A certificate that both URLs show is reported once.
pub(super) fn report_once(first: &Dialed, second: &mut Dialed, first_url: &Url) {
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

/// Each address once.
pub(super) fn listed(addresses: impl Iterator<Item = SocketAddr>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for address in addresses.map(|address| address.ip().to_string()) {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen.join(" ")
}
