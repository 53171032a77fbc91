//! `weir-lab demo`: gateways, a weir and Traffic Managers in one process, faults in the middle, and the
//! oracle's verdict at the end. A stream of decisions comes back the other way and is judged too. The weir is the real
//! one, on real sockets.

mod leg;
mod report;
mod script;
mod setup;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use weir::output::{self, Failure};
use weir::status::Snapshot;

use self::setup::Setup;
use crate::WeirCounts;

/// Arguments of `weir-lab demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How long gateways publish; faults happen in the middle third
    #[arg(long, value_parser = humantime::parse_duration, default_value = "15s")]
    pub duration: Duration,
    /// Gateways, each as WSO2's agent 5.4
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub gateways: u32,
    /// Events per second over all gateways; 0 = as fast as replies come
    #[arg(long, default_value_t = 5_000.0)]
    pub rate: f64,
    /// Most events in a gateway's frame (the agent's batch_size)
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub events_per_frame: u64,
    /// No faults: no Traffic Manager is killed, no session expires, no broker is stopped
    #[arg(long)]
    pub calm: bool,
}

/// How often the progress line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How long queues may take to run empty at the end.
const REST: Duration = Duration::from_secs(30);

/// Runs the demo; exit code 1 when an event or a decision is lost. It ends when stdout is closed.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let played = runtime
        .map_err(|e| Failure::Said(e.to_string()))
        .and_then(|runtime| runtime.block_on(play(args)));
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => ExitCode::from(failure.end()),
    }
}

/// Whether nothing was lost, and everything happened that should have.
async fn play(args: &DemoArgs) -> Result<bool, Failure> {
    let mut setup = Setup::assemble(args)?;
    output::print(&report::introduce(args, &setup))?;
    let bar = bar(args.duration);
    let start = Instant::now();
    setup.open_gateways(args)?;
    let witnesses = {
        let said = script::Said::beside(&bar);
        let script = script::play(args, &setup, &said, start);
        tokio::pin!(script);
        let mut played = None;
        while start.elapsed() < args.duration || played.is_none() {
            tokio::select! {
                // The script first: it is what the drawing is about.
                biased;
                done = &mut script, if played.is_none() => played = Some(done),
                failure = said.failed() => {
                    bar.finish_and_clear();
                    return Err(failure);
                }
                () = sleep(DRAW_EVERY) => draw(&bar, start, &setup).await,
            }
        }
        played.unwrap_or_default()
    };
    let load = setup.close_gateways();
    let load = load.ok_or_else(|| "the gateways have failed".to_owned())?;
    bar.set_message("delivering what is queued");
    let last = rest(&setup).await;
    bar.finish_and_clear();
    let mut verdict = setup.judge.verdict(Some(&WeirCounts::from(&last)));
    verdict = verdict.refused_by_agents(load.counts.queue_full);
    verdict = verdict.witness("events answered ok", load.counts.events_acked);
    for (what, count) in witnesses {
        verdict = verdict.witness(what, count);
    }
    let outcome = report::Outcome {
        events: verdict,
        decisions: setup.leg.finish(&setup.weir).await,
        heartbeats: setup.leg.heartbeats(),
    };
    output::print(&report::conclude(&outcome, &last, &load))?;
    Ok(outcome.ok())
}

/// Waits until nothing is queued or in flight.
async fn rest(setup: &Setup) -> Snapshot {
    let deadline = Instant::now() + REST;
    loop {
        let snapshot = setup.weir.control().snapshot().await;
        let busy = snapshot
            .groups
            .iter()
            .any(|g| g.events.queued + g.events.inflight > 0);
        if !busy || Instant::now() >= deadline {
            return snapshot;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn bar(duration: Duration) -> ProgressBar {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(millis), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:24.cyan/blue} {elapsed:>4} {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}

async fn draw(bar: &ProgressBar, start: Instant, setup: &Setup) {
    let snapshot = setup.weir.control().snapshot().await;
    let mut parts = Vec::new();
    for group in &snapshot.groups {
        let up = group.endpoints.iter().filter(|e| e.links_up > 0).count();
        parts.push(format!(
            "{}: {}/{} up, {} delivered, {} queued",
            group.name,
            up,
            group.endpoints.len(),
            group.events.delivered,
            group.events.queued + group.events.inflight
        ));
    }
    parts.push(format!("decisions: {}", setup.leg.book.tally().delivered()));
    bar.set_position(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    bar.set_message(parts.join(" · "));
}
