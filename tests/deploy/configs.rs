//! The weir.toml files of deploy/: each is valid, without a warning, and what they have in common is the same.

use std::collections::BTreeSet;
use std::path::Path;

use weir::config::{Config, Source, parse};

use super::{files, read};

/// What weir makes of a file, its secrets being there.
pub(super) fn config(path: &Path) -> Config {
    let text = read(path);
    let home = tempfile::TempDir::new().unwrap();
    for name in secrets(&text) {
        std::fs::write(home.path().join(name), "a secret of enough characters\n").unwrap();
    }
    let source = Source {
        weir_toml: Some((path.to_owned(), text)),
        secrets_dir: Some(home.path().to_owned()),
        ..Source::default()
    };
    let (config, warnings) = parse(&source).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(warnings.is_empty(), "{}: {warnings:?}", path.display());
    config
}

/// The aliases that a file names.
pub(super) fn secrets(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let named = lines.flat_map(|line| line.split("$secret{").skip(1));
    named
        .filter_map(|rest| rest.split_once('}'))
        .map(|(alias, _)| alias.to_owned())
        .collect()
}

#[test]
fn every_configuration_of_deploy_is_valid_and_without_a_warning() {
    for path in files("deploy", ".toml") {
        let config = config(&path);
        assert_eq!(config.groups.len(), 2, "{}", path.display());
        assert!(
            config.decisions.is_some(),
            "{}: gateways look for decisions where they send events",
            path.display()
        );
    }
}

#[test]
fn every_secret_that_a_configuration_names_is_one_that_the_book_says_how_to_make() {
    let book = read("docs/KUBERNETES.md");
    for path in files("deploy", ".toml") {
        for name in secrets(&read(&path)) {
            let made = format!("--from-file={name}=");
            assert!(book.contains(&made), "{}: {name}: no {made}", path.display());
        }
    }
}

#[test]
fn the_sidecars_read_the_same_configuration() {
    let first = read("deploy/helm/sidecar/weir.toml");
    for shape in ["native", "classic"] {
        let path = format!("deploy/kubernetes/examples/gateway-{shape}/weir.toml");
        assert_eq!(read(&path), first, "{path}");
    }
}
