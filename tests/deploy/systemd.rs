//! The unit: systemd finds nothing wrong with it, it is hardened, and its commands are weir's.

use std::process::Command;
use std::time::Duration;

use clap::Parser;
use weir::cli::{self, Cli};
use weir::config::{Source, parse};

use super::{read, there};

const UNIT: &str = "deploy/systemd/weir.service";

/// The last value of a key; later lines win.
fn value(key: &str) -> Option<String> {
    let text = read(UNIT);
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(k, _)| *k == key)
        .map(|(_, v)| v.to_owned())
        .next_back()
}

fn seconds(key: &str) -> Duration {
    let text = value(key).unwrap_or_else(|| panic!("{key} is not set"));
    Duration::from_secs(text.trim_end_matches('s').parse().unwrap())
}

/// `systemd-analyze` about the unit, its program being this weir.
fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    if !there("systemd-analyze", "--version") {
        eprintln!("skipped: no systemd-analyze to judge the unit");
        return None;
    }
    let home = tempfile::TempDir::new().unwrap();
    let unit = home.path().join("weir.service");
    let text = read(UNIT).replace("/usr/local/bin/weir", env!("CARGO_BIN_EXE_weir"));
    std::fs::write(&unit, text).unwrap();
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(&unit)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let Some((ok, said)) = analyze(&["verify", "--man=no"]) else {
        return;
    };
    assert!(ok, "{said}");
    // It warns of keys that it does not know and succeeds.
    assert!(!said.contains("weir.service"), "{said}");
}

#[test]
fn the_unit_is_exposed_to_little() {
    // In tenths, of 100; above that it fails.
    let Some((ok, said)) = analyze(&["security", "--offline=yes", "--no-pager", "--threshold=20"]) else {
        return;
    };
    assert!(ok && said.contains("Overall exposure level"), "{said}");
}

#[test]
fn its_commands_are_ones_that_weir_understands() {
    for (key, expected) in [("ExecStart", "Run"), ("ExecReload", "Admin")] {
        let line = value(key).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "/usr/local/bin/weir");
        let parsed = Cli::try_parse_from(&words).unwrap_or_else(|e| panic!("{key}: {e}"));
        let which = match parsed.command {
            cli::Command::Run(_) => "Run",
            cli::Command::Admin(_) => "Admin",
            _ => "another",
        };
        assert_eq!(which, expected, "{key}");
    }
}

#[test]
fn its_times_and_limits_hold_weirs_defaults() {
    let group = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm:9611\"]\n";
    let text = format!("[apim.throttling]\nusername = \"u\"\npassword = \"p\"\n{group}");
    let source = Source {
        weir_toml: Some(("weir.toml".into(), text)),
        ..Source::default()
    };
    let (config, _) = parse(&source).unwrap();
    assert!(seconds("TimeoutStopSec") > config.drain_timeout + Duration::from_secs(10));
    let files: usize = value("LimitNOFILE").unwrap().parse().unwrap();
    assert!(files > config.ingress.connections_max * 2, "{files}");
    assert_eq!(value("Type").as_deref(), Some("notify"));
    // /livez gives up after two seconds; a third of the watchdog's time must hold that.
    assert!(seconds("WatchdogSec") >= Duration::from_secs(10));
    assert_eq!(value("RestartPreventExitStatus").as_deref(), Some("2"));
}
