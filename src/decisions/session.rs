//! One gateway connection's life: opening → held → handshake → open → closing.
//!
//! Nothing is written to a gateway before a broker has answered: a gateway that is held sees an accepted,
//! silent connection and waits, where a refused one would make it back off for up to an hour.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::brokers::{Answer, Answered, attempt};
use super::frame::{HEADER_0_9_1, HEADER_BYTES, Protocol};
use super::lane::{Lane, Towards};
use super::ledger::{Leave, Stage, Ticket};
use super::pump::{End, Pump, Terms};
use super::room::{Room, over};
use super::status::Side;
use crate::config::{Decisions, Heartbeat, Url};
use crate::net::{Acceptor, Raw, Stream};

/// Deadline of the gateway's TLS handshake, then of its protocol header, then of everything from the broker's
/// Start to the gateway's Tune-Ok (which waits for the broker to check a password).
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two rounds over the brokers while a gateway is held.
const RETRY: Duration = Duration::from_millis(250);
/// A gateway that talks before it is answered is heard up to this many bytes.
const EARLY_BYTES_MAX: usize = 64 * 1024;
/// How long what is left for a side may take to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a side may take to close after weir did: closing over unread bytes would be a reset, which can
/// destroy the last words on their way.
const LINGER: Duration = Duration::from_secs(1);

/// A connection's end before it was open: a label of [`super::status::HANDSHAKE_FAILURES`].
struct Unopened(&'static str);

/// Serves a connection to its end.
pub(super) async fn serve(
    room: Arc<Room>,
    raw: Raw,
    peer: SocketAddr,
    acceptor: Option<Acceptor>,
    (ticket, mut wishes): (Ticket, watch::Receiver<Leave>),
) {
    if let Err(Unopened(reason)) = live(&room, raw, peer, acceptor, &ticket, &mut wishes).await {
        ticket.note(|s| s.handshake_failed(reason));
        tracing::debug!(%peer, reason, "gateway connection ended before it was open");
    }
}

async fn live(
    room: &Room,
    raw: Raw,
    peer: SocketAddr,
    acceptor: Option<Acceptor>,
    ticket: &Ticket,
    wishes: &mut watch::Receiver<Leave>,
) -> Result<(), Unopened> {
    let accepted = Instant::now();
    let mut phase = room.phase.clone();
    let mut client = tokio::select! {
        biased; // The end of weir first.
        () = over(&mut phase) => return Err(Unopened("drain")),
        shaken = shake(raw, acceptor) => shaken?,
    };
    let mut early = BytesMut::new();
    let config = room.config();
    let found = tokio::select! {
        biased; // The end of weir first; a gateway that has gone needs no broker.
        () = over(&mut phase) => Err(Unopened("drain")),
        found = find(room, &config, &mut client, &mut early, accepted, ticket) => found,
    };
    let (header, protocol, url, answered) = match found {
        Ok(found) => found,
        Err(unopened) => {
            ticket.enter(Stage::Closing, Instant::now());
            farewell(client, BytesMut::new()).await;
            return Err(unopened);
        }
    };
    let Answered {
        stream: broker,
        first,
        answer,
    } = answered;
    if answer == Answer::OtherVersion {
        // The broker's header tells the client which version to come back with.
        farewell(client, first).await;
        return Err(Unopened("version_refused"));
    }
    ticket.placed(url.to_string());
    let framed = protocol != Protocol::Opaque;
    if framed {
        ticket.enter(Stage::Handshake, Instant::now());
    } else {
        room.say_spliced_once(peer, &header);
        ticket.enter(Stage::Spliced, Instant::now());
    }
    let terms = Terms {
        handshake_deadline: framed.then(|| Instant::now() + HANDSHAKE_TIMEOUT),
        broker_delay: Duration::from_secs(delay_seconds(&config.heartbeat).into()),
        broker_timeout_factor: config.heartbeat.timeout_factor,
        client_timeout_factor: config.client_heartbeat.timeout_factor,
    };
    let to_client = Lane::new(
        protocol,
        Towards::Client,
        delay_seconds(&config.client_heartbeat),
        first,
        0,
    );
    let to_broker = Lane::new(
        protocol,
        Towards::Broker,
        delay_seconds(&config.heartbeat),
        early,
        HEADER_BYTES as u64,
    );
    let mut pump = Pump::new(client, broker, to_client, to_broker, terms, ticket);
    let end = pump.run(over(&mut phase), wishes).await;
    let opened = !framed || pump.opened();
    report(&end, peer, &url, opened, ticket);
    ticket.enter(Stage::Closing, Instant::now());
    let Pump {
        client,
        broker,
        to_client,
        to_broker,
        ..
    } = pump;
    tokio::join!(
        part(client.stream, to_client.outbox, Side::Client, &end),
        part(broker.stream, to_broker.outbox, Side::Broker, &end),
    );
    if opened {
        Ok(())
    } else {
        Err(Unopened(unopened(&end)))
    }
}

async fn shake(raw: Raw, acceptor: Option<Acceptor>) -> Result<Stream, Unopened> {
    let Some(acceptor) = acceptor else {
        return Ok(Stream::Plain(raw));
    };
    acceptor.handshake(raw, HANDSHAKE_TIMEOUT).await.map_err(|error| {
        tracing::debug!(%error, "gateway's TLS handshake");
        Unopened("tls")
    })
}

/// Reads the protocol header and finds a broker that answers it, for as long as the gateway may be held.
async fn find(
    room: &Room,
    config: &Decisions,
    client: &mut Stream,
    early: &mut BytesMut,
    accepted: Instant,
    ticket: &Ticket,
) -> Result<([u8; HEADER_BYTES], Protocol, Url, Answered), Unopened> {
    let header = match timeout(HANDSHAKE_TIMEOUT, read_header(client, early)).await {
        Ok(header) => header?,
        Err(_) => return Err(Unopened("timeout")),
    };
    let Some(protocol) = Protocol::of(&header) else {
        // What a server says to bytes that are not AMQP (AMQP 0-9-1, 4.2.2); the caller closes.
        let _ = timeout(FLUSH_TIMEOUT, client.write_all(&HEADER_0_9_1)).await;
        return Err(Unopened("not_amqp"));
    };
    ticket.enter(Stage::Held, Instant::now());
    let (url, answered) = tokio::select! {
        biased; // A gateway that has gone needs no broker.
        () = gone(client, early) => return Err(Unopened("client_gone")),
        found = choose(room, config, &header, accepted + config.hold, ticket) => found.ok_or(Unopened("no_broker"))?,
    };
    Ok((header, protocol, url, answered))
}

/// The first eight bytes, or as many as show that they are not AMQP.
async fn read_header(client: &mut Stream, early: &mut BytesMut) -> Result<[u8; HEADER_BYTES], Unopened> {
    loop {
        if let Some(header) = early.first_chunk::<HEADER_BYTES>() {
            let header = *header;
            early.advance(HEADER_BYTES);
            return Ok(header);
        }
        if !early.iter().zip(b"AMQP").all(|(a, b)| a == b) {
            return Ok([0; HEADER_BYTES]);
        }
        match client.read_buf(early).await {
            Ok(n) if n > 0 => {}
            _ => return Err(Unopened("client_gone")),
        }
    }
}

/// Ends when the gateway closes; what it says meanwhile is kept.
async fn gone(client: &mut Stream, early: &mut BytesMut) {
    while early.len() < EARLY_BYTES_MAX {
        match client.read_buf(early).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
    // It talks too much to be listened to any further; the hold ends by its own deadline.
    std::future::pending().await
}

/// Tries the brokers, round after round, until one answers or the hold ends. The first round is always
/// finished: a hold of zero still means every broker once.
async fn choose(
    room: &Room,
    config: &Decisions,
    header: &[u8; HEADER_BYTES],
    until: Instant,
    ticket: &Ticket,
) -> Option<(Url, Answered)> {
    let mut failed: Vec<Url> = Vec::new();
    let mut held = false;
    loop {
        for url in room.brokers.order(&config.brokers, config.policy, Instant::now()) {
            let trying = attempt(&room.dialer, &url, header);
            let tried = if held {
                timeout_at(until, trying).await.ok()?
            } else {
                trying.await
            };
            room.tried(&url, tried.as_ref().err());
            match tried {
                Ok(answered) => {
                    ticket.note(|s| {
                        failed
                            .iter()
                            .filter(|f| **f != url)
                            .for_each(|f| s.broker_mut(&f.to_string()).failovers_total += 1)
                    });
                    return Some((url, answered));
                }
                Err(_) if failed.contains(&url) => {}
                Err(_) => failed.push(url),
            }
        }
        if Instant::now() + RETRY >= until {
            return None;
        }
        if !held {
            held = true;
            ticket.note(|s| s.holds_total += 1);
        }
        sleep(RETRY).await;
    }
}

/// A delay as Tune has it: whole seconds, rounded up.
fn delay_seconds(heartbeat: &Heartbeat) -> u16 {
    let delay = heartbeat.delay;
    let seconds = delay
        .as_secs()
        .saturating_add(u64::from(delay.subsec_nanos() > 0));
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

fn report(end: &End, peer: SocketAddr, broker: &Url, opened: bool, ticket: &Ticket) {
    match end {
        End::Dead(side) => {
            ticket.note(|s| s.side(*side).dead_total += 1);
            tracing::warn!(%peer, %broker, side = side.as_str(), "no byte for delay × timeout_factor: dead, connection ended");
        }
        End::Bad(side, bad) => {
            ticket.note(|s| s.bad_frames_total += 1);
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
        End::Left => {
            tracing::info!(%peer, %broker, "connection ended at a quiet moment, so that the gateway connects anew")
        }
        End::Over => tracing::debug!(%peer, %broker, "connection ended with weir"),
    }
}

fn unopened(end: &End) -> &'static str {
    match end {
        End::Closed(Side::Client) | End::Failed(Side::Client, _) => "client_gone",
        End::Closed(Side::Broker) | End::Failed(Side::Broker, _) => "broker_closed",
        End::Bad(..) => "bad_frame",
        End::HandshakeTimeout => "timeout",
        End::Over => "drain",
        End::Dead(_) | End::Left => "other",
    }
}

/// Ends one side as the end of all demands: a side that is dead or broken is reset, any other gets what was
/// whole and a proper close, the signal that starts a client's own failover.
async fn part(stream: Stream, left: BytesMut, side: Side, end: &End) {
    match end {
        End::Dead(s) | End::Failed(s, _) if *s == side => stream.abort(),
        _ => farewell(stream, left).await,
    }
}

/// Sends what is left, closes, and waits a little for the peer to close as well.
async fn farewell(mut stream: Stream, left: BytesMut) {
    let close = async {
        stream.write_all(&left).await?;
        stream.shutdown().await
    };
    if !matches!(timeout(FLUSH_TIMEOUT, close).await, Ok(Ok(()))) {
        return stream.abort();
    }
    let drain = async {
        let mut scrap = [0; 2048];
        while matches!(stream.read(&mut scrap).await, Ok(n) if n > 0) {}
    };
    let _ = timeout(LINGER, drain).await;
}
