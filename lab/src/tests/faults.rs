//! Faults of sinks, proxies and gateways, and that load and oracle see them as they are.

use weir::config::{Tls, Trust, Verify};
use weir::net::{Acceptor, ServerTls};
use weir::wire::reply::{AUTHENTICATION, SESSION_TIMEOUT, UNDEFINED_EVENT_TYPE};

use super::*;
use crate::gateway::{self, Answer as Got, Gateway, frame};
use crate::insecure::accept_any_certificate;
use crate::sink::{Answer, Login, tcp};
use crate::thread::until;

const LIMIT: Duration = Duration::from_secs(5);

/// Runs a load while `fault` happens to the sink, then stops it and judges.
async fn troubled<F: Future<Output = ()>>(fault: impl FnOnce(Sink) -> F) -> (LoadReport, Verdict) {
    let judge = judge(&["tm"]);
    let sink = sink(&judge);
    let options = LoadOptions {
        connections: 3,
        count: None,
        reply_timeout: Duration::from_millis(300),
        ..load(&judge, sink.data_address(), 0)
    };
    let load = Load::start(options);
    until("the load runs", LIMIT, || load.counts().events_acked > 20)
        .await
        .unwrap();
    within(fault(sink)).await;
    load.stop();
    let report = within(load.finish()).await;
    (report, judge.verdict(None))
}

/// After the fault new events must get through; keeps the sink alive until they have.
async fn recovers(sink: &Sink) {
    let before = sink.counts().frames_ok;
    until("new events arrive", LIMIT, || {
        sink.counts().frames_ok > before + 20
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_reset_before_the_ok_is_sent_again_and_counts_twice() {
    let held = std::cell::RefCell::new(None);
    let (report, verdict) = troubled(|sink| async {
        sink.set(|b| b.answer_times(Answer::CloseBeforeOk(Close::Rst), 3));
        until("three cuts", LIMIT, || sink.counts().cut == 3)
            .await
            .unwrap();
        recovers(&sink).await;
        held.replace(Some(sink));
    })
    .await;
    assert_eq!((report.counts.resets, report.counts.events_resent), (3, 3));
    assert_eq!(verdict.groups[0].duplicated.count, 3);
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn a_fin_before_the_ok_is_taken_for_ok_as_the_agent_does() {
    let held = std::cell::RefCell::new(None);
    let (report, verdict) = troubled(|sink| async {
        sink.set(|b| b.answer_times(Answer::CloseBeforeOk(Close::Fin), 2));
        until("two cuts", LIMIT, || sink.counts().cut == 2).await.unwrap();
        recovers(&sink).await;
        held.replace(Some(sink));
    })
    .await;
    assert_eq!((report.counts.acked_by_fin, report.counts.events_resent), (2, 0));
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn expired_sessions_cost_one_login_and_nothing_else() {
    let held = std::cell::RefCell::new(None);
    let (report, verdict) = troubled(|sink| async {
        sink.expire_sessions();
        until("session errors", LIMIT, || sink.counts().session_errors > 0)
            .await
            .unwrap();
        recovers(&sink).await;
        held.replace(Some(sink));
    })
    .await;
    assert_eq!(report.counts.logins, 2);
    assert!(
        (1..=3).contains(&report.counts.session_errors),
        "{:?}",
        report.counts
    );
    assert_eq!(report.counts.events_resent, report.counts.session_errors);
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn a_killed_sink_comes_back_on_the_same_port() {
    let held = std::cell::RefCell::new(None);
    let (report, verdict) = troubled(|sink| async {
        let address = sink.data_address();
        sink.kill(Close::Rst).await;
        assert!(gateway::probe(&dialer(), &tcp_url(address)).await.is_err());
        sink.revive().await;
        recovers(&sink).await;
        sink.refuse().await;
        recovers(&sink).await;
        assert!(gateway::probe(&dialer(), &tcp_url(address)).await.is_err());
        sink.revive().await;
        held.replace(Some(sink));
    })
    .await;
    assert!(report.counts.resets >= 3, "{:?}", report.counts);
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn a_stalled_sink_answers_what_it_held_back_in_order() {
    let judge = judge(&["tm"]);
    let sink = sink(&judge);
    let mut gateway = Gateway::connect(&dialer(), &tcp_url(sink.data_address()))
        .await
        .unwrap();
    let Got::Session(session) = gateway.login("admin", "admin", LIMIT).await else {
        panic!()
    };
    sink.set(|b| b.answer(Answer::Stall));
    let events = judge.oracle().events().clone();
    for i in 0..3 {
        judge.oracle().issue(0, i, 1, Duration::ZERO);
        gateway.send(&frame(&session, &events, 0, i, 1)).await.unwrap();
    }
    until("frames", LIMIT, || sink.counts().frames == 3)
        .await
        .unwrap();
    assert_eq!(gateway.answer(Duration::from_millis(20)).await, Got::Nothing);
    assert_eq!(judge.oracle().received(0), 0);
    sink.set(|b| b.answer(Answer::Ok));
    for _ in 0..3 {
        assert_eq!(gateway.answer(LIMIT).await, Got::Ok);
    }
    assert_eq!(judge.oracle().received(0), 3);
}

#[tokio::test]
async fn a_late_reply_is_a_failure() {
    let held = std::cell::RefCell::new(None);
    let (report, verdict) = troubled(|sink| async {
        sink.set(|b| b.reading = false);
        tokio::time::sleep(Duration::from_millis(400)).await;
        sink.set(|b| b.reading = true);
        recovers(&sink).await;
        held.replace(Some(sink));
    })
    .await;
    assert_eq!(report.counts.reply_timeouts, 3);
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn errors_are_what_they_are_to_the_agent() {
    let held = std::cell::RefCell::new(None);
    let (report, verdict) = troubled(|sink| async {
        for (class, times) in [(UNDEFINED_EVENT_TYPE, 4), ("java.lang.IllegalStateException", 2)] {
            let (class, message) = (class.to_owned(), "défaut".to_owned());
            let before = sink.counts().frames_error;
            sink.set(|b| b.answer_times(Answer::Error { class, message }, times));
            until("errors", LIMIT, || sink.counts().frames_error == before + times)
                .await
                .unwrap();
            recovers(&sink).await;
        }
        held.replace(Some(sink));
    })
    .await;
    // The message is not ASCII: a byte of it is left over and ends the connection as a reply to nothing.
    assert_eq!(report.counts.given_up, 4);
    assert_eq!(report.counts.refused, 2);
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn logins_are_checked_refused_or_never_answered() {
    let sink = Sink::start(SinkOptions::local()).unwrap();
    let url = tcp_url(sink.data_address());
    let refused = Got::Error {
        class: AUTHENTICATION.into(),
        message: "wrong userName or password".into(),
    };
    let mut gateway = Gateway::connect(&dialer(), &url).await.unwrap();
    assert_eq!(gateway.login("admin", "wrong", LIMIT).await, refused);
    sink.set(|b| b.login = Login::Refuse);
    assert_eq!(gateway.login("admin", "admin", LIMIT).await, refused);
    sink.set(|b| b.login = Login::Silent);
    assert_eq!(
        gateway.login("admin", "admin", Duration::from_millis(20)).await,
        Got::Nothing
    );
    sink.set(|b| b.login = Login::Check);
    let mut gateway = Gateway::connect(&dialer(), &url).await.unwrap();
    assert!(matches!(gateway.login("admin", "admin", LIMIT).await, Got::Session(id) if id.len() == 36));
    let events = Events::new(Sizes::Typical, 0);
    let expired = Got::Error {
        class: SESSION_TIMEOUT.into(),
        message: "nobody expired".into(),
    };
    assert_eq!(
        gateway.ask(&frame(b"nobody", &events, 0, 0, 1), LIMIT).await,
        expired
    );
}

#[tokio::test]
async fn the_login_port_speaks_tls_and_only_some_connections_are_served() {
    let own = Tls {
        identity: None,
        trust: Trust::System,
        verify: Verify::Full,
    };
    let acceptor = Acceptor::new(&ServerTls::load(&own).unwrap(), false);
    let sink = Sink::start(SinkOptions {
        auth: Some((tcp(SocketAddr::from(([127, 0, 0, 1], 0))), acceptor)),
        served_max: 1,
        ..SinkOptions::local()
    })
    .unwrap();
    let ssl = Url {
        scheme: Scheme::Ssl,
        ..tcp_url(sink.auth_address().unwrap())
    };
    let dialer = Dialer::new(accept_any_certificate().unwrap(), SocketOptions::default());
    let options = LoadOptions {
        auth: Some(ssl.clone()),
        count: Some(50),
        ..LoadOptions::new(dialer.clone(), tcp_url(sink.data_address()))
    };
    assert_eq!(
        within(Load::start(options).finish()).await.counts.events_acked,
        50
    );

    // As Choreo Connect probes an ssl:// receiver: 36 zero bytes, and the connection stays open.
    let mut leaked = Gateway::connect(&dialer, &ssl).await.unwrap();
    let _ = leaked.send(&[0; 36]).await;
    until("the zeros are no frame", LIMIT, || sink.counts().garbage == 1)
        .await
        .unwrap();
    leaked.abort();
    let url = tcp_url(sink.data_address());
    let served = Gateway::connect(&dialer, &url).await.unwrap();
    let mut waiting = Gateway::connect(&dialer, &url).await.unwrap();
    assert_eq!(
        waiting.login("admin", "admin", Duration::from_millis(50)).await,
        Got::Nothing
    );
    served.close().await;
    assert!(matches!(waiting.answer(LIMIT).await, Got::Session(_)));
}

#[tokio::test]
async fn a_gateway_gone_at_any_byte_leaves_nothing_behind() {
    let judge = judge(&["tm"]);
    let sink = sink(&judge);
    let url = tcp_url(sink.data_address());
    let mut first = Gateway::connect(&dialer(), &url).await.unwrap();
    let Got::Session(session) = first.login("admin", "admin", LIMIT).await else {
        panic!()
    };
    let events = judge.oracle().events().clone();
    let whole = frame(&session, &events, 0, 0, 1);
    for bytes in (0..whole.len()).step_by(7) {
        let gateway = Gateway::connect(&dialer(), &url).await.unwrap();
        gateway.gone_after(&whole, bytes, bytes % 2 == 0).await;
    }
    gateway::probe(&dialer(), &url).await.unwrap();
    until("all are gone", LIMIT, || sink.open_connections() == 1)
        .await
        .unwrap();
    assert_eq!(sink.counts().frames, 0);

    sink.set(|b| b.close_after_frames = Some((2, Close::Fin)));
    judge.oracle().issue(0, 0, 3, Duration::ZERO);
    for i in 0..2 {
        assert_eq!(
            first.ask(&frame(&session, &events, 0, i, 1), LIMIT).await,
            Got::Ok
        );
    }
    assert_eq!(first.answer(LIMIT).await, Got::Fin);
    assert_eq!(judge.oracle().received(0), 2);
}
