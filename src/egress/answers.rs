//! The other direction of a link's connection: replies, in the order of the frames they answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::pump::{Pump, Stop};
use super::state::Failure;
use crate::wire::reply::{Reply, SESSION_TIMEOUT, short_class};

/// Replies are one byte each; more than a window of them never waits.
const READ_BYTES: usize = 256;

/// Whether a `SessionTimeoutException` is about the session, and not another weir's "send again". In ASCII its
/// length is right, so what follows is the next reply.
fn says_expired(message: &str) -> bool {
    message.is_ascii() && message.ends_with(" expired")
}

impl Pump {
    /// Reads replies until none is there; whether there was any.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Stop> {
        let mut any = false;
        loop {
            let mut bytes = [0_u8; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(any),
                Poll::Ready(Err(e)) => return Err(Stop::failed("closed", format!("connection lost: {e}"))),
                Poll::Ready(Ok(())) => {}
            }
            let read = buffer.filled();
            if read.is_empty() {
                return Err(Stop::failed(
                    "closed",
                    "the Traffic Manager closed the connection",
                ));
            }
            any = true;
            self.last_read = now;
            self.last_look = None;
            let more = read.len() == READ_BYTES;
            self.answer(read, now)?;
            if !more {
                return Ok(any);
            }
        }
    }

    fn answer(&mut self, read: &[u8], now: Instant) -> Result<(), Stop> {
        let mut joined = std::mem::take(&mut self.inbox);
        let mut bytes = read;
        if !joined.is_empty() {
            joined.extend_from_slice(read);
            bytes = &joined;
        }
        loop {
            match Reply::decode(bytes) {
                Ok(None) => {
                    self.inbox.extend_from_slice(bytes);
                    return Ok(());
                }
                Ok(Some((Reply::Ok, length))) => {
                    bytes = bytes.get(length..).unwrap_or_default();
                    self.delivered(now)?;
                }
                Ok(Some((Reply::Error { class, message }, length))) => {
                    self.link.stats.borrow_mut().replies_error_total += 1;
                    let text = format!("{}: {message:?}", short_class(class));
                    if class == SESSION_TIMEOUT && says_expired(&message) {
                        bytes = bytes.get(length..).unwrap_or_default();
                        self.expired(text, now)?;
                        continue;
                    }
                    if class == SESSION_TIMEOUT {
                        return Err(Stop::failed("session", text));
                    }
                    return Err(Stop::Refused(Failure::new("rejected", text)));
                }
                Ok(Some((Reply::LoginOk { .. }, _))) => {
                    return Err(Stop::failed("protocol", "a login reply to a publish"));
                }
                Err(e) => return Err(Stop::failed("protocol", e.to_string())),
            }
        }
    }

    fn delivered(&mut self, now: Instant) -> Result<(), Stop> {
        if self.group().is_eager() {
            self.expect_returns();
        }
        let (mut events, mut frames) = (0, 0);
        let observers = &self.link.observers;
        let known = self.pipeline.answered(|parcel, sent_at| {
            if frames == 0 {
                observers.reply_seconds.record(now.duration_since(sent_at));
            }
            frames = 1;
            events += parcel.events() as u64;
            if let Some(at) = parcel.accepted_at() {
                observers.delivery_seconds.record(now.duration_since(at));
            }
            parcel.delivered();
        });
        if !known {
            return Err(Stop::failed("protocol", "an unsolicited reply"));
        }
        self.session.works();
        let mut stats = self.link.stats.borrow_mut();
        stats.replies_ok_total += frames;
        stats.delivered_events_total += events;
        Ok(())
    }
}
