//! The laboratory: weir's own load generator, stand-in Traffic Manager, fault proxy and oracle.
//!
//! Built on [`weir::wire`] and [`weir::net`] alone, so that it shares no mistake with the relay. The
//! commands `weir-lab load`, `weir-lab sink` and `weir-lab demo` and all tests use it: what the tests trust is what a
//! user can run.
//!
//! [`event`] makes events whose bytes follow from their ids. [`load`] publishes them as gateways do, [`gateway`] step by
//! step, right or wrong. [`sink`] takes them as Traffic Managers do, with a [`Behaviour`] that can change at any time; [`decisions`] is the other direction, a broker and a gateway that subscribes; [`network`] is a network in memory, [`proxy`] sits between any two and breaks the network; the
//! [`Oracle`] hears both ends and says whether anything was lost ([`verdict`]). [`soak`] puts them all around a
//! weir process for a long time.

pub mod args;
mod bits;
pub mod decisions;
pub mod demo;
pub mod event;
pub mod gateway;
pub mod histogram;
pub mod insecure;
pub mod judge;
pub mod load;
pub mod network;
pub mod oracle;
pub mod proxy;
pub mod sim;
pub mod sink;
pub mod soak;
mod stamp;
#[cfg(test)]
mod tests;
pub mod thread;
pub mod verdict;
mod watch;

pub use event::{Events, Id, Sizes};
pub use histogram::Histogram;
pub use judge::Judge;
pub use load::{Load, LoadCounts, LoadOptions, LoadReport};
pub use network::Network;
pub use oracle::Oracle;
pub use proxy::{Proxy, Trouble};
pub use sink::{Behaviour, Close, Sink, SinkOptions};
pub use verdict::{GroupCounts, Verdict, WeirCounts};

/// A quotient for people; 0 when there is nothing to divide by.
#[allow(clippy::cast_precision_loss)]
fn per(amount: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { amount as f64 / of as f64 }
}

fn per_second(amount: u64, over: std::time::Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let amount = amount as f64;
    if over.is_zero() {
        0.0
    } else {
        amount / over.as_secs_f64()
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Ends at SIGINT or SIGTERM.
async fn signalled() -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    // Biased for want of a reason to choose.
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
