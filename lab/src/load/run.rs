//! `weir-lab load`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::{Instant, interval_at, sleep};
use weir::net::{Dialer, SocketOptions};
use weir::output::{Failure, note};

use super::{Load, LoadCounts, LoadOptions, LoadReport, TwinOptions};
use crate::args::LoadArgs;
use crate::event::Events;
use crate::{micros, per_second, signalled};

/// What is printed in the end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Everything counted.
    #[serde(flatten)]
    pub counts: LoadCounts,
    /// From the first connection to the last answer.
    pub elapsed_seconds: f64,
    /// Events answered ok.
    pub events_per_second: f64,
    /// Reply time, median, in microseconds.
    pub reply_p50_us: u64,
    /// Reply time, 99 of 100, in microseconds.
    pub reply_p99_us: u64,
    /// Longest reply time, in microseconds.
    pub reply_max_us: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// Runs until the duration, the count or a signal ends it. On standard error: the first thing that goes wrong, at once,
/// and a line per second. With a count it gives up when nothing was answered within the reply timeout.
///
/// # Errors
/// The trusted certificates cannot be read, or not one event was answered ok.
pub async fn run(args: LoadArgs) -> Result<Report, Failure> {
    run_telling(args, &mut |line| note(line)).await
}

pub(crate) async fn run_telling(args: LoadArgs, tell: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    let sockets = match args.agent {
        Some(_) => TwinOptions::sockets(),
        None => SocketOptions::default(),
    };
    let dialer = Dialer::new(args.client_tls()?, sockets);
    // Events are dated now: newer Traffic Managers drop old ones.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp_ms = i64::try_from(now.as_millis()).unwrap_or(0);
    let options = LoadOptions {
        auth: Some(args.login_url()?),
        user: args.user.clone(),
        password: args.password.clone(),
        connections: args.connections,
        events_per_frame: args.events_per_frame,
        window: usize::try_from(args.window).unwrap_or(1),
        rate: Some(args.rate).filter(|rate| *rate > 0.0),
        exact: true,
        stamp: args.stamp,
        count: args.count,
        duration: args.duration,
        events: Events::new(args.sizes(), timestamp_ms),
        reply_timeout: args.reply_timeout,
        agent: args.agent.map(TwinOptions::new),
        ..LoadOptions::new(dialer, args.target.clone())
    };
    let load = Load::start(options);
    let handle = load.handle();
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(Instant::now() + second, second);
    let mut last = 0;
    let first_error = {
        let handle = handle.clone();
        async move { handle.first_error().await }
    };
    let patience = sleep(args.reply_timeout);
    let (finish, signalled) = (load.finish(), signalled());
    tokio::pin!(finish, signalled, first_error, patience);
    let (mut stopped, mut told) = (false, false);
    let mut patient = args.count.is_some();
    let report = loop {
        // Biased: ends before lines. After a signal, what is unanswered is seen through.
        tokio::select! {
            biased;
            report = &mut finish => break Report::from(report),
            result = &mut signalled, if !stopped => {
                result?;
                stopped = true;
                handle.stop();
            }
            error = &mut first_error, if !told => {
                told = true;
                tell(&format!("weir-lab load: {error}{}; trying again", args.advice(&error)));
            }
            () = &mut patience, if patient => {
                patient = false;
                if handle.counts().events_acked == 0 {
                    tell(&format!("weir-lab load: nothing was answered within {:?}, giving up", args.reply_timeout));
                    stopped = true;
                    handle.stop();
                }
            }
            _ = ticks.tick() => {
                let now = handle.counts();
                tell(&format!(
                    "{:>10} events/s  {:>12} acked  {:>6} sent again  {:>6} refused by the agent",
                    now.events_acked - last,
                    now.events_acked,
                    now.events_resent,
                    now.queue_full
                ));
                last = now.events_acked;
            }
        }
    };
    args.report.print(&report)?;
    if report.counts.events_acked == 0 {
        let why = report.last_error.as_deref().unwrap_or("nothing was sent");
        return Err(format!("no event was answered ok by {}: {why}", args.target).into());
    }
    Ok(report)
}

impl From<LoadReport> for Report {
    fn from(r: LoadReport) -> Self {
        Self {
            counts: r.counts,
            elapsed_seconds: r.elapsed.as_secs_f64(),
            events_per_second: per_second(r.counts.events_acked, r.elapsed),
            reply_p50_us: micros(r.latency.p50()),
            reply_p99_us: micros(r.latency.p99()),
            reply_max_us: micros(r.latency.max()),
            last_error: r.last_error,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(
            f,
            "{} events in {:.1} s: {:.0} events/s, {} frames",
            c.events_acked, self.elapsed_seconds, self.events_per_second, c.frames_acked
        )?;
        writeln!(
            f,
            "reply p50 {} us, p99 {} us, max {} us",
            self.reply_p50_us, self.reply_p99_us, self.reply_max_us
        )?;
        writeln!(
            f,
            "refused by the agent {}, sent again {}, session errors {}, refused {}, given up {}, resets {}, late replies {}, acked by FIN {}",
            c.queue_full,
            c.events_resent,
            c.session_errors,
            c.refused,
            c.given_up,
            c.resets,
            c.reply_timeouts,
            c.acked_by_fin
        )?;
        write!(
            f,
            "connections {} (failed {}), logins {} (failed {})",
            c.connections, c.connect_failures, c.logins, c.login_failures
        )?;
        match &self.last_error {
            Some(error) => write!(f, "\nlast error: {error}"),
            None => Ok(()),
        }
    }
}
