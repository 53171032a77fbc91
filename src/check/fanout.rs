//! The effective fan-out as facts, for machines. Users by name, passwords never.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::explain;
use crate::config::{self, Ack, Config, Policy, Shed};

/// What a configuration means. Durations as text, `never` where there is no limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FanOut {
    /// Plain listener for gateways.
    pub listen_tcp: Option<String>,
    /// TLS listener for gateways.
    pub listen_tls: Option<String>,
    /// Who may log in.
    pub users: Vec<String>,
    /// `accepted` or `delivered`.
    pub ack: &'static str,
    /// Every event goes to every one of them.
    pub groups: Vec<Group>,
    /// The same and more, for people, a line each.
    pub words: Vec<String>,
}

/// One url group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Unique.
    pub name: String,
    /// `loadbalance` or `failover`.
    pub policy: &'static str,
    /// User that weir logs in as.
    pub username: String,
    /// In the order of the configuration.
    pub endpoints: Vec<Endpoint>,
    /// Limits of its queue.
    pub queue: Queue,
}

/// One Traffic Manager.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Endpoint {
    /// Unique in its group.
    pub name: String,
    /// Where events go.
    pub data: String,
    /// Where weir logs in.
    pub auth: String,
}

/// Limits of a group's queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Queue {
    /// Events queued and in flight.
    pub events_max: usize,
    /// Bytes queued and in flight.
    pub bytes_max: usize,
    /// How long a full queue makes gateways wait.
    pub block_timeout: String,
    /// `oldest` or `newest`.
    pub shed: &'static str,
    /// Without a Traffic Manager for so long, the group makes nobody wait.
    pub unavailable_after: String,
    /// Older events are dropped.
    pub max_age: String,
    /// The same for single streams.
    pub max_age_streams: BTreeMap<String, String>,
}

impl FanOut {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            listen_tcp: config.ingress.tcp.map(|at| at.to_string()),
            listen_tls: config.ingress.tls.map(|at| at.to_string()),
            users: config.auth.users.iter().map(|user| user.name.clone()).collect(),
            ack: match config.ack {
                Ack::Accepted => "accepted",
                Ack::Delivered => "delivered",
            },
            groups: config.groups.iter().map(group).collect(),
            words: explain::explain(config),
        }
    }
}

fn group(group: &config::Group) -> Group {
    let endpoints = group.endpoints.iter().map(|endpoint| Endpoint {
        name: endpoint.name.clone(),
        data: endpoint.data.to_string(),
        auth: endpoint.auth.to_string(),
    });
    let queue = &group.queue;
    Group {
        name: group.name.clone(),
        policy: match group.policy {
            Policy::Loadbalance => "loadbalance",
            Policy::Failover => "failover",
        },
        username: group.username.clone(),
        endpoints: endpoints.collect(),
        queue: Queue {
            events_max: queue.events_max,
            bytes_max: queue.bytes_max,
            block_timeout: limit(queue.block_timeout),
            shed: match queue.shed {
                Shed::Oldest => "oldest",
                Shed::Newest => "newest",
            },
            unavailable_after: limit(queue.unavailable_after),
            max_age: limit(queue.max_age),
            max_age_streams: queue
                .max_age_streams
                .iter()
                .map(|(stream, age)| (stream.clone(), limit(*age)))
                .collect(),
        },
    }
}

fn limit(limit: Option<Duration>) -> String {
    limit.map_or("never".into(), config::duration_text)
}
