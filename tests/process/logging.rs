//! A log nobody can take, and a curious scraper: the data path does not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use weir_lab::{Load, LoadOptions};

use crate::support::process::{Start, Stderr};
use crate::support::stage::Stage;
use crate::support::{Plan, noticed_nothing, scrape, story};

#[test]
fn a_disk_without_room_for_the_log_stops_nothing() {
    story(async {
        let start = Start {
            stderr: Stderr::Full,
            arguments: vec!["--log-level".into(), "trace".into()],
            ..Start::default()
        };
        let mut stage = Stage::start_as(Plan::groups(&["one", "two"]), start).await;
        let options = LoadOptions {
            connections: 8,
            count: Some(10_000),
            ..stage.load()
        };
        Load::start(options).finish().await;
        stage.assert_clean(10_000).await;
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0));
    });
}

#[test]
fn a_log_reader_that_stalls_stops_nothing_and_learns_how_many_lines_were_lost() {
    story(async {
        let start = Start {
            arguments: vec!["--log-level".into(), "weir=debug".into()],
            ..Start::default()
        };
        let mut stage = Stage::start_as(Plan::groups(&["one", "two"]), start).await;
        stage.weir.read_log(false);
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(4_000.0),
            ..stage.agents()
        });
        let handle = load.handle();
        // Each makes lines: more than the pipe and weir's own room for lines hold.
        for i in 0..6_000 {
            let stream = tokio::net::TcpStream::connect(stage.weir.tcp).await.unwrap();
            stream.try_write(b"?").unwrap();
            drop(stream);
            if i % 100 == 0 {
                stage
                    .weir
                    .until("bad input is refused", |s| {
                        s.number("/ingress/connections_tcp") < 50
                    })
                    .await;
            }
        }
        let acked = handle.counts().events_acked;
        weir_lab::thread::until("gateways are served", Duration::from_secs(20), || {
            handle.counts().events_acked > acked + 1_000
        })
        .await
        .unwrap();
        handle.stop();
        noticed_nothing(&load.finish().await);
        let acked = stage.judge.oracle().acked();
        stage.assert_clean(acked).await;
        stage.weir.read_log(true);
        // A line that gets through shows that the reader has caught up.
        while stage.weir.lines("reloaded: no changes").is_empty() {
            stage.weir.signal("HUP");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0));
        let lost = stage.weir.lines("lines of the log were lost");
        let lost: u64 = lost.iter().map(|l| l["lost"].as_u64().unwrap()).sum();
        assert!(lost > 0, "the reader was never too slow");
        assert_eq!(stage.weir.lines("weir has ended").len(), 1);
    });
}

#[test]
fn scraped_a_hundred_times_a_second_under_load_it_serves_gateways_as_before() {
    story(async {
        let stage = Stage::start(Plan::groups(&["one", "two"])).await;
        let (admin, over, scrapes) = (
            stage.weir.admin,
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (seen, ended) = (Arc::clone(&scrapes), Arc::clone(&over));
        let scraper = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let series = scrape(admin);
                let of = |name: &str| {
                    series
                        .iter()
                        .filter(|(s, _)| s.starts_with(name))
                        .map(|(_, v)| v)
                        .sum::<f64>()
                };
                let accepted = of("weir_events_accepted_total{group=\"one\"");
                let placed: f64 = [
                    "weir_events_delivered_total{group=\"one\"",
                    "weir_events_rejected_total{group=\"one\"",
                    "weir_events_dropped_total{group=\"one\"",
                    "weir_events_queued{group=\"one\"",
                    "weir_events_inflight{group=\"one\"",
                ]
                .into_iter()
                .map(of)
                .sum();
                assert!(
                    (accepted - placed).abs() < 0.5,
                    "a scrape that does not add up: {accepted} {placed}"
                );
                seen.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let started = tokio::time::Instant::now();
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(1_000.0),
            ..stage.agents()
        });
        let handle = load.handle();
        weir_lab::thread::until("two hundred scrapes", Duration::from_secs(60), || {
            scrapes.load(Ordering::Relaxed) >= 200 || scraper.is_finished()
        })
        .await
        .unwrap();
        handle.stop();
        let took = started.elapsed();
        over.store(true, Ordering::Relaxed);
        scraper.join().unwrap();
        let report = load.finish().await;
        let acked = report.counts.events_acked;
        println!(
            "200 scrapes and {acked} events in {took:?}; reply p99 {:?}",
            report.latency.p99()
        );
        assert!(
            acked as f64 > 500.0 * took.as_secs_f64(),
            "half of what was asked for"
        );
        noticed_nothing(&report);
        let verdict = stage
            .verdict()
            .await
            .witness("scrapes", scrapes.load(Ordering::Relaxed));
        assert!(verdict.ok() && verdict.groups[0].missing.count == 0, "{verdict}");
    });
}
