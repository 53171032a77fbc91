//! Another configuration under load: what is new works, what is untouched does not notice, nothing is lost.

use std::net::SocketAddr;
use std::time::Duration;

use weir::config::{Config, Endpoint, Password, Scheme, Secret, Trust, Url, User, Verify};
use weir::net::{Dialer, SocketOptions};
use weir_lab::gateway::Answer;
use weir_lab::{Load, LoadOptions, Sink, SinkOptions};

use crate::support::certificates::{Files, Made, client, leaf, self_signed};
use crate::support::faults::{eventually, nothing_missing};
use crate::support::peer::{Peer, error, login};
use crate::support::{Bed, Plan, noticed_nothing, story, url};

fn endpoint(sink: &Sink) -> Endpoint {
    let to = url(sink.data_address());
    Endpoint {
        name: sink.data_address().to_string(),
        data: to.clone(),
        auth: to,
    }
}

fn sink(bed: &Bed, group: usize) -> Sink {
    Sink::start(SinkOptions::local().judged_by(&bed.judge, group)).unwrap()
}

/// As much as the gateways can, until told otherwise.
fn load(bed: &Bed) -> Load {
    Load::start(LoadOptions {
        connections: 8,
        window: 2,
        ..bed.load()
    })
}

async fn traffic(bed: &Bed, group: usize) {
    let seen = bed.judge.oracle().received(group);
    eventually("traffic", || bed.judge.oracle().received(group) > seen + 1000).await;
}

async fn change(bed: &Bed, config: &Config) -> String {
    let report = bed.weir.apply(config.clone(), Vec::new()).await.unwrap();
    assert_eq!(report.needs_restart, [""; 0]);
    report.changes.join("; ")
}

#[test]
fn endpoints_come_and_go_under_load_and_the_untouched_one_stays_connected() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("pair", "loadbalance", 2), ("other", "failover", 1)],
            ..Plan::default()
        })
        .await;
        let load = load(&bed);
        traffic(&bed, 0).await;
        let third = sink(&bed, 0);
        let mut config = bed.config.clone();
        config.groups[0].endpoints[1] = endpoint(&third);
        let said = change(&bed, &config).await;
        assert!(said.contains("added") && said.contains("removed"), "{said}");
        eventually("the third works", || third.counts().events > 500).await;
        eventually("the second is let go", || bed.sinks[0][1].open_connections() == 0).await;
        let before = bed.sinks[0][1].counts().events;
        traffic(&bed, 0).await;
        assert_eq!(bed.sinks[0][1].counts().events, before, "it gets nothing more");
        load.stop();
        assert_eq!(load.finish().await.counts.events_resent, 0);
        let verdict = nothing_missing(&bed, "taken by the third", third.counts().events).await;
        assert!(
            verdict.groups.iter().all(|g| g.duplicated.count == 0),
            "what was in flight was finished: {verdict}"
        );
        let snapshot = bed.snapshot().await;
        assert_eq!(snapshot.groups[0].endpoints.len(), 2);
        for untouched in [&snapshot.groups[0].endpoints[0], &snapshot.groups[1].endpoints[0]] {
            assert_eq!(untouched.connects_total, 1, "{}", untouched.name);
        }
    });
}

#[test]
fn a_group_that_is_added_gets_all_that_comes_after() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one"])).await;
        let load = load(&bed);
        traffic(&bed, 0).await;
        let index = bed.judge.oracle().add_group("new");
        let added = sink(&bed, index);
        let mut config = bed.config.clone();
        let mut group = config.groups[0].clone();
        group.name = "new".into();
        group.endpoints = vec![endpoint(&added)];
        config.groups.push(group);
        let issued_before = bed.judge.oracle().acked();
        assert_eq!(change(&bed, &config).await, "group new added");
        traffic(&bed, index).await;
        load.stop();
        load.finish().await;
        let snapshot = bed
            .until("everything has ended", |s| {
                s.groups.iter().all(|g| g.events.queued + g.events.inflight == 0)
            })
            .await;
        let verdict = bed
            .verdict_of("one")
            .await
            .witness("to the new group", added.counts().events);
        assert!(verdict.ok(), "{verdict}");
        let (old, new) = (&verdict.groups[0], &verdict.groups[1]);
        assert_eq!(
            (old.copies, snapshot.groups[0].endpoints[0].connects_total),
            (verdict.acked, 1)
        );
        let events = snapshot.groups[1].events;
        assert_eq!(
            (new.distinct, new.copies, events.delivered),
            (events.accepted, events.accepted, events.accepted)
        );
        assert!(
            events.accepted <= verdict.acked - issued_before,
            "nothing from before"
        );
    });
}

#[test]
fn credentials_change_with_the_endpoint_and_nothing_is_lost_in_between() {
    story(async {
        let bed = Bed::start(Plan::groups(&["moves", "stays"])).await;
        let load = load(&bed);
        traffic(&bed, 0).await;
        let renewed = Sink::start(SinkOptions {
            user: "weir".into(),
            password: "rotated".into(),
            ..SinkOptions::local().judged_by(&bed.judge, 0)
        })
        .unwrap();
        let mut config = bed.config.clone();
        config.groups[0].endpoints.push(endpoint(&renewed));
        config.groups[0].username = "weir".into();
        config.groups[0].password = Secret::new("rotated");
        let said = change(&bed, &config).await;
        assert!(said.contains("reconnects"), "{said}");
        eventually("the new password is good", || renewed.counts().events > 500).await;
        eventually("the old one is no longer", || {
            bed.sinks[0][0].counts().logins_refused == 1
        })
        .await;
        load.stop();
        load.finish().await;
        let verdict = nothing_missing(&bed, "logins", renewed.counts().logins_ok).await;
        assert_eq!(verdict.groups[0].duplicated.count, 0, "{verdict}");
        let stays = bed.group("stays").await;
        assert_eq!(stays.endpoints[0].connects_total, 1);
    });
}

#[test]
fn limits_and_policy_change_without_a_reconnect() {
    story(async {
        let bed = Bed::start(Plan {
            groups: vec![("pair", "failover", 2)],
            ..Plan::default()
        })
        .await;
        let load = load(&bed);
        traffic(&bed, 0).await;
        assert_eq!(bed.sinks[0][1].counts().events, 0);
        let mut config = bed.config.clone();
        config.groups[0].policy = weir::config::Policy::Loadbalance;
        config.groups[0].queue.events_max = 500;
        config.groups[0].queue.block_timeout = None;
        config.groups[0].queue.unavailable_after = None;
        let said = change(&bed, &config).await;
        assert_eq!(said, "group pair: policy, queue limits");
        eventually("both work", || bed.sinks[0][1].counts().events > 500).await;
        load.stop();
        load.finish().await;
        let snapshot = bed.snapshot().await;
        assert_eq!(snapshot.groups[0].held_events_max, 500);
        assert!(
            snapshot.groups[0].endpoints.iter().all(|e| e.connects_total == 1),
            "{snapshot:?}"
        );
        let verdict = nothing_missing(&bed, "taken by the second", bed.sinks[0][1].counts().events).await;
        assert_eq!(verdict.groups[0].duplicated.count, 0);
    });
}

#[test]
fn a_reload_that_changes_nothing_is_noticed_by_nobody() {
    story(async {
        let bed = Bed::start(Plan::groups(&["one", "two"])).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            rate: Some(4_000.0),
            ..bed.agents()
        });
        for _ in 0..20 {
            assert_eq!(change(&bed, &bed.config).await, "");
        }
        traffic(&bed, 1).await;
        load.stop();
        let report = load.finish().await;
        noticed_nothing(&report);
        bed.assert_clean(report.counts.events_acked).await;
        let snapshot = bed.snapshot().await;
        assert!(snapshot.groups.iter().all(|g| g.endpoints[0].connects_total == 1));
    });
}

/// Friendly publishers: their connections stay, while agents make new ones by themselves.
fn over_tls(bed: &Bed, trusted: &Made, connections: u32, origin_first: u32) -> LoadOptions {
    let address: SocketAddr = bed.weir.addresses().tls.unwrap();
    let to = Url {
        scheme: Scheme::Ssl,
        ..url(address)
    };
    LoadOptions {
        connections,
        origin_first,
        dialer: Dialer::new(client(&[trusted], Verify::Full), SocketOptions::default()),
        data: to,
        ..bed.load()
    }
}

#[test]
fn a_certificate_is_swapped_under_load_and_counts_for_new_handshakes() {
    story(async {
        let (old, new) = (
            self_signed(leaf(&["127.0.0.1"])),
            self_signed(leaf(&["127.0.0.1"])),
        );
        let (old_files, new_files) = (Files::new(), Files::new());
        let bed = Bed::start_adjusted(Plan::groups(&["one"]), |config, _, _| {
            config.ingress.tls = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
            config.tls.identity = Some(old_files.identity(&old));
            config.tls.trust = Trust::Pem(old_files.put("trust.pem", &old.pem));
        })
        .await;
        let running = Load::start(over_tls(&bed, &old, 4, 0));
        let traffic = |what: &'static str| {
            let seen = bed.judge.oracle().received(0);
            let judge = bed.judge.clone();
            async move { eventually(what, || judge.oracle().received(0) > seen + 500).await }
        };
        traffic("before").await;
        let mut config = bed.config.clone();
        config.tls.identity = Some(new_files.identity(&new));
        let said = change(&bed, &config).await;
        assert!(
            said.starts_with("tls; weir's own certificate was replaced, valid until "),
            "{said}"
        );
        traffic("open connections go on").await;
        let fresh = Load::start(LoadOptions {
            count: Some(500),
            ..over_tls(&bed, &new, 2, 10)
        })
        .finish()
        .await;
        assert_eq!(
            (fresh.counts.events_acked, fresh.counts.connect_failures),
            (500, 0)
        );
        let refused = Load::start(over_tls(&bed, &old, 1, 20));
        bed.until("the old one is shown no more", |s| {
            s.ingress.handshake_failed_total > 0
        })
        .await;
        assert_eq!(refused.counts().logins, 0);
        drop(refused);
        running.stop();
        let report = running.finish().await;
        assert_eq!(
            (report.counts.resets, report.counts.connections),
            (0, 4),
            "nobody was cut"
        );
        tokio::time::timeout(
            Duration::from_secs(20),
            bed.assert_clean(report.counts.events_acked + 500),
        )
        .await
        .unwrap();
    });
}

#[test]
fn a_changed_password_ends_the_sessions_of_the_old_one_and_during_a_rotation_both_are_good() {
    story(async {
        let bed = Bed::start(Plan {
            auth: "session_secret = \"the same before and after\"",
            ..Plan::groups(&["one"])
        })
        .await;
        let with = |passwords: &[&str]| {
            let mut config = bed.config.clone();
            let user = |password: &&str| User {
                name: "admin".into(),
                password: Password::Clear(Secret::new(*password)),
            };
            config.auth.users = passwords.iter().map(user).collect();
            config
        };
        let mut peer = Peer::tcp(&bed).await;
        let mut logged_in = async |password: &str| match peer.ask(&login("admin", password)).await {
            Answer::Session(session) => session,
            other => panic!("{password}: {other:?}"),
        };
        let (mut publisher, mut next) = (Peer::tcp(&bed).await, 0);
        // On an open connection, which has its sessions checked already.
        let mut is_good = async |session: &[u8]| {
            let frame = bed.issue(session, 1, next, 1);
            let answer = publisher.ask(&frame).await;
            if answer == Answer::Ok {
                bed.acked(1, next, 1);
            } else {
                assert_eq!(error(&answer).0, "SessionTimeoutException");
            }
            next += 1;
            answer == Answer::Ok
        };
        change(&bed, &with(&["old"])).await;
        let old = logged_in("old").await;
        assert!(is_good(&old).await);
        change(&bed, &with(&["old", "new"])).await;
        let new = logged_in("new").await;
        assert!(
            is_good(&old).await && is_good(&new).await,
            "both while both are configured"
        );
        change(&bed, &with(&["new"])).await;
        assert!(!is_good(&old).await, "its password is gone");
        assert!(is_good(&new).await, "it costs the others nothing");
        change(&bed, &with(&["another"])).await;
        assert!(!is_good(&new).await);
        let verdict = bed.verdict().await.witness("sessions ended", 2);
        assert!(verdict.ok(), "{verdict}");
    });
}
