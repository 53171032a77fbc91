//! Whether the limits of this process suffice for the configuration.

use rustix::process::{Resource, getrlimit};

use crate::config::Config;

/// Connections of the admin port.
const ADMIN_CONNECTIONS: u64 = 64;
/// Listeners, runtime, log and files: for the process, and again for each worker.
const OTHERS: u64 = 16;

/// File descriptors this process may have; `None` = without limit.
pub(super) fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// A warning and a hint if the connections that the configuration allows need more descriptors than the process may have.
pub(super) fn too_few_descriptors(config: &Config, allowed: Option<u64>) -> Option<(String, String)> {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let workers = number(config.workers);
    let endpoints = config.groups.iter().map(|group| number(group.endpoints.len()));
    // On the return leg each gateway has a connection to the broker besides its own.
    let decisions = config
        .decisions
        .as_ref()
        .map_or(0, |d| 2 * number(d.connections_max));
    let rest = endpoints.sum::<u64>() * workers + decisions + ADMIN_CONNECTIONS + OTHERS * (workers + 1);
    let connections = number(config.ingress.connections_max);
    let needed = connections + rest;
    let allowed = allowed.filter(|allowed| *allowed < needed)?;
    let message = format!(
        "{connections} connections and what else weir opens need {needed} file descriptors, and this process may have \
         {allowed} (ulimit -n)"
    );
    let raise = format!("raise it: ulimit -n {needed}, or LimitNOFILE={needed} in the systemd unit");
    let hint = match allowed.checked_sub(rest).filter(|left| *left > 0) {
        Some(left) => format!("{raise}; or set listen.max_connections = {left}"),
        None => raise,
    };
    Some((message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, parse};

    fn config(more: &str) -> Config {
        let groups = "[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n\
                      [[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://a:9611\", \"tcp://b:9611\"]\n";
        let source = Source {
            weir_toml: Some(("weir.toml".into(), format!("{more}{groups}"))),
            ..Source::default()
        };
        parse(&source).unwrap_or_else(|problems| panic!("{problems}")).0
    }

    #[test]
    fn a_warning_about_descriptors_has_the_numbers_and_what_to_set() {
        let (message, hint) = too_few_descriptors(&config(""), Some(1024)).unwrap_or_default();
        assert!(message.starts_with("10000 connections"), "{message}");
        assert!(
            message.contains("need 10098 file descriptors") && message.contains("may have 1024"),
            "{message}"
        );
        for part in [
            "ulimit -n 10098",
            "LimitNOFILE=10098",
            "listen.max_connections = 926",
        ] {
            assert!(hint.contains(part), "{hint}");
        }
        assert!(too_few_descriptors(&config("[listen]\nmax_connections = 927\n"), Some(1024)).is_some());
        assert_eq!(
            too_few_descriptors(&config("[listen]\nmax_connections = 926\n"), Some(1024)),
            None
        );
        assert_eq!(too_few_descriptors(&config(""), None), None, "no limit");
    }

    #[test]
    fn the_return_leg_takes_two_descriptors_for_each_connection() {
        let leg = "[decisions]\nendpoints = [\"tcp://a:5672\"]\nmax_connections = 100\n";
        let needed = |config: &Config| (0..).find(|n| too_few_descriptors(config, Some(*n)).is_none());
        let (without, with) = (needed(&config("")), needed(&config(leg)));
        assert_eq!(with, without.map(|n| n + 200));
    }
}
