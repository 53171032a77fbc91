//! One side of a connection: its stream and its heart, and the two doors of the stream.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::heart::Heart;
use super::lane::Lane;

/// One side.
pub(super) struct Peer<S> {
    pub(super) stream: S,
    pub(super) heart: Heart,
    /// Written since the last flush: TLS may hold ciphertext back.
    unflushed: bool,
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
