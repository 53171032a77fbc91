//! The admin port's listener. Its connections are few and short: one request each, so that no caller delays another.
//!
//! A request must be whole one second after its connection was accepted, and its answer taken after ten. That covers
//! slow heads, slow bodies, slow readers and idle connections. Connections are not reused: scrapers, probes and the page
//! open one for each request, and answers carry `Connection: close` (see [`super::routes`]).
//!
//! Accepting never waits for a slow caller. When all slots are taken, the connection that has waited longest for its
//! caller (to send, or to read) is evicted for the new one; if there is none, the one that has waited longest for its turn
//! to get a large answer ([`Peer::one_at_a_time`]). A request that is being answered is never evicted. So a probe gets
//! through beside any number of connections that are slow or ask for large answers.
//!
//! A tap may stay open ([`Peer::keep_open`]): its ten seconds begin when the caller stops reading.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::lifecycle::Phase;

/// Connections open at a time; as many again may have been evicted and not ended yet.
const CONNECTIONS_MAX: usize = 64;

/// From accept to the last byte of the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// From accept to the end of the connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that the kernel queues. std asks for 128; a client beyond that retries after a second, which is as long
/// as a probe waits.
const BACKLOG: i32 = 1024;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The request is not whole yet.
    Request,
    /// It is being answered.
    Answer,
    /// The answer goes on for as long as the caller reads.
    Stay,
}

/// How far a connection is; pure.
#[derive(Debug)]
struct Progress {
    accepted_at: Instant,
    state: State,
    /// When the caller stopped reading.
    stuck_since: Option<Instant>,
    /// When the request began to wait for its turn.
    waits_for_turn_since: Option<Instant>,
}

/// The smallest is evicted first.
type EvictionOrder = (u8, Instant);

impl Progress {
    fn new(now: Instant) -> Self {
        Self {
            accepted_at: now,
            state: State::Request,
            stuck_since: None,
            waits_for_turn_since: None,
        }
    }

    /// When the connection ends for lack of progress.
    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Request => Some(self.accepted_at + REQUEST_TIMEOUT),
            State::Answer => Some(self.accepted_at + CONNECTION_TIMEOUT),
            State::Stay => self.stuck_since.map(|since| since + CONNECTION_TIMEOUT),
        }
    }

    /// Whether the connection may be evicted for a new one, and in which order; `None` while it is being answered.
    fn eviction_order(&self) -> Option<EvictionOrder> {
        let waits_for_caller = match self.state {
            State::Request => Some(self.accepted_at),
            State::Answer | State::Stay => self.stuck_since,
        };
        let waits_for_turn = || self.waits_for_turn_since.map(|since| (1, since));
        waits_for_caller.map(|since| (0, since)).or_else(waits_for_turn)
    }
}

/// One connection, as its task and the listener see it.
#[derive(Debug)]
struct Slot {
    progress: Mutex<Progress>,
    evicted: CancellationToken,
}

impl Slot {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections that are open.
#[derive(Debug)]
struct Slots {
    taken: Mutex<Vec<Arc<Slot>>>,
    /// One has ended, or may be evicted now.
    changed: Notify,
    /// Held while a large answer is made.
    turn: Semaphore,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            changed: Notify::new(),
            turn: Semaphore::new(1),
        }
    }
}

impl Slots {
    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a new connection; `None` while every request is being answered.
    fn take(&self, now: Instant) -> Option<Arc<Slot>> {
        let mut taken = self.taken();
        if taken.len() >= 2 * CONNECTIONS_MAX {
            return None;
        }
        let staying = || taken.iter().filter(|slot| !slot.evicted.is_cancelled());
        if staying().count() >= CONNECTIONS_MAX {
            let (least, _) = staying()
                .filter_map(|slot| Some((slot, slot.progress().eviction_order()?)))
                .min_by_key(|(_, order)| *order)?;
            least.evicted.cancel();
        }
        let slot = Arc::new(Slot {
            progress: Mutex::new(Progress::new(now)),
            evicted: CancellationToken::new(),
        });
        taken.push(Arc::clone(&slot));
        Some(slot)
    }

    fn free(&self, slot: &Arc<Slot>) {
        self.taken().retain(|taken| !Arc::ptr_eq(taken, slot));
        self.changed.notify_one();
    }
}

/// The listener.
pub(super) struct Bounded {
    /// `None` = a successor accepts on this socket.
    listener: Option<TcpListener>,
    phase: watch::Receiver<Phase>,
    slots: Arc<Slots>,
}

impl Bounded {
    pub(super) fn new(listener: std::net::TcpListener, phase: watch::Receiver<Phase>) -> io::Result<Self> {
        SockRef::from(&listener).listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: Some(TcpListener::from_std(listener)?),
            phase,
            slots: Arc::default(),
        })
    }

    /// The next connection; none once a successor accepts.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            // Biased: only one of two processes on a socket answers.
            tokio::select! {
                biased;
                Ok(_) = self.phase.wait_for(|phase| phase.is_succeeded()) => self.listener = None,
                // axum's accept waits a second when file descriptors have run out.
                accepted = Listener::accept(listener) => return accepted,
            }
        }
        std::future::pending().await
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, peer) = self.next().await;
        let slot = loop {
            // The second for the request begins here.
            if let Some(slot) = self.slots.take(Instant::now()) {
                break slot;
            }
            self.slots.changed.notified().await;
        };
        let connection = Connection {
            stream,
            deadline: Box::pin(sleep(REQUEST_TIMEOUT)),
            evicted: Box::pin(slot.evicted.clone().cancelled_owned()),
            was_read: false,
            slot,
            slots: Arc::clone(&self.slots),
        };
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let listener = self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Peer {
            address: *stream.remote_addr(),
            slot: Arc::clone(&stream.io().slot),
            slots: Arc::clone(&stream.io().slots),
        }
    }
}

/// The caller of a request.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    slot: Arc<Slot>,
    slots: Arc<Slots>,
}

impl Peer {
    /// From here on the caller waits for weir.
    pub(super) fn request_is_whole(&self) {
        self.slot.progress().state = State::Answer;
    }

    /// Makes large answers one at a time, so that other requests are served between two of them.
    pub(super) async fn one_at_a_time<T>(&self, work: impl Future<Output = T>) -> T {
        self.slot.progress().waits_for_turn_since = Some(Instant::now());
        self.slots.changed.notify_one();
        // Fails only if the semaphore is closed, which never happens.
        let _turn = self.slots.turn.acquire().await;
        self.slot.progress().waits_for_turn_since = None;
        work.await
    }

    /// Lets the connection stay open for as long as the caller reads.
    pub(super) fn keep_open(&self) {
        self.slot.progress().state = State::Stay;
    }
}

/// A connection that fails when its time is over or it is evicted.
pub(super) struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Something was read since the last check.
    was_read: bool,
    slot: Arc<Slot>,
    slots: Arc<Slots>,
}

impl Connection {
    /// Fails if the connection is late or evicted; called when its socket would block. A request that is in the socket,
    /// or was just read and may be whole, is never late: it waits for weir.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let (is_request, may_be_evicted, due) = {
            let progress = self.slot.progress();
            let is_request = progress.state == State::Request;
            (
                is_request,
                progress.eviction_order().is_some(),
                progress.deadline(),
            )
        };
        if let Some(due) = due.filter(|due| *due != self.deadline.deadline()) {
            self.deadline.as_mut().reset(due);
        }
        let is_evicted = self.evicted.as_mut().poll(cx).is_ready() && may_be_evicted;
        let is_late = due.is_some() && self.deadline.as_mut().poll(cx).is_ready();
        let lies_unread = || SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        let was_read = std::mem::take(&mut self.was_read);
        match (is_evicted, is_late) {
            (false, false) => Ok(()),
            _ if is_request && was_read => {
                cx.waker().wake_by_ref();
                Ok(())
            }
            _ if is_request && lies_unread().is_ok_and(|bytes| bytes > 0) => Ok(()),
            (true, _) => Err(io::ErrorKind::ConnectionAborted.into()),
            (_, true) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match read {
            Poll::Ready(_) => self.was_read = true,
            Poll::Pending => self.check(cx)?,
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A caller that reads a little just before the deadline is still too slow.
        if self.slot.progress().stuck_since.is_some() {
            self.check(cx)?;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.slot.progress().stuck_since = None;
            return written;
        }
        self.slot.progress().stuck_since.get_or_insert_with(Instant::now);
        self.slots.changed.notify_one();
        self.check(cx)?;
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.slots.free(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_request_has_one_second_an_answer_ten_and_a_tap_ten_after_its_reader_stopped() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert_eq!(progress.deadline(), Some(start + seconds(1)));
        progress.state = State::Answer;
        assert_eq!(progress.deadline(), Some(start + seconds(10)));
        progress.state = State::Stay;
        assert_eq!(progress.deadline(), None);
        progress.stuck_since = Some(start + seconds(60));
        assert_eq!(progress.deadline(), Some(start + seconds(70)));
    }

    #[test]
    fn a_full_port_evicts_the_caller_that_was_idle_longest_and_none_that_waits_for_weir() {
        let (slots, start) = (Slots::default(), Instant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        let all: Vec<_> = (0..CONNECTIONS_MAX).map(|n| slots.take(at(n)).unwrap()).collect();
        // The first three wait for weir; the second has stopped reading later than the fourth was accepted.
        for slot in &all[..3] {
            slot.progress().state = State::Answer;
        }
        all[1].progress().stuck_since = Some(at(4));
        for (n, evicted) in [(100, 3), (101, 1), (102, 4)] {
            assert!(!all[evicted].evicted.is_cancelled());
            slots.take(at(n)).unwrap();
            assert!(all[evicted].evicted.is_cancelled(), "{evicted}");
        }
        for evicted in [1, 3, 4] {
            slots.free(&all[evicted]);
        }
        assert_eq!(slots.taken().len(), CONNECTIONS_MAX);
        for slot in slots.taken().iter() {
            slot.progress().state = State::Answer;
        }
        assert!(slots.take(at(200)).is_none());
        // A request that waits for its turn is evicted after idle callers.
        for (n, since) in [(0, 190), (2, 191)] {
            all[n].progress().waits_for_turn_since = Some(at(since));
        }
        slots.take(at(201)).unwrap().progress().state = State::Answer;
        assert!(all[0].evicted.is_cancelled() && !all[2].evicted.is_cancelled());
        slots.take(at(202)).unwrap().progress().state = State::Answer;
        assert!(all[2].evicted.is_cancelled());
        slots
            .taken()
            .iter()
            .for_each(|p| p.progress().state = State::Answer);
        assert!(slots.take(at(203)).is_none());
        slots.free(&all[0]);
        slots.free(&all[2]);
        let one = Arc::clone(&slots.taken()[0]);
        slots.free(&one);
        assert!(slots.take(at(204)).is_some());
    }

    #[test]
    fn evicted_connections_that_do_not_end_are_bounded() {
        let (slots, now) = (Slots::default(), Instant::now());
        for _ in 0..2 * CONNECTIONS_MAX {
            slots.take(now).unwrap();
        }
        assert!(slots.take(now).is_none());
    }
}
