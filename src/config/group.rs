//! A url group in its valid form.

use std::fmt;

use super::{Queue, Secret};

/// One url group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Unique name; `group1`, `group2` … in file order unless given.
    pub name: String,
    /// How endpoints share the events.
    pub policy: Policy,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Credentials of this group's Traffic Managers.
    pub username: String,
    /// See `username`.
    pub password: Secret,
    /// `[queue]`, with what `[group.NAME]` sets.
    pub queue: Queue,
}

/// How a group chooses among its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Round robin over the live endpoints.
    Loadbalance,
    /// The first live endpoint in order; back to an earlier one when it lives again.
    Failover,
}

/// One Traffic Manager of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique within its group: `host:port` of the data URL.
    pub name: String,
    /// Where events go.
    pub data: Url,
    /// Where weir logs in.
    pub auth: Url,
}

/// `tcp://host:port` or `ssl://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Host name or address; IPv6 without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

impl Url {
    /// `host:port`.
    pub(super) fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Ssl => "ssl",
        };
        write!(f, "{scheme}://{}", self.address())
    }
}

/// Transport of a [`Url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Ssl,
}
