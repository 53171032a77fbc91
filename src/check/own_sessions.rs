//! Whether a URL of a Traffic Manager leads back to weir, which would make events loop forever.
//!
//! With `auth.session_secret` the check recognises weir's sessions by their signature. A weir that runs with a generated secret
//! is asked with a publish of zero events whether it knows the session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use super::session::{accepts, close};
use crate::config::{Config, Link, Scheme, Url, User};
use crate::ingress::token::{PREFIX, Tokens};
use crate::net::Dialer;

/// Recognises sessions of this weir.
pub(super) struct OwnSessions {
    users: Vec<User>,
    /// `None` without a configured secret.
    tokens: Option<Tokens>,
    /// A URL of a weir that runs with this configuration.
    running: Option<Url>,
}

/// Who issued a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionOwner {
    /// This weir, or one with the same secret and users.
    ThisWeir,
    /// Another weir, as far as can be told.
    AnotherWeir,
    TrafficManager,
}

impl OwnSessions {
    /// `running`: the ports of a weir that runs on this host.
    pub(super) fn of(config: &Config, running: Option<&[u16]>) -> Self {
        let secret = config.auth.session_secret.as_ref();
        let listens = [
            (Scheme::Tcp, config.ingress.tcp),
            (Scheme::Ssl, config.ingress.tls),
        ];
        let mut listens = listens.into_iter().filter_map(|(scheme, at)| Some((scheme, at?)));
        let running = listens.find(|(_, at)| running.is_some_and(|ports| ports.contains(&at.port())));
        Self {
            users: config.auth.users.clone(),
            tokens: secret.and_then(|secret| Tokens::new(Some(secret.expose())).ok()),
            running: running.map(|(scheme, at)| Url {
                scheme,
                host: reached(at).to_string(),
                port: at.port(),
            }),
        }
    }

    /// Deadlines the deadlines of `link`.
    pub(super) async fn issuer(&self, session: &[u8], dialer: &Dialer, link: &Link) -> SessionOwner {
        if !session.starts_with(PREFIX.as_bytes()) {
            return SessionOwner::TrafficManager;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let tokens = self.tokens.as_ref();
        if tokens.is_some_and(|tokens| tokens.check(session, &self.users, now_ms).is_some()) {
            return SessionOwner::ThisWeir;
        }
        let Some(url) = &self.running else {
            return SessionOwner::AnotherWeir;
        };
        let Ok(mut stream) = dialer.dial(url, link.connect_timeout, link.tls_timeout).await else {
            return SessionOwner::AnotherWeir;
        };
        let own = accepts(&mut stream, session, link.reply_timeout).await;
        close(Some(stream), own.is_some()).await;
        match own {
            Some(true) => SessionOwner::ThisWeir,
            _ => SessionOwner::AnotherWeir,
        }
    }
}

/// An address under which a listener of this host is reached from here.
pub(super) fn reached(listen: SocketAddr) -> IpAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
