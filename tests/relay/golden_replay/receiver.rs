//! Every reply of the real receiver, to a link.

use weir::status::FAILURES;
use weir_lab::{Events, Sizes, gateway};

use super::*;

/// A reply capture, reply by reply.
fn replies(name: &str) -> Vec<Vec<u8>> {
    let bytes = capture(name);
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while let Some((_, length)) = Reply::decode(rest).unwrap() {
        all.push(rest[..length].to_vec());
        rest = &rest[length..];
        if rest.is_empty() {
            break;
        }
    }
    all
}

/// Events that fill a frame each, so that as many frames as events travel.
const FRAME_EACH: Plan = Plan {
    events: None,
    groups: Vec::new(),
    top: "",
    listen: "",
    auth: "",
    queue: "",
    link: "batch_max_bytes = \"4KiB\"",
    tls: true,
    own_tls: false,
    tune: None,
    tables: String::new(),
    sizes: None,
};

async fn publish(weir: &Weir, count: u64) -> Vec<Vec<u8>> {
    let events = Events::new(Sizes::Fixed(3000), 0);
    let mut stream = connect(weir, true).await;
    let session = login(&mut stream, &capture("agent-5.4.9-login.client.bin")).await;
    let frame = gateway::frame(&session, &events, 0, 0, count);
    assert_eq!(exchange(&mut stream, &frame).await, [0]);
    super::events(&frame)
}

fn class(name: &str) -> usize {
    FAILURES.iter().position(|c| *c == name).unwrap()
}

#[test]
fn oks_are_understood_alone_in_a_pipeline_and_byte_by_byte() {
    story(async {
        for name in [
            "receiver-5.4.9-pipelined-three.reply.bin",
            "agent-5.4.9-publish.server.bin",
            "agent-6.1.72-publish.server.bin",
        ] {
            let oks = replies(name);
            let count = oks.len();
            let makes = [
                Tm::start(oks.clone()).await,
                Tm::start(oks.clone()).await.together(3),
                Tm::start(oks.clone()).await.slow(),
            ];
            for tm in makes {
                let weir = weir(&[&tm], FRAME_EACH);
                let sent = publish(&weir, count as u64).await;
                let s = until(&weir, "all are delivered", |s| {
                    s.groups[0].events.delivered == count as u64
                })
                .await;
                assert!(tm.events() == sent, "{name}");
                assert_eq!(tm.frames(), count as u64, "a frame each");
                let endpoint = &s.groups[0].endpoints[0];
                assert_eq!(endpoint.failures_total.iter().sum::<u64>(), 0);
                assert_eq!((endpoint.replies_ok_total, tm.logins()), (count as u64, 1));
            }
        }
    });
}

#[test]
fn an_expired_session_in_a_pipeline_sends_again_the_frame_that_met_it_and_no_other() {
    story(async {
        for slow in [false, true] {
            let script = replies("receiver-5.4.9-pipelined-ok-expired-ok.reply.bin");
            assert_eq!(script.len(), 3);
            let mut tm = Tm::start(script).await.together(3);
            if slow {
                tm = tm.slow();
            }
            let weir = weir(&[&tm], FRAME_EACH);
            let sent = publish(&weir, 3).await;
            let s = until(&weir, "all are delivered", |s| s.groups[0].events.delivered == 3).await;
            let group = &s.groups[0];
            assert_eq!(group.endpoints[0].failures_total.iter().sum::<u64>(), 0);
            assert_eq!(group.endpoints[0].connects_total, 1);
            assert_eq!(
                (tm.logins(), group.resent_events_total, group.events.rejected),
                (2, 1, 0)
            );
            // The third was answered ok behind the error.
            let [first, second, third] = &sent[..] else {
                panic!("three frames")
            };
            assert!(tm.events() == [first.clone(), third.clone(), second.clone()]);
        }
    });
}

#[test]
fn an_expired_or_logged_out_session_costs_a_login() {
    story(async {
        for name in ["publish-unknown-session", "publish-after-logout"] {
            let tm = Tm::start(replies(&format!("receiver-5.4.9-{name}.reply.bin"))).await;
            let weir = weir(&[&tm], FRAME_EACH);
            let sent = publish(&weir, 4).await;
            let s = until(&weir, "all are delivered", |s| s.groups[0].events.delivered == 4).await;
            let endpoint = &s.groups[0].endpoints[0];
            assert_eq!(endpoint.failures_total.iter().sum::<u64>(), 0, "{name}");
            assert_eq!((tm.logins(), endpoint.connects_total), (2, 1));
            let mut taken = tm.events();
            taken.sort();
            let mut sent = sent;
            sent.sort();
            assert!(taken == sent, "{name}");
        }
    });
}

#[test]
fn a_refused_login_is_an_authentication_failure_and_says_so() {
    story(async {
        let tm = Tm::start(Vec::new())
            .await
            .login(capture("receiver-5.4.9-login-wrong-password.reply.bin"));
        let weir = weir(&[&tm], FRAME_EACH);
        let s = until(&weir, "it has failed", |s| {
            s.groups[0].endpoints[0].failures_total[class("authentication")] == 1
        })
        .await;
        let shown = format!("{:?}", s.groups[0].endpoints[0]);
        assert!(shown.contains("wrong userName or password"), "{shown}");
        assert_eq!(tm.frames(), 0);
    });
}

#[test]
fn logins_of_both_versions_and_the_answer_to_a_heartbeat_are_understood() {
    story(async {
        let understood = |name| async move {
            let first = replies(name).remove(0);
            let heartbeat = capture("receiver-5.4.9-publish-zero-events.reply.bin");
            let tm = Tm::start(vec![heartbeat]).await.login(first).slow();
            let plan = Plan {
                link: "heartbeat = { delay = 1, timeout_factor = 3.0 }",
                ..FRAME_EACH
            };
            let weir = weir(&[&tm], plan);
            let s = until(&weir, "a second heartbeat", |s| {
                s.groups[0].endpoints[0].heartbeats_total >= 2
            })
            .await;
            assert_eq!(
                s.groups[0].endpoints[0].failures_total.iter().sum::<u64>(),
                0,
                "{name}"
            );
            assert_eq!(tm.logins(), 1);
        };
        tokio::join!(
            understood("agent-5.4.9-login.server.bin"),
            understood("agent-6.1.72-login-logout.server.bin")
        );
    });
}
