//! Where nobody reads what a command prints, or there is no room for it, it ends with an exit code that says so.

use std::io::{BufRead, BufReader, pipe};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use weir::lab::{Load, LoadOptions, Sink, SinkOptions};

use crate::support::process::{WEIR, plain};
use crate::support::stage::Stage;
use crate::support::{Plan, story};

/// Stdout was closed: 128 + SIGPIPE.
const CLOSED: i32 = 141;

/// Runs to its end on a thread that may block.
async fn ended(arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(WEIR);
    plain(command.args(arguments))
        .stdout(stdout)
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.spawn().unwrap().wait_with_output());
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    output.expect("it hangs").unwrap().unwrap()
}

/// With a full and with a closed stdout; `closed` is the exit code of the second.
async fn judged(arguments: &[&str], closed: i32) {
    let full = ended(arguments, std::fs::File::create("/dev/full").unwrap().into()).await;
    let said = String::from_utf8(full.stderr).unwrap();
    assert_eq!(full.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(
        said.contains("cannot write to stdout: No space left"),
        "{arguments:?}: {said}"
    );
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let gone = ended(arguments, writer.into()).await;
    let said = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(gone.status.code(), Some(closed), "{arguments:?}: {said}");
    for wrong in ["panicked", "error", "stdout"] {
        assert!(!said.contains(wrong), "{arguments:?}: {said}");
    }
}

#[test]
fn commands_that_only_print_end_with_1_where_there_is_no_room_and_with_141_where_nobody_reads() {
    story(async {
        for arguments in [
            &["--help"][..],
            &["run", "--help"],
            &["--version"],
            &["help-all"],
            &["man"],
            &["completions", "bash"],
        ] {
            judged(arguments, CLOSED).await;
        }
    });
}

#[test]
fn commands_that_ask_a_running_weir_do_so_too_and_the_result_of_a_check_stands_when_nobody_reads_it() {
    story(async {
        let stage = Stage::start(Plan::groups(&["one"])).await;
        let admin = stage.weir.admin.to_string();
        let config = stage.weir.config_file();
        for arguments in [
            &["status", "--admin", &admin][..],
            &["status", "--json", "--admin", &admin],
            &["log-level", "--admin", &admin],
            &["drain", "--undo", "--admin", &admin],
        ] {
            judged(arguments, CLOSED).await;
        }
        let config = config.to_str().unwrap();
        judged(&["check", "--config", config], 0).await;
        judged(&["check", "--json", "--config", config], 0).await;
        let load = Load::start(LoadOptions {
            rate: Some(200.0),
            ..stage.load()
        });
        judged(&["tap", "--admin", &admin], CLOSED).await;
        drop(load);
    });
}

#[test]
fn commands_of_the_laboratory_do_so_too() {
    story(async {
        let sink = Sink::start(SinkOptions::local()).unwrap();
        let target = format!("tcp://{}", sink.data_address());
        judged(
            &["load", "--target", &target, "--auth", &target, "--count", "10"],
            CLOSED,
        )
        .await;
        judged(&["sink", "--listen", "127.0.0.1:0", "--duration", "10ms"], CLOSED).await;
        judged(
            &["demo", "--calm", "--duration", "200ms", "--gateways", "1"],
            CLOSED,
        )
        .await;
    });
}

#[test]
fn a_soak_whose_report_cannot_be_written_ends_with_1() {
    story(async {
        let full = std::fs::File::create("/dev/full").unwrap();
        let soak = ended(
            &["soak", "--duration", "1s", "--connections", "2", "--rate", "100"],
            full.into(),
        )
        .await;
        let said = String::from_utf8(soak.stderr).unwrap();
        assert_eq!(soak.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write to stdout"), "{said}");
    });
}

#[test]
fn notes_that_nobody_reads_stop_nothing() {
    story(async {
        let sink = Sink::start(SinkOptions::local()).unwrap();
        let target = format!("tcp://{}", sink.data_address());
        for (arguments, code) in [
            (
                &[
                    "load",
                    "--target",
                    &target,
                    "--auth",
                    &target,
                    "--rate",
                    "10",
                    "--duration",
                    "1500ms",
                ][..],
                0,
            ),
            (&["run", "--config", "/no/such/file"], 2),
        ] {
            let mut command = Command::new(WEIR);
            plain(command.args(arguments)).stdout(Stdio::null());
            command.stderr(std::fs::File::create("/dev/full").unwrap());
            let status = tokio::task::spawn_blocking(move || command.status()).await;
            assert_eq!(status.unwrap().unwrap().code(), Some(code), "{arguments:?}");
        }
    });
}

#[test]
fn a_demo_whose_reader_has_seen_enough_stops_its_parts_and_ends() {
    story(async {
        let mut command = Command::new(WEIR);
        plain(command.args(["demo", "--duration", "4s", "--rate", "500"]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut demo = command.spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            lines.next().unwrap().unwrap();
        }
        drop(lines);
        let output = tokio::task::spawn_blocking(move || demo.wait_with_output().unwrap());
        let output = tokio::time::timeout(Duration::from_secs(60), output).await;
        let output = output.expect("it hangs").unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(CLOSED), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    });
}
