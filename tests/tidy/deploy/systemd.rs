//! The units: systemd finds nothing wrong with them, they are hardened, and their commands are weir's.

use std::process::Command;
use std::time::Duration;

use clap::Parser;
use weir::cli::{self, Cli};
use weir::config::{Source, keys, parse};

use super::{read, there};

const UNIT: &str = "deploy/systemd/weir.service";
const TEMPLATE: &str = "deploy/systemd/weir@.service";
const SOCKET: &str = "deploy/systemd/weir.socket";

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

/// Lines that systemd reads, sorted as they come.
fn settings(unit: &str) -> Vec<String> {
    let text = read(unit);
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// `systemd-analyze` about the unit, or all of them, their program being this weir.
fn analyze(arguments: &[&str], units: &[(&str, &str)]) -> Option<(bool, String)> {
    if !there("systemd-analyze", "--version") {
        eprintln!("skipped: no systemd-analyze to judge the unit");
        return None;
    }
    let home = tempfile::TempDir::new().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(arguments);
    for (unit, name) in units {
        let file = home.path().join(name);
        let text = read(unit).replace("/usr/local/bin/weir", env!("CARGO_BIN_EXE_weir"));
        std::fs::write(&file, text).unwrap();
        command.arg(file);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    // Without the socket and with it, and as an instance of the template.
    for units in [
        &[(UNIT, "weir.service")][..],
        &[(UNIT, "weir.service"), (SOCKET, "weir.socket")],
        &[(TEMPLATE, "weir@1.service")],
    ] {
        let Some((ok, said)) = analyze(&["verify", "--man=no"], units) else {
            return;
        };
        assert!(ok, "{said}");
        // It warns of keys that it does not know and succeeds.
        assert!(units.iter().all(|(_, name)| !said.contains(name)), "{said}");
    }
}

#[test]
fn the_template_differs_from_the_unit_by_its_name_and_its_environment() {
    let differs = |line: &String| line.starts_with("Description=") || line.starts_with("EnvironmentFile=");
    let same = |unit: &str| -> Vec<String> {
        let settings = settings(unit).into_iter();
        settings.filter(|line| !differs(line)).collect()
    };
    assert_eq!(same(UNIT), same(TEMPLATE));
    let settings = settings(TEMPLATE);
    // Required: without it both instances would want the same ports.
    assert!(settings.contains(&"EnvironmentFile=/etc/weir/weir-%i.env".to_owned()));
}

#[test]
fn the_socket_unit_has_the_ports_and_the_backlog_of_weirs_defaults() {
    let settings = settings(SOCKET);
    let keys = keys();
    for path in ["listen.tcp", "listen.tls"] {
        let key = keys.iter().find(|key| key.path == path).unwrap();
        let address = key.default.unwrap().trim_matches('"');
        let line = format!("ListenStream={address}");
        assert!(settings.contains(&line), "{line}: {settings:?}");
    }
    for line in ["Backlog=1024", "Service=weir.service"] {
        assert!(settings.contains(&line.to_owned()), "{line}");
    }
    // Connections would be passed in the place of sockets.
    assert!(!settings.iter().any(|line| line.starts_with("Accept=")));
}

#[test]
fn a_weir_that_fails_is_started_again_at_once_and_does_not_take_the_socket_along() {
    assert_eq!(value("RestartSec").as_deref(), Some("100ms"));
    assert_eq!(value("StartLimitIntervalSec").as_deref(), Some("0"));
}

#[test]
fn the_unit_is_exposed_to_little() {
    // In tenths, of 100; above that it fails.
    let Some((ok, said)) = analyze(
        &["security", "--offline=yes", "--no-pager", "--threshold=20"],
        &[(UNIT, "weir.service")],
    ) else {
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
