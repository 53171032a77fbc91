//! Accepting gateways: plain or TLS, up to the limit, not while draining.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connection;
use super::shared::Shared;
use crate::config::Decisions;
use crate::lifecycle::{Phase, Vital};
use crate::net::{Acceptor, Listener, Ports, SocketOptions, out_of_descriptors};

/// How long accepting pauses when the process is out of file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to open a port again.
const REBIND_PAUSE: Duration = Duration::from_secs(1);
/// TCP_USER_TIMEOUT is never below this: Linux counts a closed window too, and a gateway may collect garbage.
const USER_TIMEOUT_MIN: Duration = Duration::from_secs(30);

/// An open port, accepting in a task of its own.
#[derive(Debug)]
pub(super) struct Port {
    /// As configured.
    pub(super) wanted: SocketAddr,
    /// As bound.
    pub(super) bound: SocketAddr,
    closed: CancellationToken,
}

/// Socket options of a side: keepalive 30/10/3, and a user timeout of about the heartbeat's.
pub(super) fn socket_options(heartbeat_timeout: Duration) -> SocketOptions {
    SocketOptions {
        keepalive_idle: Duration::from_secs(30),
        keepalive_interval: Duration::from_secs(10),
        keepalive_retries: 3,
        user_timeout: Some(heartbeat_timeout.max(USER_TIMEOUT_MIN)),
        ..SocketOptions::default()
    }
}

fn client_options(config: &Decisions) -> SocketOptions {
    socket_options(config.client_heartbeat.timeout())
}

/// Opens a port; gateways are accepted once [`Port::serve`] is called. Returns the address it got.
pub(super) fn open(
    addr: SocketAddr,
    config: &Decisions,
    ports: &Ports,
) -> io::Result<(Listener, SocketAddr)> {
    let socket = ports.open(addr, 1)?.pop();
    let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let listener = Listener::from_std(socket, client_options(config))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

impl Port {
    /// Accepts gateways until the port is closed or weir stops.
    pub(super) fn serve(
        shared: Arc<Shared>,
        wanted: SocketAddr,
        (listener, bound): (Listener, SocketAddr),
        acceptor: Option<Acceptor>,
        vital: Vital,
    ) -> Self {
        shared.warn_of_loopback_once(bound);
        let closed = CancellationToken::new();
        let port = Port {
            wanted,
            bound,
            closed: closed.clone(),
        };
        tokio::spawn(async move {
            tokio::select! {
                biased; // A closed port accepts no gateway.
                () = closed.cancelled() => vital.done(),
                () = run(shared, bound, listener, acceptor) => drop(vital),
            }
        });
        port
    }

    /// Accepts no gateway any more; connections stay.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }
}

async fn run(shared: Arc<Shared>, bound: SocketAddr, first: Listener, acceptor: Option<Acceptor>) {
    let (mut phase, mut refusing) = (shared.phase.clone(), shared.refusing.subscribe());
    let mut listener = Some(first);
    loop {
        let now = *phase.borrow_and_update();
        let refuse = *refusing.borrow_and_update();
        match (now, &mut listener) {
            (Phase::Stopped, _) => return,
            (Phase::Starting | Phase::Ready, Some(listener)) if !refuse => {
                tokio::select! {
                    biased; // A drain before a new gateway, and a gateway that is there before the port closes.
                    changed = phase.changed() => if changed.is_err() { return },
                    () = accept_one(&shared, listener, acceptor.as_ref()) => {}
                    // `shared` keeps the sender.
                    _ = refusing.changed() => {}
                }
            }
            (Phase::Starting | Phase::Ready, None) if !refuse => {
                match open(bound, &shared.config(), &shared.ports) {
                    Ok((again, _)) => listener = Some(again),
                    Err(error) => {
                        tracing::warn!(%error, "the port is not free yet, tried again");
                        sleep(REBIND_PAUSE).await;
                    }
                }
            }
            // The port closes, so that gateways are refused and go elsewhere at once.
            (Phase::Draining { .. } | Phase::Starting | Phase::Ready, _) => {
                listener = None;
                tokio::select! {
                    biased; // Either may open the port again.
                    changed = phase.changed() => if changed.is_err() { return },
                    _ = refusing.changed() => {}
                }
            }
        }
    }
}

/// Accepts a gateway while there are fewer than the limit: at the limit gateways wait in the kernel's accept queue, which
/// to them is a hold. Cancel safe: a gateway is accepted and registered in one step.
async fn accept_one(shared: &Arc<Shared>, listener: &mut Listener, acceptor: Option<&Acceptor>) {
    let (mut count, mut config) = (shared.connections.watch_count(), shared.config.subscribe());
    let accepted = loop {
        // Before the limit is checked: a change that comes later wakes this task.
        count.borrow_and_update();
        let (max, options) = {
            let config = config.borrow_and_update();
            (config.connections_max, client_options(&config))
        };
        listener.set_options(options);
        let accept = poll_fn(|cx| {
            shared
                .connections
                .admit(max, Instant::now(), || listener.poll_accept(cx))
        });
        let more: Result<(), watch::error::RecvError> = tokio::select! {
            biased; // A gateway first; either change may raise the limit.
            accepted = accept => break accepted,
            changed = count.changed() => changed,
            changed = config.changed() => changed,
        };
        if more.is_err() {
            return;
        }
    };
    match accepted {
        Ok(((raw, peer), admitted)) => {
            shared.warn_of_loopback_once(peer);
            tokio::spawn(connection::serve(
                Arc::clone(shared),
                raw,
                peer,
                acceptor.cloned(),
                admitted,
            ));
        }
        Err(error) if out_of_descriptors(&error) => {
            tracing::warn!(%error, "out of file descriptors, accepting rests for {EXHAUSTED_PAUSE:?}");
            sleep(EXHAUSTED_PAUSE).await;
        }
        Err(error) => tracing::debug!(%error, "accept"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_keepalive_30_10_3_and_a_user_timeout_of_its_delay_times_factor() {
        let seconds = Duration::from_secs;
        for (heartbeat, user_timeout) in [(60, 60), (4, 30)] {
            let options = socket_options(seconds(heartbeat));
            assert_eq!(
                (options.keepalive_idle, options.keepalive_interval),
                (seconds(30), seconds(10))
            );
            assert_eq!(options.keepalive_retries, 3);
            assert_eq!(options.user_timeout, Some(seconds(user_timeout)));
        }
    }
}
