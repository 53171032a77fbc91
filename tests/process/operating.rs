//! An operator at work while gateways publish: the commands of the binary against a weir with a token.

use std::process::Command;
use std::time::Duration;

use weir_lab::{Load, LoadOptions};

use crate::support::process::WEIR;
use crate::support::stage::Stage;
use crate::support::{Plan, story};

/// Exit code, and what was printed on either stream.
fn weir(stage: &Stage, token: Option<&str>, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(WEIR);
    command
        .args(words)
        .env("WEIR_ADMIN", format!("http://{}", stage.weir.admin))
        .env_remove("WEIR_ADMIN_TOKEN");
    if let Some(token) = token {
        command.env("WEIR_ADMIN_TOKEN", token);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

async fn stage() -> (Stage, Load) {
    let tables = String::from("[log]\nlevel = \"info\"\n");
    let mut stage = Stage::start(Plan {
        tables,
        ..Plan::groups(&["one", "two"])
    })
    .await;
    // The token comes by a reload, and counts from then on.
    let with_token = stage
        .toml
        .replace("[admin]\n", "[admin]\ntoken = \"s3cret-s3cret\"\n");
    std::fs::write(stage.weir.config_file(), &with_token).unwrap();
    assert_eq!(
        weir(&stage, None, &["reload"]),
        (0, "reloaded:\n  - admin.token\n".into())
    );
    stage.toml = with_token;
    let load = Load::start(LoadOptions {
        connections: 4,
        rate: Some(1_000.0),
        ..stage.agents()
    });
    stage
        .weir
        .until("traffic", |s| s.of("two", "events/delivered") > 100)
        .await;
    (stage, load)
}

#[test]
fn the_commands_switch_an_endpoint_and_drain_and_undo_under_load_and_nothing_is_lost() {
    story(async {
        let (stage, load) = stage().await;
        let endpoint = stage.sinks[0].data_address().to_string();
        let (code, said) = weir(&stage, None, &["endpoint", "disable", "one", &endpoint]);
        assert!(code == 2 && said.contains("admin.token"), "{said}");
        let token = Some("s3cret-s3cret");
        let off = weir(&stage, token, &["endpoint", "disable", "one", &endpoint]);
        assert_eq!(off, (0, format!("disabled {endpoint} of group one\n")));
        let disabled = stage
            .weir
            .until("its events wait", |s| s.of("one", "events/queued") > 200)
            .await;
        assert_eq!(disabled.0["groups"][0]["endpoints"][0]["state"], "disabled");
        let (code, said) = weir(&stage, None, &["status"]);
        assert!(code == 0 && said.contains("disabled"), "looking is free: {said}");
        assert_eq!(
            weir(&stage, token, &["endpoint", "enable", "one", &endpoint]).0,
            0
        );
        stage.weir.until("they are delivered", |s| s.all_up()).await;

        let (code, said) = weir(&stage, token, &["drain"]);
        assert!(code == 0 && said.starts_with("draining"), "{said}");
        let drained = stage
            .weir
            .until("gateways are sent away", |s| {
                s.number("/ingress/publishes_sent_away_total") > 0
            })
            .await;
        assert_eq!(drained.0["phase"], "draining");
        assert_eq!(weir(&stage, token, &["drain", "--undo"]), (0, "ready\n".into()));
        let before = drained.of("two", "events/delivered");
        stage
            .weir
            .until("gateways are back", |s| {
                s.of("two", "events/delivered") > before + 100
            })
            .await;
        load.stop();
        let counts = load.finish().await.counts;
        assert_eq!((counts.queue_full, counts.resets), (0, 0), "{counts:?}");
        let verdict = stage
            .verdict()
            .await
            .witness("queued while disabled", disabled.of("one", "events/queued"));
        assert!(verdict.ok(), "{verdict}");
        assert!(verdict.groups.iter().all(|g| g.missing.count == 0), "{verdict}");
        assert_eq!(verdict.acked, verdict.issued, "all was answered");
    });
}

#[test]
fn a_reload_says_what_changed_what_waits_for_a_restart_and_line_by_line_what_is_wrong() {
    story(async {
        let (mut stage, load) = stage().await;
        let token = Some("s3cret-s3cret");
        let other = stage
            .toml
            .replacen("[apim", "workers = 3\n[apim", 1)
            .replace("level = \"info\"", "level = \"debug\"");
        std::fs::write(stage.weir.config_file(), other).unwrap();
        let said = weir(&stage, token, &["reload"]);
        let expected = "reloaded:\n  - log.level\nthese take effect after a restart:\n  - workers\n";
        assert_eq!(said, (0, expected.into()));
        assert_eq!(weir(&stage, None, &["log-level"]), (0, "debug\n".into()));
        assert_eq!(weir(&stage, token, &["log-level", "info"]), (0, "info\n".into()));

        let bad = format!("\nworker = 3\nack = \"maybe\"\n{}", stage.toml);
        std::fs::write(stage.weir.config_file(), bad).unwrap();
        let (code, said) = weir(&stage, token, &["reload"]);
        assert_eq!(code, 2);
        for part in [
            "the old one stays in force",
            "  - ",
            "weir.toml:2:1: worker: ",
            "weir.toml:3:7: ack: \"maybe\"",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(
            stage.weir.status().0["last_reload"]["problems"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            stage.weir.lines("reload refused").len() % 2,
            0,
            "a line for each problem"
        );

        let dead = stage.sinks.remove(0);
        drop(dead);
        // Else there would be nothing to wait for.
        stage
            .weir
            .until("events wait for it", |s| s.of("one", "events/queued") > 50)
            .await;
        stage.weir.signal("TERM");
        stage.weir.logged("draining").await;
        let (code, said) = weir(&stage, token, &["reload"]);
        assert!(code == 1 && said.contains("weir is stopping"), "{said}");
        stage.weir.signal("TERM");
        tokio::time::timeout(Duration::from_secs(20), stage.weir.end())
            .await
            .unwrap();
        drop(load);
    });
}
