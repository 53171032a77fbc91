//! One connection of a stand-in Traffic Manager: read, decide, answer, in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use weir::net::Stream;
use weir::wire::decoder::{Decoded, Decoder, FRAME_MAX_BYTES_LIMIT};
use weir::wire::reply::{self, Reply};
use weir::wire::request::Request;

use super::Shared;
use super::behaviour::{Answer, Behaviour, Close, Login};
use super::counts::add;
use crate::watch;

/// No limit, as in the real receiver: it accepts any length.
const DECODER: Decoder = Decoder {
    frame_max_bytes: FRAME_MAX_BYTES_LIMIT,
    event_max_bytes: FRAME_MAX_BYTES_LIMIT,
};
/// Read at once; larger than what comes, so that one read takes it all.
const BUFFER_BYTES: usize = 256 * 1024;
/// For what is still to be written when a connection is closed in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A number no other connection of this process has.
pub(super) fn unique_connection() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: Stream,
    pub(super) number: u64,
    /// Received and not yet understood: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    pub(super) replies: Vec<u8>,
    /// Events of frames that got no answer yet.
    pub(super) withheld: Vec<Vec<u8>>,
    /// The session seen last.
    pub(super) session: Option<Session>,
    /// When all frames so far are paid for.
    pub(super) paid: Instant,
    pub(super) frames: u64,
}

/// A session that was known.
pub(super) struct Session {
    pub(super) id: Vec<u8>,
    pub(super) epoch: u64,
    pub(super) since: Instant,
}

/// Why a connection ended.
pub(super) enum End {
    /// The peer closed or reset it, or it broke.
    Peer,
    /// By script.
    Script(Close),
    /// Its bytes make no sense: a real receiver closes it, too.
    Garbage,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Peer
    }
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: Stream, number: u64) -> Self {
        Self {
            shared,
            stream,
            number,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            replies: Vec::new(),
            withheld: Vec::new(),
            session: None,
            paid: Instant::now(),
            frames: 0,
        }
    }

    /// From the wait for a free thread to the end. `cut` is the count of cuts before this connection.
    pub(super) async fn live(mut self, behaviour: watch::Receiver<Behaviour>, cut: u64, served: &Semaphore) {
        let mut watched = behaviour.clone();
        // Biased: a cut ends the connection however busy it is.
        let end = tokio::select! {
            biased;
            now = watched.wait_for(|b| b.cut.0 != cut) => {
                End::Script(now.cut.1)
            }
            end = async {
                let _thread = served.acquire().await;
                match self.serve(behaviour).await {
                    Ok(()) => End::Peer,
                    Err(end) => end,
                }
            } => end,
        };
        for events in std::mem::take(&mut self.withheld) {
            self.tell(&events, false);
        }
        match end {
            End::Peer => {}
            End::Garbage => {
                add(&self.shared.counters.garbage, 1);
                close(self.stream).await;
            }
            End::Script(how) => {
                add(&self.shared.counters.cut, 1);
                match how {
                    Close::Rst => self.stream.abort(),
                    Close::Fin => close(self.stream).await,
                }
            }
        }
    }

    async fn serve(&mut self, mut behaviour: watch::Receiver<Behaviour>) -> Result<(), End> {
        loop {
            let now = behaviour.borrow_and_update().clone();
            if now.answer != Answer::Stall && !self.withheld.is_empty() {
                for events in std::mem::take(&mut self.withheld) {
                    self.answer_ok(&events);
                }
            }
            let result = self.frames(&now).await;
            if !self.replies.is_empty() {
                self.flush(&now).await?;
            }
            result?;
            if !now.reading {
                behaviour.changed().await;
                continue;
            }
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            // Biased: the behaviour in force when bytes arrive is the one that answers them.
            let n = tokio::select! {
                biased;
                () = behaviour.changed() => continue,
                n = self.stream.read(free) => n?,
            };
            if n == 0 {
                return Ok(());
            }
            self.end += n;
            add(&self.shared.counters.bytes, u64::try_from(n).unwrap_or(0));
        }
    }

    /// Answers every whole frame in the buffer.
    async fn frames(&mut self, now: &Behaviour) -> Result<(), End> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let bytes = buffer.get(self.start..self.end).unwrap_or_default();
            match DECODER.decode(bytes) {
                Ok(Decoded::Incomplete { needed }) => break Ok(needed),
                Ok(Decoded::Frame {
                    request: Ok(request),
                    length,
                }) => {
                    self.start += length;
                    if let Err(end) = self.request(&request, now).await {
                        break Err(end);
                    }
                }
                Ok(Decoded::Frame { request: Err(_), .. }) | Err(_) => break Err(End::Garbage),
            }
        };
        self.buffer = buffer;
        let needed = result?.max(BUFFER_BYTES);
        self.make_room();
        if needed > self.buffer.len() {
            self.buffer.resize(needed, 0);
        }
        Ok(())
    }

    /// Moves what is left to the front.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    async fn request(&mut self, request: &Request<'_>, now: &Behaviour) -> Result<(), End> {
        match request {
            Request::Login { user, password } => self.login(user, password, now.login).await,
            Request::Logout { session } => {
                self.shared.sessions().remove(*session);
                self.session = None;
                add(&self.shared.counters.logouts, 1);
                self.replies.push(reply::OK);
                Ok(())
            }
            Request::Publish { session, events } => {
                self.publish(session, events.bytes(), events.count(), now).await
            }
        }
    }

    async fn login(&mut self, user: &str, password: &str, rule: Login) -> Result<(), End> {
        let right = user == self.shared.user && password == self.shared.password;
        match rule {
            Login::Silent => {
                let mut ignored = [0_u8; 4096];
                while self.stream.read(&mut ignored).await? > 0 {}
                return Err(End::Peer);
            }
            Login::Check if right => {
                add(&self.shared.counters.logins_ok, 1);
                let session = self.shared.open_session();
                Reply::LoginOk { session: &session }.encode(&mut self.replies);
            }
            Login::Check | Login::Refuse => {
                add(&self.shared.counters.logins_refused, 1);
                let refusal = Reply::Error {
                    class: reply::AUTHENTICATION,
                    message: "wrong userName or password".into(),
                };
                refusal.encode(&mut self.replies);
            }
        }
        Ok(())
    }
}

async fn close(stream: Stream) {
    // Ended either way.
    let _ = timeout(CLOSE_TIMEOUT, stream.close()).await;
}
