//! Who may read, and who may change the state of weir; pure.
//!
//! With `admin.token` set: calls with `Authorization: Bearer …`. A web page of another site cannot send that header: it
//! would need a CORS permission, and weir grants none.
//!
//! Without a token: calls from this machine. A browser on this machine may run a page of any site, so a call is refused
//! when it comes from a page of another origin (`Origin`, `Sec-Fetch-Site`; browsers send `Origin` with every POST, PUT
//! and DELETE), or when its `Host` is anything but `localhost` or an address: with DNS rebinding a hostile site points
//! its own name at 127.0.0.1 and is then of the same origin.
//!
//! For the same reason reading the page, /status and the log level takes the token or one of those names. Metrics and
//! probes are answered under any name: a scraper uses the name of the service.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::config::Secret;

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token, or not the right one.
    Token,
    /// From a web page of another site.
    CrossSite,
    /// Not from this machine, and there is no token that could allow it.
    Remote,
    /// By a name that any site could have.
    HostName,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Token => StatusCode::UNAUTHORIZED,
            _ => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Refusal::Token => "this call needs the token of admin.token: Authorization: Bearer …",
            Refusal::CrossSite => "calls from a web page of another site are refused",
            Refusal::Remote => {
                "without admin.token in the configuration, such calls are served on loopback only"
            }
            Refusal::HostName => {
                "use localhost or an address as the host name, or send the token of admin.token: any site could have this name"
            }
        }
    }
}

/// Whether a call from `peer` with these headers may change the state.
pub(super) fn may_write(token: Option<&Secret>, peer: IpAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    if is_cross_site(headers) {
        return Err(Refusal::CrossSite);
    }
    if let Some(token) = token {
        return if has_token(headers, token) {
            Ok(())
        } else {
            Err(Refusal::Token)
        };
    }
    if !peer.to_canonical().is_loopback() {
        return Err(Refusal::Remote);
    }
    has_trusted_name(headers)
}

/// Whether a call with these headers may read what only weir's users should know.
pub(super) fn may_read(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), Refusal> {
    if token.is_some_and(|token| has_token(headers, token)) {
        return Ok(());
    }
    has_trusted_name(headers)
}

/// Whether the call names weir by `localhost` or an address. Browsers always send the name.
fn has_trusted_name(headers: &HeaderMap) -> Result<(), Refusal> {
    match text(headers, &header::HOST) {
        Some(host) if !is_localhost_or_address(host) => Err(Refusal::HostName),
        _ => Ok(()),
    }
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    let elsewhere = text(headers, &HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let foreign = headers.get(header::ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let origin_host = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        origin_host.is_none() || origin_host != text(headers, &header::HOST)
    });
    elsewhere || foreign
}

/// Compares digests, in constant time: neither content nor length of the token leaks.
fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    let shown = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], |v| v.as_bytes());
    let Some((scheme, shown)) = shown.split_at_checked("Bearer ".len()) else {
        return false;
    };
    let shown = digest(&SHA256, shown.trim_ascii());
    let right = digest(&SHA256, token.expose().as_bytes());
    scheme.eq_ignore_ascii_case(b"Bearer ") && verify_slices_are_equal(shown.as_ref(), right.as_ref()).is_ok()
}

/// `localhost`, `127.0.0.1`, `[::1]`, each with or without a port.
fn is_localhost_or_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|v| v.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(token: Option<&str>, peer: &str, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        may_write(token.map(Secret::new).as_ref(), peer.parse().unwrap(), &map)
    }

    #[test]
    fn with_a_token_set_only_the_token_counts() {
        let with = |value| call(Some("s3cret"), "10.1.2.3", &[("authorization", value)]);
        assert_eq!(with("Bearer s3cret"), Ok(()));
        assert_eq!(with("bearer s3cret"), Ok(()));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3cret1",
            "Bearer ",
            "Bearer",
            "Basic s3cret",
            "s3cret",
        ] {
            assert_eq!(with(wrong), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(
            call(Some("s3cret"), "127.0.0.1", &[]),
            Err(Refusal::Token),
            "loopback does not replace the token"
        );
    }

    #[test]
    fn without_a_token_only_loopback_may_write() {
        for (peer, expected) in [
            ("127.0.0.1", Ok(())),
            ("127.9.9.9", Ok(())),
            ("::1", Ok(())),
            ("::ffff:127.0.0.1", Ok(())),
            ("10.0.0.1", Err(Refusal::Remote)),
            ("::ffff:10.0.0.1", Err(Refusal::Remote)),
        ] {
            assert_eq!(
                call(None, peer, &[("host", "localhost:9619")]),
                expected,
                "{peer}"
            );
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_even_with_the_token() {
        let host = ("host", "127.0.0.1:9619");
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8080",
            "http://localhost:9619",
            "file://",
        ] {
            let refused = call(None, "127.0.0.1", &[host, ("origin", origin)]);
            assert_eq!(refused, Err(Refusal::CrossSite), "{origin}");
            let headers = [host, ("origin", origin), ("authorization", "Bearer t")];
            assert_eq!(call(Some("t"), "127.0.0.1", &headers), Err(Refusal::CrossSite));
        }
        for site in ["cross-site", "same-site"] {
            let refused = call(None, "127.0.0.1", &[host, ("sec-fetch-site", site)]);
            assert_eq!(refused, Err(Refusal::CrossSite), "{site}");
        }
        let own = [
            host,
            ("origin", "http://127.0.0.1:9619"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(call(None, "127.0.0.1", &own), Ok(()));
    }

    #[test]
    fn a_host_name_that_was_rebound_to_loopback_is_refused() {
        let rebound = [
            ("host", "evil.example:9619"),
            ("origin", "http://evil.example:9619"),
        ];
        assert_eq!(call(None, "127.0.0.1", &rebound), Err(Refusal::HostName));
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:9619",
            "[::1]:9619",
            "10.0.0.5:9619",
        ] {
            assert_eq!(call(None, "127.0.0.1", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "127.0.0.1.evil.example",
            "localhost.evil.example:1",
            "",
            "[evil]:1",
        ] {
            assert_eq!(
                call(None, "127.0.0.1", &[("host", host)]),
                Err(Refusal::HostName),
                "{host}"
            );
        }
    }

    #[test]
    fn reading_under_any_other_name_takes_the_token() {
        let look = |token: Option<&str>, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            may_read(token.map(Secret::new).as_ref(), &map)
        };
        let (named, shown) = (("host", "weir.example:9619"), ("authorization", "Bearer s3cret"));
        for own in ["localhost:9619", "127.0.0.1:9619", "[fd00::5]:9619", "10.0.0.5"] {
            assert_eq!(look(None, &[("host", own)]), Ok(()), "{own}");
        }
        assert_eq!(look(None, &[]), Ok(()), "HTTP/1.0, which no browser speaks");
        assert_eq!(look(None, &[named]), Err(Refusal::HostName));
        assert_eq!(look(None, &[named, shown]), Err(Refusal::HostName));
        assert_eq!(look(Some("s3cret"), &[named]), Err(Refusal::HostName));
        assert_eq!(look(Some("other"), &[named, shown]), Err(Refusal::HostName));
        assert_eq!(look(Some("s3cret"), &[named, shown]), Ok(()));
    }
}
