//! What cannot be started says why and ends with 2; `weir check` says the same without opening a port.

use std::net::TcpListener;
use std::process::Command;

use crate::support::process::{WEIR, plain, weir};
use crate::support::{Plan, toml, url_group};

/// A directory with this weir.toml, and the path of the file.
fn written(text: &str) -> (tempfile::TempDir, String) {
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join("weir.toml");
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (home, path)
}

fn good() -> String {
    toml(
        &Plan::default(),
        &url_group("one", "failover", "\"tcp://127.0.0.1:1\""),
    )
}

/// Exit code and what was said.
fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = weir(arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn bad_toml_ends_with_2_and_the_line_of_every_problem() {
    let text = good().replace("[queue]", "[queue]\nmax_evnts = 5\nmax_bytes = \"many\"");
    let (_home, file) = written(&text);
    for command in ["run", "check"] {
        let (code, said) = said(&[command, "--config", &file]);
        assert_eq!(code, Some(2), "{command}: {said}");
        for word in ["max_evnts", "max_events", "max_bytes", "weir.toml:"] {
            assert!(said.contains(word), "{command} does not name {word}: {said}");
        }
    }
    let (_home, file) = written("[listen\ntcp = ");
    for command in ["run", "check"] {
        let (code, said) = said(&[command, "--config", &file]);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("weir.toml:1"), "{command}: {said}");
    }
}

#[test]
fn a_missing_file_ends_with_2_and_is_named() {
    let (home, _) = written("");
    let file = home.path().join("no-such.toml");
    for command in ["run", "check"] {
        let (code, said) = said(&[command, "--config", file.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{command}: {said}");
        assert!(said.contains("no-such.toml"), "{command}: {said}");
    }
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once_wherever_a_configuration_names_it() {
    let (home, _) = written("");
    let fifo = home.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let tls = good().replace("tls = \"off\"", "tls = \"127.0.0.1:0\"") + "[tls]\n";
    for other in ["/dev/zero", fifo.to_str().unwrap()] {
        let file = |text: String| {
            let path = home.path().join("named.toml");
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let trust = |kind: &str| file(format!("{tls}[tls.trust{kind}"));
        for arguments in [
            vec!["--config".to_owned(), other.to_owned()],
            vec![
                "--config".to_owned(),
                file(good()),
                "--deployment-toml".to_owned(),
                other.to_owned(),
            ],
            vec![
                "--config".to_owned(),
                file(good().replace(
                    "password = \"admin\"",
                    &format!("password = \"$file{{{other}}}\""),
                )),
            ],
            vec!["--config".to_owned(), trust(&format!("]\npem = \"{other}\"\n"))],
            vec![
                "--config".to_owned(),
                trust(&format!(".keystore]\nfile = \"{other}\"\npassword = \"x\"\n")),
            ],
            vec![
                "--config".to_owned(),
                file(format!("{tls}certificate = \"{other}\"\nkey = \"{other}\"\n")),
            ],
            vec![
                "--config".to_owned(),
                file(format!(
                    "{tls}[tls.keystore]\nfile = \"{other}\"\npassword = \"x\"\n"
                )),
            ],
            vec![
                "--config".to_owned(),
                file(good().replace("[admin]", &format!("[admin]\ntap_streams = \"{other}\""))),
            ],
        ] {
            let mut command = Command::new("sh");
            // Reading /dev/zero to its end would be noticed.
            command.args([
                "-c",
                "ulimit -v 1000000\nexec timeout 60 \"$@\"",
                "sh",
                WEIR,
                "check",
            ]);
            let output = plain(&mut command).args(&arguments).output().unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(said.contains("not a regular file"), "{arguments:?}: {said}");
            let tap = arguments[1].ends_with("named.toml") && said.contains("tap_streams");
            assert_eq!(
                output.status.code(),
                Some(if tap { 0 } else { 2 }),
                "{arguments:?}: {said}"
            );
        }
    }
}

#[test]
fn a_configuration_over_1_mib_is_refused_by_its_size() {
    let (_home, file) = written("");
    std::fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let (code, why) = said(&["check", "--config", &file]);
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains("larger than 1 MiB"), "{why}");
}

#[test]
fn a_port_in_use_ends_with_2_and_the_key_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, nth) in [("listen.tcp", 0), ("admin.listen", 1)] {
        let mut text = good();
        let at = text.match_indices("127.0.0.1:0").nth(nth).unwrap().0;
        text.replace_range(at..at + "127.0.0.1:0".len(), &address);
        let (_home, file) = written(&text);
        let (code, why) = said(&["run", "--config", &file]);
        assert_eq!(code, Some(2), "{why}");
        assert!(
            why.contains(key) && why.contains(&address),
            "{key} {address}: {why}"
        );
        let (code, why) = said(&["check", "--config", &file]);
        assert_eq!(code, Some(0), "a check opens no port: {why}");
    }
    // The port is still the other's.
    assert!(TcpListener::bind(&address).is_err());
}

#[test]
fn a_keystore_that_cannot_be_used_ends_with_2_and_its_file_line_and_key() {
    let text = format!(
        "{}[tls.trust.keystore]\npassword = \"no\"\nfile = \"/nowhere.jks\"\n",
        good()
    );
    let (_home, file) = written(&text);
    let (code, why) = said(&["run", "--config", &file]);
    assert_eq!(code, Some(2), "{why}");
    let line = text.lines().count();
    let place = format!("weir.toml:{line}:8: tls.trust.keystore.file: /nowhere.jks: it cannot be read");
    assert!(why.contains(&place), "{why}");
    let (code, why) = said(&["check", "--config", &file]);
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains(&format!("weir.toml:{line}:8")), "{why}");
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    for arguments in [
        &["run", "--log-level", "loud"][..],
        &["rnu"],
        &["check", "--sys", "novalue"],
    ] {
        assert_eq!(weir(arguments).status.code(), Some(2), "{WEIR} {arguments:?}");
    }
}
