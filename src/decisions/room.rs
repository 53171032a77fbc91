//! What all sessions share: the configuration in force, the way to brokers, the ledger, the phase.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::brokers::{Brokers, Refusal};
use super::frame::HEADER_BYTES;
use super::ledger::Ledger;
use crate::config::{Decisions, Url};
use crate::lifecycle::Phase;
use crate::net::Dialer;

pub(super) struct Room {
    pub(super) config: watch::Sender<Arc<Decisions>>,
    pub(super) dialer: Dialer,
    pub(super) brokers: Brokers,
    pub(super) ledger: Arc<Ledger>,
    pub(super) phase: watch::Receiver<Phase>,
    spliced: AtomicBool,
    loopback: AtomicBool,
}

impl Room {
    pub(super) fn new(config: Decisions, dialer: Dialer, phase: watch::Receiver<Phase>) -> Self {
        Self {
            ledger: Ledger::new(config.brokers.iter().map(Url::to_string)),
            config: watch::Sender::new(Arc::new(config)),
            dialer,
            brokers: Brokers::default(),
            phase,
            spliced: AtomicBool::new(false),
            loopback: AtomicBool::new(false),
        }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Decisions> {
        Arc::clone(&self.config.borrow())
    }

    /// Keeps account of a try at a broker; one log line for each change of its state.
    pub(super) fn tried(&self, url: &Url, refusal: Option<&Refusal>) {
        self.brokers.tried(url, refusal.is_none(), Instant::now());
        let changed = self.ledger.note(|status| {
            let broker = status.broker_mut(&url.to_string());
            match refusal {
                None => broker.connects_total += 1,
                Some(refusal) => broker.failed(refusal.class),
            }
            broker.reason = refusal.map(|r| format!("{}: {}", r.class, r.message));
            broker.up.replace(refusal.is_none()) != Some(refusal.is_none())
        });
        match refusal {
            None if changed => tracing::info!(broker = %url, "broker answers"),
            Some(refusal) if changed => {
                tracing::warn!(broker = %url, class = refusal.class, "broker does not answer: {}", refusal.message);
            }
            _ => {}
        }
    }

    pub(super) fn say_spliced_once(&self, peer: SocketAddr, header: &[u8; HEADER_BYTES]) {
        if !self.spliced.swap(true, Ordering::Relaxed) {
            let [.., a, b, c, d] = *header;
            tracing::warn!(
                %peer,
                "AMQP header {a} {b} {c} {d}: a version with another framing (0-9-1 is 0 0 9 1); such connections are \
                 relayed as bytes, without heartbeats of weir's own (said once)"
            );
        }
    }

    pub(super) fn say_loopback_once(&self, address: SocketAddr) {
        if address.ip().to_canonical().is_loopback() && !self.loopback.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %address,
                "gateways that connect over loopback name their exclusive queues after 127.0.0.1 and a port, so two \
                 gateways can collide on the broker: listen on the host's or the pod's address (said once)"
            );
        }
    }
}

/// Ends when weir does: at a drain's deadline, or at once when it stops.
pub(super) async fn over(phase: &mut watch::Receiver<Phase>) {
    loop {
        let now = *phase.borrow_and_update();
        let deadline = match now {
            Phase::Stopped => return,
            Phase::Draining { deadline } => Some(deadline),
            Phase::Starting | Phase::Ready => None,
        };
        let time = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // A drain taken back wins over its deadline.
            changed = phase.changed() => if changed.is_err() { return },
            () = time => return,
        }
    }
}
