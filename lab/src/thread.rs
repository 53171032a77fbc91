//! Parts of the laboratory on threads of their own, and waiting for a condition.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// A thread with a runtime; dropping it asks its work to end and waits for it.
#[derive(Debug)]
pub struct Running<T> {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Option<T>>>,
}

/// Runs `work` on a thread of its own with a current-thread runtime. `work` gets a future that ends when
/// it is asked to stop; [`Running::stop`] returns its result.
///
/// ```no_run
/// # use weir_lab::{Sink, SinkOptions, thread};
/// let (address, known) = std::sync::mpsc::sync_channel(1);
/// let running = thread::spawn("sink", move |stop| async move {
///     let sink = Sink::start(SinkOptions::local()).ok()?;
///     address.send(sink.data_address()).ok()?;
///     let _ = stop.await;
///     Some(sink.counts())
/// });
/// ```
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn<T, F, W>(name: &str, work: W) -> io::Result<Running<T>>
where
    T: Send + 'static,
    F: Future<Output = T>,
    W: FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .ok()?;
        Some(runtime.block_on(work(stopped)))
    })?;
    Ok(Running {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl<T> Running<T> {
    /// Asks the work to end, waits for it (blocking this thread), and returns its result; `None` when it
    /// failed.
    #[must_use]
    pub fn stop(mut self) -> Option<T> {
        self.end()
    }

    fn end(&mut self) -> Option<T> {
        if let Some(stop) = self.stop.take() {
            // Work that has ended already does not listen.
            let _ = stop.send(());
        }
        self.thread.take()?.join().ok().flatten()
    }
}

impl<T> Drop for Running<T> {
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
