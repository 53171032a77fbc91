//! One gateway connection, kept up as WSO2's agent keeps it up.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use weir::net::Stream;

use super::Shared;
use super::session::Session;
use crate::gateway::{DIAL_TIMEOUT, append_frame};
use crate::histogram::Histogram;
use crate::stamp;

pub(super) struct Agent {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: u32,
    /// Which connection of this load.
    index: u32,
    /// The sequence of the next new event.
    next: u64,
    /// Open loop: when the next new frame is due.
    due: Instant,
    interval: Option<Duration>,
    pub(super) inflight: VecDeque<Frame>,
    /// To be sent again, oldest first.
    pub(super) again: VecDeque<Frame>,
    output: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) latency: Histogram,
}

/// Events `first..first + count`; their bytes are made again whenever they are needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) first: u64,
    pub(super) count: u64,
    /// From here its reply time counts.
    pub(super) due: Instant,
    /// When it was written last.
    pub(super) sent: Instant,
    pub(super) session_errors: u32,
}

/// How a connection came to its end.
pub(super) enum End {
    /// There is nothing more to send.
    Finished,
    /// FIN in place of a reply: the agent takes that for ok.
    Fin,
    /// Reset or broken: the agent sends again.
    Reset(io::Error),
    /// No reply in time: likewise.
    Late,
    /// An error that puts the endpoint off for a while.
    Refused(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Reset(error)
    }
}

impl Agent {
    pub(super) fn new(shared: Arc<Shared>, index: u32, start: Instant) -> Self {
        let options = &shared.options;
        let interval = options.interval();
        Self {
            origin: options.origin_first + index,
            next: 0,
            index,
            due: start + options.phase(index),
            interval,
            inflight: VecDeque::new(),
            again: VecDeque::new(),
            output: Vec::new(),
            input: Vec::with_capacity(4096),
            latency: Histogram::default(),
            shared,
        }
    }

    /// Until everything is answered, or `settle` has passed since the last new event.
    pub(super) async fn live(mut self) -> Histogram {
        let shared = Arc::clone(&self.shared);
        let overtime = async {
            shared.stop.cancelled().await;
            sleep(shared.options.settle).await;
        };
        // Biased towards the end of the work: what is done in time counts as done.
        tokio::select! {
            biased;
            () = self.work() => {}
            () = overtime => {}
        }
        self.latency
    }

    async fn work(&mut self) {
        while !self.finished() {
            match self.connect().await {
                Ok((stream, session)) => self.connection(stream, session).await,
                Err(why) => {
                    self.shared.failed(why);
                    sleep(self.shared.options.retry_delay).await;
                }
            }
        }
    }

    fn finished(&self) -> bool {
        self.shared.exhausted() && self.again.is_empty() && self.inflight.is_empty()
    }

    async fn connect(&self) -> Result<(Stream, Session), String> {
        let session = self.shared.session(None).await?;
        let options = &self.shared.options;
        match options
            .dialer
            .dial(&options.data, DIAL_TIMEOUT, DIAL_TIMEOUT)
            .await
        {
            Ok(stream) => {
                self.shared.count(|c| c.connections += 1);
                Ok((stream, session))
            }
            Err(e) => {
                self.shared.count(|c| c.connect_failures += 1);
                Err(e.to_string())
            }
        }
    }

    async fn connection(&mut self, mut stream: Stream, mut session: Session) {
        self.output.clear();
        self.input.clear();
        let end = match self.pump(&mut stream, &mut session).await {
            Ok(()) => End::Finished,
            Err(end) => end,
        };
        match end {
            End::Finished => {
                // The peer may have been faster.
                let _ = tokio::time::timeout(DIAL_TIMEOUT, stream.close()).await;
                return;
            }
            End::Fin => {
                let n = u64::try_from(self.inflight.len()).unwrap_or(0);
                self.shared.count(|c| c.acked_by_fin += n);
                while let Some(frame) = self.inflight.pop_front() {
                    self.acknowledge(frame);
                }
                return;
            }
            End::Reset(e) => {
                self.shared.count(|c| c.resets += 1);
                self.shared.failed(format!("{}: {e}", self.shared.options.data));
            }
            End::Late => {
                self.shared.count(|c| c.reply_timeouts += 1);
                stream.abort();
            }
            End::Refused(why) => self.shared.failed(why),
        }
        while let Some(frame) = self.inflight.pop_back() {
            self.send_again(frame);
        }
        sleep(self.shared.options.retry_delay).await;
    }

    async fn pump(&mut self, stream: &mut Stream, session: &mut Session) -> Result<(), End> {
        let reply_timeout = self.shared.options.reply_timeout;
        // Set anew only when it fires: a timer for every frame would cost more than the frame.
        let mut watchdog = pin!(sleep(reply_timeout));
        loop {
            self.fill(session);
            if !self.output.is_empty() {
                stream.write_all(&self.output).await?;
                stream.flush().await?;
                self.output.clear();
            }
            let Some(oldest) = self.inflight.front() else {
                if self.finished() {
                    return Ok(());
                }
                // Nothing due yet: the next frame, or the end, which comes first (biased).
                let issued = self.shared.issued.clone();
                tokio::select! {
                    biased;
                    () = issued.cancelled(), if !issued.is_cancelled() => {}
                    () = self.shared.due(self.index, self.due) => {}
                }
                continue;
            };
            let late = oldest.sent + reply_timeout;
            let room = self.interval.is_some() && self.inflight.len() < self.shared.options.window;
            // Biased: a reply that is there is read before the clock is asked.
            tokio::select! {
                biased;
                n = stream.read_buf(&mut self.input) => match n? {
                    0 => return Err(End::Fin),
                    _ => self.replies(session).await?,
                },
                () = self.shared.due(self.index, self.due), if room && !self.shared.exhausted() => {}
                () = watchdog.as_mut() => {
                    if late <= Instant::now() {
                        return Err(End::Late);
                    }
                    watchdog.as_mut().reset(late);
                }
            }
        }
    }

    /// Appends frames to the output while the window has room.
    fn fill(&mut self, session: &Session) {
        let now = Instant::now();
        while self.inflight.len() < self.shared.options.window.max(1) {
            let Some(mut frame) = self.again.pop_front().or_else(|| self.new_frame(now)) else {
                return;
            };
            frame.sent = now;
            let options = &self.shared.options;
            if let Some(judge) = &options.judge {
                let at = judge.now();
                judge.oracle().issue(self.origin, frame.first, frame.count, at);
            }
            let events = append_frame(
                &mut self.output,
                &session.id,
                &options.events,
                self.origin,
                frame.first,
                frame.count,
            );
            if options.stamp {
                stamp::put(
                    self.output.get_mut(events..).unwrap_or_default(),
                    stamp::now_micros(),
                );
            }
            self.inflight.push_back(frame);
        }
    }

    fn new_frame(&mut self, now: Instant) -> Option<Frame> {
        let due = match self.interval {
            Some(_) if self.due > now => return None,
            Some(interval) => {
                let due = self.due;
                self.due += interval;
                due
            }
            None => now,
        };
        let count = self.shared.take(self.shared.options.events_per_frame);
        if count == 0 {
            return None;
        }
        let first = self.next;
        self.next += count;
        Some(Frame {
            first,
            count,
            due,
            sent: now,
            session_errors: 0,
        })
    }
}
