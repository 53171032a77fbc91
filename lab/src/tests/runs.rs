//! Load against sink in good health.

use super::*;

#[tokio::test]
async fn a_clean_run_is_found_clean() {
    for (connections, events_per_frame, window) in [(1, 1, 1), (5, 7, 1), (3, 200, 4), (2, 1, 32)] {
        let judge = judge(&["tm"]);
        let sink = sink(&judge);
        let options = LoadOptions {
            connections,
            events_per_frame,
            window,
            ..load(&judge, sink.data_address(), 2_003)
        };
        let report = within(Load::start(options).finish()).await;
        assert_eq!(report.counts.events_acked, 2_003);
        assert_eq!(report.counts.events_resent, 0);
        assert_eq!(report.latency.count(), report.counts.frames_acked);
        let counts = sink.counts();
        assert_eq!(
            (counts.events, counts.frames),
            (2_003, report.counts.frames_acked)
        );
        assert_eq!((counts.logins_ok, counts.logouts), (1, 1));
        let verdict = judge.verdict(None).witness("events", counts.events);
        assert!(verdict.ok(), "{verdict}");
        assert_eq!((verdict.acked, verdict.groups[0].distinct), (2_003, 2_003));
        assert!(verdict.groups[0].latency_p99_us > 0);
    }
}

#[tokio::test]
async fn events_of_every_length_around_a_buffer_arrive_whole() {
    let judge = Judge::new(Oracle::new(
        Events::new(Sizes::Edges(64 * 1024), 0),
        &["tm"],
        false,
    ));
    let sink = sink(&judge);
    let options = LoadOptions {
        connections: 2,
        events_per_frame: 3,
        ..load(&judge, sink.data_address(), 300)
    };
    within(Load::start(options).finish()).await;
    let verdict = judge.verdict(None);
    assert!(verdict.ok() && verdict.acked == 300, "{verdict}");
}

#[tokio::test]
async fn an_open_loop_keeps_its_rate_and_ends_on_time() {
    let judge = judge(&["tm"]);
    let sink = sink(&judge);
    let options = LoadOptions {
        connections: 4,
        rate: Some(2_000.0),
        count: None,
        duration: Some(Duration::from_millis(500)),
        ..load(&judge, sink.data_address(), 0)
    };
    let report = within(Load::start(options).finish()).await;
    assert!(
        (900..=1_010).contains(&report.counts.events_acked),
        "{:?}",
        report.counts
    );
    let verdict = judge.verdict(None);
    assert!(verdict.ok(), "{verdict}");
}

#[tokio::test]
async fn gateways_and_traffic_managers_live_on_threads_of_their_own() {
    let judge = judge(&["tm"]);
    let (address, known) = std::sync::mpsc::sync_channel(1);
    let own = judge.clone();
    let running = thread::spawn("sink", move |stop| async move {
        let sink = sink(&own);
        address.send(sink.data_address()).unwrap();
        let _ = stop.await;
        sink.counts().events
    })
    .unwrap();
    let report = within(Load::start(load(&judge, known.recv().unwrap(), 500)).finish()).await;
    assert_eq!(report.counts.events_acked, 500);
    assert_eq!(running.stop(), Some(500));
    assert!(judge.verdict(None).ok());
}

#[tokio::test]
async fn a_run_without_its_witness_does_not_count() {
    let judge = judge(&["tm"]);
    let verdict = judge.verdict(None).witness("connections ended", 0);
    assert!(verdict.violations.is_empty() && !verdict.ok());
    assert!(verdict.to_string().contains("VOID"));
}

#[tokio::test]
async fn a_frame_cost_slows_a_sink_to_what_one_thread_can_do() {
    let judge = judge(&["tm"]);
    let sink = sink(&judge);
    sink.set(|b| b.frame_cost = Duration::from_millis(5));
    let options = LoadOptions {
        window: 10,
        ..load(&judge, sink.data_address(), 40)
    };
    let report = within(Load::start(options).finish()).await;
    assert!(
        report.elapsed >= Duration::from_millis(190),
        "{:?}",
        report.elapsed
    );
    assert!(judge.verdict(None).ok());
}

#[tokio::test]
async fn a_sink_that_does_not_read_fills_the_buffers_and_ends_there() {
    let sink = Sink::start(SinkOptions::local()).unwrap();
    sink.set(|b| b.reading = false);
    let mut flooding = gateway::Gateway::connect(&dialer(), &tcp_url(sink.data_address()))
        .await
        .unwrap();
    let events = Events::new(Sizes::Fixed(100_000), 0);
    let sent = within(flooding.flood(
        &gateway::frame(b"s", &events, 0, 0, 10),
        Duration::from_millis(200),
    ))
    .await;
    assert!(sent < 64 << 20, "{sent}");
}
