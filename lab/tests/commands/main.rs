//! `weir-lab`, the built binary: each command ends well, shows what it promises, and notices that nobody reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod demo;
mod soak;
mod stdout;

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than any command here may take.
const SOON: Duration = Duration::from_secs(120);

fn weir_lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-lab"));
    command
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A command that hangs fails its test.
fn ended(child: Child) -> Output {
    let (done, output) = mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    output.recv_timeout(SOON).expect("weir-lab does not end")
}

/// What it prints, having ended well.
fn printed(arguments: &[&str]) -> String {
    let output = ended(weir_lab(arguments).spawn().unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{errors}");
    text
}
