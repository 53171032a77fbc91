//! Out of file descriptors, and ten thousand connections.

use std::time::Duration;

use weir_lab::gateway::{Answer as Heard, Gateway, frame};
use weir_lab::{Close, Load, LoadOptions};

use crate::support::machine::allow_descriptors;
use crate::support::process::Start;
use crate::support::stage::Stage;
use crate::support::{Plan, dialer, noticed_nothing, story};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn out_of_descriptors_accepting_pauses_while_open_connections_go_on_and_then_it_recovers() {
    story(async {
        let start = Start {
            before: "ulimit -n 64".into(),
            ..Start::default()
        };
        let mut stage = Stage::start_as(Plan::groups(&["one", "two"]), start).await;
        let load = Load::start(LoadOptions {
            connections: 4,
            rate: Some(4_000.0),
            ..stage.agents()
        });
        let handle = load.handle();
        stage
            .weir
            .until("all four are served", |s| {
                s.number("/ingress/connections_tcp") == 4 && s.of("one", "events/delivered") > 100
            })
            .await;
        let (dialer, url) = (dialer(), stage.url());
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(Gateway::connect(&dialer, &url).await.unwrap());
        }
        // The admin port cannot be asked now: a scrape needs a descriptor, too.
        let line = stage.weir.logged("cannot accept").await;
        assert!(
            line["message"].as_str().unwrap().contains("LimitNOFILE"),
            "{line}"
        );
        // The limit counts numbers from 0; what was inherited may lie above it.
        let exhausted = || stage.weir.descriptors() >= 64;
        assert!(exhausted());
        let acked = handle.counts().events_acked;
        weir_lab::thread::until("those that are in go on", LIMIT, || {
            handle.counts().events_acked > acked + 1_000
        })
        .await
        .unwrap();
        assert!(exhausted(), "still out of descriptors");

        // A Traffic Manager that is lost now comes back at the latest when the crowd is gone.
        stage.sinks[0].cut(Close::Rst);
        for gateway in crowd {
            gateway.abort();
        }
        let status = stage
            .weir
            .until("only the four are left", |s| {
                s.number("/ingress/connections_tcp") == 4 && s.all_up()
            })
            .await;
        let pauses = status.number("/ingress/accept_paused_total");
        let mut late = Gateway::connect(&dialer, &url).await.unwrap();
        assert!(matches!(
            late.login("admin", "admin", LIMIT).await,
            Heard::Session(_)
        ));
        late.abort();
        handle.stop();
        noticed_nothing(&load.finish().await);
        let verdict = stage.verdict().await.witness("pauses", pauses);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.groups[0].missing.count, 0, "{verdict}");
    });
}

#[test]
fn ten_thousand_idle_gateways_cost_little_and_the_active_ones_are_served() {
    const IDLE: u32 = 10_000;
    const ACTIVE: u32 = 64;
    /// Their origins, behind the active ones.
    const FIRST: u32 = 1_000;
    if let Err(why) = allow_descriptors(u64::from(IDLE) + 1_000) {
        println!("skipped: {why}");
        return;
    }
    story(async {
        let start = Start {
            before: format!("ulimit -n {} || exit 9", IDLE + 1_000),
            ..Start::default()
        };
        let stage = Stage::start_as(
            Plan {
                listen: "max_connections = 20000",
                ..Plan::groups(&["one", "two"])
            },
            start,
        )
        .await;
        let (dialer, url) = (dialer(), stage.url());
        let mut first = Gateway::connect(&dialer, &url).await.unwrap();
        let Heard::Session(session) = first.login("admin", "admin", LIMIT).await else {
            panic!("no session");
        };
        // Warm: what grows once has grown.
        let options = LoadOptions {
            connections: ACTIVE,
            count: Some(5_000),
            ..stage.load()
        };
        Load::start(options).finish().await;
        let before = stage.weir.rss_bytes();
        let events = stage.judge.oracle().events().clone();
        let mut idle = Vec::new();
        for i in 0..IDLE {
            let mut gateway = Gateway::connect(&dialer, &url).await.unwrap();
            let now = stage.judge.now();
            stage.judge.oracle().issue(FIRST + i, 0, 1, now);
            let heard = gateway
                .ask(&frame(&session, &events, FIRST + i, 0, 1), LIMIT)
                .await;
            assert_eq!(heard, Heard::Ok, "gateway {i}");
            stage.judge.oracle().ack(FIRST + i, 0, 1);
            idle.push(gateway);
        }
        stage
            .weir
            .until("all are there, at rest", |s| {
                s.number("/ingress/connections_tcp") == u64::from(IDLE) + 1 && s.at_rest()
            })
            .await;
        let each = stage.weir.rss_bytes().saturating_sub(before) / u64::from(IDLE);
        println!("{IDLE} idle gateway connections: {each} bytes of resident memory each");
        assert!(each <= 4096, "{each} bytes each");
        let options = LoadOptions {
            connections: ACTIVE,
            count: Some(20_000),
            origin_first: 100,
            ..stage.load()
        };
        let report = Load::start(options).finish().await;
        assert_eq!((report.counts.events_acked, report.counts.resets), (20_000, 0));
        assert_eq!(
            stage.weir.status().number("/ingress/connections_tcp"),
            u64::from(IDLE) + 1
        );
        stage.assert_clean(u64::from(IDLE) + 25_000).await;
    });
}
