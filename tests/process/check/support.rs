//! Runs `weir check`, the binary that was built, on a configuration of a few lines.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::tm::PASSWORD;
use crate::support::certificates::Made;

/// Longer than anything here may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A directory with weir.toml and what it names.
pub(crate) struct Site {
    directory: TempDir,
}

/// What `weir check` said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// weir.toml with these url groups, and `trusted` as the one trusted certificate.
    pub(crate) fn new(trusted: &Made, groups: &str) -> Self {
        let site = Self {
            directory: TempDir::new().unwrap(),
        };
        std::fs::write(site.path("trust.pem"), &trusted.pem).unwrap();
        let trust = format!("[tls.trust]\npem = {:?}\n", site.path("trust.pem"));
        site.write(&configuration(&trust, groups));
        site
    }

    /// weir.toml with this text.
    pub(crate) fn with(text: &str) -> Self {
        let site = Self {
            directory: TempDir::new().unwrap(),
        };
        site.write(text);
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.path("weir.toml"), text).unwrap();
    }

    /// Adds lines to weir.toml.
    pub(crate) fn add(&self, text: &str) {
        let old = std::fs::read_to_string(self.path("weir.toml")).unwrap();
        self.write(&format!("{old}\n{text}"));
    }

    /// `weir check` with these arguments besides.
    pub(crate) fn check(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .env_clear()
            .args(["check", "--config"])
            .arg(self.path("weir.toml"));
        command.args(arguments);
        let (done, output) = mpsc::sync_channel::<Output>(1);
        std::thread::spawn(move || done.send(command.output().unwrap()));
        let output = output.recv_timeout(SOON).expect("weir check does not end");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let said = Said {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(
            !said.all().contains(PASSWORD),
            "a password is shown:\n{}",
            said.all()
        );
        said
    }

    pub(crate) fn connect(&self) -> Said {
        self.check(&["--connect"])
    }

    /// The JSON of a check with connections, which must agree with its exit code.
    pub(crate) fn json(&self) -> Value {
        self.check(&["--connect", "--json"]).json()
    }
}

impl Said {
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stderr, "");
        let json: Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(json["exit_code"], self.code.unwrap());
        json
    }

    /// That the exit code is this and all of these are said.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, parts: &[&str]) {
        let all = self.all();
        assert_eq!(self.code, Some(code), "{all}");
        for part in parts {
            assert!(all.contains(part), "{part:?} is missing in:\n{all}");
        }
    }
}

/// Deadlines are short, and ports are whatever is free.
pub(crate) fn configuration(more: &str, groups: &str) -> String {
    format!(
        "[listen]\ntcp = \"127.0.0.1:0\"\ntls = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [link]\nconnect_timeout = \"5s\"\nlogin_timeout = \"1s\"\nreply_timeout = \"1s\"\n{more}\
         [apim.throttling]\nusername = \"admin\"\npassword = \"{PASSWORD}\"\n{groups}"
    )
}

/// A step of a row of the Traffic Managers.
pub(crate) fn step<'a>(json: &'a Value, row: usize, name: &str) -> &'a Value {
    let steps = json["connect"]["sections"][0]["rows"][row]["steps"]
        .as_array()
        .unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap()
}
