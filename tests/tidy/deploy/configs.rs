//! The weir.toml files of deploy/: each is valid, without a warning, and what they have in common is the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use weir::config::{Config, Source, parse};

use super::{files, read, root};

/// Where certificates and keystores are: on a host another place than in a pod.
pub(super) const DIRECTORIES: [&str; 2] = ["TLS_DIR", "KEYSTORES_DIR"];

/// What weir makes of a file, its secrets being there.
pub(super) fn config(path: &Path) -> Config {
    let text = read(path);
    let home = tempfile::TempDir::new().unwrap();
    for name in secrets(&text) {
        std::fs::write(home.path().join(name), "a secret of enough characters\n").unwrap();
    }
    let env = DIRECTORIES.map(|name| (name.to_owned(), "/there".to_owned()));
    let source = Source {
        weir_toml: Some((path.to_owned(), text)),
        secrets_dir: Some(home.path().to_owned()),
        env: env.into(),
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
fn weir_check_agrees_with_every_configuration_where_its_files_are_there() {
    let home = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["weir.weir.svc.cluster.local".to_owned()]).unwrap();
    let vectors = root().join("tests/vectors");
    let write = |name: &str, content: &[u8]| std::fs::write(home.path().join(name), content).unwrap();
    write("tls.crt", made.cert.pem().as_bytes());
    write("ca.crt", made.cert.pem().as_bytes());
    write("tls.key", made.signing_key.serialize_pem().as_bytes());
    for (name, vector) in [
        ("wso2carbon.jks", "rsa2048.jks"),
        ("client-truststore.jks", "client-truststore.jks"),
    ] {
        write(name, &std::fs::read(vectors.join(vector)).unwrap());
    }
    for path in files("deploy", ".toml") {
        for name in secrets(&read(&path)) {
            let is_keystore = ["keystore", "truststore"].contains(&name.as_str());
            let value = if is_keystore {
                "wso2carbon"
            } else {
                "a secret of enough characters"
            };
            write(&name, value.as_bytes());
        }
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["check", "--config"])
            .arg(&path)
            .arg("--secrets-dir")
            .arg(home.path())
            .envs(DIRECTORIES.map(|name| (name, home.path())))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}: {said}", path.display());
        assert!(said.contains("every event goes to 2 groups"), "{said}");
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
