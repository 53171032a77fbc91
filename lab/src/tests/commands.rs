//! `weir-lab load` against `weir-lab sink`.

use clap::Parser;
use weir::output::Failure;

use super::*;
use crate::args::{LoadArgs, SinkArgs};

#[derive(Parser)]
enum Cli {
    Load(LoadArgs),
    Sink(SinkArgs),
}

#[tokio::test]
async fn the_two_commands_agree_on_what_was_sent() {
    let free = "127.0.0.1:0";
    let Cli::Sink(sink) = Cli::parse_from([
        "weir",
        "sink",
        "--listen",
        free,
        "--auth-listen",
        free,
        "--duration",
        "3s",
        "--delivery-times",
    ]) else {
        panic!()
    };
    let (opened, ports) = tokio::sync::oneshot::channel();
    let serving = sink::serve(sink, |sink| {
        opened
            .send((sink.data_address(), sink.auth_address().unwrap()))
            .unwrap();
    });
    let loading = async {
        let (data, auth) = ports.await.unwrap();
        let (target, auth) = (format!("tcp://{data}"), format!("ssl://{auth}"));
        let Cli::Load(load) = Cli::parse_from([
            "weir",
            "load",
            "--target",
            &target,
            "--auth",
            &auth,
            "--insecure",
            "--connections",
            "4",
            "--events-per-frame",
            "5",
            "--window",
            "2",
            "--count",
            "1000",
            "--rate",
            "2000",
            "--stamp",
            "--report",
            "json",
        ]) else {
            panic!()
        };
        load::run(load).await
    };
    let (sunk, loaded) = within(async { tokio::join!(serving, loading) }).await;
    let (sunk, loaded) = (sunk.unwrap(), loaded.unwrap());
    assert_eq!((sunk.counts.events, loaded.counts.events_acked), (1_000, 1_000));
    assert_eq!(
        (sunk.counts.logins_ok, sunk.counts.logouts, sunk.counts.garbage),
        (1, 1, 0)
    );
    assert_eq!(sunk.counts.frames, loaded.counts.frames_acked);
    // They took some time, and less than the test.
    let (p50, max) = (sunk.delivery_p50_us.unwrap(), sunk.delivery_max_us.unwrap());
    assert!(p50 <= max && max < 10_000_000, "{p50} {max}");
    let json = serde_json::to_value(&loaded).unwrap();
    assert_eq!(json["events_acked"], 1_000);
    assert!(json["reply_p50_us"].as_u64() <= json["reply_max_us"].as_u64());
}

#[tokio::test]
async fn a_load_that_reaches_nobody_says_why() {
    // Nobody listens on port 1.
    let target = "tcp://127.0.0.1:1".to_owned();
    let Cli::Load(load) = Cli::parse_from(["weir", "load", "--target", &target, "--duration", "100ms"])
    else {
        panic!()
    };
    let error = within(load::run(load)).await.unwrap_err().to_string();
    assert!(error.contains(&target) && error.contains("refused"), "{error}");
}

/// What a load says while it runs, and how it ends.
async fn told(arguments: &[&str]) -> (Vec<String>, Result<load::Report, Failure>) {
    let Cli::Load(load) = Cli::parse_from([&["weir", "load"], arguments].concat()) else {
        panic!()
    };
    let mut lines = Vec::new();
    let outcome = within(load::run_telling(load, &mut |line| lines.push(line.to_owned()))).await;
    (lines, outcome)
}

#[tokio::test]
async fn a_load_says_its_first_error_at_once_and_a_count_that_nobody_answers_ends() {
    let target = "tcp://127.0.0.1:1";
    let (lines, outcome) = told(&["--target", target, "--count", "1", "--reply-timeout", "300ms"]).await;
    assert!(outcome.unwrap_err().to_string().contains("refused"));
    let first = &lines[0];
    assert!(
        first.contains("ssl://127.0.0.1:101") && first.contains("refused") && first.contains("--auth"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2, "said once: {lines:?}");
    assert!(
        lines[1].contains("nothing was answered within 300ms"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_load_of_a_count_ends_with_the_last_answer_whatever_the_rate() {
    let sink = Sink::start(SinkOptions::local()).unwrap();
    let data = format!("tcp://{}", sink.data_address());
    // The second event is due after a second, the turn of the last of the 64 connections comes after a minute.
    let arguments = ["--target", &data, "--auth", &data, "--count", "2", "--rate", "1"];
    let (_, outcome) = told(&arguments).await;
    assert_eq!(outcome.unwrap().counts.events_acked, 2);
}
