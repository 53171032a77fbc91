//! What all sessions share: the configuration in force, the way to brokers, the ledger, the phase.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::brokers::{Answer, Brokers, Refusal};
use super::frame::HEADER_BYTES;
use super::ledger::Ledger;
use super::listener::socket_options;
use super::probe::Probes;
use super::status::BrokerStatus;
use crate::config::{Decisions, Url};
use crate::lifecycle::Phase;
use crate::net::{ClientTls, Dialer, Ports};

/// How long WSO2's client waits for a broker that accepted its connection, unless it is told otherwise.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// So often a client that lost its broker tries to connect again before it gives up.
const FAILOVER_TRIES: u32 = 5;

pub(super) struct Room {
    pub(super) config: watch::Sender<Arc<Decisions>>,
    tls: ClientTls,
    pub(super) ports: Ports,
    pub(super) brokers: Brokers,
    pub(super) probes: Probes,
    pub(super) ledger: Arc<Ledger>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Whether gateways are refused: see [`Room::held_in_vain`].
    pub(super) refusing: watch::Sender<bool>,
    spliced: AtomicBool,
    loopback: AtomicBool,
}

impl Room {
    pub(super) fn new(
        config: Decisions,
        tls: ClientTls,
        ports: Ports,
        idle_probe: Option<Duration>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            ledger: Ledger::new(config.brokers.iter().map(Url::to_string)),
            config: watch::Sender::new(Arc::new(config)),
            tls,
            ports,
            brokers: Brokers::default(),
            probes: Probes::new(idle_probe),
            phase,
            refusing: watch::Sender::new(false),
            spliced: AtomicBool::new(false),
            loopback: AtomicBool::new(false),
        }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Decisions> {
        Arc::clone(&self.config.borrow())
    }

    /// The way to brokers, with the socket options of the configuration in force.
    pub(super) fn dialer(&self) -> Dialer {
        Dialer::new(
            self.tls.clone(),
            socket_options(self.config().heartbeat.timeout()),
        )
    }

    /// Keeps account of a session's try at a broker.
    pub(super) fn tried(&self, url: &Url, tried: Result<Answer, &Refusal>) {
        self.brokers
            .tried(url, tried.map_err(|r| r.class), Instant::now());
        self.count(url, tried.err(), |broker| broker.connects_total += 1);
        self.seen(url, tried.err().map(Refusal::to_string));
        if tried.is_ok() {
            self.refuse(false);
        }
    }

    /// Keeps account of a probe.
    pub(super) fn probed(&self, url: &Url, probed: &Result<Answer, Refusal>) {
        let answer = probed.as_ref().map_err(|r| r.class).copied();
        self.brokers.probed(url, answer, Instant::now());
        self.count(url, probed.as_ref().err(), |_| {});
        self.seen(
            url,
            match probed {
                Ok(Answer::Start) => None,
                Ok(Answer::OtherVersion) => Some(format!("version: {url} does not speak AMQP 0-9-1")),
                Err(refusal) => Some(refusal.to_string()),
            },
        );
        if probed.is_ok() {
            self.refuse(false);
        }
    }

    /// A gateway was held and found no broker. From here on the ports are closed until a broker answers, unless a
    /// gateway may be in its own failover: that one has to be held again and again, and cannot be told from others.
    /// For a client that was never open an attempt that fails after TCP accept is worse than a refused one: WSO2's
    /// starts a failover beside its own retries then, and the two spoil each other's attempts.
    pub(super) fn held_in_vain(&self, now: Instant) {
        let config = self.config();
        let failover = config.hold.max(CLIENT_PATIENCE) * FAILOVER_TRIES;
        let mut brokers = config.brokers.iter().map(Url::to_string);
        let some_answers = brokers.any(|name| matches!(self.brokers.last(&name), Some(Ok(_))));
        if !some_answers && !self.ledger.relayed_within(failover, now) {
            self.refuse(true);
        }
    }

    fn refuse(&self, refusing: bool) {
        let changed = self
            .refusing
            .send_if_modified(|now| std::mem::replace(now, refusing) != refusing);
        if !changed {
            return;
        }
        self.ledger.note(|status| status.refusing = refusing);
        if refusing {
            tracing::warn!(
                "no broker answered a held gateway, and none was open lately: ports closed until one answers"
            );
        } else {
            tracing::info!("a broker answers, ports open again");
        }
    }

    fn count(&self, url: &Url, refusal: Option<&Refusal>, answered: impl FnOnce(&mut BrokerStatus)) {
        self.ledger.note(|status| {
            if let Some(broker) = status.broker_mut(&url.to_string()) {
                match refusal {
                    None => answered(broker),
                    Some(refusal) => broker.failed(refusal.class),
                }
            }
        });
    }

    /// Notes whether a broker answers; one log line for each change.
    fn seen(&self, url: &Url, reason: Option<String>) {
        let up = reason.is_none();
        let changed = self.ledger.note(|status| {
            status.broker_mut(&url.to_string()).is_some_and(|broker| {
                broker.reason.clone_from(&reason);
                let changed = broker.up.replace(up) != Some(up);
                if changed {
                    broker.since = Some(Instant::now());
                }
                changed
            })
        });
        match reason {
            _ if !changed => {}
            None => tracing::info!(broker = %url, "broker answers"),
            Some(reason) => tracing::warn!(broker = %url, %reason, "broker does not answer"),
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
            Phase::Draining { deadline, .. } => Some(deadline),
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
