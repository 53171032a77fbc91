//! The pace of a load with a rate: when each connection's next frame is due.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{LoadOptions, Shared};

/// A thread that gives each connection its ticks, in turn. A tick that no task waits for is kept for the next one that does.
pub(super) struct Pacer(Arc<[Notify]>);

/// How often it checks whether the load has ended.
const CHECK_EVERY: Duration = Duration::from_millis(100);

impl LoadOptions {
    /// Between two frames of a connection; `None` = as fast as replies come.
    pub(super) fn interval(&self) -> Option<Duration> {
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        #[allow(clippy::cast_precision_loss)]
        let events = self.events_per_frame as f64 * f64::from(self.connections.max(1));
        Some(Duration::from_secs_f64((events / rate).min(86_400.0)))
    }

    /// The first frame of a connection, from the start: connections take turns within one interval.
    pub(super) fn phase(&self, index: u32) -> Duration {
        let connections = f64::from(self.connections.max(1));
        self.interval()
            .map_or(Duration::ZERO, |i| i.mul_f64(f64::from(index) / connections))
    }
}

impl Pacer {
    /// `None` where the rate need not be exact. Without a thread it is not.
    pub(super) fn of(options: &LoadOptions, start: Instant, stop: &CancellationToken) -> Option<Self> {
        let interval = options.interval().filter(|_| options.exact)?;
        let ticks: Arc<[Notify]> = (0..options.connections).map(|_| Notify::new()).collect();
        let phases: Vec<Duration> = (0..options.connections).map(|i| options.phase(i)).collect();
        let (given, stop) = (Arc::clone(&ticks), stop.clone());
        let pace = move || {
            let mut turn = start;
            loop {
                for (tick, phase) in given.iter().zip(&phases) {
                    if !reach(turn + *phase, &stop) {
                        return;
                    }
                    tick.notify_one();
                }
                turn += interval;
            }
        };
        thread::Builder::new().name("pace".into()).spawn(pace).ok()?;
        Some(Self(ticks))
    }
}

/// Sleeps until `due`; false when the load has ended meanwhile.
fn reach(due: Instant, stop: &CancellationToken) -> bool {
    while !stop.is_cancelled() {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(CHECK_EVERY));
    }
    false
}

impl Shared {
    /// Until a frame of this connection is due at `due`; may return early.
    pub(super) async fn due(&self, index: u32, due: Instant) {
        let ticks = self.pacer.as_ref().map(|pacer| &pacer.0);
        let tick = ticks.and_then(|ticks| ticks.get(usize::try_from(index).ok()?));
        match tick {
            Some(tick) => tick.notified().await,
            None => sleep_until(due).await,
        }
    }
}
