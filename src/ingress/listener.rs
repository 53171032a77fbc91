//! Accepts gateways up to the limit, pauses when the process is out of descriptors, and waits for no TLS handshake.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Ingress;
use super::connection::Connection;
use crate::net::{Acceptor, Listener, Raw, Stream, out_of_descriptors};

/// Pause after the process ran out of descriptors; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Serves one listening socket until a successor does; with an [`Acceptor`] it speaks TLS.
pub async fn listen(ingress: Rc<Ingress>, listener: Listener, tls: Option<Acceptor>) {
    let succeeded = ingress.succeeded.clone();
    tokio::select! {
        biased; // No connection is accepted after that: it would stay.
        () = succeeded.cancelled() => {}
        () = accept(&ingress, listener, tls) => {}
    }
}

async fn accept(ingress: &Rc<Ingress>, mut listener: Listener, tls: Option<Acceptor>) {
    let mut pause = PAUSE_MIN;
    loop {
        wait_for_capacity(ingress).await;
        match listener.accept().await {
            Ok((mut raw, peer)) => {
                // From here on every end of the connection is a reset, a crash of the process included: a gateway
                // would take the end of the stream for a reply.
                raw.reset_on_close();
                pause = PAUSE_MIN;
                // The other listener may have reached the limit meanwhile.
                wait_for_capacity(ingress).await;
                accepted(ingress, raw, peer, tls.clone());
            }
            Err(e) if out_of_descriptors(&e) => {
                ingress.stats().accept_paused_total += 1;
                ingress.warn(
                    None,
                    &format!(
                        "cannot accept: {e}; pausing for {pause:?} (raise LimitNOFILE or lower listen.max_connections)"
                    ),
                );
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // The peer was gone before it was accepted.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                ingress.warn(None, &format!("cannot accept: {e}"));
                sleep(pause).await;
            }
        }
    }
}

/// How long connections may be at the limit before the log says so: a probe is connected for an instant.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Waits until one more connection is allowed.
async fn wait_for_capacity(ingress: &Ingress) {
    if ingress.has_capacity() {
        return;
    }
    let capacity = async {
        while !ingress.has_capacity() {
            ingress.connection_closed.notified().await;
        }
    };
    tokio::pin!(capacity);
    if timeout(FULL_FOR, &mut capacity).await.is_ok() {
        return;
    }
    if ingress.sees_full(Instant::now()) {
        tracing::warn!(
            connections = ingress.open_connections(),
            "all gateway connections are in use, further ones wait (raise listen.max_connections, or see who holds them)"
        );
    }
    capacity.await;
    ingress.sees_full(Instant::now());
}

fn accepted(ingress: &Rc<Ingress>, raw: Raw, peer: SocketAddr, tls: Option<Acceptor>) {
    ingress.stats().accepted_total += 1;
    let of_address = ingress.addresses.borrow().connections(address(peer));
    if ingress
        .settings()
        .connections_per_address_max
        .is_some_and(|max| of_address >= max)
    {
        ingress.stats().reset_per_address_total += 1;
        ingress.warn(
            Some(peer),
            "connection reset: its address has listen.max_connections_per_address already",
        );
        raw.abort();
        return;
    }
    let open = Open::new(ingress, peer, tls.is_some());
    tokio::task::spawn_local(async move {
        open.live(raw, tls).await;
    });
}

/// An IPv4 address is the same one on an IPv6 socket.
pub(super) fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

/// An open connection, counted until it is dropped.
struct Open {
    ingress: Rc<Ingress>,
    peer: SocketAddr,
    tls: bool,
    /// [`super::handler::Handler::number`], at its end.
    number: Cell<u32>,
}

impl Open {
    fn new(ingress: &Rc<Ingress>, peer: SocketAddr, tls: bool) -> Self {
        let open = Self {
            ingress: Rc::clone(ingress),
            peer,
            tls,
            number: Cell::new(0),
        };
        open.count(|n| *n += 1);
        ingress.addresses.borrow_mut().opened(address(peer));
        open
    }

    async fn live(&self, raw: Raw, tls: Option<Acceptor>) {
        let stream = match tls {
            None => Stream::Plain(raw),
            // Boxed: a connection's task reserves space for the largest future it ever awaits.
            Some(acceptor) => {
                match Box::pin(acceptor.handshake(raw, self.ingress.settings().handshake_timeout)).await {
                    Ok(stream) => stream,
                    Err(e) => {
                        self.ingress.stats().handshake_failed_total += 1;
                        tracing::debug!(peer = %self.peer, error = %e, "TLS handshake failed");
                        return;
                    }
                }
            }
        };
        let mut connection = Connection::new(Rc::clone(&self.ingress), stream, self.peer);
        connection.serve().await;
        self.number.set(connection.handler.number());
    }

    fn count(&self, change: impl FnOnce(&mut u64)) {
        let mut stats = self.ingress.stats();
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
        let mut addresses = self.ingress.addresses.borrow_mut();
        addresses.closed(address(self.peer), self.number.get());
        drop(addresses);
        // Wakes all listeners: one of them may be a port that no gateway uses.
        self.ingress.connection_closed.notify_waiters();
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
