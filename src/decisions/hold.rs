//! A gateway before it has a broker: its protocol header, and the hold.
//!
//! Nothing is written to a gateway before a broker has answered: a gateway that is held sees an accepted,
//! silent connection and waits, where a refused one would make it back off for up to an hour.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::brokers::Asked;
use super::connection::{FLUSH_TIMEOUT, HANDSHAKE_TIMEOUT, Unopened};
use super::connections::Registration;
use super::frame::{HEADER_0_9_1, HEADER_BYTES, Protocol};
use super::greeting::{Answered, connect};
use super::probe::Waiting;
use super::shared::Shared;
use super::status::State;
use crate::config::Url;
use crate::net::Stream;

/// From the answer of a broker to the choice among those that answer.
const SETTLE: Duration = Duration::from_millis(20);
/// So many bytes are read from a gateway before a broker has answered.
const EARLY_BYTES_MAX: usize = 64 * 1024;

/// A gateway's protocol, and the broker that answered it.
pub(super) struct Found {
    pub(super) header: [u8; HEADER_BYTES],
    pub(super) protocol: Protocol,
    pub(super) url: Url,
    pub(super) answered: Answered,
}

/// Reads the protocol header and finds a broker that answers it, for as long as the gateway may be held.
pub(super) async fn find_broker(
    shared: &Shared,
    client: &mut Stream,
    early: &mut BytesMut,
    accepted: Instant,
    registration: &Registration,
) -> Result<Found, Unopened> {
    let header = timeout(HANDSHAKE_TIMEOUT, read_header(client, early)).await;
    let header = header.map_err(|_| Unopened("timeout"))??;
    let Some(protocol) = Protocol::of(&header) else {
        // A server's answer to bytes that are not AMQP (AMQP 0-9-1, 4.2.2); the caller closes.
        let _ = timeout(FLUSH_TIMEOUT, client.write_all(&HEADER_0_9_1)).await;
        return Err(Unopened("not_amqp"));
    };
    let (url, answered) = tokio::select! {
        biased; // A gateway that has gone needs no broker.
        () = gone(client, early) => return Err(Unopened("client_gone")),
        found = choose(shared, &header, accepted, registration) => found.ok_or_else(|| {
            shared.hold_expired(Instant::now());
            Unopened("no_broker")
        })?,
    };
    Ok(Found {
        header,
        protocol,
        url,
        answered,
    })
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

/// Ends when the gateway closes; what it sends meanwhile is kept.
async fn gone(client: &mut Stream, early: &mut BytesMut) {
    while early.len() < EARLY_BYTES_MAX {
        match client.read_buf(early).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
    // Nothing more is read; the hold ends by its own deadline.
    std::future::pending().await
}

/// Tries every broker once; while none answers, waits for the shared probe to find one that does and tries that,
/// until the hold ends. Each round uses the configuration then in force. The first round is always finished: a hold
/// of zero still tries every broker once.
async fn choose(
    shared: &Shared,
    header: &[u8; HEADER_BYTES],
    accepted: Instant,
    registration: &Registration,
) -> Option<(Url, Answered)> {
    let mut failed: Vec<Url> = Vec::new();
    let mut waiting: Option<Waiting<'_>> = None;
    loop {
        let config = shared.config();
        let dialer = shared.dialer();
        let until = accepted + config.hold;
        for url in shared
            .brokers
            .order(&config.brokers, config.policy, Instant::now())
        {
            let connecting = connect(&dialer, &url, header);
            let result = match waiting {
                None => connecting.await,
                Some(_) if !matches!(shared.brokers.last(&url.to_string()), Some(Ok(_))) => continue,
                Some(_) => timeout_at(until, connecting).await.ok()?,
            };
            let answer = result.as_ref().map(|answered| answered.answer);
            shared.record(&url, answer, Asked::ByGateway);
            match result {
                Ok(answered) => {
                    // Placed before the configuration is read, which a reload changes before it reads the
                    // placements: one of the two sees the other.
                    registration.placed(url.to_string());
                    if !shared.config().brokers.contains(&url) {
                        continue;
                    }
                    registration.note(|status| {
                        for other in failed.iter().filter(|f| **f != url) {
                            if let Some(broker) = status.broker_mut(&other.to_string()) {
                                broker.failovers_total += 1;
                            }
                        }
                    });
                    return Some((url, answered));
                }
                Err(_) if failed.contains(&url) => {}
                Err(_) => failed.push(url),
            }
        }
        if Instant::now() >= until {
            return None;
        }
        let waiting = waiting.get_or_insert_with(|| {
            registration.enter(State::Held, Instant::now());
            registration.note(|s| s.holds_total += 1);
            shared.probes.wait()
        });
        // An answer that came since the round is missed here: the next probe is a quarter of a second away.
        timeout_at(until, waiting.answers().changed()).await.ok()?.ok()?;
        if config.brokers.len() > 1 {
            // A preferred broker that is back at the same moment should win, whichever probe ends first.
            sleep(SETTLE).await;
        }
    }
}
