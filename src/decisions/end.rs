//! How a connection ends, what is said and counted about it, and how each side is closed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::lane::BadStream;
use super::ledger::Ticket;
use super::session::HANDSHAKE_TIMEOUT;
use super::status::Side;
use crate::config::Url;
use crate::net::Stream;

/// How long what is left for a side may take to be sent, and then the closing.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection's end before it was open: a label of [`super::status::HANDSHAKE_FAILURES`].
pub(super) struct Unopened(pub(super) &'static str);

/// Why the relaying ended.
#[derive(Debug)]
pub(super) enum End {
    /// This side closed.
    Closed(Side),
    /// This side's connection broke.
    Failed(Side, io::Error),
    /// This side was silent for too long.
    Dead(Side),
    /// This side's bytes are no frames.
    Bad(Side, BadStream),
    /// No Tune-Ok in time.
    HandshakeTimeout,
    /// As it was asked to.
    Left {
        /// At a quiet moment; else at the latest time.
        quiet: bool,
    },
    /// Weir stops.
    Over,
}

pub(super) fn report(end: &End, peer: SocketAddr, broker: &Url, opened: bool, ticket: &Ticket) {
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
        End::Left { quiet: true } => {
            tracing::info!(%peer, %broker, "connection ended at a quiet moment, so that the gateway connects anew")
        }
        End::Left { quiet: false } => {
            tracing::info!(%peer, %broker, "connection ended although it was never quiet, so that the gateway connects anew")
        }
        End::Over => tracing::debug!(%peer, %broker, "connection ended with weir"),
    }
}

pub(super) fn unopened(end: &End) -> Unopened {
    Unopened(match end {
        End::Closed(Side::Client) | End::Failed(Side::Client, _) => "client_gone",
        End::Closed(Side::Broker) | End::Failed(Side::Broker, _) => "broker_closed",
        End::Bad(..) => "bad_frame",
        End::HandshakeTimeout => "timeout",
        End::Over => "drain",
        End::Dead(_) | End::Left { .. } => "other",
    })
}

/// Ends one side as the end of all demands: a side that is dead or broken is reset, any other gets what was
/// whole and a proper close, the signal that starts a client's own failover.
pub(super) async fn part(stream: Stream, left: BytesMut, side: Side, end: &End) {
    match end {
        End::Dead(s) | End::Failed(s, _) if *s == side => stream.abort(),
        _ => farewell(stream, left).await,
    }
}

/// Sends what is left and closes.
pub(super) async fn farewell(mut stream: Stream, left: BytesMut) {
    match timeout(FLUSH_TIMEOUT, stream.write_all(&left)).await {
        // Closing lingers until the peer has closed too, so that no reset overtakes the last words.
        Ok(Ok(())) => drop(timeout(FLUSH_TIMEOUT, stream.close()).await),
        _ => stream.abort(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::Instant;

    use super::*;
    use crate::config::Scheme;
    use crate::decisions::ledger::Ledger;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_an_end_at_a_quiet_moment_is_logged_as_one() {
        let (ticket, _wishes) = Ledger::new(std::iter::empty()).open(Instant::now());
        let broker = Url {
            scheme: Scheme::Tcp,
            host: "tm1".into(),
            port: 5672,
        };
        let said = |end: &End| {
            let log = Log::default();
            let sink = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || sink.clone());
            tracing::subscriber::with_default(subscriber.finish(), || {
                report(end, ([10, 0, 0, 9], 1).into(), &broker, true, &ticket);
            });
            String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
        };
        let (quiet, forced) = (
            said(&End::Left { quiet: true }),
            said(&End::Left { quiet: false }),
        );
        assert!(quiet.contains("at a quiet moment"), "{quiet}");
        assert!(forced.contains("although it was never quiet"), "{forced}");
        assert!(!forced.contains("at a quiet moment"), "{forced}");
    }
}
