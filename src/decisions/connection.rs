//! One gateway connection's life: opening → held → handshake → open → closing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::connections::{Admitted, LeaveRequest, Registration};
use super::direction::Direction;
use super::frame::Protocol;
use super::greeting::Answer;
use super::hold::find_broker;
use super::relay::{End, Relay, Terms};
use super::shared::{Shared, stopped};
use super::status::{Side, Sides, State};
use crate::config::{Heartbeat, Url};
use crate::net::{Acceptor, Raw, Stream};

/// Deadline of the gateway's TLS handshake, then of its protocol header, then of everything from the broker's
/// Start to the gateway's Tune-Ok (which waits for the broker to check a password).
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what is left for a side may take to be sent, and then to close.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection's end before it was open: a label of [`super::HANDSHAKE_FAILURES`].
pub(super) struct Unopened(pub(super) &'static str);

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    raw: Raw,
    peer: SocketAddr,
    acceptor: Option<Acceptor>,
    (registration, mut requests): Admitted,
) {
    let served = run(&shared, raw, peer, acceptor, &registration, &mut requests).await;
    if let Err(Unopened(reason)) = served {
        registration.note(|s| s.handshake_failed(reason));
        tracing::debug!(%peer, reason, "gateway connection ended before it was open");
    }
}

async fn run(
    shared: &Shared,
    raw: Raw,
    peer: SocketAddr,
    acceptor: Option<Acceptor>,
    registration: &Registration,
    requests: &mut watch::Receiver<Option<LeaveRequest>>,
) -> Result<(), Unopened> {
    let accepted = Instant::now();
    let mut phase = shared.phase.clone();
    let mut client = tokio::select! {
        biased; // The end of weir first.
        () = stopped(&mut phase) => return Err(Unopened("drain")),
        client = tls_handshake(raw, acceptor) => client?,
    };
    let mut early = BytesMut::new();
    let found = tokio::select! {
        biased; // The end of weir first; a gateway that has gone needs no broker.
        () = stopped(&mut phase) => Err(Unopened("drain")),
        found = find_broker(shared, &mut client, &mut early, accepted, registration) => found,
    };
    let found = match found {
        Ok(found) => found,
        Err(unopened) => {
            registration.enter(State::Closing, Instant::now());
            flush_and_close(client, BytesMut::new()).await;
            return Err(unopened);
        }
    };
    let (protocol, url, broker) = (found.protocol, found.url, found.answered);
    if broker.answer == Answer::OtherVersion {
        // The broker's header tells the client which version to come back with.
        flush_and_close(client, broker.first).await;
        return Err(Unopened("version_refused"));
    }
    let config = shared.config();
    let framed = protocol != Protocol::Opaque;
    if framed {
        registration.enter(State::Handshake, Instant::now());
    } else {
        shared.warn_of_splice_once(peer, &found.header);
        registration.enter(State::Spliced, Instant::now());
    }
    let (client_seconds, broker_seconds) = (
        delay_seconds(&config.client_heartbeat),
        delay_seconds(&config.heartbeat),
    );
    let terms = Terms {
        handshake_deadline: framed.then(|| Instant::now() + HANDSHAKE_TIMEOUT),
        broker_delay: Duration::from_secs(broker_seconds.into()),
        timeout_factor: Sides {
            client: config.client_heartbeat.timeout_factor,
            broker: config.heartbeat.timeout_factor,
        },
    };
    let streams = Sides {
        client,
        broker: broker.stream,
    };
    let towards = Sides {
        client: Direction::new(protocol, Side::Client, client_seconds, broker.first),
        broker: Direction::new(protocol, Side::Broker, broker_seconds, early),
    };
    let mut relay = Relay::new(streams, towards, terms, registration);
    let end = relay.run(stopped(&mut phase), requests).await;
    let opened = relay.opened();
    report(&end, peer, &url, opened, registration);
    registration.enter(State::Closing, Instant::now());
    let Relay { peers, towards, .. } = relay;
    tokio::join!(
        close(peers.client.stream, towards.client.outbox, Side::Client, &end),
        close(peers.broker.stream, towards.broker.outbox, Side::Broker, &end),
    );
    if opened { Ok(()) } else { Err(unopened(&end)) }
}

async fn tls_handshake(raw: Raw, acceptor: Option<Acceptor>) -> Result<Stream, Unopened> {
    let Some(acceptor) = acceptor else {
        return Ok(Stream::Plain(raw));
    };
    acceptor.handshake(raw, HANDSHAKE_TIMEOUT).await.map_err(|error| {
        tracing::debug!(%error, "gateway's TLS handshake");
        Unopened("tls")
    })
}

/// A delay as Tune has it: whole seconds, rounded up.
fn delay_seconds(heartbeat: &Heartbeat) -> u16 {
    let delay = heartbeat.delay;
    let seconds = delay
        .as_secs()
        .saturating_add(u64::from(delay.subsec_nanos() > 0));
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

/// Logs and counts an end.
fn report(end: &End, peer: SocketAddr, broker: &Url, opened: bool, registration: &Registration) {
    match end {
        End::Dead(side) => {
            registration.note(|s| s.side(*side).dead_total += 1);
            tracing::warn!(%peer, %broker, side = side.as_str(), "no byte for delay × timeout_factor: dead, connection ended");
        }
        End::Bad(side, bad) => {
            registration.note(|s| s.bad_frames_total += 1);
            tracing::warn!(%peer, %broker, side = side.as_str(), %bad, "framing lost, both sides closed");
        }
        End::HandshakeTimeout => {
            tracing::warn!(%peer, %broker, "no Tune-Ok within {HANDSHAKE_TIMEOUT:.0?} of Start")
        }
        End::Failed(side, error) => {
            tracing::info!(%peer, %broker, side = side.as_str(), %error, opened, "connection broke")
        }
        End::Closed(side) => {
            tracing::info!(%peer, %broker, side = side.as_str(), opened, "connection closed")
        }
        End::Left { quiet } => {
            tracing::info!(%peer, %broker, quiet, "connection ended so that the gateway reconnects")
        }
        End::Stopped => tracing::debug!(%peer, %broker, "connection ended with weir"),
    }
}

fn unopened(end: &End) -> Unopened {
    Unopened(match end {
        End::Closed(Side::Client) | End::Failed(Side::Client, _) => "client_gone",
        End::Closed(Side::Broker) | End::Failed(Side::Broker, _) => "broker_closed",
        End::Bad(..) => "bad_frame",
        End::HandshakeTimeout => "timeout",
        End::Stopped => "drain",
        End::Dead(_) | End::Left { .. } => "other",
    })
}

/// Closes one side: a side that is dead or broken is reset, any other gets what was whole and a proper close, the signal
/// that starts a client's own failover.
async fn close(stream: Stream, left: BytesMut, side: Side, end: &End) {
    match end {
        End::Dead(s) | End::Failed(s, _) if *s == side => stream.abort(),
        _ => flush_and_close(stream, left).await,
    }
}

/// Sends what is left and closes.
pub(super) async fn flush_and_close(mut stream: Stream, left: BytesMut) {
    match timeout(FLUSH_TIMEOUT, stream.write_all(&left)).await {
        // Closing lingers until the peer has closed too, so that no reset overtakes the last bytes.
        Ok(Ok(())) => drop(timeout(FLUSH_TIMEOUT, stream.close()).await),
        _ => stream.abort(),
    }
}
