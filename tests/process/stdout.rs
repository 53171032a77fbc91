//! Where nobody reads what a command prints, or there is no room for it, it ends with an exit code that says so.

use std::io::pipe;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use weir_lab::{Load, LoadOptions};

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
fn notes_that_nobody_reads_stop_nothing() {
    let mut command = Command::new(WEIR);
    plain(command.args(["run", "--config", "/no/such/file"])).stdout(Stdio::null());
    command.stderr(std::fs::File::create("/dev/full").unwrap());
    assert_eq!(command.status().unwrap().code(), Some(2));
}
