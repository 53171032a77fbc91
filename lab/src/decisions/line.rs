//! One end of an AMQP connection, with the heartbeat that was agreed on.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use weir::net::Stream;

use super::frames::{self, Said};

/// A connection that speaks frames.
pub(super) struct Line {
    stream: Stream,
    inbox: BytesMut,
    /// `None` = no heartbeats.
    delay: Option<Duration>,
    heard: Instant,
    written: Instant,
}

/// What comes next on a line.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame of the other end.
    Said(Said),
    /// The other end has closed, broke the rules, or was silent for two delays: why.
    Over(String),
    /// Nothing was written for half a delay: send a heartbeat.
    Beat,
}

impl Line {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            delay: None,
            heard: Instant::now(),
            written: Instant::now(),
        }
    }

    /// From now on with this heartbeat; 0 = none.
    pub(super) fn tuned(&mut self, seconds: u16) {
        self.delay = Some(Duration::from_secs(seconds.into())).filter(|delay| !delay.is_zero());
        self.heard = Instant::now();
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        let far = Duration::from_secs(86_400);
        let beat = self.written + self.delay.map_or(far, |delay| delay / 2);
        let dead = self.heard + self.delay.map_or(far, |delay| delay * 2);
        // Biased: what has come is life, and life is shown before death is declared.
        tokio::select! {
            biased;
            said = Self::frame(&mut self.stream, &mut self.inbox) => {
                self.heard = Instant::now();
                said.map_or_else(Event::Over, Event::Said)
            }
            () = sleep_until(beat) => Event::Beat,
            () = sleep_until(dead) => Event::Over("silent for two heartbeats".into()),
        }
    }

    /// Exactly as many bytes as an array has, before any frame.
    pub(super) async fn header(&mut self) -> Result<[u8; 8], String> {
        let mut header = [0; 8];
        let read = self.stream.read_exact(&mut header).await;
        read.map(|_| header).map_err(|e| e.to_string())
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(|e| e.to_string())?;
        self.stream.flush().await.map_err(|e| e.to_string())?;
        self.written = Instant::now();
        Ok(())
    }

    /// In good order: what was sent arrives.
    pub(super) async fn close(self) {
        // A close that fails or times out changes nothing.
        let _ = self.stream.close().await;
    }

    async fn frame(stream: &mut Stream, inbox: &mut BytesMut) -> Result<Said, String> {
        loop {
            if let Some(frame) = frames::take(inbox)? {
                return frame.said();
            }
            match stream.read_buf(inbox).await {
                Ok(0) => return Err("closed".into()),
                Ok(_) => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}
