//! A writer that never blocks: a thread of its own writes the lines, so that a full pipe behind stderr (a stalled
//! collector, a stopped terminal) cannot stop a worker. At most [`LINES_MAX`] lines wait; further ones are lost, and a
//! line says how many.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines waiting to be written.
const LINES_MAX: usize = 1024;

/// Each write is one whole line.
pub(super) struct NonBlocking {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

impl NonBlocking {
    /// Starts the thread that writes to `out`; `notice` makes the line about lost ones from their number.
    pub(super) fn new(out: impl Write + Send + 'static, notice: fn(u64) -> String) -> io::Result<Self> {
        let (lines, far_end) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&lost);
        thread::Builder::new()
            .name("weir-log".into())
            .spawn(move || write_lines(out, &far_end, &missing, notice))?;
        Ok(Self { lines, lost })
    }

    /// Waits until everything logged so far is written, `timeout` at most; returns whether it is.
    #[allow(
        clippy::disallowed_methods,
        reason = "called by plain threads, outside of any runtime"
    )]
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        const TRY_AGAIN: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + timeout;
        let (done, wait) = sync_channel(1);
        // The blocking send has no deadline.
        while let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Flush(done.clone())) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(TRY_AGAIN);
        }
        wait.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
    }
}

impl Write for &NonBlocking {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for NonBlocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonBlocking")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// Writes until the sending end is dropped; errors of `out` (a closed pipe) are ignored.
fn write_lines(mut out: impl Write, lines: &Receiver<Message>, lost: &AtomicU64, notice: fn(u64) -> String) {
    while let Ok(message) = lines.recv() {
        // Before the message: lines are lost only while others wait, and a flush reports all of them.
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            n => {
                out.write_all(notice(n).as_bytes()).ok();
            }
        }
        match message {
            Message::Line(line) => {
                out.write_all(&line).ok();
            }
            Message::Flush(done) => {
                out.flush().ok();
                done.send(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A pipe whose reader is stopped until `resume`.
    #[derive(Clone, Default)]
    struct Pipe {
        read: Arc<(Mutex<bool>, Condvar)>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Pipe {
        fn resume(&self) {
            *self.read.0.lock().unwrap() = true;
            self.read.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (read, changed) = &*self.read;
            drop(changed.wait_while(read.lock().unwrap(), |read| !*read).unwrap());
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_does_not_block_writers_and_lost_lines_are_counted() {
        let pipe = Pipe::default();
        let log = NonBlocking::new(pipe.clone(), |n| format!("{n} lost\n")).unwrap();
        let written = LINES_MAX + 500;
        for i in 0..written {
            (&log).write_all(format!("line {i}\n").as_bytes()).unwrap();
        }
        assert!(!log.flush(Duration::from_millis(20)), "the reader is stopped");
        pipe.resume();
        assert!(log.flush(Duration::from_secs(10)));
        let text = pipe.text();
        let lines = text.lines().filter(|l| l.starts_with("line ")).count();
        let lost: usize = text
            .lines()
            .filter_map(|l| l.strip_suffix(" lost"))
            .map(|n| n.parse::<usize>().unwrap())
            .sum();
        assert!(lines >= LINES_MAX, "{lines}");
        assert_eq!(lines + lost, written, "every line is written or counted");
    }
}
