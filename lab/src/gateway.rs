//! A gateway that a test drives step by step: for wrong behaviour of gateways, and the login of
//! [`super::load`].

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use weir::config::Url;
use weir::net::{DialError, Dialer, Stream};
use weir::wire::reply::Reply;
use weir::wire::request::{encode_login, encode_logout, encode_publish_header};

use super::event::{Events, Id};

/// Connect and TLS deadlines of the laboratory.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ok.
    Ok,
    /// A session id.
    Session(Vec<u8>),
    /// A Java exception.
    Error {
        /// Class with package.
        class: String,
        /// Message.
        message: String,
    },
    /// End of stream: the gateways' agent takes it for ok.
    Fin,
    /// The connection was reset, or broke.
    Reset(io::ErrorKind),
    /// Bytes that are no reply.
    Garbage,
    /// Nothing within the deadline.
    Nothing,
}

/// One connection.
#[derive(Debug)]
pub struct Gateway {
    stream: Stream,
    input: Vec<u8>,
}

impl Gateway {
    /// Connects.
    ///
    /// # Errors
    /// Of the dialer.
    pub async fn connect(dialer: &Dialer, url: &Url) -> Result<Self, DialError> {
        let stream = dialer.dial(url, DIAL_TIMEOUT, DIAL_TIMEOUT).await?;
        Ok(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// Logs in and returns what came back within `limit`.
    pub async fn login(&mut self, user: &str, password: &str, limit: Duration) -> Answer {
        let mut frame = Vec::new();
        encode_login(&mut frame, user, password);
        self.ask(&frame, limit).await
    }

    /// Logs out.
    pub async fn logout(&mut self, session: &[u8], limit: Duration) -> Answer {
        let mut frame = Vec::new();
        encode_logout(&mut frame, session);
        self.ask(&frame, limit).await
    }

    /// Sends bytes and waits for one reply.
    pub async fn ask(&mut self, bytes: &[u8], limit: Duration) -> Answer {
        match timeout(limit, self.send(bytes)).await {
            Ok(Ok(())) => self.answer(limit).await,
            Ok(Err(e)) => Answer::Reset(e.kind()),
            Err(_) => Answer::Nothing,
        }
    }

    /// Sends bytes, whatever they mean; several frames at once are a pipeline.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next reply. One that comes with others is handed out alone, the others wait.
    pub async fn answer(&mut self, limit: Duration) -> Answer {
        timeout(limit, next_answer(&mut self.stream, &mut self.input))
            .await
            .unwrap_or(Answer::Nothing)
    }

    /// Sends the first `bytes` bytes of a frame and is gone: with a reset, or with FIN.
    pub async fn gone_after(mut self, frame: &[u8], bytes: usize, reset: bool) {
        // A peer that has closed before is as good.
        let _ = self.send(frame.get(..bytes).unwrap_or(frame)).await;
        if reset {
            self.stream.abort();
        } else {
            let _ = self.stream.close().await;
        }
    }

    /// Sends frames until the peer takes no more for `patience`, never reading a reply. Returns the bytes
    /// the peer's and this side's buffers took.
    pub async fn flood(&mut self, frame: &[u8], patience: Duration) -> usize {
        let mut sent = 0;
        while let Ok(Ok(())) = timeout(patience, self.send(frame)).await {
            sent += frame.len();
        }
        sent
    }

    /// Ends with a reset.
    pub fn abort(self) {
        self.stream.abort();
    }

    /// Ends with FIN.
    pub async fn close(self) {
        // The peer may have been faster.
        let _ = timeout(DIAL_TIMEOUT, self.stream.close()).await;
    }
}

/// The next reply on a connection, or how it ended. `input` keeps what has come beyond it.
pub async fn next_answer(stream: &mut Stream, input: &mut Vec<u8>) -> Answer {
    loop {
        match Reply::decode(input) {
            Ok(Some((reply, length))) => {
                let answer = match reply {
                    Reply::Ok => Answer::Ok,
                    Reply::LoginOk { session } => Answer::Session(session.to_vec()),
                    Reply::Error { class, message } => Answer::Error {
                        class: class.into(),
                        message,
                    },
                };
                input.drain(..length);
                return answer;
            }
            Ok(None) => {}
            Err(_) => return Answer::Garbage,
        }
        match stream.read_buf(input).await {
            Ok(0) => return Answer::Fin,
            Ok(_) => {}
            Err(e) => return Answer::Reset(e.kind()),
        }
    }
}

/// A publish frame of `count` events of one gateway connection, from sequence `first` on.
#[must_use]
pub fn frame(session: &[u8], events: &Events, origin: u32, first: u64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    append_frame(&mut out, session, events, origin, first, count);
    out
}

/// Returns where in `out` the events begin, the length of the first included.
pub(super) fn append_frame(
    out: &mut Vec<u8>,
    session: &[u8],
    events: &Events,
    origin: u32,
    first: u64,
    count: u64,
) -> usize {
    let ids = || (first..first + count).map(|sequence| Id { origin, sequence });
    let bytes = ids().map(|id| events.length(id) + 4).sum();
    encode_publish_header(out, session, usize::try_from(count).unwrap_or(usize::MAX), bytes);
    let begin = out.len();
    for id in ids() {
        events.append(out, id);
    }
    begin
}

/// What the agent does every 10 to 30 s: connects and closes at once.
///
/// # Errors
/// Nobody took the connection.
pub async fn probe(dialer: &Dialer, url: &Url) -> Result<(), DialError> {
    Gateway::connect(dialer, url).await?.close().await;
    Ok(())
}
