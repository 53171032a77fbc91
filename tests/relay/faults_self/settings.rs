//! Users, limits and manners that change under load; what waits for a restart; and a reload that is refused as a
//! whole.

use std::net::SocketAddr;
use std::time::Duration;

use weir::config::{Ack, Config, KeyFile, LogFormat, Password, Secret, User};
use weir_lab::gateway::Answer;
use weir_lab::{Load, LoadOptions};

use crate::support::faults::{eventually, nothing_missing};
use crate::support::peer::{Peer, login};
use crate::support::{Bed, Plan, noticed_nothing, story};

/// Moderate, until told otherwise.
fn load(bed: &Bed) -> Load {
    Load::start(LoadOptions {
        connections: 4,
        rate: Some(2_000.0),
        ..bed.agents()
    })
}

async fn traffic(bed: &Bed) {
    let seen = bed.judge.oracle().received(0);
    eventually("traffic", || bed.judge.oracle().received(0) > seen + 300).await;
}

async fn change(bed: &Bed, config: &Config) -> String {
    let report = bed.weir.apply(config.clone(), Vec::new()).await.unwrap();
    assert_eq!(report.needs_restart, [""; 0]);
    report.changes.join("; ")
}

/// Everybody was served without a hitch, and every link is the one it was.
async fn unnoticed(bed: &Bed, load: Load, witness: (&str, u64)) {
    load.stop();
    noticed_nothing(&load.finish().await);
    let verdict = nothing_missing(bed, witness.0, witness.1).await;
    assert!(
        verdict.groups.iter().all(|g| g.duplicated.count == 0),
        "{verdict}"
    );
    let snapshot = bed.snapshot().await;
    let links = snapshot.groups.iter().flat_map(|g| &g.endpoints);
    assert!(links.into_iter().all(|e| e.connects_total == 1));
}

#[test]
fn users_come_and_go_under_load_and_a_session_of_one_who_is_gone_is_over() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let stays = load(&bed);
        traffic(&bed).await;
        let mut config = bed.config.clone();
        config.auth.users.push(User {
            name: "guest".into(),
            password: Password::Clear(Secret::new("guest")),
        });
        assert_eq!(change(&bed, &config).await, "auth.user");
        let guest = Load::start(LoadOptions {
            user: "guest".into(),
            password: "guest".into(),
            connections: 2,
            rate: Some(200.0),
            origin_first: 100,
            settle: Duration::from_millis(100),
            ..bed.agents()
        });
        eventually("the guest is served", || guest.counts().events_acked > 50).await;
        assert_eq!(change(&bed, &bed.config).await, "auth.user");
        eventually("the guest is refused", || guest.counts().login_failures > 0).await;
        let acked = guest.counts().events_acked;
        traffic(&bed).await;
        guest.stop();
        let counts = guest.finish().await.counts;
        assert_eq!(counts.events_acked, acked, "nothing more is taken from the guest");
        assert!(counts.session_errors > 0, "the open connections were told");
        unnoticed(&bed, stays, ("refused logins", counts.login_failures)).await;
    });
}

#[test]
fn fewer_connections_are_served_after_a_reload_and_more_after_another() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = load(&bed);
        traffic(&bed).await;
        bed.until("the connections of their logins and probes have gone", |s| {
            s.ingress.connections_tcp == 4 && s.ingress.closed_by_peer_total >= 8
        })
        .await;
        let mut config = bed.config.clone();
        config.ingress.connections_max = 4;
        assert_eq!(change(&bed, &config).await, "listen.max_connections");
        // The place that was free when the limit came is still given away.
        let mut fifth = Peer::tcp(&bed).await;
        let mut sixth = Peer::tcp(&bed).await;
        for peer in [&mut fifth, &mut sixth] {
            peer.send(&login("admin", "admin")).await.unwrap();
        }
        assert_eq!(
            sixth.answer_within(Duration::from_millis(300)).await,
            Answer::Nothing
        );
        config.ingress.connections_max = 10;
        change(&bed, &config).await;
        assert!(matches!(sixth.answer().await, Answer::Session(_)));
        traffic(&bed).await;
        unnoticed(&bed, load, ("waited", 1)).await;
    });
}

#[test]
fn ack_and_the_manners_of_links_change_without_a_reconnect() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one", "two"])).await;
        let load = load(&bed);
        traffic(&bed).await;
        let mut config = bed.config.clone();
        config.ack = Ack::Delivered;
        config.link.window_frames = 1;
        config.link.linger = Duration::ZERO;
        config.link.heartbeat = None;
        config.drain_timeout = Duration::from_secs(7);
        assert_eq!(
            change(&bed, &config).await,
            "ack; drain_timeout; link.linger; link.window_frames; link.heartbeat"
        );
        traffic(&bed).await;
        bed.sinks[0][0].set(|b| b.answer(weir_lab::sink::Answer::Stall));
        let before = load.counts().events_acked;
        // Before a stalled endpoint has been silent for so long that gateways no longer wait for it.
        let waiting = bed
            .until("gateways wait for one group", |s| {
                s.groups[0].endpoints[0].inflight_frames == 1
                    && s.groups[1].events.delivered > s.groups[0].events.delivered
            })
            .await;
        let one = &waiting.groups[0];
        assert_eq!(one.endpoints[0].inflight_frames, 1);
        assert!(
            waiting.ingress.events_ok_total <= one.events.delivered,
            "{waiting:?}"
        );
        bed.sinks[0][0].set(|b| b.answer(weir_lab::sink::Answer::Ok));
        traffic(&bed).await;
        assert_eq!(
            change(&bed, &bed.config).await,
            "ack; drain_timeout; link.linger; link.window_frames; link.heartbeat"
        );
        traffic(&bed).await;
        unnoticed(&bed, load, ("acknowledged before", before)).await;
    });
}

#[test]
fn what_only_a_restart_can_change_is_named_and_the_old_value_holds() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = load(&bed);
        traffic(&bed).await;
        let before = bed.weir.addresses();
        let mut config = bed.config.clone();
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
        config.workers = 2;
        config.ingress.tcp = Some(elsewhere);
        config.ingress.tls = Some(elsewhere);
        config.admin = None;
        config.log.format = LogFormat::Json;
        // In force at once, whatever waits.
        config.drain_timeout = Duration::from_secs(9);
        let report = bed.weir.apply(config, Vec::new()).await.unwrap();
        assert_eq!(
            report.needs_restart,
            [
                "workers",
                "listen.tcp",
                "listen.tls",
                "admin.listen",
                "log.format"
            ]
        );
        assert_eq!(report.changes, ["drain_timeout"]);
        assert_eq!(bed.weir.addresses(), before);
        traffic(&bed).await;
        // The admin port is asked in there.
        unnoticed(&bed, load, ("waiting", 5)).await;
    });
}

#[test]
fn a_reload_with_one_bad_file_changes_nothing_at_all() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one", "two"])).await;
        let load = load(&bed);
        traffic(&bed).await;
        let mut config = bed.config.clone();
        config.groups.remove(1);
        config.groups[0].queue.events_max = 10;
        config.auth.users.clear();
        config.tls.trust = weir::config::Trust::Pem("no-such-file.pem".into());
        let problems = bed.weir.apply(config.clone(), Vec::new()).await.unwrap_err();
        assert!(problems[0].contains("no-such-file.pem"), "{problems:?}");
        let status = crate::support::scrape(bed.weir.addresses().admin.unwrap());
        assert_eq!(status["weir_config_last_reload_successful"], 0.0);
        let snapshot = bed.snapshot().await;
        assert_eq!(snapshot.groups.len(), 2);
        assert!(snapshot.groups[0].held_events_max > 10);
        let mut peer = Peer::tcp(&bed).await;
        peer.login().await;
        // An identity that cannot be had is noticed even though no TLS port needs it now: not refused.
        let mut unused = bed.config.clone();
        unused.tls.identity = Some(KeyFile::Pem {
            certificate: "no-such-file.pem".into(),
            key: "no-such-file.pem".into(),
        });
        bed.weir.apply(unused, Vec::new()).await.unwrap();
        traffic(&bed).await;
        unnoticed(&bed, load, ("problems", problems.len() as u64)).await;
    });
}
