//! Where nobody reads what a command prints, or there is no room for it, it ends with an exit code that says so.

use std::fs::File;
use std::io::{BufRead, BufReader, pipe};
use std::process::Stdio;

use tokio::runtime::{Builder, LocalOptions};
use weir_lab::{Sink, SinkOptions};

use super::{ended, weir_lab};

/// Stdout was closed: 128 + SIGPIPE.
const CLOSED: i32 = 141;

/// Runs it with a stdout and a stderr; its exit code, and what it said on stderr.
fn code(arguments: &[&str], stdout: Stdio, stderr: Stdio) -> (Option<i32>, String) {
    let mut command = weir_lab(arguments);
    let output = ended(command.stdout(stdout).stderr(stderr).spawn().unwrap());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn full() -> Stdio {
    File::create("/dev/full").unwrap().into()
}

/// With a full and with a closed stdout.
fn judged(arguments: &[&str]) {
    let (status, said) = code(arguments, full(), Stdio::piped());
    assert_eq!(status, Some(1), "{arguments:?}: {said}");
    assert!(
        said.contains("cannot write to stdout: No space left"),
        "{arguments:?}: {said}"
    );
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let (status, said) = code(arguments, writer.into(), Stdio::piped());
    assert_eq!(status, Some(CLOSED), "{arguments:?}: {said}");
    for wrong in ["panicked", "error", "stdout"] {
        assert!(!said.contains(wrong), "{arguments:?}: {said}");
    }
}

/// A Traffic Manager that runs on a thread, and where it listens.
fn beside_a_sink(test: impl FnOnce(&str)) {
    let (address, at) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let sink = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let sink = Sink::start(SinkOptions::local()).unwrap();
            address.send(sink.data_address()).unwrap();
            let _ = stopped.await;
        });
    });
    test(&format!("tcp://{}", at.recv().unwrap()));
    stop.send(()).unwrap();
    sink.join().unwrap();
}

#[test]
fn a_result_that_cannot_be_written_ends_a_command_with_1_and_one_that_nobody_reads_with_141() {
    beside_a_sink(|target| {
        judged(&["load", "--target", target, "--auth", target, "--count", "10"]);
    });
    judged(&["sink", "--listen", "127.0.0.1:0", "--duration", "10ms"]);
    judged(&["demo", "--calm", "--duration", "200ms", "--gateways", "1"]);
}

#[test]
fn a_soak_whose_report_cannot_be_written_ends_with_1() {
    let soak = ["soak", "--duration", "1s", "--connections", "2", "--rate", "100"];
    let (status, said) = code(&soak, full(), Stdio::piped());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot write to stdout"), "{said}");
}

#[test]
fn notes_that_nobody_reads_stop_nothing() {
    beside_a_sink(|target| {
        let load = ["load", "--target", target, "--auth", target, "--rate", "10"];
        let (status, _) = code(
            &[&load[..], &["--duration", "1500ms"]].concat(),
            Stdio::null(),
            full(),
        );
        assert_eq!(status, Some(0));
    });
}

#[test]
fn a_demo_whose_reader_has_seen_enough_stops_its_parts_and_ends() {
    let mut demo = weir_lab(&["demo", "--duration", "4s", "--rate", "500"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        lines.next().unwrap().unwrap();
    }
    drop(lines);
    let output = ended(demo);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(CLOSED), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
