//! `weir-lab sink`.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, interval_at};
use weir::config::{Tls, Trust, Verify};
use weir::net::{Acceptor, ServerTls};
use weir::output::{Failure, note};

use super::{Answer, Behaviour, Counts, Sink, SinkOptions, tcp};
use crate::args::SinkArgs;
use crate::{micros, per_second, signalled};

/// What is printed in the end.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Everything counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Since the ports were opened.
    pub elapsed_seconds: f64,
    /// On average.
    pub events_per_second: f64,
    /// How well the peer coalesces.
    pub events_per_frame: f64,
    /// How long events took, median, in microseconds; nothing when that was not asked for.
    pub delivery_p50_us: Option<u64>,
    /// The same, 99 of 100.
    pub delivery_p99_us: Option<u64>,
    /// The longest.
    pub delivery_max_us: Option<u64>,
}

/// Serves until the duration or a signal ends it; a line per second on standard error.
///
/// # Errors
/// A port cannot be opened.
pub async fn run(args: SinkArgs) -> Result<Report, Failure> {
    serve(args, |_| {}).await
}

/// The same; `opened` is shown the sink when its ports are open.
pub(crate) async fn serve(args: SinkArgs, opened: impl FnOnce(&Sink)) -> Result<Report, Failure> {
    let auth = match args.auth_listen {
        None => None,
        Some(address) => {
            let own = Tls {
                identity: None,
                trust: Trust::System,
                verify: Verify::Full,
            };
            let tls = ServerTls::load(&own).map_err(|e| e.to_string())?;
            note(format_args!(
                "the TLS port shows a self-signed certificate, another one at each start; to accept it: verify = \"pin\" and \
                 pins = [\"{}\"] under [tls]",
                tls.certificate().pin()
            ));
            Some((tcp(address), Acceptor::new(&tls, false)))
        }
    };
    let sink = Sink::start(SinkOptions {
        data: tcp(args.listen),
        auth,
        user: args.user,
        password: args.password,
        served_max: args.connections,
        behaviour: Behaviour {
            answer: if args.stall { Answer::Stall } else { Answer::Ok },
            delay: args.delay,
            frame_cost: args.frame_cost,
            ..Behaviour::default()
        },
        judge: None,
        delivery_times: args.delivery_times,
    })
    .map_err(|e| e.to_string())?;
    let start = Instant::now();
    note(format_args!("listening on {}", sink.data_address()));
    if let Some(address) = sink.auth_address() {
        note(format_args!("listening on {address} (TLS)"));
    }
    opened(&sink);
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(start + second, second);
    let (mut last, mut last_frames) = (0, 0);
    let signalled = signalled();
    let end = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(signalled, end);
    loop {
        // Biased: ends before lines.
        tokio::select! {
            biased;
            result = &mut signalled => { result?; break; }
            () = &mut end => break,
            _ = ticks.tick() => {
                let now = sink.counts();
                let (events, frames) = (now.events - last, now.frames - last_frames);
                note(format_args!("{events:>10} events/s  {frames:>9} frames/s  {:>5} connections", sink.open_connections()));
                (last, last_frames) = (now.events, now.frames);
            }
        }
    }
    let (counts, elapsed) = (sink.counts(), start.elapsed());
    let times = sink.delivery_times();
    let times = times.as_ref();
    let report = Report {
        counts,
        elapsed_seconds: elapsed.as_secs_f64(),
        events_per_second: per_second(counts.events, elapsed),
        events_per_frame: counts.events_per_frame(),
        delivery_p50_us: times.map(|t| micros(t.p50())),
        delivery_p99_us: times.map(|t| micros(t.p99())),
        delivery_max_us: times.map(|t| micros(t.max())),
    };
    args.report.print(&report)?;
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(
            f,
            "{} events in {:.1} s: {:.0} events/s, {} frames, {:.1} events a frame",
            c.events, self.elapsed_seconds, self.events_per_second, c.frames, self.events_per_frame
        )?;
        if let (Some(p50), Some(p99), Some(max)) =
            (self.delivery_p50_us, self.delivery_p99_us, self.delivery_max_us)
        {
            writeln!(f, "delivery p50 {p50} us, p99 {p99} us, max {max} us")?;
        }
        write!(
            f,
            "zero-event frames {}, errors {}, session errors {}, logins {} (refused {}), logouts {}, connections {}, garbage {}",
            c.zero_event_frames,
            c.frames_error,
            c.session_errors,
            c.logins_ok,
            c.logins_refused,
            c.logouts,
            c.connections,
            c.garbage
        )
    }
}
