//! `weir tap` on a whole weir: what it shows, to whom, and that the relay does not notice.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use weir::admin::client::http::{Streamed, Target, open};
use weir::admin::client::{Problem, tap};
use weir::cli::{Cli, Command};
use weir::config::{Secret, TapMode};
use weir_lab::{Events, Load, LoadOptions, Sizes};

use crate::support::{Bed, Plan, dialer, story};

const TOKEN: &str = "s3cret";

/// A bed with a token, whose taps may show this much.
async fn bed(mode: TapMode, events: Option<Events>) -> Bed {
    let plan = Plan {
        events,
        ..Plan::groups(&["one", "two"])
    };
    let bed = Bed::start_adjusted(plan, |config, _, _| {
        let admin = config.admin.as_mut().unwrap();
        admin.token = Some(Secret::new(TOKEN));
        admin.tap = mode;
    })
    .await;
    bed.links_up().await;
    bed
}

fn address(bed: &Bed) -> SocketAddr {
    bed.weir.addresses().admin.unwrap()
}

async fn ask(address: SocketAddr, token: &str, wish: &str) -> Streamed {
    let target = Target::parse(&format!("http://{address}")).unwrap();
    let token = Secret::new(token);
    let within = Duration::from_secs(5);
    open(&target, Some(&token), "/tap", wish, within).await.unwrap()
}

/// The next line; `None` at the end.
async fn next(answer: &mut Streamed) -> Option<Value> {
    let line = answer.line().await.unwrap();
    line.map(|line| serde_json::from_str(&line).unwrap())
}

/// An open tap; its first line is read, so it is open on the worker.
async fn tapped(bed: &Bed, wish: &str) -> Streamed {
    let mut answer = ask(address(bed), TOKEN, wish).await;
    assert_eq!(answer.status, 200);
    let first = next(&mut answer).await.unwrap();
    assert_eq!(first["tap"]["seen"], 0);
    answer
}

/// What comes until the end: events, and the last report.
async fn rest(mut answer: Streamed) -> (Vec<Value>, Value) {
    let (mut events, mut report) = (Vec::new(), Value::Null);
    while let Some(line) = next(&mut answer).await {
        match line.get("tap") {
            Some(tap) => report = tap.clone(),
            None => events.push(line),
        }
    }
    let number = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(
        number("seen"),
        number("shown") + number("filtered") + number("skipped")
    );
    assert_eq!(number("shown"), events.len() as u64);
    (events, report)
}

async fn publish(bed: &Bed, events: u64) {
    let options = LoadOptions {
        connections: 2,
        events_per_frame: 10,
        count: Some(events),
        ..bed.load()
    };
    let report = Load::start(options).finish().await;
    assert_eq!(report.counts.events_acked, events);
}

#[test]
fn passing_events_are_decoded_and_masked_until_there_are_enough() {
    story(async {
        let bed = bed(TapMode::Masked, None).await;
        let body = tapped(&bed, r#"{"count": 30}"#).await;
        publish(&bed, 40).await;
        let (events, report) = rest(body).await;
        assert_eq!(events.len(), 30);
        assert_eq!(
            (&report["ended"], &report["masked"]),
            (&"count".into(), &true.into())
        );
        for event in &events {
            assert_eq!(event["payload"]["apiName"], "PizzaAPI");
            assert!(event["payload"]["userId"].as_str().unwrap().starts_with('~'));
            assert!(!event.to_string().contains("alice"));
        }
        bed.assert_clean(40).await;
    });
}

#[test]
fn unmasking_needs_the_configuration_and_the_option() {
    story(async {
        let masked = bed(TapMode::Masked, None).await;
        assert_eq!(
            ask(address(&masked), TOKEN, r#"{"unmask": true}"#).await.status,
            403
        );
        let off = bed(TapMode::Off, None).await;
        assert_eq!(ask(address(&off), TOKEN, "").await.status, 403);
        let full = bed(TapMode::Full, None).await;
        let (by_default, open) = (
            tapped(&full, r#"{"count": 1}"#).await,
            tapped(&full, r#"{"count": 1, "unmask": true}"#).await,
        );
        publish(&full, 10).await;
        assert_ne!(
            rest(by_default).await.0[0]["payload"]["userId"],
            "alice@carbon.super"
        );
        assert_eq!(rest(open).await.0[0]["payload"]["userId"], "alice@carbon.super");
    });
}

#[test]
fn without_the_token_nothing_is_shown() {
    story(async {
        let bed = bed(TapMode::Masked, None).await;
        for wrong in ["", "wrong"] {
            let mut answer = ask(address(&bed), wrong, "").await;
            assert_eq!(answer.status, 401);
            let body = answer.line().await.unwrap().unwrap();
            assert!(body.contains("admin.token"), "{body}");
        }
        assert_eq!(ask(address(&bed), TOKEN, r#"{"sort": 1}"#).await.status, 400);
        assert_eq!(ask(address(&bed), TOKEN, r#"{"rate": 100000}"#).await.status, 400);
    });
}

#[test]
fn filters_and_samples_choose_and_everything_else_is_counted() {
    story(async {
        let bed = bed(TapMode::Masked, None).await;
        let end = r#""duration_ms": 1500"#;
        let wish = |text: &str| format!("{{{text}, {end}}}");
        let api = tapped(
            &bed,
            &wish(r#""api": "PizzaAPI", "application": "12", "rate": 2000"#),
        )
        .await;
        let other = tapped(&bed, &wish(r#""api": "/pasta/1.0.0""#)).await;
        let stream = tapped(&bed, &wish(r#""stream": "org.wso2.blocking.request.stream""#)).await;
        let sample = tapped(&bed, &wish(r#""sample": 20, "rate": 2000"#)).await;
        assert_eq!(ask(address(&bed), TOKEN, "").await.status, 409, "a fifth one");
        publish(&bed, 200).await;
        assert_eq!(rest(api).await.0.len(), 200);
        let (events, report) = rest(other).await;
        assert_eq!((events.len(), &report["filtered"]), (0, &200.into()));
        let (events, report) = rest(stream).await;
        assert_eq!((events.len(), &report["filtered"]), (0, &200.into()));
        let (events, report) = rest(sample).await;
        assert_eq!((events.len(), &report["skipped"]), (10, &190.into()));
        bed.assert_clean(200).await;
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off_without_effect_on_the_relay() {
    story(async {
        let bed = bed(TapMode::Full, Some(Events::new(Sizes::Fixed(12_000), 0))).await;
        let mut deaf = Vec::new();
        for _ in 0..4 {
            deaf.push(tapped(&bed, r#"{"rate": 2000, "unmask": true}"#).await);
        }
        // Far more than sockets and pipes hold.
        let options = LoadOptions {
            connections: 4,
            events_per_frame: 5,
            rate: Some(500.0),
            duration: Some(Duration::from_secs(14)),
            events: Events::new(Sizes::Fixed(12_000), 0),
            ..bed.load()
        };
        let report = Load::start(options).finish().await;
        let longest = report.latency.max();
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        bed.assert_clean(report.counts.events_acked).await;
        // Ten seconds after their sockets were full the taps are cut off.
        let again = loop {
            let answer = ask(address(&bed), TOKEN, r#"{"count": 1}"#).await;
            if answer.status == 200 {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        publish_more(&bed).await;
        assert_eq!(rest(again).await.0.len(), 1);
        drop(deaf);
    });
}

/// Events that the oracle does not know of.
async fn publish_more(bed: &Bed) {
    let options = LoadOptions {
        count: Some(10),
        ..LoadOptions::new(dialer(), bed.url())
    };
    Load::start(options).finish().await;
}

#[test]
fn a_tap_ends_when_its_client_disconnects_and_when_weir_drains() {
    story(async {
        let bed = bed(TapMode::Masked, None).await;
        let mut taps = Vec::new();
        for _ in 0..4 {
            taps.push(tapped(&bed, "").await);
        }
        assert_eq!(ask(address(&bed), TOKEN, "").await.status, 409);
        drop(taps);
        let one = loop {
            let mut answer = ask(address(&bed), TOKEN, "").await;
            if answer.status == 200 {
                next(&mut answer).await.unwrap();
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        publish(&bed, 20).await;
        assert!(bed.weir.drain().await);
        let (events, report) = rest(one).await;
        assert_eq!(report["ended"], "draining");
        assert!(events.len() <= 20);
    });
}

#[test]
fn the_command_prints_events_and_says_what_it_left_out() {
    story(async {
        let bed = bed(TapMode::Masked, None).await;
        let url = format!("http://{}", address(&bed));
        let run = move |words: &'static str| {
            let url = url.clone();
            tokio::task::spawn_blocking(move || {
                let words = words.split(' ').chain(["--admin", &url]);
                let Command::Admin(weir::admin::client::args::AdminCommand::Tap(args)) =
                    Cli::try_parse_from(words).unwrap().command
                else {
                    panic!("not a tap");
                };
                let (mut out, mut notes) = (Vec::new(), Vec::new());
                let runtime = tokio::runtime::Runtime::new().unwrap();
                let outcome: Result<(), Problem> = runtime.block_on(tap::run(&args, &mut out, &mut notes));
                (
                    outcome,
                    String::from_utf8(out).unwrap(),
                    String::from_utf8(notes).unwrap(),
                )
            })
        };
        let tap = run("weir tap --count 5 --sample 2 --token s3cret");
        let publishing = async {
            while !tap.is_finished() {
                publish_more(&bed).await;
            }
        };
        publishing.await;
        let (outcome, out, notes) = tap.await.unwrap();
        assert_eq!(outcome, Ok(()));
        assert_eq!(out.lines().count(), 5, "{out}");
        assert!(
            notes.contains(" 5 shown,") && notes.contains("ended: count"),
            "{notes}"
        );
        let (outcome, ..) = run("weir tap --token wrong").await.unwrap();
        assert_eq!(outcome.unwrap_err().code, 2);
        let (outcome, ..) = run("weir tap --unmask --token s3cret").await.unwrap();
        let problem = outcome.unwrap_err();
        assert!(
            problem.code == 2 && problem.message.contains("admin.tap"),
            "{problem:?}"
        );
    });
}
