//! The effective fan-out of a configuration, in words.

use std::fmt::Write;

use crate::config::{Config, Policy};

/// Which group, which Traffic Managers, in which order.
pub(super) fn fanout(config: &Config) -> String {
    let mut text = String::new();
    let names: Vec<&str> = config.groups.iter().map(|g| g.name.as_str()).collect();
    let _ = match names.as_slice() {
        [one] => writeln!(text, "every event goes to 1 group: {one}"),
        many => writeln!(
            text,
            "every event goes to {} groups: {}",
            many.len(),
            many.join(", ")
        ),
    };
    for group in &config.groups {
        let policy = match group.policy {
            Policy::Loadbalance => "round robin over the live ones of",
            Policy::Failover => "the first live one of",
        };
        let _ = writeln!(text, "  {}: {policy}", group.name);
        for endpoint in &group.endpoints {
            let _ = writeln!(text, "    {} (login at {})", endpoint.data, endpoint.auth);
        }
    }
    text
}
