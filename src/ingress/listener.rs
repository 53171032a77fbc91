//! Accepts gateways: never more than are allowed, never faster than the process can bear, and without
//! waiting for anybody's TLS handshake.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::gate::Gate;
use super::session::Session;
use crate::net::{Acceptor, Listener, Raw, Stream, out_of_descriptors};

/// Pause after the process ran out of descriptors; each further one doubles it up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Serves one listening socket until a successor does; with an [`Acceptor`] it speaks TLS.
pub async fn listen(gate: Rc<Gate>, listener: Listener, tls: Option<Acceptor>) {
    let succeeded = gate.succeeded.clone();
    tokio::select! {
        // At once: whoever is accepted later would stay.
        biased;
        () = succeeded.cancelled() => {}
        () = accept(&gate, listener, tls) => {}
    }
}

async fn accept(gate: &Rc<Gate>, mut listener: Listener, tls: Option<Acceptor>) {
    let mut pause = PAUSE.0;
    loop {
        room(gate).await;
        match listener.accept().await {
            Ok((mut raw, peer)) => {
                // Whatever ends the connection from here on, a crash of the process included, ends it with a
                // reset: a gateway would take the end of the stream for an answer.
                raw.reset_on_close();
                pause = PAUSE.0;
                // The other listener may have given the last place away meanwhile.
                room(gate).await;
                accepted(gate, raw, peer, tls.clone());
            }
            Err(e) if out_of_descriptors(&e) => {
                gate.stats().accept_paused_total += 1;
                warn(
                    gate,
                    None,
                    &format!(
                        "cannot accept: {e}; pausing for {pause:?} (raise LimitNOFILE or lower listen.max_connections)"
                    ),
                );
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
            // The peer was gone before it was accepted.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                warn(gate, None, &format!("cannot accept: {e}"));
                sleep(pause).await;
            }
        }
    }
}

/// How long all places may be taken before the log says so: a probe takes one for an instant.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Until one more connection is allowed.
async fn room(gate: &Gate) {
    if gate.has_place() {
        return;
    }
    let place = async {
        while !gate.has_place() {
            gate.connection_closed.notified().await;
        }
    };
    tokio::pin!(place);
    if timeout(FULL_FOR, &mut place).await.is_ok() {
        return;
    }
    if gate.sees_full(Instant::now()) {
        tracing::warn!(
            connections = gate.open_connections(),
            "all gateway connections are in use, further ones wait (raise listen.max_connections, or see who holds them)"
        );
    }
    place.await;
    gate.sees_full(Instant::now());
}

fn accepted(gate: &Rc<Gate>, raw: Raw, peer: SocketAddr, tls: Option<Acceptor>) {
    gate.stats().accepted_total += 1;
    if !gate.has_place_for(address(peer)) {
        gate.stats().reset_per_address_total += 1;
        warn(
            gate,
            Some(peer),
            "connection reset: its address has listen.max_connections_per_address already",
        );
        raw.abort();
        return;
    }
    let open = Open::new(gate, peer, tls.is_some());
    tokio::task::spawn_local(async move {
        open.live(raw, tls).await;
    });
}

/// An IPv4 address is the same one on an IPv6 socket.
pub(super) fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// A line about a bad peer, if it is time for one.
pub(super) fn warn(gate: &Gate, peer: Option<SocketAddr>, what: &str) {
    let peer = peer.map(tracing::field::display);
    match gate.may_warn(Instant::now()) {
        Some(0) => tracing::warn!(peer, "{what}"),
        Some(left_out) => tracing::warn!(peer, left_out, "{what}"),
        None => tracing::debug!(peer, "{what}"),
    }
}

/// Counts a connection as long as it lives.
struct Open {
    gate: Rc<Gate>,
    peer: SocketAddr,
    tls: bool,
    /// At its end.
    number: Cell<u32>,
}

impl Open {
    fn new(gate: &Rc<Gate>, peer: SocketAddr, tls: bool) -> Self {
        let open = Self {
            gate: Rc::clone(gate),
            peer,
            tls,
            number: Cell::new(0),
        };
        open.count(|n| *n += 1);
        gate.count_address(address(peer));
        open
    }

    async fn live(&self, raw: Raw, tls: Option<Acceptor>) {
        let stream = match tls {
            None => Stream::Plain(raw),
            // Apart: a connection's task keeps room for the largest thing it ever waits for.
            Some(acceptor) => {
                match Box::pin(acceptor.handshake(raw, self.gate.settings().handshake_timeout)).await {
                    Ok(stream) => stream,
                    Err(e) => {
                        self.gate.stats().handshake_failed_total += 1;
                        tracing::debug!(peer = %self.peer, error = %e, "TLS handshake failed");
                        return;
                    }
                }
            }
        };
        let mut session = Session::new(Rc::clone(&self.gate), stream, self.peer);
        session.serve().await;
        self.number.set(session.replies.number);
    }

    fn count(&self, change: impl FnOnce(&mut u64)) {
        let mut stats = self.gate.stats();
        change(if self.tls {
            &mut stats.connections_tls
        } else {
            &mut stats.connections_tcp
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count(|n| *n -= 1);
        self.gate.uncount_address(address(self.peer), self.number.get());
        // All listeners look: the one that is woken may be the one nobody connects to.
        self.gate.connection_closed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn life(open: Open, raw: Raw, tls: Option<Acceptor>) {
        open.live(raw, tls).await;
    }

    fn bytes<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_connection_is_small_as_thousands_of_them_idle() {
        let bytes = bytes(life);
        assert!(bytes <= 720, "{bytes} bytes");
    }
}
