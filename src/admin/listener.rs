//! A listener whose connections are few and short: one request each, and no caller keeps others waiting.
//!
//! A request must be whole one second after its connection was accepted, and its answer taken after ten. That covers
//! slow heads, slow bodies, slow readers and idle connections alike. There is no keepalive: scrapers, probes and the
//! page open a connection for each request, and answers carry `Connection: close` (see [`super::routes`]).
//!
//! Accepting never waits for a slow caller. When all places are taken, the connection that has waited longest for its
//! caller (to send, or to read) is cut for the new one; if there is none, the one that has waited longest for its turn
//! to get a large answer ([`Peer::in_turn`]). A request that is being answered is never cut. So a probe gets through
//! beside any number of connections that are slow, or want too much.
//!
//! A tap may stay ([`Peer::let_stay`]): its ten seconds begin when the caller stops reading.

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

/// Connections open at a time, and as many again that have been cut and are about to end.
const CONNECTIONS_MAX: usize = 64;

/// From accept to the last byte of the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// From accept to the end of the connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections the kernel keeps ready. std asks for 128, and what comes beyond is tried again after a second, which is
/// as long as a probe waits.
const BACKLOG: i32 = 1024;

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The request is not whole yet.
    Request,
    /// It is being answered.
    Answer,
    /// The answer goes on for as long as the caller reads.
    Stay,
}

/// PURE: how far a connection is.
#[derive(Debug)]
struct Progress {
    accepted_at: Instant,
    stage: Stage,
    /// When the caller stopped reading.
    stuck_since: Option<Instant>,
    /// When the request began to wait for its turn.
    queued_since: Option<Instant>,
}

/// How little a connection is to be missed, and since when: the least is cut first.
type Dispensable = (u8, Instant);

impl Progress {
    fn new(now: Instant) -> Self {
        Self {
            accepted_at: now,
            stage: Stage::Request,
            stuck_since: None,
            queued_since: None,
        }
    }

    /// When the connection ends for lack of progress.
    fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Request => Some(self.accepted_at + REQUEST_TIMEOUT),
            Stage::Answer => Some(self.accepted_at + CONNECTION_TIMEOUT),
            Stage::Stay => self.stuck_since.map(|since| since + CONNECTION_TIMEOUT),
        }
    }

    /// Whether the connection may be cut for a new one, and in which order; `None` while it is being answered.
    fn dispensable(&self) -> Option<Dispensable> {
        let waits_for_caller = match self.stage {
            Stage::Request => Some(self.accepted_at),
            Stage::Answer | Stage::Stay => self.stuck_since,
        };
        let waits_for_turn = || self.queued_since.map(|since| (1, since));
        waits_for_caller.map(|since| (0, since)).or_else(waits_for_turn)
    }
}

/// One connection, as its task and the listener see it.
#[derive(Debug)]
struct Place {
    progress: Mutex<Progress>,
    cut: CancellationToken,
}

impl Place {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections that are open.
#[derive(Debug)]
struct Places {
    taken: Mutex<Vec<Arc<Place>>>,
    /// One has ended, or may be cut now.
    changed: Notify,
    /// To get a large answer.
    turn: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            changed: Notify::new(),
            turn: Semaphore::new(1),
        }
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. `None` = every request is being answered now.
    fn take(&self, now: Instant) -> Option<Arc<Place>> {
        let mut taken = self.taken();
        if taken.len() >= 2 * CONNECTIONS_MAX {
            return None;
        }
        let staying = || taken.iter().filter(|place| !place.cut.is_cancelled());
        if staying().count() >= CONNECTIONS_MAX {
            let (least, _) = staying()
                .filter_map(|place| Some((place, place.progress().dispensable()?)))
                .min_by_key(|(_, order)| *order)?;
            least.cut.cancel();
        }
        let place = Arc::new(Place {
            progress: Mutex::new(Progress::new(now)),
            cut: CancellationToken::new(),
        });
        taken.push(Arc::clone(&place));
        Some(place)
    }

    fn free(&self, place: &Arc<Place>) {
        self.taken().retain(|taken| !Arc::ptr_eq(taken, place));
        self.changed.notify_one();
    }
}

/// The listener.
pub(super) struct Bounded {
    /// `None` = a successor accepts on this socket.
    listener: Option<TcpListener>,
    phase: watch::Receiver<Phase>,
    places: Arc<Places>,
}

impl Bounded {
    pub(super) fn new(listener: std::net::TcpListener, phase: watch::Receiver<Phase>) -> io::Result<Self> {
        SockRef::from(&listener).listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: Some(TcpListener::from_std(listener)?),
            phase,
            places: Arc::default(),
        })
    }

    /// The next connection. With a successor none: what is asked here is meant for the weir that serves.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            // Biased: of two processes at one socket only one answers.
            tokio::select! {
                biased;
                Ok(_) = self.phase.wait_for(|phase| phase.is_succeeded()) => self.listener = None,
                // The library's accept waits a second when file descriptors have run out.
                accepted = Listener::accept(listener) => return accepted,
            }
        }
        std::future::pending().await
    }
}

impl Listener for Bounded {
    type Io = Hurried;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Hurried, SocketAddr) {
        let (stream, peer) = self.next().await;
        let place = loop {
            // The caller's time begins when it has a place.
            if let Some(place) = self.places.take(Instant::now()) {
                break place;
            }
            self.places.changed.notified().await;
        };
        let hurried = Hurried {
            stream,
            deadline: Box::pin(sleep(REQUEST_TIMEOUT)),
            cut: Box::pin(place.cut.clone().cancelled_owned()),
            was_read: false,
            place,
            places: Arc::clone(&self.places),
        };
        (hurried, peer)
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
            place: Arc::clone(&stream.io().place),
            places: Arc::clone(&stream.io().places),
        }
    }
}

/// Who called.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// From where.
    pub(super) address: SocketAddr,
    place: Arc<Place>,
    places: Arc<Places>,
}

impl Peer {
    /// The request is whole: from here on the caller waits for weir.
    pub(super) fn has_asked(&self) {
        self.place.progress().stage = Stage::Answer;
    }

    /// Waits for its turn: large answers are made one at a time, so that between two of them everybody else gets on.
    pub(super) async fn in_turn<T>(&self, work: impl Future<Output = T>) -> T {
        self.place.progress().queued_since = Some(Instant::now());
        self.places.changed.notify_one();
        // Only closing the semaphore could fail it, and nobody does.
        let _turn = self.places.turn.acquire().await;
        self.place.progress().queued_since = None;
        work.await
    }

    /// The connection may stay for as long as the caller reads.
    pub(super) fn let_stay(&self) {
        self.place.progress().stage = Stage::Stay;
    }
}

/// A connection that fails when its time is up or its place is needed.
pub(super) struct Hurried {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Something was read since the last check.
    was_read: bool,
    place: Arc<Place>,
    places: Arc<Places>,
}

impl Hurried {
    /// Whether the connection goes on, asked when its socket has nothing to give or to take. A request that lies in the
    /// socket, or was read just now and may be whole, waits for weir, however late it is seen.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let (is_request, may_be_cut, due) = {
            let progress = self.place.progress();
            let is_request = progress.stage == Stage::Request;
            (is_request, progress.dispensable().is_some(), progress.deadline())
        };
        if let Some(due) = due.filter(|due| *due != self.deadline.deadline()) {
            self.deadline.as_mut().reset(due);
        }
        let is_cut = self.cut.as_mut().poll(cx).is_ready() && may_be_cut;
        let is_late = due.is_some() && self.deadline.as_mut().poll(cx).is_ready();
        let lies_unread = || SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        let was_read = std::mem::take(&mut self.was_read);
        match (is_cut, is_late) {
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

impl AsyncRead for Hurried {
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

impl AsyncWrite for Hurried {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A reader who takes a little just before its time is up is no faster for it.
        if self.place.progress().stuck_since.is_some() {
            self.check(cx)?;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.place.progress().stuck_since = None;
            return written;
        }
        self.place.progress().stuck_since.get_or_insert_with(Instant::now);
        self.places.changed.notify_one();
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

impl Drop for Hurried {
    fn drop(&mut self) {
        self.places.free(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_request_has_one_second_an_answer_ten_and_a_tap_ten_from_where_its_reader_stopped() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert_eq!(progress.deadline(), Some(start + seconds(1)));
        progress.stage = Stage::Answer;
        assert_eq!(progress.deadline(), Some(start + seconds(10)));
        progress.stage = Stage::Stay;
        assert_eq!(progress.deadline(), None);
        progress.stuck_since = Some(start + seconds(60));
        assert_eq!(progress.deadline(), Some(start + seconds(70)));
    }

    #[test]
    fn a_full_port_cuts_who_has_kept_it_waiting_longest_and_nobody_who_waits_for_weir() {
        let (places, start) = (Places::default(), Instant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        let all: Vec<_> = (0..CONNECTIONS_MAX)
            .map(|n| places.take(at(n)).unwrap())
            .collect();
        // The first three wait for weir; the second has stopped reading later than the fourth was accepted.
        for place in &all[..3] {
            place.progress().stage = Stage::Answer;
        }
        all[1].progress().stuck_since = Some(at(4));
        for (n, cut) in [(100, 3), (101, 1), (102, 4)] {
            assert!(!all[cut].cut.is_cancelled());
            places.take(at(n)).unwrap();
            assert!(all[cut].cut.is_cancelled(), "{cut}");
        }
        for cut in [1, 3, 4] {
            places.free(&all[cut]);
        }
        assert_eq!(places.taken().len(), CONNECTIONS_MAX);
        for place in places.taken().iter() {
            place.progress().stage = Stage::Answer;
        }
        assert!(places.take(at(200)).is_none());
        // Whoever waits for a turn goes after those who wait for nothing of weir's.
        for (n, since) in [(0, 190), (2, 191)] {
            all[n].progress().queued_since = Some(at(since));
        }
        places.take(at(201)).unwrap().progress().stage = Stage::Answer;
        assert!(all[0].cut.is_cancelled() && !all[2].cut.is_cancelled());
        places.take(at(202)).unwrap().progress().stage = Stage::Answer;
        assert!(all[2].cut.is_cancelled());
        places
            .taken()
            .iter()
            .for_each(|p| p.progress().stage = Stage::Answer);
        assert!(places.take(at(203)).is_none());
        places.free(&all[0]);
        places.free(&all[2]);
        let one = Arc::clone(&places.taken()[0]);
        places.free(&one);
        assert!(places.take(at(204)).is_some());
    }

    #[test]
    fn connections_that_have_been_cut_and_do_not_end_are_bounded_too() {
        let (places, now) = (Places::default(), Instant::now());
        for _ in 0..2 * CONNECTIONS_MAX {
            places.take(now).unwrap();
        }
        assert!(places.take(now).is_none());
    }
}
