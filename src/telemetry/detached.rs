//! Lines on their way to a place that may be slow: a thread writes them, so that a full pipe behind stderr
//! (a stalled collector, a stopped terminal) never stops a worker. At most [`LINES_MAX`] wait; further ones
//! are lost, and a line says how many.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines waiting to be written.
const LINES_MAX: usize = 1024;

/// The near end; each write is one whole line.
pub(super) struct Detached {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// Answered when every line before it is written.
    Flush(SyncSender<()>),
}

impl Detached {
    /// Starts the thread that writes to `out`; `notice` words the line about so many lost ones.
    pub(super) fn new(out: impl Write + Send + 'static, notice: fn(u64) -> String) -> io::Result<Self> {
        let (lines, far_end) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&lost);
        thread::Builder::new()
            .name("weir-log".into())
            .spawn(move || write_lines(out, &far_end, &missing, notice))?;
        Ok(Self { lines, lost })
    }

    /// Waits until what was logged is written, `timeout` at most; says whether it is.
    #[allow(
        clippy::disallowed_methods,
        reason = "called by plain threads, outside of any runtime"
    )]
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        const TRY_AGAIN: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + timeout;
        let (done, wait) = sync_channel(1);
        // No blocking send here: it has no deadline.
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

impl Write for &Detached {
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

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

/// Writes until the near end is gone. A place that fails (a closed pipe) is nothing to stop for.
fn write_lines(mut out: impl Write, lines: &Receiver<Message>, lost: &AtomicU64, notice: fn(u64) -> String) {
    while let Ok(message) = lines.recv() {
        // Before the message: when lines are lost there are always further messages, and a flush counts all.
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

    /// A pipe whose reader has stopped until it is let go.
    #[derive(Clone, Default)]
    struct Pipe {
        read: Arc<(Mutex<bool>, Condvar)>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Pipe {
        fn let_go(&self) {
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
    fn a_stalled_reader_stops_nobody_and_what_was_lost_is_counted() {
        let pipe = Pipe::default();
        let detached = Detached::new(pipe.clone(), |n| format!("{n} lost\n")).unwrap();
        let written = LINES_MAX + 500;
        for i in 0..written {
            (&detached).write_all(format!("line {i}\n").as_bytes()).unwrap();
        }
        assert!(!detached.flush(Duration::from_millis(20)), "nobody reads");
        pipe.let_go();
        assert!(detached.flush(Duration::from_secs(10)));
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
