//! `[decisions]`: the return leg. Without the table it is off.

use std::net::SocketAddr;
use std::time::Duration;

use super::kinds::{SECOND, address, count, time, time_from, url, word};
use super::link::AmqpHeartbeat;
use super::section::Section;
use super::settings::settings;
use super::{Heartbeat, Policy, Url};

/// How long WSO2's client waits for a reply, unless its JVM is told otherwise.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

settings! {
    /// The return leg: gateways' AMQP connections to the brokers of the Traffic Managers.
    pub struct Decisions("decisions.") {
        "listen" listen: Option<SocketAddr> = address(), or "0.0.0.0:5672", Restart,
            "Where gateways fetch throttling decisions (AMQP); \"off\" = TLS only. Preferably the address of the host or pod, never loopback.";
        "listen_tls" listen_tls: Option<SocketAddr> = address(), or "off", Restart,
            "The same with TLS.";
        "policy" policy: Policy = word(POLICIES), or "failover", Now,
            "Order in which brokers are tried.";
        "heartbeat" heartbeat: Heartbeat = AmqpHeartbeat, or { delay = 30, timeout_factor = 2.0 }, Now,
            "Heartbeat to the broker after a silence of `delay` seconds; without a byte for delay x timeout_factor the connection is dead.";
        "client_heartbeat" client_heartbeat: Heartbeat = AmqpHeartbeat, or { delay = 30, timeout_factor = 2.0 }, Now,
            "The same to the gateway.";
        "hold" hold: Duration = time(Duration::ZERO, 300 * SECOND), or "28s", Now,
            "How long a gateway is held, silent, while no broker answers; 30s or more only with amqj.MaximumStateWait.";
        "failback_after" failback_after: Option<Duration> = time_from(SECOND).or("never"), or "never", Now,
            "Failover: go back to the first broker, at a quiet moment, once it has answered for this long.";
        "max_connections" connections_max: usize = count(1, 1_000_000), or 1_000, Now,
            "Gateway connections at a time.";
    }
    documented {
        "endpoints" = "list of URLs", eg ["tcp://tm1.example.com:5672", "tcp://tm2.example.com:5672"], Now,
            "Brokers of the Traffic Managers; without it throttle_decision_endpoints of [apim.throttling].";
    }
    and {
        /// Brokers, in order of preference; at least one.
        brokers: Vec<Url>,
    }
}

const POLICIES: &[(&str, Policy)] = &[
    ("failover", Policy::Failover),
    ("loadbalance", Policy::Loadbalance),
];

/// `[decisions]`; brokers come from its `endpoints`, else from `throttle_decision_endpoints`.
pub(super) fn decisions(s: &Section<'_>, throttling: &Section<'_>) -> Option<Decisions> {
    if !s.exists() {
        return None;
    }
    let (table, key) = match s.has("endpoints") {
        true => (s, "endpoints"),
        false => (throttling, "throttle_decision_endpoints"),
    };
    let given = table.array(key).unwrap_or_default();
    let brokers = given
        .iter()
        .filter_map(|given| s.accept(given, given.text().and_then(|text| url(given, &text))));
    let decisions = Decisions::read(s, None, brokers.collect())?;
    s.finish();
    if decisions.hold >= CLIENT_PATIENCE {
        s.warning(
            "hold",
            "longer than a gateway waits for a reply: it gives up after 30s",
            "write \"28s\", unless every gateway's JVM has -Damqj.MaximumStateWait with more milliseconds than this",
        );
    }
    if given.is_empty() && !table.has(key) {
        let hint = "set decisions.endpoints = [\"tcp://HOST:5672\"], or throttle_decision_endpoints in [apim.throttling]";
        s.problem("endpoints", "is missing: weir knows no broker", hint);
    } else if given.is_empty() {
        table.problem(key, "names no broker", "write [\"tcp://HOST:5672\"]");
    }
    if decisions.listen.is_none() && decisions.listen_tls.is_none() {
        let message = "no gateway could connect: listen and listen_tls are both off";
        s.problem("listen", message, "leave one on, or remove [decisions]");
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
