//! Rules between tables, and warnings about whole groups.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::context::Context;
use super::problem::{Bad, Place};
use super::throttling::Found;
use super::{Config, GROUPS_MAX, Policy, Scheme, Url};

/// Names, endpoints and the shape of the groups.
pub(super) fn groups(context: &Context<'_>, found: &[Found]) {
    if let Some(group) = found.get(GROUPS_MAX) {
        let message = format!("{} groups are more than weir can serve", found.len());
        let bad = Bad::new(message, format!("name {GROUPS_MAX} groups at most"));
        context.problem(group.place.as_ref(), &group.key, bad);
    }
    swapped(context, found);
    let mut names: Vec<&str> = Vec::new();
    let mut seen: Vec<(String, &str)> = Vec::new();
    for group in found {
        if names.contains(&group.name.as_str()) {
            let message = format!("another group is called {} too", group.name);
            let bad = Bad::new(message, "give each group a name of its own");
            context.problem(group.place.as_ref(), &group.key, bad);
        }
        names.push(&group.name);
        for (endpoint, [place, _]) in &group.endpoints {
            // Host names are not case-sensitive.
            let name = endpoint.name.to_lowercase();
            match seen.iter().rev().find(|(endpoint, _)| *endpoint == name) {
                Some((_, other)) if *other == group.name => {
                    let message = format!("{name} is listed twice in this group");
                    let bad = Bad::new(message, "name each Traffic Manager once");
                    context.problem(Some(place), &group.key, bad);
                }
                Some((_, other)) => context.warning(
                    Some(place),
                    &group.key,
                    &format!("{name} is in group {other} too: it gets every event twice and counts it twice"),
                    "name each Traffic Manager in one group only",
                ),
                None => {}
            }
            seen.push((name, &group.name));
            url_warnings(context, group, place, &endpoint.data, &endpoint.auth);
        }
        if group.policy == Policy::Loadbalance && group.endpoints.len() > 1 {
            let (name, n) = (&group.name, group.endpoints.len());
            let message = format!(
                "group {name} splits the events over {n} Traffic Managers, so each counts only its part and a limit is \
                 multiplied by {n}"
            );
            let hint = "one url_group per Traffic Manager, unless they share distributed (Redis) counters";
            context.warning(group.place.as_ref(), &group.key, &message, hint);
        }
    }
}

/// The auth URLs are in another order than the data URLs, so that a Traffic Manager gets the login of another one. One
/// auth URL for several data URLs is no such case.
fn swapped(context: &Context<'_>, found: &[Found]) {
    let endpoints = || found.iter().flat_map(|group| &group.endpoints);
    let same = |a: &Url, b: &Url| a.host.eq_ignore_ascii_case(&b.host);
    for group in found {
        for (endpoint, [_, place]) in &group.endpoints {
            let (data, auth) = (&endpoint.data, &endpoint.auth);
            let owner = endpoints().find(|(other, _)| same(&other.data, auth) && !same(&other.auth, auth));
            let Some((owner, _)) = owner.filter(|_| !same(data, auth)) else {
                continue;
            };
            let message = format!(
                "the login for {data} goes to {auth}, the host of {}, whose own login goes to {}: the auth URLs look \
                 swapped",
                owner.data, owner.auth
            );
            let hint = "write the auth URLs in the order of the data URLs";
            context.warning(Some(place), &group.key, &message, hint);
        }
    }
}

fn url_warnings(context: &Context<'_>, group: &Found, place: &Place, data: &Url, auth: &Url) {
    let warn = |message: String, hint| context.warning(Some(place), &group.key, &message, hint);
    if matches!(data.port, 7611 | 7711) {
        let port = data.port;
        warn(
            format!("port {port} is where Traffic Managers speak Thrift; weir speaks the Binary protocol"),
            "use the Binary ports, by default 9611 and 9711",
        );
    }
    if auth.scheme == Scheme::Tcp {
        warn(
            format!("the login to {auth} is not encrypted: anyone on the network can read the password"),
            "use ssl:// for the auth URL",
        );
    }
}

/// Without a port that serves logins no gateway can log in, except at another weir of the tier.
pub(super) fn logins(context: &Context<'_>, config: &Config) {
    let keys = ["listen.tls", "listen.tcp", "auth.allow_plaintext_login"];
    let served = config.ingress.tls.is_some() || config.auth.allow_plaintext_login;
    if served || keys.iter().any(|key| context.noted(key)) {
        return;
    }
    let place = context.place("listen.tls");
    let hint =
        "set listen.tls to an address, or auth.allow_plaintext_login = true where the network is trusted";
    if config.auth.session_secret.is_some() {
        let message = "no gateway can log in here: listen.tls is off and auth.allow_plaintext_login is false; only \
                       sessions of other weirs with the same auth.session_secret are accepted";
        context.warning(place.as_ref(), "listen.tls", message, hint);
    } else {
        let message = "no gateway can log in: listen.tls is off and auth.allow_plaintext_login is false";
        context.problem(place.as_ref(), "listen.tls", Bad::new(message, hint));
    }
}

/// How long an agent that was sent away may keep the connection on which it had logged in: 5 s idle, and an eviction
/// every 5.5 s.
const POOLED: Duration = Duration::from_secs(11);

/// A drain that is over before the agents have gone resets what they still have open.
pub(super) fn drain(context: &Context<'_>, config: &Config) {
    if config.drain_sends_away && config.drain_timeout < config.drain_notice + POOLED {
        context.warning(
            context.place("drain_timeout").as_ref(),
            "drain_timeout",
            "ends before the agents that were sent away have closed their connections",
            "allow drain_notice and 11s more, the time after which agents close idle connections",
        );
    }
}

/// A frame enters a queue whole, and each worker's queue is a share of the group's.
pub(super) fn limits(context: &Context<'_>, config: &Config) {
    let keys = ["queue.max_bytes", "listen.frame_max_bytes", "workers"];
    if keys.iter().any(|key| context.noted(key)) {
        return;
    }
    for group in &config.groups {
        if group.queue.bytes_max / config.workers >= config.ingress.frame_max_bytes {
            continue;
        }
        // Where the most specific of the settings was made.
        let own = format!("group.{}.max_bytes", group.name);
        let keys = [
            own.as_str(),
            "queue.max_bytes",
            "listen.frame_max_bytes",
            "workers",
        ];
        let key = keys
            .into_iter()
            .find(|key| context.stands(key))
            .unwrap_or("queue");
        let share = match config.workers {
            1 => String::new(),
            n => format!(" of each of {n} workers"),
        };
        let name = &group.name;
        let bad = Bad::new(
            format!("a frame of listen.frame_max_bytes would not fit into the queue of group {name}{share}"),
            "make the queue larger, or frame_max_bytes smaller",
        );
        context.problem(context.place(key).as_ref(), key, bad);
    }
}

/// Addresses that are used twice, or that lead back to weir.
pub(super) fn addresses(context: &Context<'_>, config: &Config, found: &[Found]) {
    // Where a wrong address was given, its default says nothing.
    let ports = config.ports().into_iter().filter(|(key, _)| !context.noted(key));
    let listening: Vec<(&str, SocketAddr)> = ports.collect();
    for (n, (key, address)) in listening.iter().enumerate() {
        if address.port() == 0 {
            let hint = "name a port, unless this is a test";
            let message = "with port 0 the system picks a port that no gateway can know";
            context.warning(context.place(key).as_ref(), key, message, hint);
        }
        for (other, _) in listening
            .iter()
            .take(n)
            .filter(|(_, other)| clash(*address, *other))
        {
            // The later one may be a default: then the earlier one is the one to show.
            let (key, other) = if context.stands(key) {
                (key, other)
            } else {
                (other, key)
            };
            let message = format!("{other} has the same port");
            let bad = Bad::new(message, "give each listener a port of its own");
            context.problem(context.place(key).as_ref(), key, bad);
        }
    }
    let itself = |url: &Url| {
        listening
            .iter()
            .find(|(_, address)| leads_to(url, *address))
            .map(|(key, _)| key)
    };
    for group in found {
        let urls = group
            .endpoints
            .iter()
            .flat_map(|(e, [place, _])| [(&e.data, place), (&e.auth, place)]);
        for (url, place) in urls {
            if let Some(key) = itself(url) {
                let bad = Bad::new(
                    format!("{url} is weir itself ({key}): events would loop forever"),
                    "name the Traffic Manager here; the deployment.toml of a gateway that already points to weir no longer has its address",
                );
                context.problem(Some(place), &group.key, bad);
            }
        }
    }
    for broker in config.decisions.iter().flat_map(|decisions| &decisions.brokers) {
        if let Some(key) = itself(broker) {
            let message = format!("{broker} is weir itself ({key})");
            let bad = Bad::new(message, "name the broker of a Traffic Manager");
            let key = "decisions.endpoints";
            context.problem(context.place(key).as_ref(), key, bad);
        }
    }
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    // [::] takes IPv4 as well where the system says so.
    let covers =
        |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv4() == b.is_ipv4() || a.is_ipv6());
    let overlap = a.ip() == b.ip() || covers(a, b) || covers(b, a);
    a.port() != 0 && a.port() == b.port() && overlap
}

/// As far as can be told without resolving names.
fn leads_to(url: &Url, listen: SocketAddr) -> bool {
    let everywhere = listen.ip().is_unspecified();
    let same_host = match url.host.parse::<IpAddr>() {
        Ok(ip) => ip == listen.ip() || (everywhere && (ip.is_loopback() || ip.is_unspecified())),
        Err(_) => url.host.eq_ignore_ascii_case("localhost") && (everywhere || listen.ip().is_loopback()),
    };
    url.port == listen.port() && same_host
}
