//! What all connections share: the configuration in force, the dialer, what is known of brokers, and the phase.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::brokers::{Asked, Brokers};
use super::connections::Connections;
use super::frame::HEADER_BYTES;
use super::greeting::{Answer, BrokerError};
use super::listener::socket_options;
use super::probe::Probes;
use crate::config::{Decisions, Url};
use crate::lifecycle::Phase;
use crate::net::{ClientTls, Dialer, Ports};

/// How long WSO2's client waits for a broker that accepted its connection, unless configured otherwise.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// How often a client that lost its broker tries to connect again before it gives up.
const FAILOVER_TRIES: u32 = 5;

pub(super) struct Shared {
    pub(super) config: watch::Sender<Arc<Decisions>>,
    tls: ClientTls,
    pub(super) ports: Ports,
    pub(super) brokers: Brokers,
    pub(super) probes: Probes,
    pub(super) connections: Arc<Connections>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Whether gateways are refused: see [`Shared::hold_expired`].
    pub(super) refusing: watch::Sender<bool>,
    warned_of_splice: AtomicBool,
    warned_of_loopback: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        config: Decisions,
        tls: ClientTls,
        ports: Ports,
        idle_probe: Option<Duration>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            connections: Connections::new(config.brokers.iter().map(Url::to_string)),
            config: watch::Sender::new(Arc::new(config)),
            tls,
            ports,
            brokers: Brokers::default(),
            probes: Probes::new(idle_probe),
            phase,
            refusing: watch::Sender::new(false),
            warned_of_splice: AtomicBool::new(false),
            warned_of_loopback: AtomicBool::new(false),
        }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Decisions> {
        Arc::clone(&self.config.borrow())
    }

    /// Connects to brokers, with the socket options of the configuration in force.
    pub(super) fn dialer(&self) -> Dialer {
        Dialer::new(
            self.tls.clone(),
            socket_options(self.config().heartbeat.timeout()),
        )
    }

    /// Records what a broker answered, with a log line when it comes up or goes down.
    pub(super) fn record(&self, url: &Url, result: Result<Answer, &BrokerError>, asked: Asked) {
        let now = Instant::now();
        self.brokers.record(url, result.map_err(|e| e.class), asked, now);
        let reason = match result {
            // The client's own version is none of weir's business; weir's probes speak 0-9-1.
            Ok(Answer::OtherVersion) if asked == Asked::ByProbe => {
                Some(format!("version: {url} does not speak AMQP 0-9-1"))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let up = reason.is_none();
        let changed = self.connections.note(|status| {
            let Some(broker) = status.broker_mut(&url.to_string()) else {
                return false;
            };
            match result {
                Ok(_) => broker.connects_total += u64::from(asked == Asked::ByGateway),
                Err(error) => broker.failed(error.class),
            }
            broker.reason.clone_from(&reason);
            let changed = broker.up.replace(up) != Some(up);
            if changed {
                broker.since = Some(now);
            }
            changed
        });
        match reason {
            _ if !changed => {}
            None => tracing::info!(broker = %url, "broker answers"),
            Some(reason) => tracing::warn!(broker = %url, %reason, "broker does not answer"),
        }
        if result.is_ok() {
            self.refuse(false);
        }
    }

    /// A gateway was held and no broker answered. From here on the ports are closed until a broker answers, unless a
    /// gateway may be in its own failover: that one has to be held again and again, and cannot be told from others.
    /// For a client that was never open an attempt that fails after TCP accept is worse than a refused one: WSO2's
    /// starts a failover beside its own retries then, and the two spoil each other's attempts.
    pub(super) fn hold_expired(&self, now: Instant) {
        let config = self.config();
        let failover = config.hold.max(CLIENT_PATIENCE) * FAILOVER_TRIES;
        let mut brokers = config.brokers.iter().map(Url::to_string);
        let some_answers = brokers.any(|name| matches!(self.brokers.last(&name), Some(Ok(_))));
        if !some_answers && !self.connections.relayed_within(failover, now) {
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
        self.connections.note(|status| status.refusing = refusing);
        if refusing {
            tracing::warn!(
                "no broker answered a held gateway, and none was open lately: ports closed until one answers"
            );
        } else {
            tracing::info!("a broker answers, ports open again");
        }
    }

    pub(super) fn warn_of_splice_once(&self, peer: SocketAddr, header: &[u8; HEADER_BYTES]) {
        if !self.warned_of_splice.swap(true, Ordering::Relaxed) {
            let [.., a, b, c, d] = *header;
            tracing::warn!(
                %peer,
                "AMQP header {a} {b} {c} {d}: a version with another framing (0-9-1 is 0 0 9 1); such connections are \
                 relayed as bytes, without heartbeats of weir's own (said once)"
            );
        }
    }

    pub(super) fn warn_of_loopback_once(&self, address: SocketAddr) {
        if address.ip().to_canonical().is_loopback() && !self.warned_of_loopback.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %address,
                "gateways that connect over loopback name their exclusive queues after 127.0.0.1 and a port, so two \
                 gateways can collide on the broker: listen on the host's or the pod's address (said once)"
            );
        }
    }
}

/// Ends when connections must: at a drain's deadline, or at once when weir stops.
pub(super) async fn stopped(phase: &mut watch::Receiver<Phase>) {
    loop {
        let now = *phase.borrow_and_update();
        let deadline = async {
            match now {
                Phase::Stopped => {}
                Phase::Draining { deadline, .. } => sleep_until(deadline).await,
                Phase::Starting | Phase::Ready => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // A drain taken back wins over its deadline.
            changed = phase.changed() => if changed.is_err() { return },
            () = deadline => return,
        }
    }
}
