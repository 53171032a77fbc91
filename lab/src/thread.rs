//! Rooms of the laboratory on threads of their own, and waiting for what must come.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// A thread with a runtime; dropping it asks its work to end and waits for it.
#[derive(Debug)]
pub struct Room<T> {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Option<T>>>,
}

/// Runs `work` on a thread of its own with a current-thread runtime. `work` gets a future that ends when
/// the room is to be left, and returns what [`Room::leave`] hands out.
///
/// ```no_run
/// # use weir_lab::{Sink, SinkOptions, thread};
/// let (address, known) = std::sync::mpsc::sync_channel(1);
/// let room = thread::room("sink", move |leave| async move {
///     let sink = Sink::start(SinkOptions::local()).ok()?;
///     address.send(sink.data_address()).ok()?;
///     let _ = leave.await;
///     Some(sink.counts())
/// });
/// ```
///
/// # Errors
/// The operating system gives no thread.
pub fn room<T, F, W>(name: &str, work: W) -> io::Result<Room<T>>
where
    T: Send + 'static,
    F: Future<Output = T>,
    W: FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
{
    let (stop, leave) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .ok()?;
        Some(runtime.block_on(work(leave)))
    })?;
    Ok(Room {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl<T> Room<T> {
    /// Asks the work to end, waits for it (blocking this thread), and returns its result; `None` when it
    /// failed.
    #[must_use]
    pub fn leave(mut self) -> Option<T> {
        self.end()
    }

    /// Whether the work has ended by itself.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.thread
            .as_ref()
            .is_none_or(std::thread::JoinHandle::is_finished)
    }

    fn end(&mut self) -> Option<T> {
        if let Some(stop) = self.stop.take() {
            // Work that has ended already does not listen.
            let _ = stop.send(());
        }
        self.thread.take()?.join().ok().flatten()
    }
}

impl<T> Drop for Room<T> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until `is` holds, looking every millisecond.
///
/// # Errors
/// It did not within `limit`; says `what` was waited for.
pub async fn until(what: &str, limit: Duration, mut is: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    while !is() {
        if Instant::now() >= deadline {
            return Err(format!("not within {limit:?}: {what}"));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
