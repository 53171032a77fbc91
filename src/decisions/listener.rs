//! Accepting gateways: plain or TLS, up to the limit, not while draining.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::room::Room;
use super::session;
use crate::config::Decisions;
use crate::lifecycle::{Phase, Vital};
use crate::net::{Acceptor, Listener, Ports, SocketOptions, out_of_descriptors};

/// How long accepting rests when the process is out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to open a port again.
const REBIND_PAUSE: Duration = Duration::from_secs(1);
/// TCP_USER_TIMEOUT is never below this: Linux counts a closed window too, and a gateway may collect garbage.
const USER_TIMEOUT_MIN: Duration = Duration::from_secs(30);

/// An open port and who serves it.
#[derive(Debug)]
pub(super) struct Door {
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

/// Opens a port; gateways are accepted once [`serve`] runs.
pub(super) fn open(addr: SocketAddr, config: &Decisions, ports: &Ports) -> io::Result<Listener> {
    let socket = ports.open(addr, 1)?.pop();
    let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Listener::from_std(socket, client_options(config))
}

/// Serves a port until its door is closed or weir stops.
pub(super) fn serve(
    room: Arc<Room>,
    wanted: SocketAddr,
    listener: Listener,
    acceptor: Option<Acceptor>,
    vital: Vital,
) -> io::Result<Door> {
    let bound = listener.local_addr()?;
    room.say_loopback_once(bound);
    let closed = CancellationToken::new();
    let door = Door {
        wanted,
        bound,
        closed: closed.clone(),
    };
    tokio::spawn(async move {
        tokio::select! {
            biased; // A closed door lets nobody in.
            () = closed.cancelled() => vital.done(),
            () = run(room, bound, listener, acceptor) => drop(vital),
        }
    });
    Ok(door)
}

impl Door {
    /// Accepts nobody any more; who is in stays.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }
}

async fn run(room: Arc<Room>, bound: SocketAddr, first: Listener, acceptor: Option<Acceptor>) {
    let (mut phase, mut refusing) = (room.phase.clone(), room.refusing.subscribe());
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
                    () = accept_one(&room, listener, acceptor.as_ref()) => {}
                    // The room keeps the sender.
                    _ = refusing.changed() => {}
                }
            }
            (Phase::Starting | Phase::Ready, None) if !refuse => {
                match open(bound, &room.config(), &room.ports) {
                    Ok(again) => listener = Some(again),
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
                    biased; // Either is reason to look again.
                    changed = phase.changed() => if changed.is_err() { return },
                    _ = refusing.changed() => {}
                }
            }
        }
    }
}

/// Waits for a gateway, while there is room for one: at the limit gateways wait in the kernel's accept queue, which
/// to them is a hold. Cancel safe: a gateway is accepted and taken up in one step.
async fn accept_one(room: &Arc<Room>, listener: &mut Listener, acceptor: Option<&Acceptor>) {
    let (mut open, mut config) = (room.ledger.watch_open(), room.config.subscribe());
    let accepted = loop {
        // Before the look at the limit: a change that comes later wakes this task.
        open.borrow_and_update();
        let (max, options) = {
            let config = config.borrow_and_update();
            (config.connections_max, client_options(&config))
        };
        listener.set_options(options);
        let accept = poll_fn(|cx| {
            room.ledger
                .admit(max, Instant::now(), || listener.poll_accept(cx))
        });
        let more: Result<(), watch::error::RecvError> = tokio::select! {
            biased; // A gateway first; either change is reason enough to look again.
            accepted = accept => break accepted,
            changed = open.changed() => changed,
            changed = config.changed() => changed,
        };
        if more.is_err() {
            return;
        }
    };
    match accepted {
        Ok(((raw, peer), place)) => {
            room.say_loopback_once(peer);
            tokio::spawn(session::serve(
                Arc::clone(room),
                raw,
                peer,
                acceptor.cloned(),
                place,
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
