//! What a configuration means, in short sentences for new users.

use std::time::Duration;

use crate::config::duration_text as time;
use crate::config::{Ack, Config, Decisions, Endpoint, Group, Policy, Queue, Shed};

/// One line each; an empty one parts paragraphs.
pub(super) fn explain(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    gateways(&mut lines, config);
    lines.push(String::new());
    let names: Vec<&str> = config.groups.iter().map(|g| g.name.as_str()).collect();
    lines.push(match names.as_slice() {
        [one] => format!("every event goes to 1 group: {one}"),
        many => format!("every event goes to {} groups: {}", many.len(), many.join(", ")),
    });
    for group in &config.groups {
        delivery(&mut lines, group, config.link.failback_after);
    }
    lines.push(String::new());
    lines.extend(ack(config));
    let first = config.groups.first().map(|group| &group.queue);
    if config.groups.iter().all(|group| Some(&group.queue) == first) {
        lines.push(String::new());
        lines.push(match names.len() {
            1 => "if the group is slow or away:".into(),
            _ => "if a group is slow or away (the others go on without it):".into(),
        });
        lines.extend(first.iter().flat_map(|queue| trouble(queue)));
    } else {
        for group in &config.groups {
            lines.push(String::new());
            lines.push(format!(
                "if {} is slow or away (the others go on without it):",
                group.name
            ));
            lines.extend(trouble(&group.queue));
        }
    }
    if let Some(back) = &config.decisions {
        lines.push(String::new());
        decisions(&mut lines, back);
    }
    lines
}

fn gateways(lines: &mut Vec<String>, config: &Config) {
    lines.push("gateways connect to:".into());
    let (ingress, auth) = (&config.ingress, &config.auth);
    if let Some(at) = ingress.tcp {
        let what = match auth.allow_plaintext_login {
            true => "events, and logins without encryption",
            false => "events; a login is refused here",
        };
        lines.push(format!("  tcp://{at}  {what}"));
    }
    if let Some(at) = ingress.tls {
        lines.push(format!("  ssl://{at}  logins, and encrypted events"));
    }
    let users: Vec<String> = auth.users.iter().map(|user| format!("{:?}", user.name)).collect();
    let (as_, own) = (users.join(" or "), time(auth.session_ttl));
    lines.push(format!("  they log in as {as_}; a session lasts {own}"));
    if auth.session_secret.is_none() {
        lines.push(
            "  session_secret is not set: gateways log in again, by themselves, after a restart".into(),
        );
    }
}

fn delivery(lines: &mut Vec<String>, group: &Group, failback_after: Duration) {
    let name = &group.name;
    lines.push(match (group.policy, group.endpoints.as_slice()) {
        (_, [_]) => format!("  {name}: to its one Traffic Manager"),
        (Policy::Loadbalance, many) => format!(
            "  {name}: loadbalance: each event goes to one of {}, in turn among those that are up",
            many.len()
        ),
        (Policy::Failover, _) => format!(
            "  {name}: failover: each event goes to the first that is up, in this order; back to an earlier one when it \
             has been up for {}",
            time(failback_after)
        ),
    });
    for (i, endpoint) in group.endpoints.iter().enumerate() {
        lines.push(format!("    {}. {}", i + 1, whereto(endpoint, &group.username)));
    }
}

fn whereto(endpoint: &Endpoint, username: &str) -> String {
    format!("{} (login at {} as {username:?})", endpoint.data, endpoint.auth)
}

fn ack(config: &Config) -> Vec<String> {
    let reply_timeout = time(config.ingress.reply_timeout);
    let again = format!("  after {reply_timeout} without an ok it is told to send the events again");
    match config.ack {
        Ack::Accepted => vec![
            "a gateway gets its ok when the events are in the queue of every group (ack = \"accepted\"):".into(),
            "  queued events are lost if weir is killed; a stop by SIGTERM delivers them first".into(),
            again,
        ],
        Ack::Delivered => vec![
            "a gateway gets its ok when a Traffic Manager of every group has taken the events (ack = \"delivered\"):"
                .into(),
            "  if weir is killed before that, the gateway sends them again; it does not wait for a group that is unavailable (below)"
                .into(),
            again,
        ],
    }
}

fn trouble(queue: &Queue) -> Vec<String> {
    let (events, size) = (thousands(queue.events_max), bytes(queue.bytes_max));
    let dropped = match queue.shed {
        Shed::Oldest => "the oldest events in it are dropped, and counted, to make way for new ones",
        Shed::Newest => "new events are dropped for this group, and counted",
    };
    let mut lines = vec![format!("  its queue holds up to {events} events, or {size}")];
    lines.push(match queue.block_timeout {
        None => "  when that is full, gateways wait until it has capacity again: nothing is dropped".into(),
        Some(Duration::ZERO) => format!("  when that is full, {dropped}; gateways never wait"),
        Some(patience) => format!(
            "  when that is full, gateways wait for at most {}; then {dropped}",
            time(patience)
        ),
    });
    lines.push(match queue.unavailable_after {
        None => "  the same while all of its Traffic Managers are unreachable".into(),
        Some(after) => format!(
            "  when none of its Traffic Managers can be reached for {}, gateways no longer wait for it; once its \
             queue is full, {dropped}",
            time(after)
        ),
    });
    if let Some(age) = queue.max_age {
        lines.push(format!(
            "  events older than {} are dropped instead of sent",
            time(age)
        ));
    }
    for (stream, age) in &queue.max_age_streams {
        lines.push(match age {
            Some(age) => format!(
                "  events of {stream} older than {} are dropped instead of sent",
                time(*age)
            ),
            None => format!("  events of {stream} are sent whatever their age"),
        });
    }
    lines
}

fn decisions(lines: &mut Vec<String>, back: &Decisions) {
    lines.push("throttling decisions pass through weir; for them gateways connect to:".into());
    lines.extend(back.listen.map(|at| format!("  tcp://{at}")));
    lines.extend(back.listen_tls.map(|at| format!("  ssl://{at}")));
    lines.push(match (back.policy, back.brokers.as_slice()) {
        (_, [_]) => "  and weir connects them to this broker:".into(),
        (Policy::Failover, _) => {
            "  and weir connects them to the first broker that answers, in this order:".into()
        }
        (Policy::Loadbalance, _) => "  and weir connects them to these brokers in turn:".into(),
    });
    for (i, broker) in back.brokers.iter().enumerate() {
        lines.push(format!("    {}. {broker}", i + 1));
    }
}

fn bytes(bytes: usize) -> String {
    let size = bytesize::ByteSize::b(u64::try_from(bytes).unwrap_or(u64::MAX));
    size.display().iec().to_string().replace(".0 ", " ")
}

/// `1,000,000`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
