//! A simulated network of one host: connections in memory that end as TCP's do, so that gateways, weir and
//! Traffic Managers can run in one thread and in virtual time, and a seed replays a run.
//!
//! Bytes arrive at once; with a seed, reads and writes take pieces of random length. A closed port refuses,
//! a full buffer makes the writer wait, an abort resets, and so does closing with bytes unread. A write
//! to a peer that has closed succeeds and its bytes vanish, as on Linux.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use weir::config::Url;
use weir::net::{Accept, Connect, Connecting, DialClass, DialError, Listener, Raw, Socket, SocketOptions};

use super::sink::Opener;

/// Connections that wait to be accepted on one port.
const BACKLOG: usize = 1024;
/// Bytes on their way in one direction of one connection.
const BUFFER_BYTES: usize = 256 * 1024;
/// Largest piece when a seed cuts the bytes.
const PIECE_BYTES: usize = 2000;

/// The network; clones are the same one.
#[derive(Clone, Default)]
pub struct Network {
    ports: Arc<Mutex<BTreeMap<u16, mpsc::Sender<End>>>>,
    pieces: Option<Arc<Mutex<fastrand::Rng>>>,
}

impl Network {
    /// Whole reads and writes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads and writes in pieces whose lengths follow from `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            pieces: Some(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))),
            ..Self::default()
        }
    }

    /// Opens `port` whenever it is called; the port closes when the listener is dropped.
    #[must_use]
    pub fn opener(&self, port: u16) -> Opener {
        let network = self.clone();
        Box::new(move || network.listen(port))
    }

    /// Opens a port.
    ///
    /// # Errors
    /// It is open already.
    pub fn listen(&self, port: u16) -> io::Result<Listener> {
        let mut ports = lock(&self.ports);
        if ports.get(&port).is_some_and(|p| !p.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, waiting) = mpsc::channel(BACKLOG);
        ports.insert(port, sender);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Listener::new(Port { address, waiting }))
    }
}

impl Connect for Network {
    fn connect<'a>(&'a self, url: &'a Url, within: Duration) -> Connecting<'a> {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let end = |side| End {
            side,
            pipe: Arc::clone(&pipe),
            pieces: self.pieces.clone(),
            reset_on_close: false,
        };
        let (near, far) = (end(0), end(1));
        // A full backlog drops the caller's SYN; it counts as refused here, for nothing would ever answer.
        let taken = lock(&self.ports)
            .get(&url.port)
            .is_some_and(|port| port.try_send(far).is_ok());
        Box::pin(connected(url, within, async move {
            if taken {
                Ok(Box::new(near) as Raw)
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        }))
    }
}

/// The outcome of an attempt to connect, with the class and the words that TCP's would have: `NotFound` is a name without
/// an address.
///
/// # Errors
/// The attempt's, or that it took too long.
pub async fn connected(
    url: &Url,
    within: Duration,
    attempt: impl Future<Output = io::Result<Raw>>,
) -> Result<Raw, DialError> {
    let (class, why) = match timeout(within, attempt).await {
        Ok(Ok(raw)) => return Ok(raw),
        Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound => (DialClass::Dns, e.to_string()),
        Ok(Err(e)) => (DialClass::of(&e), e.to_string()),
        Err(_) => (DialClass::Timeout, format!("no answer within {within:.1?}")),
    };
    Err(DialError {
        class,
        message: format!("cannot connect to {url}: {why}"),
        certificate: None,
    })
}

struct Port {
    address: SocketAddr,
    waiting: mpsc::Receiver<End>,
}

impl Accept for Port {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Raw, SocketAddr)>> {
        self.waiting.poll_recv(cx).map(|end| {
            let end = end.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(end) as Raw, SocketAddr::from(([127, 0, 0, 1], 1))))
        })
    }

    fn set_options(&mut self, _: SocketOptions) {}
}

/// Both directions of a connection; each side owns what it will read.
#[derive(Default)]
struct Pipe {
    sides: [Side; 2],
    reset: bool,
}

#[derive(Default)]
struct Side {
    unread: VecDeque<u8>,
    /// The other side will write no more.
    ended: bool,
    /// This side is gone.
    gone: bool,
    reader: Option<Waker>,
    /// Of the other side, waiting for room in `unread`.
    writer: Option<Waker>,
}

impl Side {
    fn wake(&mut self) {
        self.reader
            .take()
            .into_iter()
            .chain(self.writer.take())
            .for_each(Waker::wake);
    }
}

/// One end of a connection.
struct End {
    side: usize,
    pipe: Arc<Mutex<Pipe>>,
    pieces: Option<Arc<Mutex<fastrand::Rng>>>,
    reset_on_close: bool,
}

impl End {
    /// This side and the other.
    fn sides<T>(&self, with: impl FnOnce(&mut Side, &mut Side, &mut bool) -> T) -> T {
        let mut pipe = lock(&self.pipe);
        let Pipe { sides: [a, b], reset } = &mut *pipe;
        if self.side == 0 {
            with(a, b, reset)
        } else {
            with(b, a, reset)
        }
    }

    fn piece(&self, bytes: usize) -> usize {
        match &self.pieces {
            Some(random) => bytes.min(lock(random).usize(1..=PIECE_BYTES)),
            None => bytes,
        }
    }

    fn reset(&self) {
        self.sides(|own, other, reset| {
            *reset = true;
            own.unread.clear();
            other.unread.clear();
            own.wake();
            other.wake();
        });
    }
}

impl Socket for End {
    fn reset_on_close(&mut self) {
        self.reset_on_close = true;
    }

    fn abort(self: Box<Self>) {
        self.reset();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let unread = self.sides(|own, other, _| {
            own.gone = true;
            other.ended = true;
            own.wake();
            other.wake();
            !own.unread.is_empty()
        });
        if unread || self.reset_on_close {
            self.reset();
        }
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wanted = self.piece(buf.remaining());
        self.sides(|own, _, reset| {
            if *reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if own.unread.is_empty() && !own.ended && wanted > 0 {
                own.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let n = wanted.min(own.unread.len());
            let (front, back) = own.unread.as_slices();
            let first = front.get(..n).unwrap_or(front);
            buf.put_slice(first);
            buf.put_slice(back.get(..n - first.len()).unwrap_or_default());
            own.unread.drain(..n);
            own.writer.take().into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = self.piece(bytes.len());
        self.sides(|_, other, reset| {
            if *reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if other.gone {
                return Poll::Ready(Ok(wanted));
            }
            let room = BUFFER_BYTES.saturating_sub(other.unread.len());
            if room == 0 && wanted > 0 {
                other.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let n = wanted.min(room);
            other.unread.extend(bytes.get(..n).unwrap_or(bytes));
            other.reader.take().into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(n))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sides(|_, other, _| {
            other.ended = true;
            other.wake();
        });
        Poll::Ready(Ok(()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
