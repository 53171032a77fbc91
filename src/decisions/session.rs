//! One gateway connection's life: opening → held → handshake → open → closing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::time::Instant;

use super::brokers::{Answer, Answered};
use super::end::{Unopened, farewell, part, report, unopened};
use super::frame::{HEADER_BYTES, Protocol};
use super::lane::{Lane, Towards};
use super::ledger::{Place, Ticket};
use super::opening::{Found, find};
use super::pair::Pair;
use super::pump::{Pump, Terms};
use super::room::{Room, over};
use super::stage::{Leave, Stage};
use super::status::Side;
use crate::config::Heartbeat;
use crate::net::{Acceptor, Raw, Stream};

/// Deadline of the gateway's TLS handshake, then of its protocol header, then of everything from the broker's
/// Start to the gateway's Tune-Ok (which waits for the broker to check a password).
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a connection to its end.
pub(super) async fn serve(
    room: Arc<Room>,
    raw: Raw,
    peer: SocketAddr,
    acceptor: Option<Acceptor>,
    (ticket, mut wishes): Place,
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
    let found = tokio::select! {
        biased; // The end of weir first; a gateway that has gone needs no broker.
        () = over(&mut phase) => Err(Unopened("drain")),
        found = find(room, &mut client, &mut early, accepted, ticket) => found,
    };
    let Found {
        header,
        protocol,
        url,
        answered,
    } = match found {
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
    let config = room.config();
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
    let pair = Pair::new(client, broker, to_client, to_broker);
    let mut pump = Pump::new(pair, terms, ticket);
    let end = pump.run(over(&mut phase), wishes).await;
    let opened = !framed || pump.opened();
    report(&end, peer, &url, opened, ticket);
    ticket.enter(Stage::Closing, Instant::now());
    let Pair {
        client,
        broker,
        to_client,
        to_broker,
    } = pump.pair;
    tokio::join!(
        part(client.stream, to_client.outbox, Side::Client, &end),
        part(broker.stream, to_broker.outbox, Side::Broker, &end),
    );
    if opened { Ok(()) } else { Err(unopened(&end)) }
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

/// A delay as Tune has it: whole seconds, rounded up.
fn delay_seconds(heartbeat: &Heartbeat) -> u16 {
    let delay = heartbeat.delay;
    let seconds = delay
        .as_secs()
        .saturating_add(u64::from(delay.subsec_nanos() > 0));
    u16::try_from(seconds).unwrap_or(u16::MAX)
}
