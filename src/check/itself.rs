//! Whether what answers as a Traffic Manager is weir: then events would go round for ever.
//!
//! Weir knows its own sessions. With `auth.session_secret` the check knows them, too; where weir runs with a secret
//! of its own making, only that weir does, and is asked with a publish of zero events.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use super::talk::{end, takes};
use crate::config::{Config, Link, Scheme, Url, User};
use crate::ingress::token::{PREFIX, Tokens};
use crate::net::Dialer;

/// What tells a session of this weir from others.
pub(super) struct Own {
    users: Vec<User>,
    /// `None` without a configured secret.
    tokens: Option<Tokens>,
    /// Where a weir with this configuration runs now.
    running: Option<Url>,
}

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of this weir, or of one with the same secret and users.
    Own,
    /// Of some other weir, as far as can be told.
    AnotherWeirs,
    TrafficManagers,
}

impl Own {
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

    /// Within the deadlines of `link`.
    pub(super) async fn whose(&self, session: &[u8], dialer: &Dialer, link: &Link) -> Whose {
        if !session.starts_with(PREFIX.as_bytes()) {
            return Whose::TrafficManagers;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let tokens = self.tokens.as_ref();
        if tokens.is_some_and(|tokens| tokens.check(session, &self.users, now_ms).is_some()) {
            return Whose::Own;
        }
        let Some(url) = &self.running else {
            return Whose::AnotherWeirs;
        };
        let Ok(mut stream) = dialer.dial(url, link.connect_timeout, link.tls_timeout).await else {
            return Whose::AnotherWeirs;
        };
        let own = takes(&mut stream, session, link.reply_timeout).await;
        end(Some(stream), own.is_some()).await;
        match own {
            Some(true) => Whose::Own,
            _ => Whose::AnotherWeirs,
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
