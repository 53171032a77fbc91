//! `[decisions]`: the return leg. Without the table it is off.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::delivery::{beat, heartbeat};
use super::raw::Section;
use super::values::{self, address, count, duration, duration_or_never, word};
use super::{Decisions, Policy};

const SECOND: Duration = Duration::from_secs(1);
/// How long WSO2's client waits for an answer, unless its JVM is told otherwise.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// `[decisions]`; brokers come from its `endpoints`, else from `throttle_decision_endpoints`.
pub(super) fn decisions(s: &Section<'_>, throttling: &Section<'_>) -> Option<Decisions> {
    if !s.exists() {
        return None;
    }
    let (table, key) = match s.has("endpoints") {
        true => (s, "endpoints"),
        false => (throttling, "throttle_decision_endpoints"),
    };
    let brokers = table.array(key).unwrap_or_default();
    let named = !brokers.is_empty();
    let brokers = brokers.iter().filter_map(|given| {
        let url = given.text().and_then(|text| values::url(given, &text));
        url.map_err(|bad| s.context.problem(Some(&given.place), &given.key, bad))
            .ok()
    });
    let any = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5672)));
    let beat_of = |key| heartbeat(s, key, Some(beat(30)), SECOND);
    let (heartbeat, client_heartbeat) = (beat_of("heartbeat"), beat_of("client_heartbeat"));
    let decisions = Decisions {
        listen: s.read("listen", any, address),
        listen_tls: s.read("listen_tls", None, address),
        brokers: brokers.collect(),
        policy: s.read("policy", Policy::Failover, |g| {
            word(
                g,
                &[
                    ("failover", Policy::Failover),
                    ("loadbalance", Policy::Loadbalance),
                ],
            )
        }),
        heartbeat: heartbeat.unwrap_or_else(|| beat(30)),
        client_heartbeat: client_heartbeat.unwrap_or_else(|| beat(30)),
        hold: s.read("hold", 28 * SECOND, |g| duration(g, Duration::ZERO, 300 * SECOND)),
        failback_after: s.read("failback_after", None, |g| duration_or_never(g, SECOND)),
        connections_max: s.read("max_connections", 1_000, |g| count(g, 1, 1_000_000)),
    };
    s.finish();
    for (key, given) in [("heartbeat", heartbeat), ("client_heartbeat", client_heartbeat)] {
        if given.is_none() {
            s.problem(
                key,
                "cannot be off: it is what keeps this leg alive",
                "write { delay = 30, timeout_factor = 2.0 }",
            );
        }
    }
    if decisions.hold >= CLIENT_PATIENCE {
        s.warning(
            "hold",
            "longer than a gateway waits for an answer: it gives up after 30s",
            "write \"28s\", unless every gateway's JVM has -Damqj.MaximumStateWait with more milliseconds than this",
        );
    }
    if !named && !table.has(key) {
        let hint = "set decisions.endpoints = [\"tcp://HOST:5672\"], or throttle_decision_endpoints in [apim.throttling]";
        s.problem("endpoints", "is missing: weir knows no broker", hint);
    } else if !named {
        table.problem(key, "names no broker", "write [\"tcp://HOST:5672\"]");
    }
    if decisions.listen.is_none() && decisions.listen_tls.is_none() {
        s.problem(
            "listen",
            "no gateway could connect: listen and listen_tls are both off",
            "leave one on, or remove [decisions]",
        );
    }
    for (key, listen) in [("listen", decisions.listen), ("listen_tls", decisions.listen_tls)] {
        if listen.is_some_and(|listen| listen.ip().is_loopback()) {
            s.warning(
                key,
                "on loopback: the gateway names its queue after its local address and port, so gateways behind different weirs may collide on the broker",
                "listen on the address of the host or pod",
            );
        }
    }
    Some(decisions)
}
