//! What no single key can say: rules between tables, and warnings about whole groups.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::context::Context;
use super::problem::{Bad, Place};
use super::url_groups::Found;
use super::{Config, GROUPS_MAX, Policy, Scheme, Url};

/// Names, endpoints and the shape of the groups.
pub(super) fn groups(context: &Context<'_>, found: &[Found]) {
    if let Some(group) = found.get(GROUPS_MAX) {
        let bad = Bad::new(
            format!("{} groups are more than weir can serve", found.len()),
            format!("name {GROUPS_MAX} groups at most"),
        );
        context.problem(group.place.as_ref(), &group.key, bad);
    }
    swapped(context, found);
    let mut names: Vec<&str> = Vec::new();
    let mut seen: Vec<(String, &str)> = Vec::new();
    for group in found {
        let complain = |message: String, hint: &str| {
            context.problem(group.place.as_ref(), &group.key, Bad::new(message, hint));
        };
        if names.contains(&group.name.as_str()) {
            complain(
                format!("another group is called {} too", group.name),
                "give each group a name of its own",
            );
        }
        names.push(&group.name);
        let mut own: Vec<String> = Vec::new();
        for (endpoint, place) in group.endpoints.iter().zip(&group.places) {
            // Names of hosts know no capitals.
            let name = endpoint.name.to_lowercase();
            if own.contains(&name) {
                let bad = Bad::new(
                    format!("{name} is listed twice in this group"),
                    "name each Traffic Manager once",
                );
                context.problem(Some(place), &group.key, bad);
            } else if let Some((_, other)) = seen.iter().find(|(endpoint, _)| *endpoint == name) {
                context.warning(
                    Some(place),
                    &group.key,
                    &format!("{name} is in group {other} too: it gets every event twice and counts it twice"),
                    "name each Traffic Manager in one group only",
                );
            }
            own.push(name);
            url_warnings(context, group, place, &endpoint.data, &endpoint.auth);
        }
        seen.extend(own.into_iter().map(|name| (name, group.name.as_str())));
        if group.policy == Policy::Loadbalance && group.endpoints.len() > 1 {
            context.warning(
                group.place.as_ref(),
                &group.key,
                &format!(
                    "group {} splits the events over {} Traffic Managers, so each counts only its part and a limit is multiplied by {}",
                    group.name,
                    group.endpoints.len(),
                    group.endpoints.len()
                ),
                "one url_group per Traffic Manager, unless they share distributed (Redis) counters",
            );
        }
    }
}

/// The login of one Traffic Manager sent to another, and the other way round: the auth URLs are in another order than
/// the data URLs. One auth URL for several data URLs is none of that.
fn swapped(context: &Context<'_>, found: &[Found]) {
    let endpoints = || found.iter().flat_map(|group| group.endpoints.iter());
    let same = |a: &Url, b: &Url| a.host.eq_ignore_ascii_case(&b.host);
    for group in found {
        for (endpoint, place) in group.endpoints.iter().zip(&group.auth_places) {
            let (data, auth) = (&endpoint.data, &endpoint.auth);
            let owner = endpoints().find(|other| same(&other.data, auth) && !same(&other.auth, auth));
            let Some(owner) = owner.filter(|_| !same(data, auth)) else {
                continue;
            };
            context.warning(
                Some(place),
                &group.key,
                &format!(
                    "the login for {data} goes to {auth}, the host of {}, whose own login goes to {}: the auth URLs \
                     look swapped",
                    owner.data, owner.auth
                ),
                "write the auth URLs in the order of the data URLs",
            );
        }
    }
}

/// Without a port that serves logins no gateway gets in, unless it logs in at another weir of the tier.
pub(super) fn logins(context: &Context<'_>, config: &Config) {
    let echo = ["listen.tls", "listen.tcp", "auth.allow_plaintext_login"];
    let served = config.ingress.tls.is_some() || config.auth.allow_plaintext_login;
    if served || echo.iter().any(|key| context.noted(key)) {
        return;
    }
    let place = context.place(&["listen", "tls"]);
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
            context.place(&["drain_timeout"]).as_ref(),
            "drain_timeout",
            "it ends before the agents that were sent away have closed their connections",
            "allow drain_notice and 11s more, the time after which agents close what is idle",
        );
    }
}

fn url_warnings(context: &Context<'_>, group: &Found, place: &Place, data: &Url, auth: &Url) {
    if matches!(data.port, 7611 | 7711) {
        context.warning(
            Some(place),
            &group.key,
            &format!(
                "port {} is where Traffic Managers speak Thrift; weir speaks the Binary protocol",
                data.port
            ),
            "use the Binary ports, by default 9611 and 9711",
        );
    }
    if auth.scheme == Scheme::Tcp {
        context.warning(
            Some(place),
            &group.key,
            &format!("the login to {auth} is not encrypted: anybody on the way can read the password"),
            "use ssl:// for the auth URL",
        );
    }
}

/// A frame enters a queue whole, and each worker's queue is a share of the group's.
pub(super) fn limits(context: &Context<'_>, config: &Config) {
    let echo = ["queue.max_bytes", "listen.frame_max_bytes", "workers"];
    if echo.iter().any(|key| context.noted(key)) {
        return;
    }
    for group in &config.groups {
        if group.queue.bytes_max / config.workers >= config.ingress.frame_max_bytes {
            continue;
        }
        // The most particular setting that was made is the one to show.
        let paths: [&[&str]; 4] = [
            &["group", &group.name, "max_bytes"],
            &["queue", "max_bytes"],
            &["listen", "frame_max_bytes"],
            &["workers"],
        ];
        let path = paths
            .into_iter()
            .find(|path| context.stands(path))
            .unwrap_or(&["queue"]);
        let share = match config.workers {
            1 => String::new(),
            n => format!(" of each of {n} workers"),
        };
        let bad = Bad::new(
            format!(
                "a frame of listen.frame_max_bytes would not fit into the queue of group {}{share}",
                group.name
            ),
            "make the queue larger, or frame_max_bytes smaller",
        );
        context.problem(context.place(path).as_ref(), &path.join("."), bad);
    }
}

/// Addresses that are taken twice, or that lead back to weir.
pub(super) fn addresses(context: &Context<'_>, config: &Config, found: &[Found]) {
    let decisions = config.decisions.as_ref();
    let all: [(&[&str], Option<SocketAddr>); 5] = [
        (&["listen", "tcp"], config.ingress.tcp),
        (&["listen", "tls"], config.ingress.tls),
        (
            &["admin", "listen"],
            config.admin.as_ref().map(|admin| admin.listen),
        ),
        (&["decisions", "listen"], decisions.and_then(|d| d.listen)),
        (&["decisions", "listen_tls"], decisions.and_then(|d| d.listen_tls)),
    ];
    // Where a wrong address was given its default says nothing.
    let sound = all.iter().filter(|(path, _)| !context.noted(&path.join(".")));
    let listening: Vec<_> = sound
        .filter_map(|(path, address)| Some((*path, (*address)?)))
        .collect();
    for (n, (path, address)) in listening.iter().enumerate() {
        let key = path.join(".");
        if address.port() == 0 {
            let hint = "name a port, unless this is a test";
            let message = "with port 0 the system picks a port that no gateway can know";
            context.warning(context.place(path).as_ref(), &key, message, hint);
        }
        for (other_path, other) in listening.iter().take(n) {
            if clash(*address, *other) {
                // The later one may be a default: then the earlier one is the one to show.
                let (path, key, other) = match context.stands(path) {
                    true => (path, key.clone(), other_path.join(".")),
                    false => (other_path, other_path.join("."), key.clone()),
                };
                let bad = Bad::new(
                    format!("{other} has the same port"),
                    "give each listener a port of its own",
                );
                context.problem(context.place(path).as_ref(), &key, bad);
            }
        }
    }
    let endpoints = found.iter().flat_map(|group| {
        let urls = group.endpoints.iter().zip(&group.places);
        urls.flat_map(move |(e, place)| [(&e.data, place, &group.key), (&e.auth, place, &group.key)])
    });
    for (url, place, key) in endpoints {
        if let Some((path, _)) = listening.iter().find(|(_, address)| leads_to(url, *address)) {
            let bad = Bad::new(
                format!(
                    "{url} is weir itself ({}): events would loop for ever",
                    path.join(".")
                ),
                "name the Traffic Manager here; the deployment.toml of a gateway that already points to weir no longer has its address",
            );
            context.problem(Some(place), key, bad);
        }
    }
    if let Some(decisions) = decisions {
        for broker in &decisions.brokers {
            if let Some((path, _)) = listening.iter().find(|(_, address)| leads_to(broker, *address)) {
                let bad = Bad::new(
                    format!("{broker} is weir itself ({})", path.join(".")),
                    "name the broker of a Traffic Manager",
                );
                context.problem(
                    context.place(&["decisions", "endpoints"]).as_ref(),
                    "decisions.endpoints",
                    bad,
                );
            }
        }
    }
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    let same_family = a.is_ipv4() == b.is_ipv4();
    // [::] takes IPv4 as well where the system says so.
    let overlap = a.ip() == b.ip()
        || (everywhere(a.ip()) && (same_family || a.is_ipv6()))
        || (everywhere(b.ip()) && (same_family || b.is_ipv6()));
    a.port() != 0 && a.port() == b.port() && overlap
}

/// As far as can be told without asking for names.
fn leads_to(url: &Url, listen: SocketAddr) -> bool {
    if url.port != listen.port() {
        return false;
    }
    let listens_on_loopback = listen.ip().is_loopback() || listen.ip().is_unspecified();
    if url.host.eq_ignore_ascii_case("localhost") {
        return listens_on_loopback;
    }
    match url.host.parse::<IpAddr>() {
        Ok(ip) => {
            ip == listen.ip() || (listen.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified()))
        }
        Err(_) => false,
    }
}
