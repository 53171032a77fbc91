//! One side of a simulated connection.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use weir::net::Socket;

use super::state::{Shared, Wrote};
use super::wire::Found;
use crate::sink::Close;

/// Side 0 has connected, side 1 was connected to.
pub(super) struct End {
    shared: Arc<Shared>,
    wire: u64,
    side: usize,
    reset_on_close: bool,
    read_alarm: Option<Pin<Box<Sleep>>>,
    write_alarm: Option<Pin<Box<Sleep>>>,
}

impl End {
    pub(super) fn new(shared: Arc<Shared>, wire: u64, side: usize) -> Self {
        Self {
            shared,
            wire,
            side,
            reset_on_close: false,
            read_alarm: None,
            write_alarm: None,
        }
    }

    /// This side's last word.
    fn leave(&mut self, how: Close) {
        self.shared.lock().leave(self.wire, self.side, how);
    }
}

impl Socket for End {
    fn abort(mut self: Box<Self>) {
        self.leave(Close::Rst);
    }

    fn reset_on_close(&mut self) {
        self.reset_on_close = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let how = if self.reset_on_close {
            Close::Rst
        } else {
            Close::Fin
        };
        self.leave(how);
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let found = me
                .shared
                .lock()
                .read(me.wire, me.side, buf.remaining(), cx.waker());
            let at = match found {
                Found::Bytes(bytes) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Found::Fin => return Poll::Ready(Ok(())),
                Found::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Found::Nothing(at) => at,
            };
            std::task::ready!(wait(&mut me.read_alarm, at, cx));
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let wrote = me.shared.lock().write(me.wire, me.side, bytes, cx.waker());
            match wrote {
                Wrote::Bytes(taken) => return Poll::Ready(Ok(taken)),
                Wrote::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Wrote::Full(until) => std::task::ready!(wait(&mut me.write_alarm, until, cx)),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut joined = Vec::new();
        for buf in bufs {
            joined.extend_from_slice(buf);
        }
        self.poll_write(cx, &joined)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().shut_down(self.wire, self.side);
        Poll::Ready(Ok(()))
    }
}

/// Ready when it is time to look again.
fn wait(alarm: &mut Option<Pin<Box<Sleep>>>, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(at) = at else { return Poll::Pending };
    let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if alarm.deadline() != at {
        alarm.as_mut().reset(at);
    }
    alarm.as_mut().poll(cx)
}

/// Remembers who waits.
pub(super) fn remember(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(old) => old.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}
