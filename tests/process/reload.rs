//! A changed configuration file while gateways publish: by signal, found by itself, swapped as Kubernetes
//! swaps it; and files that are no configuration.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use weir_lab::load::LoadHandle;
use weir_lab::{Load, LoadOptions, Sink, SinkOptions};

use crate::support::process::{Process, Start};
use crate::support::stage::Stage;
use crate::support::{Plan, noticed_nothing, scrape, story, url_group};

const SUCCESSFUL: &str = "weir_config_last_reload_successful";

/// The same configuration with one group more, and its Traffic Manager.
fn third(stage: &Stage) -> (String, Sink) {
    let index = stage.judge.oracle().add_group("three");
    let sink = Sink::start(SinkOptions::local().judged_by(&stage.judge, index)).unwrap();
    let block = url_group("three", "failover", &format!("\"tcp://{}\"", sink.data_address()));
    (
        stage.toml.replace("[listen]", &format!("{block}\n[listen]")),
        sink,
    )
}

/// Moderate, so that a group that comes later has something to get.
fn traffic(stage: &Stage) -> (Load, LoadHandle) {
    let load = Load::start(LoadOptions {
        connections: 4,
        rate: Some(2_000.0),
        ..stage.agents()
    });
    let handle = load.handle();
    (load, handle)
}

async fn judged(stage: &Stage, load: Load, handle: &LoadHandle, reloads: usize) {
    handle.stop();
    noticed_nothing(&load.finish().await);
    let status = stage.weir.until("at rest", |s| s.at_rest()).await;
    let mut weir = status.counts();
    // The third one is judged by what arrived alone: it was not there from the beginning.
    weir.groups.retain(|g| g.name != "three");
    let verdict = stage
        .judge
        .verdict(Some(&weir))
        .witness("reloads", reloads as u64);
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(
        (verdict.groups[0].missing.count, verdict.groups[1].missing.count),
        (0, 0)
    );
    for i in 0..2 {
        assert_eq!(
            status.number(&format!("/groups/{i}/endpoints/0/connects_total")),
            1,
            "untouched links stay"
        );
    }
}

#[test]
fn a_reload_by_sighup_adds_a_group_under_load() {
    story(async {
        let mut stage = Stage::start(Plan::groups(&["one", "two"])).await;
        let (load, handle) = traffic(&stage);
        stage
            .weir
            .until("traffic", |s| s.of("one", "events/delivered") > 200)
            .await;
        let (text, sink) = third(&stage);
        std::fs::write(stage.weir.config_file(), text).unwrap();
        stage.weir.signal("HUP");
        let line = stage.weir.logged("configuration reloaded").await;
        assert_eq!(line["changes"], "group three added");
        stage
            .weir
            .until("the new group is served", |s| {
                s.groups() == ["one", "two", "three"] && s.of("three", "events/delivered") > 200
            })
            .await;
        assert!(sink.counts().events > 200);
        judged(
            &stage,
            load,
            &handle,
            stage.weir.lines("configuration reloaded").len(),
        )
        .await;
        let status = stage.weir.status();
        assert_eq!(status.of("three", "events/delivered"), sink.counts().events);
    });
}

#[test]
fn a_changed_file_is_found_by_itself_and_so_is_a_file_that_was_half_written() {
    story(async {
        let mut stage = Stage::start(Plan::groups(&["one", "two"])).await;
        let (load, handle) = traffic(&stage);
        let (text, _sink) = third(&stage);
        // Half of it first: cut within a value, and left so until weir has looked.
        let half = text.find("traffic_manager_auth_urls").unwrap() + 5;
        std::fs::write(stage.weir.config_file(), &text[..half]).unwrap();
        stage
            .weir
            .logged("reload refused, the old configuration stays")
            .await;
        assert_eq!(scrape(stage.weir.admin)[SUCCESSFUL], 0.0);
        assert_eq!(stage.weir.status().groups(), ["one", "two"]);
        let acked = handle.counts().events_acked;
        std::fs::write(stage.weir.config_file(), &text).unwrap();
        stage
            .weir
            .until("the whole file is in force", |s| s.groups().len() == 3)
            .await;
        stage.weir.logged("configuration reloaded").await;
        assert_eq!(scrape(stage.weir.admin)[SUCCESSFUL], 1.0);
        assert!(handle.counts().events_acked > acked, "traffic all the while");
        judged(
            &stage,
            load,
            &handle,
            stage.weir.lines("configuration reloaded").len(),
        )
        .await;
    });
}

#[test]
fn a_swapped_symbolic_link_is_found_as_kubernetes_swaps_it() {
    story(async {
        let stage = Stage::start(Plan::groups(&["one", "two"])).await;
        let (text, _sink) = third(&stage);
        // weir.toml → ..data/weir.toml, ..data → ..first; then ..data → ..second by renaming over it.
        let home = std::sync::Arc::clone(&stage.weir.home);
        let at = |name: &str| home.path().join(name);
        for (version, text) in [("..first", &stage.toml), ("..second", &text)] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("weir.toml"), text).unwrap();
        }
        symlink("..first", at("..data")).unwrap();
        replace_by_link(Path::new("..data/weir.toml"), &at("weir.toml"), &at("tmp"));
        let weir = stage.weir.again().await;
        let mut stage = Stage { weir, ..stage };
        let (load, handle) = traffic(&stage);
        stage
            .weir
            .until("traffic", |s| s.of("one", "events/delivered") > 200)
            .await;
        for version in ["..second", "..first"] {
            replace_by_link(Path::new(version), &at("..data"), &at("tmp"));
            let groups = if version == "..second" { 3 } else { 2 };
            stage
                .weir
                .until("the swapped file is in force", |s| s.groups().len() == groups)
                .await;
        }
        stage.weir.logged("a configuration file has changed").await;
        judged(
            &stage,
            load,
            &handle,
            stage.weir.lines("configuration reloaded").len(),
        )
        .await;
    });
}

#[test]
fn an_invalid_file_leaves_the_old_one_in_force_and_says_so_until_it_is_mended() {
    story(async {
        let mut stage = Stage::start(Plan::groups(&["one", "two"])).await;
        let (load, handle) = traffic(&stage);
        let before = scrape(stage.weir.admin);
        assert_eq!(before[SUCCESSFUL], 1.0);
        for bad in ["[queue\n", "unknown_key = 1\n", ""] {
            std::fs::write(stage.weir.config_file(), bad).unwrap();
            let refused = stage.weir.lines("reload refused").len();
            stage.weir.signal("HUP");
            stage
                .weir
                .until("it was refused", |_| {
                    stage.weir.lines("reload refused").len() > refused
                })
                .await;
            let after = scrape(stage.weir.admin);
            assert_eq!(after[SUCCESSFUL], 0.0, "{bad:?}");
            let loaded = "weir_config_last_reload_success_timestamp_seconds";
            assert_eq!(after[loaded], before[loaded]);
            assert_eq!(stage.weir.status().groups(), ["one", "two"]);
        }
        std::fs::remove_file(stage.weir.config_file()).unwrap();
        stage.weir.signal("HUP");
        stage
            .weir
            .until("a missing file is refused", |_| {
                stage.weir.lines("reload refused").len() >= 4
            })
            .await;
        std::fs::write(stage.weir.config_file(), &stage.toml).unwrap();
        stage.weir.signal("HUP");
        stage.weir.logged("reloaded: no changes").await;
        assert_eq!(scrape(stage.weir.admin)[SUCCESSFUL], 1.0);
        judged(&stage, load, &handle, stage.weir.lines("reload refused").len()).await;
    });
}

#[test]
fn a_pipe_in_place_of_the_file_is_refused_and_the_next_signal_is_heard() {
    story(async {
        let mut stage = Stage::start(Plan::groups(&["one", "two"])).await;
        let fifo = stage.weir.home.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        std::fs::rename(&fifo, stage.weir.config_file()).unwrap();
        stage.weir.signal("HUP");
        let line = stage.weir.logged("reload refused").await;
        let message = line["message"].as_str().unwrap();
        assert!(message.contains("not a regular file"), "{message}");
        stage.weir.signal("TERM");
        assert_eq!(stage.weir.end().await, Some(0));
    });
}

#[test]
fn a_signal_in_the_moment_of_readiness_is_heard() {
    story(async {
        let text = {
            let block = url_group("one", "failover", "\"tcp://127.0.0.1:1\"");
            crate::support::toml(&Plan::default(), &block)
        };
        for _ in 0..5 {
            let mut weir = Process::start(&text, Start::default(), None).await;
            weir.signal("HUP");
            weir.logged("reloaded: no changes").await;
            weir.signal("TERM");
            assert_eq!(weir.end().await, Some(0));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// As Kubernetes' atomic writer does: a new link, renamed over the old one.
fn replace_by_link(target: &Path, link: &Path, temporary: &Path) {
    symlink(target, temporary).unwrap();
    std::fs::rename(temporary, link).unwrap();
}
