//! Which module may use which. Dependencies point one way; a new one is a change of this table.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{File, files, none};

const EVERYTHING: &[&str] = &["*"];

/// Each module, and the modules that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    // Used by many, using nothing above them.
    ("wire", &[]),
    ("output", &[]),
    ("config", &["output"]),
    ("lifecycle", &[]),
    ("status", &[]),
    // Decodes events for `weir tap`.
    ("tap", &["output", "wire"]),
    // Control of the workers, and what is shown.
    ("control", &["config", "status", "tap"]),
    ("metrics", &["control", "lifecycle", "status"]),
    ("telemetry", &["config", "output"]),
    // The path of an event. Ingress and egress meet in the relay and nowhere else.
    ("net", &["config"]),
    ("relay", &["config", "status", "wire"]),
    (
        "ingress",
        &[
            "config",
            "lifecycle",
            "metrics",
            "net",
            "relay",
            "status",
            "tap",
            "wire",
        ],
    ),
    (
        "egress",
        &["config", "lifecycle", "metrics", "net", "relay", "status", "wire"],
    ),
    (
        "worker",
        &[
            "config",
            "control",
            "egress",
            "ingress",
            "lifecycle",
            "net",
            "relay",
            "status",
        ],
    ),
    // The return leg stands alone.
    ("decisions", &["config", "lifecycle", "metrics", "net"]),
    // Around them.
    (
        "admin",
        &[
            "config",
            "control",
            "decisions",
            "lifecycle",
            "metrics",
            "net",
            "output",
            "status",
            "tap",
            "telemetry",
        ],
    ),
    ("app", EVERYTHING),
    // `weir check` logs in as a link does, greets brokers as the return leg does, queries a weir that runs here, and
    // recognises weir's own sessions.
    (
        "check",
        &[
            "admin",
            "app",
            "config",
            "decisions",
            "egress",
            "ingress",
            "net",
            "output",
            "wire",
        ],
    ),
    ("cli", &["admin", "config", "telemetry"]),
    // A parent process that reads the configuration for its ports, and starts weir as a user would.
    ("supervise", &["app", "config", "net", "output", "telemetry"]),
    (
        "main",
        &["admin", "app", "check", "cli", "config", "output", "supervise"],
    ),
];

/// The module a file belongs to: the folder or file below `src`.
fn module(file: &File) -> &str {
    let below = file.path.strip_prefix("src/").unwrap();
    let first = below.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Every module that a line names behind `crate::` or, in main.rs, `weir::`.
fn named(line: &str, prefix: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        // `my_crate::` is not `crate::`.
        let before = line.get(..at).unwrap().chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = line.get(at + prefix.len()..).unwrap();
        match rest.strip_prefix('{') {
            None => modules.push(word(rest)),
            Some(list) => modules.extend(list.split(',').map(|part| word(part.trim_start()))),
        }
    }
    modules.retain(|module| !module.is_empty() && module != "self");
    modules
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

/// For each module what it uses, and where.
fn used() -> BTreeMap<(String, String), String> {
    let mut used = BTreeMap::new();
    for file in files("src", &[".rs"]).iter().filter(|f| !f.is_test()) {
        let prefix = if file.path == "src/main.rs" {
            "weir::"
        } else {
            "crate::"
        };
        for (n, line) in file.code() {
            for other in named(line, prefix)
                .into_iter()
                .filter(|other| other != module(file))
            {
                let place = format!("{}:{n}", file.path);
                used.entry((module(file).to_owned(), other)).or_insert(place);
            }
        }
    }
    used
}

#[test]
fn every_module_uses_only_modules_that_it_may() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for ((module, other), place) in used() {
        let may = table.get(module.as_str()).copied().unwrap_or_default();
        if may != EVERYTHING && !may.contains(&other.as_str()) {
            wrong.push(format!("{place}: {module} uses {other}"));
        }
    }
    none(
        &wrong,
        "the table in tests/tidy/layering.rs says which module may use which",
    );
}

#[test]
fn the_table_names_every_module() {
    let modules: BTreeSet<String> = files("src", &[".rs"])
        .iter()
        .map(|file| module(file).to_owned())
        .filter(|module| module != "lib")
        .collect();
    let named: BTreeSet<String> = MAY_USE.iter().map(|(module, _)| (*module).to_owned()).collect();
    let unnamed: Vec<&String> = modules.difference(&named).collect();
    assert!(unnamed.is_empty(), "modules without a row: {unnamed:?}");
}

#[test]
fn names_are_found_however_they_are_written() {
    assert_eq!(named("use crate::net::Stream;", "crate::"), ["net"]);
    assert_eq!(
        named("use crate::{net::Stream, wire};", "crate::"),
        ["net", "wire"]
    );
    assert_eq!(named("    let x: crate::relay::Full = y;", "crate::"), ["relay"]);
    assert_eq!(named("pub(crate) fn f() {}", "crate::"), Vec::<String>::new());
    assert_eq!(named("use other_crate::net;", "crate::"), Vec::<String>::new());
}

/// Files outside of `net` that may name a library of the network, with the reason.
const NETWORK_BESIDES: &[(&str, &str)] = &[
    (
        "src/admin/listener.rs",
        "the HTTP library wants a listener of tokio's own",
    ),
    (
        "src/admin/client/http.rs",
        "a client of the admin port, which needs none of net's options",
    ),
];

#[test]
fn only_net_names_sockets_and_tls() {
    let libraries = ["tokio::net", "socket2", "rustls"];
    let mut wrong = Vec::new();
    for file in files("src", &[".rs"]) {
        if file.path.starts_with("src/net/") || NETWORK_BESIDES.iter().any(|(path, _)| *path == file.path) {
            continue;
        }
        for (n, line) in file.code() {
            if libraries.iter().any(|library| line.contains(library)) {
                wrong.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    none(&wrong, "sockets and TLS belong into src/net");
}
