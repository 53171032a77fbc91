//! `weir load` against `weir sink`.

use clap::Parser;

use super::*;
use crate::lab::args::{LoadArgs, SinkArgs};

#[derive(Parser)]
enum Cli {
    Load(LoadArgs),
    Sink(SinkArgs),
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn the_two_commands_agree_on_what_was_sent() {
    let (data, auth) = (free_port(), free_port());
    let listen = [format!("127.0.0.1:{data}"), format!("127.0.0.1:{auth}")];
    let Cli::Sink(sink) = Cli::parse_from([
        "weir",
        "sink",
        "--listen",
        &listen[0],
        "--auth-listen",
        &listen[1],
        "--duration",
        "3s",
    ]) else {
        panic!()
    };
    let urls = [
        format!("tcp://127.0.0.1:{data}"),
        format!("ssl://127.0.0.1:{auth}"),
    ];
    let Cli::Load(load) = Cli::parse_from([
        "weir",
        "load",
        "--target",
        &urls[0],
        "--auth",
        &urls[1],
        "--insecure",
        "--connections",
        "4",
        "--events-per-frame",
        "5",
        "--window",
        "2",
        "--count",
        "1000",
        "--report",
        "json",
    ]) else {
        panic!()
    };
    let (sunk, loaded) = within(async { tokio::join!(sink::run(sink), load::run(load)) }).await;
    let (sunk, loaded) = (sunk.unwrap(), loaded.unwrap());
    assert_eq!((sunk.counts.events, loaded.counts.events_acked), (1_000, 1_000));
    assert_eq!(
        (sunk.counts.logins_ok, sunk.counts.logouts, sunk.counts.garbage),
        (1, 1, 0)
    );
    assert_eq!(sunk.counts.frames, loaded.counts.frames_acked);
    let json = serde_json::to_value(&loaded).unwrap();
    assert_eq!(json["events_acked"], 1_000);
    assert!(json["reply_p50_us"].as_u64() <= json["reply_max_us"].as_u64());
}

#[tokio::test]
async fn a_load_that_reaches_nobody_says_why() {
    let target = format!("tcp://127.0.0.1:{}", free_port());
    let Cli::Load(load) = Cli::parse_from(["weir", "load", "--target", &target, "--duration", "100ms"])
    else {
        panic!()
    };
    let error = within(load::run(load)).await.unwrap_err();
    assert!(error.contains(&target) && error.contains("refused"), "{error}");
}
