//! `weir-lab soak`: a weir process of its own under load and trouble for minutes or days, judged at the end.
//!
//! Gateways → proxy → weir → proxies → Traffic Managers, all but weir in this process. Every few seconds a
//! fault ([trouble]) chosen by the seed hits one of the ways, one at a time, so that every group always has a
//! Traffic Manager. Every second weir's memory, descriptors and connections are looked at. In the end: calm, a
//! fresh event must get through everywhere, everything must be at rest, the oracle must find nothing missing
//! that was not counted, and memory and descriptors must be where they were.

mod process;
mod report;
mod trouble;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use weir::config::{Scheme, Url};
use weir::net::{ClientTls, Dialer, SocketOptions};
use weir::output::{Failure, note};

use self::process::Weir;
use self::report::{Look, Report};
use self::trouble::{Troubles, Way};
use super::args::SoakArgs;
use super::event::{Events, Sizes};
use super::load::{TwinOptions, Version};
use super::{Judge, Load, LoadOptions, Oracle, Proxy, Sink, SinkOptions, signalled};

/// Name, policy, Traffic Managers. Nothing ever happens to the first.
const GROUPS: [(&str, &str, usize); 3] = [
    ("steady", "failover", 1),
    ("shared", "loadbalance", 2),
    ("ordered", "failover", 2),
];
/// For links to come up, for what is queued to be delivered.
const PATIENCE: Duration = Duration::from_secs(60);
/// For descriptors of closed connections to be given back.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two attempts of a gateway to log in. Its idle connections are closed sooner.
const RECONNECT: Duration = Duration::from_secs(2);
/// The origin of the fresh event that must get through after everything.
const FRESH: u32 = 1_000_000;

/// Runs to its end; the report goes to standard output, a line every ten seconds to standard error.
///
/// # Errors
/// Weir could not be started, or did not pass.
pub async fn run(args: SoakArgs) -> Result<Report, Failure> {
    let report = soak(&args).await?;
    args.report.print(&report)?;
    if report.ok() {
        Ok(report)
    } else {
        Err(Failure::Said("the soak has failed; see the report".into()))
    }
}

async fn soak(args: &SoakArgs) -> Result<Report, String> {
    let io = |e: std::io::Error| e.to_string();
    let dialer = Dialer::new(
        ClientTls::trusting_nobody().map_err(|e| e.to_string())?,
        SocketOptions::default(),
    );
    let names = GROUPS.map(|(name, _, _)| name);
    let judge = Judge::new(Oracle::new(Events::new(Sizes::Typical, 0), &names, false));
    let mut ways = Vec::new();
    let mut blocks = String::new();
    for (i, (name, policy, count)) in GROUPS.iter().enumerate() {
        let mut urls = Vec::new();
        for _ in 0..*count {
            let sink = Sink::start(SinkOptions::local().judged_by(&judge, i)).map_err(io)?;
            let proxy = Proxy::start(dialer.clone(), plain(sink.data_address())).map_err(io)?;
            urls.push(format!("\"{}\"", plain(proxy.address())));
            ways.push(Way { sink, proxy });
        }
        let urls = urls.join(", ");
        blocks += &format!(
            "[[apim.throttling.url_group]]\nname = \"{name}\"\ntype = \"{policy}\"\n\
             traffic_manager_urls = [{urls}]\ntraffic_manager_auth_urls = [{urls}]\n"
        );
    }
    let weir = Weir::start(dialer.clone(), &blocks).await?;
    weir.until(PATIENCE, "every link is up", process::Status::all_up)
        .await?;
    let front = Proxy::start(dialer.clone(), plain(weir.tcp())).map_err(io)?;
    let tls = ClientTls::trusting_nobody().map_err(|e| e.to_string())?;
    let options = LoadOptions {
        connections: args.connections,
        rate: Some(args.rate).filter(|rate| *rate > 0.0),
        settle: PATIENCE,
        agent: Some(TwinOptions {
            // Else a gateway that was reset soon after its login is away for longer than a short soak lasts.
            reconnection_interval: RECONNECT,
            ..TwinOptions::new(Version::V5_4).closing_idle(RECONNECT / 4, RECONNECT / 4)
        }),
        ..LoadOptions::new(Dialer::new(tls, TwinOptions::sockets()), plain(front.address())).judged_by(&judge)
    };
    let load = Load::start(options);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    note(format_args!(
        "soak with --seed {seed} for {:?}; weir's log: {}",
        args.duration,
        weir.log().display()
    ));
    let mut troubles = Troubles::new(seed, front, ways);
    let start = Instant::now();
    let looks = endure(args.duration, &weir, &mut troubles, &load, start).await?;

    troubles.calm().await;
    load.stop();
    let counts = load.finish().await.counts;
    weir.until(PATIENCE, "every link is up again", process::Status::all_up)
        .await?;
    let fresh = Load::start(LoadOptions {
        count: Some(1),
        origin_first: FRESH,
        settle: PATIENCE,
        ..LoadOptions::new(dialer, plain(weir.tcp())).judged_by(&judge)
    });
    let fresh = fresh.finish().await.counts.events_acked;
    let status = weir
        .until(PATIENCE, "everything has ended", |s| s.at_rest())
        .await?;
    let mut verdict = judge
        .verdict(Some(&status.counts()?))
        .refused_by_agents(counts.queue_full)
        .witness("a fresh event", fresh);
    for (what, times) in troubles.witnesses() {
        verdict = verdict.witness(what, times);
    }
    let elapsed = start.elapsed();
    // The connections of the last questions to the admin port may still be closing.
    sleep(SETTLE).await;
    let last = weir.look(&status, counts.events_acked, elapsed)?;
    let exit_code = weir.end(PATIENCE).await?;
    Ok(Report::new(seed, &looks, last, counts, verdict, exit_code))
}

/// Load and trouble until the time is over, or a signal asks for the end; a look every second.
async fn endure(
    duration: Duration,
    weir: &Weir,
    troubles: &mut Troubles,
    load: &Load,
    start: Instant,
) -> Result<Vec<Look>, String> {
    let mut looks = Vec::new();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let signalled = signalled();
    tokio::pin!(signalled);
    loop {
        // Biased: the end first.
        tokio::select! {
            biased;
            ended = &mut signalled => return ended.map(|()| looks),
            _ = ticks.tick() => {}
        }
        if start.elapsed() >= duration {
            return Ok(looks);
        }
        let status = weir.status().await?;
        if !status.counts()?.groups.iter().all(|g| g.events.balanced()) {
            return Err(format!("out of balance: {:?}", status.counts()?.groups));
        }
        let look = weir.look(&status, load.counts().events_acked, start.elapsed())?;
        if looks.len().is_multiple_of(10) {
            note(look);
        }
        looks.push(look);
        troubles.next(start.elapsed()).await;
    }
}

fn plain(address: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Tcp,
        host: address.ip().to_string(),
        port: address.port(),
    }
}
