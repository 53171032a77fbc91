//! One direction of one connection through the proxy.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use weir::net::Stream;

use super::{CORRUPTED, CUTS, HALF_OPENS, Shared, Trouble, VANISHED};
use crate::sink::Close;

/// Read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks on their way in one direction of one connection.
const CHUNKS_MAX: usize = 64;

/// How one direction ended.
pub(super) enum End {
    /// FIN came and was passed on: the other direction may go on.
    Passed,
    /// The connection is over.
    Over(Close),
}

/// One direction of one connection.
pub(super) struct Way<'a> {
    shared: &'a Shared,
    pub(super) from: ReadHalf<Stream>,
    pub(super) to: WriteHalf<Stream>,
    trouble: watch::Receiver<Trouble>,
    /// Bytes on their way, and when they arrive.
    travelling: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes read so far.
    seen: u64,
    ended: bool,
}

impl<'a> Way<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        from: ReadHalf<Stream>,
        to: WriteHalf<Stream>,
        trouble: &watch::Sender<Trouble>,
    ) -> Self {
        Self {
            shared,
            from,
            to,
            trouble: trouble.subscribe(),
            travelling: VecDeque::new(),
            seen: 0,
            ended: false,
        }
    }

    pub(super) async fn run(&mut self) -> End {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let now = self.trouble.borrow_and_update().clone();
            if self.ended && self.travelling.is_empty() {
                if now.half_open {
                    self.shared.count(HALF_OPENS, 1);
                    std::future::pending::<()>().await;
                }
                return match self.to.shutdown().await {
                    Ok(()) => End::Passed,
                    Err(_) => End::Over(Close::Rst),
                };
            }
            let arrival = self.travelling.front().map(|(when, _)| *when);
            let reading = !now.stopped && !self.ended && self.travelling.len() < CHUNKS_MAX;
            // Biased: a change counts from when it is made, and what has arrived leaves before more is read.
            tokio::select! {
                biased;
                _ = self.trouble.changed() => {}
                () = sleep_until(arrival.unwrap_or_else(Instant::now)), if arrival.is_some() => {
                    if let Some((_, bytes)) = self.travelling.pop_front()
                        && self.deliver(&bytes, &now).await.is_err()
                    {
                        return End::Over(Close::Rst);
                    }
                }
                n = self.from.read(&mut chunk), if reading => match n {
                    Ok(0) => self.ended = true,
                    Ok(n) => {
                        let bytes = chunk.get(..n).unwrap_or_default().to_vec();
                        if let Some(how) = self.take(bytes, &now).await {
                            return End::Over(how);
                        }
                    }
                    Err(_) if now.half_open => self.ended = true,
                    Err(_) => return End::Over(Close::Rst),
                },
            }
        }
    }

    /// What was read goes on its way, or does not. Says how the connection is cut, if it is.
    async fn take(&mut self, mut bytes: Vec<u8>, now: &Trouble) -> Option<Close> {
        let start = self.seen;
        self.seen += u64::try_from(bytes.len()).unwrap_or(0);
        if now.black_hole {
            self.shared.count(VANISHED, bytes.len());
            return None;
        }
        let place = |at: u64| at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = now.corrupt_at.and_then(place).and_then(|at| bytes.get_mut(at)) {
            *byte ^= 0x20;
            self.shared.count(CORRUPTED, 1);
        }
        if let Some((at, how)) = now.cut_at.filter(|(at, _)| *at <= self.seen) {
            bytes.truncate(place(at).unwrap_or(0));
            // What lies before the cut still arrives.
            self.travelling.push_back((Instant::now(), bytes));
            while let Some((_, bytes)) = self.travelling.pop_front() {
                if self.deliver(&bytes, now).await.is_err() {
                    break;
                }
            }
            self.shared.count(CUTS, 1);
            return Some(how);
        }
        self.travelling.push_back((Instant::now() + now.latency, bytes));
        None
    }

    async fn deliver(&mut self, bytes: &[u8], now: &Trouble) -> io::Result<()> {
        let slice = match (now.slice_bytes, now.bandwidth) {
            (Some(slice), _) => slice.max(1),
            // A slice of 10 ms.
            (None, Some(rate)) => usize::try_from(rate / 100).unwrap_or(CHUNK_BYTES).max(1),
            (None, None) => CHUNK_BYTES,
        };
        for piece in bytes.chunks(slice) {
            self.to.write_all(piece).await?;
            self.to.flush().await?;
            match now.bandwidth.filter(|rate| *rate > 0) {
                Some(rate) => {
                    let nanos = u64::try_from(piece.len()).unwrap_or(0) * 1_000_000_000 / rate;
                    sleep(Duration::from_nanos(nanos)).await;
                }
                None if now.slice_bytes.is_some() => tokio::task::yield_now().await,
                None => {}
            }
        }
        Ok(())
    }
}
