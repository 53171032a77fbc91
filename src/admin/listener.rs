//! A listener whose connections are few and short: one request each, ten seconds in all.
//!
//! One deadline from accept to the last byte answered covers slow headers, slow bodies, slow readers and
//! idlers alike, where HTTP servers commonly need a timeout for each. Scrapers, probes and the page open a
//! connection a request, which on an admin port costs nothing worth having more rules for. (Answers carry
//! `Connection: close`; see [`super::routes`].)
//!
//! A tap may stay ([`Peer::let_stay`]): from then on the ten seconds begin when the caller stops reading.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections open at a time.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// From accept to the end of the connection.
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The listener: accepts when it has a place.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }
}

impl Listener for Bounded {
    type Io = Hurried;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Hurried, SocketAddr) {
        // Only closing the semaphore could fail it, and nobody does.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // The library's accept waits a second when file descriptors have run out.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(sleep(CONNECTION_TIMEOUT));
        (
            Hurried {
                stream,
                deadline,
                stays: Arc::default(),
                is_stuck: false,
                _place: place,
            },
            peer,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Peer {
            address: *stream.remote_addr(),
            stays: Arc::clone(&stream.io().stays),
        }
    }
}

/// Who called.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// From where.
    pub(super) address: SocketAddr,
    stays: Arc<AtomicBool>,
}

impl Peer {
    /// The connection may stay for as long as the caller reads.
    pub(super) fn let_stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }
}

/// A connection that fails when its time is up.
pub(super) struct Hurried {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    stays: Arc<AtomicBool>,
    /// One that stays, and whose caller does not read now.
    is_stuck: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Hurried {
    fn check_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.stays.load(Ordering::Relaxed) && !self.is_stuck {
            return Ok(());
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Hurried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hurried {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_time(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if self.stays.load(Ordering::Relaxed) && written.is_pending() != self.is_stuck {
            self.is_stuck = written.is_pending();
            self.deadline.as_mut().reset(Instant::now() + CONNECTION_TIMEOUT);
            self.check_time(cx)?;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}
