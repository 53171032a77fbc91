//! The twin has the agent's habits, each in virtual time against a Traffic Manager of the laboratory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use weir::config::{Policy, Tls, Trust, Url, Verify};
use weir::net::{Acceptor, ClientTls, Dialer, ServerTls};

use super::{Pools, TwinOptions, Version};
use crate::insecure::accept_any_certificate;
use crate::sink::Answer;
use crate::{Close, Events, Judge, Load, LoadOptions, Network, Oracle, Sink, SinkOptions, Sizes, args};

const SECOND: Duration = Duration::from_secs(1);

/// One gateway at 1,000 events/s before Traffic Managers on ports of a simulated network.
struct Lab {
    network: Network,
    judge: Judge,
}

impl Lab {
    fn new() -> Self {
        let events = Events::new(Sizes::Typical, 0);
        Self {
            network: Network::new(),
            judge: Judge::new(Oracle::new(events, &["tm"], false)),
        }
    }

    fn sink(&self, port: u16) -> Sink {
        Sink::start(SinkOptions {
            data: self.network.opener(port),
            ..SinkOptions::local().judged_by(&self.judge, 0)
        })
        .unwrap()
    }

    fn load(&self, agent: TwinOptions) -> Load {
        self.load_at(1_000.0, agent)
    }

    fn load_at(&self, rate: f64, agent: TwinOptions) -> Load {
        Load::start(self.options(rate, agent))
    }

    fn options(&self, rate: f64, agent: TwinOptions) -> LoadOptions {
        let tls = ClientTls::trusting_nobody().unwrap();
        let dialer = Dialer::over(Arc::new(self.network.clone()), tls);
        LoadOptions {
            rate: Some(rate),
            agent: Some(agent),
            settle: Duration::from_secs(120),
            ..LoadOptions::new(dialer, url(9611)).judged_by(&self.judge)
        }
    }
}

fn url(port: u16) -> Url {
    args::url(&format!("tcp://tm:{port}")).unwrap()
}

/// How long it takes until more events are answered ok.
async fn silence(load: &Load) -> Duration {
    let (begin, before) = (Instant::now(), load.counts().events_acked);
    let more = async {
        while load.counts().events_acked == before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(100 * SECOND, more)
        .await
        .expect("no event was answered for 100 s");
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn everything_is_published_in_batches_of_at_most_200_on_one_connection() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    sink.set(|b| b.delay = Duration::from_millis(500));
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(4 * SECOND).await;
    sink.set(|b| b.delay = Duration::ZERO);
    sleep(4 * SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok() && verdict.acked >= 7_990, "{verdict}");
    assert_eq!((counts.queue_full, counts.events_resent), (0, 0));
    assert!(counts.frames_acked * 200 >= counts.events_acked, "{counts:?}");
    // The login, the one that publishes, and a probe.
    assert_eq!((counts.connections, counts.logins), (3, 1), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_the_newest_events() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions {
        queue_size: 2_048,
        ..TwinOptions::new(Version::V5_4)
    });
    sleep(SECOND).await;
    sink.set(|b| b.answer(Answer::Stall));
    sleep(10 * SECOND).await;
    sink.set(|b| b.answer(Answer::Ok));
    sleep(SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(verdict.acked, verdict.issued, "what was refused was never issued");
    // 10 s x 1,000 events, less the queue and the frame that waits for its answer.
    assert!((7_700..=8_000).contains(&counts.queue_full), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_one_attempt_10_ms_later_is_enough_where_the_port_is_open() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(12 * SECOND).await;
    sink.cut(Close::Rst);
    assert!(silence(&load).await < Duration::from_millis(30));
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!((counts.resets, counts.queue_full), (1, 0), "{counts:?}");
    assert!(lab.judge.verdict(None).ok());
}

#[tokio::test(start_paused = true)]
async fn after_a_refused_login_the_next_attempt_comes_30_s_later() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(SECOND).await;
    sink.kill(Close::Rst).await;
    sleep(Duration::from_millis(300)).await;
    sink.revive().await;
    let silence = silence(&load).await;
    assert!((29 * SECOND..31 * SECOND).contains(&silence), "{silence:?}");
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!(counts.login_failures, 1, "{counts:?}");
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok() && verdict.acked == verdict.issued, "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_within_5_s_of_a_login_costs_30_s_because_the_pooled_login_connection_is_gone_too() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(2 * SECOND).await;
    sink.cut(Close::Rst);
    let silence = silence(&load).await;
    assert!((29 * SECOND..31 * SECOND).contains(&silence), "{silence:?}");
    load.stop();
    let _ = load.finish().await;
}

#[tokio::test(start_paused = true)]
async fn fin_in_place_of_an_answer_is_an_ok_and_loses_the_batch() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(SECOND).await;
    sink.set(|b| b.answer(Answer::Stall));
    sleep(SECOND / 2).await;
    sink.cut(Close::Fin);
    sink.set(|b| b.answer(Answer::Ok));
    sleep(SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    assert!(
        counts.acked_by_fin >= 1 && counts.events_resent == 0,
        "{counts:?}"
    );
    assert_eq!(counts.resets, 0);
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_costs_a_login_and_the_batch_goes_again_at_once() {
    for version in [Version::V5_4, Version::V6_1] {
        let lab = Lab::new();
        let sink = lab.sink(9611);
        let load = lab.load(TwinOptions::new(version));
        sleep(SECOND).await;
        sink.expire_sessions();
        sleep(SECOND).await;
        load.stop();
        let counts = load.finish().await.counts;
        assert_eq!((counts.session_errors, counts.logins), (1, 2), "{counts:?}");
        assert!(
            counts.events_resent <= 200 && counts.queue_full == 0,
            "{counts:?}"
        );
        let verdict = lab.judge.verdict(None);
        assert!(verdict.ok(), "{verdict}");
    }
}

#[tokio::test(start_paused = true)]
async fn any_other_exception_empties_the_pool_and_costs_a_login() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(SECOND).await;
    let class = "org.wso2.carbon.databridge.commons.exception.TransportException".into();
    let message = "draining".into();
    sink.set(|b| b.answer_times(Answer::Error { class, message }, 1));
    sleep(SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!(
        (counts.logins, counts.queue_full, counts.resets),
        (2, 0, 0),
        "{counts:?}"
    );
    assert!(counts.events_resent > 0, "{counts:?}");
    let verdict = lab.judge.verdict(None);
    assert_eq!(verdict.acked, verdict.issued, "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn agent_6_1_never_publishes_again_after_a_reset() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions {
        queue_size: 2_048,
        ..TwinOptions::new(Version::V6_1)
    });
    sleep(SECOND).await;
    sink.cut(Close::Rst);
    sleep(SECOND / 10).await;
    let before = load.counts().events_acked;
    sleep(60 * SECOND).await;
    assert_eq!(load.counts().events_acked, before);
    assert!(load.counts().queue_full > 55_000, "{:?}", load.counts());
}

#[tokio::test(start_paused = true)]
async fn connections_that_were_idle_for_5_s_are_closed_by_the_next_eviction() {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    let load = lab.load(TwinOptions::new(Version::V5_4));
    sleep(4 * SECOND).await;
    assert_eq!(
        sink.open_connections(),
        2,
        "one that publishes, one that has logged in"
    );
    sleep(8 * SECOND).await;
    assert_eq!(sink.open_connections(), 1, "the one that publishes");
    drop(load);
}

#[tokio::test(start_paused = true)]
async fn the_connection_of_a_login_is_closed_within_5_250_ms_by_5_4_and_within_10_500_ms_by_6_1() {
    for (version, closed) in [(Version::V5_4, 5_000), (Version::V6_1, 5_500)] {
        let lab = Lab::new();
        let sink = lab.sink(9611);
        let load = lab.load(TwinOptions::new(version));
        sleep(Duration::from_millis(closed - 100)).await;
        assert_eq!(sink.open_connections(), 2, "{version:?}");
        sleep(SECOND / 5).await;
        assert_eq!(sink.open_connections(), 1, "{version:?}");
        // Lost just before the next look.
        sleep(Duration::from_millis(closed - 400)).await;
        sink.cut(Close::Rst);
        sleep(SECOND / 10).await;
        if version == Version::V5_4 {
            assert_eq!((load.counts().logins, sink.open_connections()), (2, 2));
            sleep(Duration::from_millis(closed + 200)).await;
            assert_eq!(sink.open_connections(), 1);
        }
        drop(load);
    }
}

#[tokio::test(start_paused = true)]
async fn publishers_of_one_agent_share_its_connections() {
    for (pools, connections) in [(None, 3), (Some(Pools::default()), 1)] {
        let lab = Lab::new();
        let sink = lab.sink(9611);
        let agent = TwinOptions {
            pools,
            ..TwinOptions::new(Version::V5_4)
        };
        let load = Load::start(LoadOptions {
            connections: 3,
            ..lab.options(1_000.0, agent)
        });
        sleep(12 * SECOND).await;
        assert_eq!(sink.open_connections(), connections);
        drop(load);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_of_two_sends_a_failed_batch_to_the_other_at_once() {
    let lab = Lab::new();
    let (first, second) = (lab.sink(9611), lab.sink(9612));
    let load = lab.load(TwinOptions {
        others: vec![(url(9612), url(9612))],
        ..TwinOptions::new(Version::V5_4)
    });
    sleep(SECOND).await;
    assert!(
        first.counts().frames_ok > 10 && second.counts().frames_ok > 10,
        "both are used"
    );
    first.kill(Close::Rst).await;
    sleep(10 * SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!(counts.queue_full, 0, "{counts:?}");
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok() && verdict.acked == verdict.issued, "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_failover_group_that_waits_for_its_second_endpoint_does_not_see_that_the_first_is_back() {
    let lab = Lab::new();
    let (first, second) = (lab.sink(9611), lab.sink(9612));
    second.set(|b| b.answer(Answer::Stall));
    let load = lab.load(TwinOptions {
        others: vec![(url(9612), url(9612))],
        policy: Policy::Failover,
        ..TwinOptions::new(Version::V5_4)
    });
    sleep(12 * SECOND).await;
    first.set(|b| b.delay = SECOND / 2);
    sleep(SECOND).await;
    first.cut(Close::Rst);
    sleep(SECOND).await;
    let (logins, before) = (load.counts().logins, load.counts().events_acked);
    assert_eq!(logins, 3, "each once, and the first again");
    sleep(5 * SECOND).await;
    assert_eq!(load.counts().events_acked, before);
    second.set(|b| b.answer(Answer::Ok));
    first.set(|b| b.delay = Duration::ZERO);
    assert!(silence(&load).await < SECOND / 10);
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!((counts.login_failures, counts.queue_full), (0, 0), "{counts:?}");
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok() && verdict.acked == verdict.issued, "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_login_waits_for_its_handshake_as_long_as_for_an_answer() {
    let lab = Lab::new();
    let own = Tls {
        identity: None,
        trust: Trust::System,
        verify: Verify::Full,
    };
    let acceptor = Acceptor::new(&ServerTls::load(&own).unwrap(), false);
    // Connections wait in the port as they do where no weir runs and the port stays open.
    let mut waiting = Some(lab.network.listen(9711).unwrap());
    let dialer = Dialer::over(Arc::new(lab.network.clone()), accept_any_certificate().unwrap());
    let load = Load::start(LoadOptions {
        dialer,
        auth: Some(args::url("ssl://tm:9711").unwrap()),
        ..lab.options(1_000.0, TwinOptions::new(Version::V5_4))
    });
    sleep(12 * SECOND).await;
    let _sink = Sink::start(SinkOptions {
        data: lab.network.opener(9611),
        auth: Some((
            Box::new(move || waiting.take().ok_or_else(|| std::io::ErrorKind::AddrInUse.into())),
            acceptor,
        )),
        ..SinkOptions::local().judged_by(&lab.judge, 0)
    })
    .unwrap();
    assert!(silence(&load).await < SECOND);
    load.stop();
    let counts = load.finish().await.counts;
    assert_eq!((counts.login_failures, counts.queue_full), (0, 0), "{counts:?}");
}

/// What the kernel makes of a large frame whose last part waits for an acknowledgement that the other side delays.
const DELAYED_ACK: Duration = Duration::from_millis(32);

/// What a gateway at 5,000 events/s refuses of 300,000 while a weir that stands alone is away for 3 s, when a frame
/// takes so long.
async fn refused_while_away(agent: TwinOptions, frame: Duration) -> u64 {
    let lab = Lab::new();
    let sink = lab.sink(9611);
    sink.set(|b| b.delay = frame);
    let load = lab.load_at(5_000.0, agent);
    sleep(12 * SECOND).await;
    sink.kill(Close::Rst).await;
    sleep(3 * SECOND).await;
    sink.revive().await;
    sleep(45 * SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok() && verdict.acked == verdict.issued, "{verdict}");
    counts.queue_full
}

#[tokio::test(start_paused = true)]
async fn a_weir_away_for_3_s_costs_117_000_of_300_000_events_with_the_agents_defaults() {
    let refused = refused_while_away(TwinOptions::new(Version::V5_4), Duration::ZERO).await;
    assert!((116_000..=119_000).contains(&refused), "{refused}");
}

/// The slots of the queue are free only when all of it has been handed on: 164 frames, one after the other.
#[tokio::test(start_paused = true)]
async fn the_same_costs_143_000_where_each_frame_waits_for_a_delayed_acknowledgement() {
    let refused = refused_while_away(TwinOptions::new(Version::V5_4), DELAYED_ACK).await;
    assert!((141_000..=147_000).contains(&refused), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_weir_away_for_3_s_costs_nothing_with_a_reconnection_interval_of_5_s() {
    let agent = TwinOptions {
        reconnection_interval: 5 * SECOND,
        ..TwinOptions::new(Version::V5_4)
    };
    assert_eq!(refused_while_away(agent, Duration::ZERO).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_weir_away_for_3_s_costs_nothing_with_a_queue_of_262_144_events() {
    let agent = TwinOptions {
        queue_size: 262_144,
        ..TwinOptions::new(Version::V5_4)
    };
    assert_eq!(refused_while_away(agent, Duration::ZERO).await, 0);
}

/// What a gateway at 5,000 events/s refuses while two weirs of its group are away for 3 s each, one after the other.
async fn refused_by_a_rolling_restart(apart: Duration, frame: Duration) -> u64 {
    let lab = Lab::new();
    let weirs = [lab.sink(9611), lab.sink(9612)];
    weirs.iter().for_each(|weir| weir.set(|b| b.delay = frame));
    let load = lab.load_at(
        5_000.0,
        TwinOptions {
            others: vec![(url(9612), url(9612))],
            ..TwinOptions::new(Version::V5_4)
        },
    );
    sleep(12 * SECOND).await;
    for weir in &weirs {
        weir.kill(Close::Rst).await;
        sleep(3 * SECOND).await;
        weir.revive().await;
        sleep(apart.saturating_sub(3 * SECOND)).await;
    }
    sleep(40 * SECOND).await;
    load.stop();
    let counts = load.finish().await.counts;
    let verdict = lab.judge.verdict(None);
    assert!(verdict.ok() && verdict.acked == verdict.issued, "{verdict}");
    counts.queue_full
}

#[tokio::test(start_paused = true)]
async fn two_weirs_of_one_group_restarted_35_s_apart_cost_nothing() {
    assert_eq!(refused_by_a_rolling_restart(35 * SECOND, DELAYED_ACK).await, 0);
}

#[tokio::test(start_paused = true)]
async fn two_weirs_of_one_group_restarted_10_s_apart_cost_events() {
    let refused = refused_by_a_rolling_restart(10 * SECOND, Duration::ZERO).await;
    assert!((65_000..=70_000).contains(&refused), "{refused}");
    let refused = refused_by_a_rolling_restart(10 * SECOND, DELAYED_ACK).await;
    assert!((92_000..=96_000).contains(&refused), "{refused}");
}
