//! What a proxy does to a connection, and what load and oracle make of it.

use super::*;
use crate::gateway::{Answer as Got, Gateway};
use crate::thread::until;

/// Long enough for a loaded machine.
const LIMIT: Duration = Duration::from_secs(15);

/// A load through a proxy with a fault in it.
async fn proxied(count: u64, trouble: impl FnOnce(&Proxy)) -> (LoadReport, Verdict, proxy::ProxyCounts) {
    proxied_within(LIMIT, count, trouble).await
}

/// The same with a gateway that waits so long for an answer.
async fn proxied_within(
    reply_timeout: Duration,
    count: u64,
    trouble: impl FnOnce(&Proxy),
) -> (LoadReport, Verdict, proxy::ProxyCounts) {
    let judge = judge(&["tm"]);
    let sink = sink(&judge);
    let proxy = Proxy::start(dialer(), tcp_url(sink.data_address())).unwrap();
    trouble(&proxy);
    let options = LoadOptions {
        auth: Some(tcp_url(sink.data_address())),
        connections: 2,
        reply_timeout,
        ..load(&judge, proxy.address(), count)
    };
    let load = Load::start(options);
    let handle = load.handle();
    let calm = async {
        // Trouble lasts until it has happened, then the rest must get through.
        until("the fault", LIMIT, || {
            let c = proxy.counts();
            handle.counts().events_acked >= count || c.cuts + c.vanished_bytes + c.corrupted_bytes > 0
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.forth(|t| *t = Trouble::default());
        proxy.back(|t| *t = Trouble::default());
    };
    let (report, ()) = within(async { tokio::join!(load.finish(), calm) }).await;
    (report, judge.verdict(None), proxy.counts())
}

#[tokio::test]
async fn slices_latency_and_bandwidth_change_nothing_but_time() {
    for trouble in [
        Trouble {
            slice_bytes: Some(1),
            ..Trouble::default()
        },
        Trouble {
            latency: Duration::from_millis(10),
            ..Trouble::default()
        },
        Trouble {
            bandwidth: Some(200_000),
            ..Trouble::default()
        },
    ] {
        let (report, verdict, counts) = proxied(40, |proxy| {
            proxy.forth(|t| *t = trouble.clone());
            proxy.back(|t| *t = trouble.clone());
        })
        .await;
        assert!(
            verdict.ok() && report.counts.events_resent == 0,
            "{trouble:?}: {verdict}"
        );
        assert_eq!((verdict.acked, counts.connections), (40, 2));
        if !trouble.latency.is_zero() {
            assert!(
                report.latency.p50() >= Duration::from_millis(20),
                "{:?}",
                report.latency.p50()
            );
        }
    }
}

#[tokio::test]
async fn a_cut_at_any_byte_of_either_direction_loses_nothing() {
    for at in [0, 1, 4, 5, 40, 600, 1_500] {
        let (_, verdict, counts) =
            proxied(40, |proxy| proxy.forth(|t| t.cut_at = Some((at, Close::Rst)))).await;
        let verdict = verdict.witness("cuts", counts.cuts);
        assert!(verdict.ok() && verdict.acked == 40, "{at}: {verdict}");
    }
    let (_, verdict, counts) = proxied(40, |proxy| proxy.back(|t| t.cut_at = Some((1, Close::Rst)))).await;
    let verdict = verdict.witness("cuts", counts.cuts);
    assert!(verdict.ok() && verdict.acked == 40, "{verdict}");
}

#[tokio::test]
async fn a_fin_in_the_middle_of_a_frame_is_caught_as_a_loss() {
    let (report, verdict, _) = proxied(40, |proxy| proxy.forth(|t| t.cut_at = Some((900, Close::Fin)))).await;
    assert!(report.counts.acked_by_fin > 0);
    assert!(
        verdict.violations.iter().any(|v| v.contains("missing")),
        "{verdict}"
    );
}

#[tokio::test]
async fn a_flipped_byte_on_the_way_is_found() {
    let (_, verdict, counts) = proxied(40, |proxy| proxy.forth(|t| t.corrupt_at = Some(500))).await;
    assert!(counts.corrupted_bytes > 0);
    assert!(
        verdict.violations.iter().any(|v| v.contains("corrupted")),
        "{verdict}"
    );
}

#[tokio::test]
async fn a_black_hole_is_left_by_the_reply_timeout() {
    let (report, verdict, counts) = proxied_within(Duration::from_millis(200), 40, |proxy| {
        proxy.forth(|t| t.black_hole = true)
    })
    .await;
    assert!(report.counts.reply_timeouts > 0);
    let verdict = verdict.witness("vanished", counts.vanished_bytes);
    assert!(verdict.ok() && verdict.acked == 40, "{verdict}");
}

#[tokio::test]
async fn a_half_open_connection_never_hears_of_the_end() {
    let sink = Sink::start(SinkOptions::local()).unwrap();
    let proxy = Proxy::start(dialer(), tcp_url(sink.data_address())).unwrap();
    proxy.forth(|t| t.half_open = true);
    let mut gateway = Gateway::connect(&dialer(), &tcp_url(proxy.address()))
        .await
        .unwrap();
    assert!(matches!(
        gateway.login("admin", "admin", LIMIT).await,
        Got::Session(_)
    ));
    gateway.abort();
    until("the end is kept", LIMIT, || proxy.counts().half_opens == 1)
        .await
        .unwrap();
    assert_eq!(sink.open_connections(), 1);
    proxy.cut(Close::Rst);
    until("the cut is heard", LIMIT, || sink.open_connections() == 0)
        .await
        .unwrap();
    assert_eq!(proxy.counts().cuts, 1);
}
