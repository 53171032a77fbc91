//! The two sides of a connection and the two lanes between them: four doors.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::heart::Heart;
use super::lane::Lane;
use super::status::Side;

/// Two sides and the lanes between them.
pub(super) struct Pair<C, B> {
    pub(super) client: Peer<C>,
    pub(super) broker: Peer<B>,
    pub(super) to_client: Lane,
    pub(super) to_broker: Lane,
}

/// One side: its stream and its heart.
pub(super) struct Peer<S> {
    pub(super) stream: S,
    pub(super) heart: Heart,
    /// Written since the last flush: TLS may hold ciphertext back.
    unflushed: bool,
}

/// What went through each door in one turn, in bytes; `None` = it did not move.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) wrote: [Option<io::Result<usize>>; 2],
    pub(super) read: [Option<io::Result<usize>>; 2],
}

impl<C, B> Pair<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    /// Two streams and the lanes between them.
    pub(super) fn new(client: C, broker: B, to_client: Lane, to_broker: Lane) -> Self {
        let (client, broker) = (Peer::new(client), Peer::new(broker));
        Self {
            client,
            broker,
            to_client,
            to_broker,
        }
    }

    /// Gives each door one chance.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Moved> {
        let mut moved = Moved::default();
        // Writes first: room made now may be read into in the same turn.
        for side in Side::BOTH {
            if let Poll::Ready(wrote) = self.poll_write(side, cx) {
                *side.of(&mut moved.wrote) = Some(wrote);
            }
        }
        for side in Side::BOTH {
            if let Poll::Ready(read) = self.poll_read(side, cx) {
                *side.of(&mut moved.read) = Some(read);
            }
        }
        let any = moved.wrote.iter().chain(&moved.read).any(Option::is_some);
        if any { Poll::Ready(moved) } else { Poll::Pending }
    }

    pub(super) fn poll_read(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match side {
            Side::Client => self.client.poll_read(&mut self.to_broker, cx),
            Side::Broker => self.broker.poll_read(&mut self.to_client, cx),
        }
    }

    fn poll_write(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match side {
            Side::Client => self.client.poll_write(&mut self.to_client, cx),
            Side::Broker => self.broker.poll_write(&mut self.to_broker, cx),
        }
    }

    pub(super) fn heart(&mut self, side: Side) -> &mut Heart {
        match side {
            Side::Client => &mut self.client.heart,
            Side::Broker => &mut self.broker.heart,
        }
    }

    pub(super) fn lane_to(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.to_client,
            Side::Broker => &mut self.to_broker,
        }
    }

    pub(super) fn lane_from(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.to_broker,
            Side::Broker => &mut self.to_client,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(stream: S) -> Self {
        let heart = Heart::default();
        Self {
            stream,
            heart,
            unflushed: false,
        }
    }

    /// Reads once into the lane, when it has room; 0 is the end of the stream.
    pub(super) fn poll_read(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !lane.has_room() {
            return Poll::Pending;
        }
        lane.make_room();
        // The future holds no state between polls: what it read is in the inbox, and it is made anew.
        pin!(self.stream.read_buf(&mut lane.inbox)).poll(cx)
    }

    /// Writes once from the lane, or flushes what was written.
    pub(super) fn poll_write(&mut self, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if lane.outbox.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Pending;
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &lane.outbox))?;
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        lane.outbox.advance(wrote);
        self.unflushed = true;
        Poll::Ready(Ok(wrote))
    }
}
