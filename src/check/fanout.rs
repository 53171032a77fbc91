//! The effective fan-out for machines. Users by name, passwords never.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{self, Ack, Config, Group, Policy, Shed};

/// What a configuration means, `words` besides. Durations as text, `never` where there is no limit.
pub(super) fn fan_out(config: &Config, words: &[String]) -> Value {
    json!({
        "listen_tcp": config.ingress.tcp,
        "listen_tls": config.ingress.tls,
        "users": config.auth.users.iter().map(|user| &user.name).collect::<Vec<_>>(),
        "ack": match config.ack {
            Ack::Accepted => "accepted",
            Ack::Delivered => "delivered",
        },
        "groups": config.groups.iter().map(group).collect::<Vec<_>>(),
        "words": words,
    })
}

fn group(group: &Group) -> Value {
    let endpoints = group.endpoints.iter().map(|endpoint| {
        let (data, auth) = (endpoint.data.to_string(), endpoint.auth.to_string());
        json!({ "name": endpoint.name, "data": data, "auth": auth })
    });
    let queue = &group.queue;
    let ages = queue.max_age_streams.iter();
    json!({
        "name": group.name,
        "policy": match group.policy {
            Policy::Loadbalance => "loadbalance",
            Policy::Failover => "failover",
        },
        "username": group.username,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "queue": {
            "events_max": queue.events_max,
            "bytes_max": queue.bytes_max,
            "block_timeout": limit(queue.block_timeout),
            "shed": match queue.shed {
                Shed::Oldest => "oldest",
                Shed::Newest => "newest",
            },
            "unavailable_after": limit(queue.unavailable_after),
            "max_age": limit(queue.max_age),
            "max_age_streams": ages.map(|(stream, age)| (stream, limit(*age))).collect::<BTreeMap<_, _>>(),
        },
    })
}

fn limit(limit: Option<Duration>) -> String {
    limit.map_or("never".into(), config::duration_text)
}
