//! The files in `config/`: each parses, and weir.toml documents every key at its default.

use std::path::PathBuf;

use weir::config::{Config, Key, Policy, Source, keys};

use super::support::{MINIMAL, map, valid, warnings, weir};

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The text with the passwords it refers to; files below /run/secrets are those of `dir`.
fn example(name: &str, dir: &tempfile::TempDir) -> Source {
    for secret in ["weir-session", "gateway", "weir-admin", "tm"] {
        std::fs::write(dir.path().join(secret), "0123456789abcdef\n").unwrap();
    }
    let mut source = weir(&read(name).replace("/run/secrets", &dir.path().display().to_string()));
    source.env = map(&[
        ("TM_PASSWORD", "p"),
        ("KEYSTORE_PASSWORD", "p"),
        ("TRUSTSTORE_PASSWORD", "p"),
        ("PRODUCTION_TM_PASSWORD", "p"),
        ("SANDBOX_TM_PASSWORD", "s"),
    ]);
    source
}

/// A line that is a setting at its default.
fn setting(line: &str) -> Option<&str> {
    line.strip_prefix('#')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

/// weir.toml without its group, with every setting uncommented, or none.
fn weir_toml(uncommented: bool) -> String {
    let text = read("weir.toml");
    let (before, rest) = text.split_once("[apim.throttling]\n").unwrap();
    let after = rest.split_once("# ---- Where gateways connect.").unwrap().1;
    let lines = before.lines().chain(after.lines());
    let lines = lines.map(|line| setting(line).filter(|_| uncommented).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn parsed(text: &str) -> Config {
    let broker = "throttle_decision_endpoints = [\"tcp://tm1:5672\"]\n[[apim.throttling.url_group]]";
    valid(&weir(&format!(
        "{text}\n{}",
        MINIMAL.replace("[[apim.throttling.url_group]]", broker)
    )))
}

#[test]
fn weir_toml_shows_every_key_at_its_default() {
    let shown = parsed(&weir_toml(true));
    assert!(shown.decisions.is_some(), "the settings really were uncommented");
    assert_eq!(shown, parsed("[decisions]\n"));
    assert_eq!(parsed(&weir_toml(false)), parsed(""));
}

#[test]
fn the_defaults_in_the_key_table_are_the_real_ones() {
    let mut text = String::new();
    let tables = [
        "",
        "listen.",
        "auth.",
        "tls.",
        "queue.",
        "link.",
        "admin.",
        "decisions.",
        "log.",
    ];
    for table in tables {
        if !table.is_empty() {
            text.push_str(&format!("[{}]\n", table.trim_end_matches('.')));
        }
        for Key { path, default, .. } in keys() {
            let inside = path
                .strip_prefix(table)
                .filter(|_| !table.is_empty() || !path.contains('.'));
            if let (Some(inside), Some(default)) = (inside, default) {
                text.push_str(&format!("{inside} = {default}\n"));
            }
        }
    }
    let with_default = keys().iter().filter(|k| k.default.is_some()).count();
    assert_eq!(
        text.lines().filter(|l| l.contains(" = ")).count(),
        with_default,
        "{text}"
    );
    assert_eq!(parsed(&text), parsed("[decisions]\n"));
}

#[test]
fn every_example_is_valid_and_without_warnings() {
    let dir = tempfile::tempdir().unwrap();
    for (name, groups) in [
        ("weir.toml", vec!["group1"]),
        ("sidecar.toml", vec!["group1", "group2"]),
        ("relay-tier.toml", vec!["dc1", "dc2"]),
        ("active-active.toml", vec!["tm1", "tm2"]),
        ("production-and-sandbox.toml", vec!["production", "sandbox"]),
    ] {
        let source = example(name, &dir);
        let names: Vec<_> = valid(&source).groups.into_iter().map(|g| g.name).collect();
        assert_eq!(names, groups, "{name}");
        assert_eq!(warnings(&source), Vec::<String>::new(), "{name}");
    }
    let tier = valid(&example("relay-tier.toml", &dir));
    assert!(
        tier.auth.session_secret.is_some(),
        "the weirs of one tier share it"
    );
    let sandbox = valid(&example("production-and-sandbox.toml", &dir));
    assert_eq!(sandbox.groups[0].policy, Policy::Failover);
    assert_eq!(sandbox.groups[1].password.expose(), "s");
    assert!(valid(&example("active-active.toml", &dir)).decisions.is_some());
}

#[test]
fn the_files_that_references_bring_in_are_known_wherever_they_stand() {
    let text = "a = \"$file{/one}\"\n[t]\nb = [\"x$file{/two}y$env{NO}\", { c = \"$file{/one}\" }]\nd = \"$fil{/three}\"\n";
    let source = Source {
        weir_toml: Some(("weir.toml".into(), text.into())),
        deployment_toml: Some((
            "deployment.toml".into(),
            "p = \"$file{/four} $file{/broken\"".into(),
        )),
        ..Source::default()
    };
    let found = weir::config::files_referred_to(&source);
    let expected: Vec<PathBuf> = ["/four", "/one", "/two"].map(Into::into).into();
    assert_eq!(found, expected);
}
