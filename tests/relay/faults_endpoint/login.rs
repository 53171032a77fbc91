//! Logins that go wrong: silence, a receiver whose threads are all taken, a wrong password.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::config::{Endpoint, Secret};
use weir::status::LinkState;
use weir_lab::sink::Login;
use weir_lab::{Close, Load, LoadOptions, Sink, SinkOptions};

use crate::support::faults::{Publisher, all_failures, eventually, failures, nothing_missing};
use crate::support::{Bed, Plan, story, url};

#[test]
fn a_login_that_is_never_answered_is_given_up_and_the_next_endpoint_serves() {
    story(async {
        let bed = Bed::start_adjusted(
            Plan {
                groups: vec![("one", "failover", 2)],
                link: "login_timeout = \"150ms\"\nfailback_after = \"1h\"",
                ..Plan::default()
            },
            |_, _, sinks| sinks[0][0].set(|b| b.login = Login::Silent),
        )
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(20).await;
        let snapshot = bed
            .until("several logins were given up", |s| {
                failures(&s.groups[0].endpoints[0], "timeout") >= 3 && s.groups[0].events.delivered == 20
            })
            .await;
        let reason = snapshot.groups[0].endpoints[0].reason.clone().unwrap();
        assert!(reason.contains("did not answer the login within"), "{reason}");
        assert_eq!(bed.sinks[0][0].counts().events, 0);
        bed.sinks[0][0].set(|b| b.login = Login::Check);
        bed.until("it works when it answers", |s| {
            s.groups[0].endpoints[0].links_up == 1
        })
        .await;
        nothing_missing(
            &bed,
            "given up",
            failures(&snapshot.groups[0].endpoints[0], "timeout"),
        )
        .await;
    });
}

#[test]
fn a_receiver_whose_threads_are_all_taken_is_no_use_until_one_is_free() {
    story(async {
        let mut holder = None;
        let bed = Bed::start_adjusted(
            Plan {
                groups: vec![("full", "failover", 1), ("other", "failover", 1)],
                link: "login_timeout = \"150ms\"",
                ..Plan::default()
            },
            |config, judge, sinks| {
                let options = SinkOptions {
                    served_max: 1,
                    ..SinkOptions::local().judged_by(judge, 0)
                };
                let sink = Sink::start(options).unwrap();
                let to = url(sink.data_address());
                config.groups[0].endpoints[0].data = to.clone();
                config.groups[0].endpoints[0].auth = to.clone();
                sinks[0] = vec![sink];
                // Before weir starts: the kernel keeps the order of connections.
                holder = Some(std::net::TcpStream::connect((to.host, to.port)).unwrap());
            },
        )
        .await;
        let mut gateway = Publisher::connect(&bed, 0).await;
        gateway.publish_ok(20).await;
        let waiting = bed
            .until("no thread answers", |s| {
                failures(&s.groups[0].endpoints[0], "timeout") >= 2 && s.groups[1].events.delivered == 20
            })
            .await;
        assert_eq!(waiting.groups[0].events.queued, 20);
        drop(holder);
        bed.assert_clean(20).await;
    });
}

#[test]
fn a_wrong_password_is_said_tried_seldom_and_mended_by_a_reload() {
    story(async {
        let right = Secret::new("admin");
        let bed = Bed::start_adjusted(Plan::groups(&["locked", "open"]), |config, _, _| {
            config.groups[0].password = Secret::new("wrong");
        })
        .await;
        let locked = &bed.sinks[0][0];
        let snapshot = bed
            .until("the login is refused", |s| {
                failures(&s.groups[0].endpoints[0], "authentication") == 1
            })
            .await;
        let endpoint = &snapshot.groups[0].endpoints[0];
        assert_eq!(endpoint.state, LinkState::Down);
        let reason = endpoint.reason.clone().unwrap();
        assert!(
            reason.starts_with("authentication: ") && reason.contains("wrong userName or password"),
            "{reason}"
        );
        assert!(
            !reason.contains("\"wrong\""),
            "the password is not shown: {reason}"
        );
        let mut gateway = Publisher::connect(&bed, 0).await;
        let since = Instant::now();
        gateway.publish_ok(30).await;
        // The link's own delays are 20 to 200 ms: without the longer one there would be five by now.
        sleep(Duration::from_millis(1000).saturating_sub(since.elapsed())).await;
        assert_eq!(locked.counts().logins_refused, 1, "no account is locked by weir");
        let mut mended = bed.config.clone();
        mended.groups[0].password = right;
        bed.weir.apply(mended, Vec::new()).await.unwrap();
        bed.assert_clean(30).await;
        assert_eq!(
            (locked.counts().logins_refused, locked.counts().logins_ok),
            (1, 1)
        );
        assert_eq!(bed.group("open").await.endpoints[0].connects_total, 1);
    });
}

#[test]
fn a_wrong_password_is_tried_again_at_once_after_a_reload_and_an_operators_enable() {
    story(async {
        let bed = Bed::start_adjusted(Plan::groups(&["locked", "open"]), |_, _, sinks| {
            sinks[0][0].set(|b| b.login = Login::Refuse);
        })
        .await;
        let refused = async |n| {
            bed.until(
                "so many logins are refused, and the next is minutes or seconds away",
                |s| {
                    let endpoint = &s.groups[0].endpoints[0];
                    failures(endpoint, "authentication") == n
                        && endpoint.again_in_ms > Some(5_000_u64 << (n - 1))
                },
            )
            .await
        };
        refused(1).await;
        bed.weir.apply(bed.config.clone(), Vec::new()).await.unwrap();
        refused(2).await;
        let name = &bed.config.groups[0].endpoints[0].name;
        assert!(bed.weir.control().enable("locked", name, true).await);
        let seen = refused(3).await;
        assert_eq!(bed.sinks[0][0].counts().logins_refused, 3);
        assert_eq!(all_failures(&seen, 1), 0);
        // The account was unlocked at the Traffic Manager.
        bed.sinks[0][0].set(|b| b.login = Login::Check);
        assert!(bed.weir.control().enable("locked", name, true).await);
        bed.links_up().await;
        assert_eq!(bed.group("locked").await.endpoints[0].again_in_ms, None);
        assert_eq!(bed.group("open").await.endpoints[0].connects_total, 1);
    });
}

#[test]
fn a_traffic_manager_that_restarts_knows_no_session_and_gets_a_new_login() {
    story(async {
        let bed = Bed::start(Plan::groups(&["restarts", "stays"])).await;
        let load = Load::start(LoadOptions {
            connections: 8,
            ..bed.load()
        });
        let handle = load.handle();
        let sink = &bed.sinks[0][0];
        for restarts in 1..=3 {
            let seen = sink.counts().events;
            eventually("traffic", || sink.counts().events > seen + 300).await;
            sink.kill(Close::Fin).await;
            sink.revive().await;
            eventually("a new login", || sink.counts().logins_ok == 1 + restarts).await;
        }
        handle.stop();
        load.finish().await;
        let snapshot = bed.snapshot().await;
        let verdict = nothing_missing(&bed, "failures", all_failures(&snapshot, 0)).await;
        assert_eq!(all_failures(&snapshot, 1), 0);
        assert_eq!(verdict.groups[1].copies, verdict.acked);
    });
}

/// A name that leads to this weir, as a host name or the address of a balancer would.
fn endpoint_at(bed: &Bed) -> Endpoint {
    let to = url(bed.weir.addresses().tcp.unwrap());
    Endpoint {
        name: "tm.example.com:9611".into(),
        data: to.clone(),
        auth: to,
    }
}

async fn turned_away(bed: &Bed, group: usize) -> String {
    let snapshot = bed
        .until("its logins are turned away", |s| {
            // Ten published: with more, some have gone round.
            assert!(s.groups[group].events.accepted <= 10, "{s:#?}");
            let endpoint = &s.groups[group].endpoints[0];
            endpoint.failures_total.iter().sum::<u64>() >= 3
        })
        .await;
    let endpoint = &snapshot.groups[group].endpoints[0];
    assert_eq!((endpoint.events_sent_total, endpoint.connects_total), (0, 0));
    endpoint.reason.clone().unwrap()
}

#[test]
fn a_weir_whose_traffic_manager_is_itself_sends_itself_nothing_and_says_so() {
    for auth in ["", "session_secret = \"of the whole tier\""] {
        story(async {
            let bed = Bed::start(Plan {
                auth,
                ..Plan::groups(&["itself", "other"])
            })
            .await;
            let mut config = bed.config.clone();
            config.groups[0].endpoints = vec![endpoint_at(&bed)];
            bed.weir.apply(config, Vec::new()).await.unwrap();
            let mut gateway = Publisher::connect(&bed, 0).await;
            gateway.publish_ok(10).await;
            let reason = turned_away(&bed, 0).await;
            assert!(
                reason.starts_with("loop: ") && reason.contains("traffic_manager_urls lead back to weir"),
                "{reason}"
            );
            eventually("the other group has all", || bed.judge.oracle().received(1) == 10).await;
            // The way out: the right Traffic Manager, and nothing is lost.
            bed.weir.apply(bed.config.clone(), Vec::new()).await.unwrap();
            bed.assert_clean(10).await;
        });
    }
}

#[test]
fn weirs_of_one_tier_do_not_deliver_to_each_other_and_weirs_with_other_secrets_do() {
    for same in [true, false] {
        story(async {
            let near = Bed::start(Plan {
                auth: "session_secret = \"of this tier here\"",
                ..Plan::groups(&["next"])
            })
            .await;
            let far = Bed::start(Plan {
                auth: match same {
                    true => "session_secret = \"of this tier here\"",
                    false => "session_secret = \"of the next tier\"",
                },
                ..Plan::groups(&["tm"])
            })
            .await;
            let mut config = near.config.clone();
            config.groups[0].endpoints = vec![endpoint_at(&far)];
            near.weir.apply(config, Vec::new()).await.unwrap();
            let mut gateway = Publisher::connect(&near, 0).await;
            gateway.publish_ok(10).await;
            if same {
                let reason = turned_away(&near, 0).await;
                assert!(reason.starts_with("loop: "), "{reason}");
                assert_eq!(far.group("tm").await.events.accepted, 0);
            } else {
                near.until("a chain of weirs is none of its concern", |s| {
                    s.groups[0].events.delivered == 10
                })
                .await;
            }
        });
    }
}
