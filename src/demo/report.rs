//! What the demo prints.

use std::time::Duration;

use super::DemoArgs;
use super::cast::{Cast, GROUPS};
use crate::lab::{LoadReport, Verdict};
use crate::status::Snapshot;

/// Who takes part.
pub(super) fn introduce(args: &DemoArgs, cast: &Cast) {
    let at = cast.weir.addresses();
    let shown = |a: Option<std::net::SocketAddr>| a.map_or_else(String::new, |a| a.to_string());
    println!(
        "{} gateways ──▶ weir (events {}, login with TLS {}) ──▶ every group:",
        args.gateways,
        shown(at.tcp),
        shown(at.tls)
    );
    for ((name, policy, _), managers) in GROUPS.iter().zip(&cast.managers) {
        let list: Vec<String> = managers.iter().map(|m| m.data_address().to_string()).collect();
        println!(
            "    {name:<8} {policy} of Traffic Managers {}",
            list.join(" and ")
        );
    }
    println!(
        "look at it meanwhile: http://{}/  (also /metrics, /status)",
        shown(at.admin)
    );
}

/// The table and the oracle's verdict.
pub(super) fn conclude(verdict: &Verdict, last: &Snapshot, load: &LoadReport) {
    let seconds = load.elapsed.as_secs_f64();
    println!(
        "\n{:<8} {:>9} {:>9} {:>8} {:>10} {:>5} {:>10} {:>9} {:>9}",
        "group", "accepted", "delivered", "dropped", "duplicated", "lost", "events/s", "p50", "p99"
    );
    for (group, judged) in last.groups.iter().zip(&verdict.groups) {
        println!(
            "{:<8} {:>9} {:>9} {:>8} {:>10} {:>5} {:>10.0} {:>9} {:>9}",
            group.name,
            group.events.accepted,
            group.events.delivered,
            group.events.dropped.total() + group.events.rejected,
            judged.duplicated.count,
            judged.missing.count,
            group.events.delivered as f64 / seconds,
            micros(judged.latency_p50_us),
            micros(judged.latency_p99_us),
        );
    }
    println!("p50 and p99: from the gateway's write to the Traffic Manager's read, outages included\n");
    println!(
        "gateways: {} events answered ok in {seconds:.1} s, reply p50 {:.1?}, p99 {:.1?}",
        load.counts.events_acked,
        load.latency.p50(),
        load.latency.p99()
    );
    println!("{verdict}");
    if verdict.ok() && verdict.groups.iter().all(|g| g.missing.count == 0) {
        println!("the oracle says: every accepted event was delivered to every group, nothing was lost");
    } else {
        println!("the oracle says: NOT everything was delivered");
    }
}

fn micros(us: u64) -> String {
    format!("{:.1?}", Duration::from_micros(us))
}
