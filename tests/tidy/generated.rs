//! Documentation that is made from the code: config/weir.toml, and the tables of docs/REFERENCE.md.
//!
//! `WEIR_BLESS=1 cargo test --test tidy generated` writes both anew.

use std::fmt::Write as _;

use weir::config::{Key, Reload, keys};
use weir::metrics::{Metric, Metrics};

use super::tree::{none, root};

const WEIR_TOML: &str = "config/weir.toml";
const REFERENCE: &str = "docs/REFERENCE.md";

/// The tables of weir.toml in order: name, what it is about, what the reference says besides.
const TABLES: &[(&str, &str, &str)] = &[
    ("", "", ""),
    ("listen", "Where gateways connect.", ""),
    ("auth", "Who may log in.", ""),
    (
        "auth.user[]",
        "Users, one table for each. Without any, the credentials of [apim.throttling] are valid.",
        "",
    ),
    ("tls", "Keys and trust.", ""),
    (
        "tls.keystore",
        "In place of certificate and key: a Java keystore or PKCS#12 file, in the words of deployment.toml.",
        "",
    ),
    (
        "tls.trust",
        "What to trust when weir connects to Traffic Managers: one of system, pem and [tls.trust.keystore].",
        "",
    ),
    ("tls.trust.keystore", "", ""),
    (
        "queue",
        "How events wait. Every group has a queue of its own.",
        "With several workers each has its share of `max_events` and `max_bytes`, and a share must hold a frame of \
         `listen.frame_max_bytes`.",
    ),
    (
        "group.NAME",
        "Any key of [queue] for one group, and its own credentials.",
        "Takes every key of `[queue]` besides these; what it does not set is as in `[queue]`.",
    ),
    ("link", "How events travel to the Traffic Managers.", ""),
    (
        "admin",
        "Metrics, status, reload, drain.",
        "See [TAP.md](TAP.md) for `weir tap`.",
    ),
    (
        "decisions",
        "The return leg: throttling decisions (AMQP). Off unless this table is there.",
        "Neither heartbeat can be off.",
    ),
    (
        "log",
        "The log.",
        "`--log-level` and `--log-format` win over the file.",
    ),
];

/// Groups of metrics: heading, and how the names begin.
const METRICS: &[(&str, &[&str])] = &[
    ("The process", &["weir_"]),
    ("Gateways", &["weir_gateway_"]),
    ("Groups", &["weir_group_", "weir_events_", "weir_queue_"]),
    ("Endpoints", &["weir_endpoint_"]),
    ("The process as the system sees it", &["process_"]),
];

fn keys_of(table: &str) -> impl Iterator<Item = &'static Key> {
    let inside = move |key: &&Key| key.path.rsplit_once('.').map_or("", |(table, _)| table) == table;
    keys().iter().filter(inside)
}

fn settings() -> String {
    let mut out = String::new();
    for (table, about, more) in TABLES {
        let heading = match *table {
            "" => "Top level".to_owned(),
            "auth.user[]" => "`[[auth.user]]`".to_owned(),
            table => format!("`[{table}]`"),
        };
        let _ = writeln!(out, "\n### {heading}\n");
        let about = [*about, *more].join(" ");
        if !about.trim().is_empty() {
            let _ = writeln!(out, "{}\n", about.trim());
        }
        out += "| key | default | may be | what it does | changes at |\n|---|---|---|---|---|\n";
        for Key {
            path,
            default,
            form,
            help,
            reload,
            ..
        } in keys_of(table)
        {
            let default = default.map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
            let reload = match reload {
                Reload::Now => "reload",
                Reload::NextConnection => "next connection",
                Reload::Restart => "restart",
            };
            let _ = writeln!(out, "| `{path}` | {default} | {form} | {help} | {reload} |");
        }
    }
    out
}

fn metrics() -> String {
    let catalogue = Metrics::new().catalogue();
    let begins = |metric: &Metric, prefixes: &[&str]| {
        prefixes
            .iter()
            .map(|p| metric.name.starts_with(p) as usize * p.len())
            .max()
    };
    // The longest beginning that fits.
    let group = |metric: &Metric| {
        METRICS
            .iter()
            .max_by_key(|(_, prefixes)| begins(metric, prefixes))
            .unwrap()
            .0
    };
    let mut out = String::new();
    for (heading, _) in METRICS {
        let _ = writeln!(
            out,
            "\n### {heading}\n\n| metric | type | labels | what it is |\n|---|---|---|---|"
        );
        for metric in catalogue.iter().filter(|metric| group(metric) == *heading) {
            let labels = match metric.labels.as_slice() {
                [] => "–".to_owned(),
                labels => labels.join(", "),
            };
            let kind = metric.kind.as_str();
            let _ = writeln!(out, "| `{}` | {kind} | {labels} | {} |", metric.name, metric.help);
        }
    }
    out
}

const HEAD: &str = r##"# Every key of weir with its default. A line that begins with "#" and a letter is a setting at its default: remove the "#" to
# change it. Lines that begin with "# " are prose and examples.
#
# Durations: "250ms" "30s" "5m" "16h", "never" or "off" where none is allowed. Sizes: "64MiB" or bytes.
# Any string may hold references: $env{NAME} $file{/path} $secret{alias} $sys{property} $ref{table.key}.
# Limits are per process. `weir check` shows what a file means.
"##;

const THROTTLING: &str = r##"
# ---- Where the events go: paste these tables from a gateway's deployment.toml, or name that file with --deployment-toml
# ---- and remove them here.

[apim.throttling]
username = "admin"
password = "$env{TM_PASSWORD}"
# receiver_username = "admin"             # where they differ from username and password
# receiver_password = "$env{TM_PASSWORD}"
# throttle_decision_endpoints = ["tcp://tm1.example.com:5672"]    # brokers, for [decisions]

# Every event goes to every url_group. One Traffic Manager per group is the usual setup.
[[apim.throttling.url_group]]
name = "group1"                            # weir's own; default: group1, group2 …
traffic_manager_urls = ["tcp://tm1.example.com:9611"]
traffic_manager_auth_urls = ["ssl://tm1.example.com:9711"] # default: the port + 100, ssl://
type = "failover"                          # or "loadbalance"; anything else is failover
"##;

fn weir_toml() -> String {
    let mut out = HEAD.to_owned();
    for (table, about, _) in TABLES {
        let optional = keys_of(table).all(|key| key.default.is_none());
        let header = match *table {
            "auth.user[]" => "# [[auth.user]]".to_owned(),
            // Off, unless it is there.
            "decisions" => "#[decisions]".to_owned(),
            table if optional => format!("# [{}]", table.replace("NAME", "group1")),
            table => format!("[{table}]"),
        };
        if !table.is_empty() {
            let dashes = if table.contains('.') { "" } else { "---- " };
            let about = if about.is_empty() {
                String::new()
            } else {
                comment(&format!("{dashes}{about}"))
            };
            let blank = if dashes.is_empty() || about.is_empty() {
                ""
            } else {
                "\n"
            };
            let _ = write!(out, "\n{about}{blank}{header}\n");
        }
        for key in keys_of(table) {
            let name = key.path.rsplit('.').next().unwrap();
            if table.is_empty() {
                out.push('\n');
            }
            out += &comment(key.help);
            let _ = match key.default {
                Some(default) => writeln!(out, "#{name} = {default}"),
                None => writeln!(out, "# {name} = {}", key.example),
            };
        }
        if table.is_empty() {
            out += THROTTLING;
        }
    }
    out
}

/// Lines of a comment, wrapped.
fn comment(text: &str) -> String {
    let mut out = String::from("#");
    let mut column = 1;
    for word in text.split(' ') {
        if column + 1 + word.chars().count() > 120 {
            out += "\n#";
            column = 1;
        }
        let _ = write!(out, " {word}");
        column += 1 + word.chars().count();
    }
    out + "\n"
}

/// `text` with what stands between the marks of `name` replaced.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let (begin, end) = (
        format!("<!-- generated: {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text.split_once(&begin).expect(&begin);
    let (_, after) = rest.split_once(&end).expect(&end);
    format!("{before}{begin}{part}\n{end}{after}")
}

#[test]
fn generated_documentation_is_current() {
    let reference = std::fs::read_to_string(root().join(REFERENCE)).unwrap();
    let reference = with_part(
        &with_part(&reference, "settings", &settings()),
        "metrics",
        &metrics(),
    );
    let mut stale = Vec::new();
    for (path, wanted) in [(WEIR_TOML, weir_toml()), (REFERENCE, reference)] {
        let found = std::fs::read_to_string(root().join(path)).unwrap();
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(root().join(path), wanted).unwrap();
            continue;
        }
        let lacks = |text: &str, line: &&str| !text.lines().any(|other| other == *line);
        stale.extend(
            found
                .lines()
                .filter(|line| lacks(&wanted, line))
                .map(|line| format!("{path}: - {line}")),
        );
        stale.extend(
            wanted
                .lines()
                .filter(|line| lacks(&found, line))
                .map(|line| format!("{path}: + {line}")),
        );
        if stale.is_empty() && found != wanted {
            stale.push(format!("{path}: the order of its lines"));
        }
    }
    none(
        &stale,
        "WEIR_BLESS=1 cargo test --test tidy generated writes them anew",
    );
}

#[test]
fn every_key_stands_in_a_table_and_has_a_sentence_of_help() {
    let listed: usize = TABLES.iter().map(|(table, ..)| keys_of(table).count()).sum();
    assert_eq!(listed, keys().len(), "TABLES lacks a table");
    for key in keys() {
        assert!(key.help.ends_with('.'), "{}: {}", key.path, key.help);
    }
}
