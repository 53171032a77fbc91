//! A stand-in for the broker inside a Traffic Manager: publishes numbered decisions to every subscriber, and
//! can be stopped and started on its address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir::net::{Listener, Raw, Stream, out_of_descriptors};

use super::Book;
use super::frames::{self, Said};
use super::line::{Event, Line};
use crate::sink::{Opener, tcp};

/// The one user.
pub(super) const USER: &str = "admin";
/// The password.
pub(super) const PASSWORD: &str = "admin";
/// Between two attempts to open the port.
const RETRY: Duration = Duration::from_millis(20);
/// Of a client's protocol header and login.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A running broker; dropping it closes everything.
pub struct Broker {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    book: Book,
    mode: watch::Sender<Mode>,
    /// Number of the last decision that was published.
    latest: watch::Sender<u64>,
    /// Whether the port is open, and connections.
    open: watch::Sender<(bool, usize)>,
    heartbeats: AtomicU64,
    end: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Publishing,
    /// Everything but publishing.
    Quiet,
    /// No port, no connection.
    Down,
}

impl Broker {
    /// Opens a port of the loopback and publishes a decision every `pace`, as tasks of the current runtime.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub fn start(book: &Book, pace: Duration) -> io::Result<Broker> {
        let mut opener = tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = opener()?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            book: book.clone(),
            mode: watch::Sender::new(Mode::Publishing),
            latest: watch::Sender::new(0),
            open: watch::Sender::new((true, 0)),
            heartbeats: AtomicU64::new(0),
            end: CancellationToken::new(),
        });
        tokio::spawn(serve(Arc::clone(&shared), opener, listener, pace));
        Ok(Broker { shared, address })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Heartbeats it has received.
    #[must_use]
    pub fn heartbeats(&self) -> u64 {
        self.shared.heartbeats.load(Ordering::Relaxed)
    }

    /// Closes the port and every connection, as a server that is shut down; returns when that has happened.
    pub async fn stop(&self) {
        self.shared.mode.send_replace(Mode::Down);
        self.settled((false, 0)).await;
    }

    /// Listens again, on the same address, and publishes on; returns when it does.
    pub async fn restart(&self) {
        self.shared.mode.send_replace(Mode::Publishing);
        let mut open = self.shared.open.subscribe();
        // An error would mean that it was dropped, and this borrows it.
        let _ = open.wait_for(|(port, _)| *port).await;
    }

    /// Publishes nothing more; connections stay open.
    pub fn stop_publishing(&self) {
        self.shared.mode.send_replace(Mode::Quiet);
    }

    async fn settled(&self, wanted: (bool, usize)) {
        let _ = self
            .shared
            .open
            .subscribe()
            .wait_for(|open| *open == wanted)
            .await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.end.cancel();
    }
}

/// The port and the publisher, in one task: so nothing is published when the port is closed.
async fn serve(shared: Arc<Shared>, mut opener: Opener, listener: Listener, pace: Duration) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(listener);
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Down && listener.take().is_some() {
            shared.open.send_modify(|(port, _)| *port = false);
        } else if now != Mode::Down && listener.is_none() {
            // The address may still be in use for a moment: tried again below.
            listener = opener().ok();
            if listener.is_some() {
                shared.book.tally().returned(shared.book.now());
                shared.open.send_modify(|(port, _)| *port = true);
            }
        }
        let (open, shut) = (listener.is_some(), now != Mode::Down && listener.is_none());
        // Biased: a broker that is to stop neither publishes nor accepts any more.
        tokio::select! {
            biased;
            () = shared.end.cancelled() => return,
            _ = mode.changed() => {}
            _ = ticks.tick(), if open && now == Mode::Publishing => {
                let number = shared.book.tally().published();
                shared.latest.send_replace(number);
            }
            accepted = accept(&mut listener) => match accepted {
                Ok(raw) => spawn(&shared, raw),
                Err(e) if out_of_descriptors(&e) => sleep(RETRY).await,
                Err(_) => {}
            },
            () = sleep(RETRY), if shut => {}
        }
    }
}

async fn accept(listener: &mut Option<Listener>) -> io::Result<Raw> {
    match listener {
        Some(listener) => listener.accept().await.map(|(raw, _)| raw),
        None => std::future::pending().await,
    }
}

fn spawn(shared: &Arc<Shared>, raw: Raw) {
    shared.open.send_modify(|(_, connections)| *connections += 1);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut line = Line::new(Stream::Plain(raw));
        // Biased: a dropped broker says nothing more.
        tokio::select! {
            biased;
            () = shared.end.cancelled() => {}
            () = async {
                // How a client ended shows in what it received.
                let _ = live(&shared, &mut line).await;
                line.close().await;
            } => {}
        }
        shared.open.send_modify(|(_, connections)| *connections -= 1);
    });
}

/// A client, to its end or the broker's.
async fn live(shared: &Shared, line: &mut Line) -> Result<(), String> {
    let mut mode = shared.mode.subscribe();
    let mut latest = shared.latest.subscribe();
    let mut consumer: Option<Consumer> = None;
    let header = timeout(LOGIN_TIMEOUT, line.header())
        .await
        .map_err(|_| "no header")??;
    if header != frames::PROTOCOL_HEADER {
        // The answer to another version (4.2.2).
        return line.send(&frames::PROTOCOL_HEADER).await;
    }
    line.send(&frames::start()).await?;
    loop {
        // Biased: a stop comes after everything that was published before it, and what is published goes out
        // before new questions are heard.
        tokio::select! {
            biased;
            Ok(()) = latest.changed(), if consumer.is_some() => {
                let latest = *latest.borrow_and_update();
                if let Some(consumer) = &mut consumer {
                    consumer.send_up_to(latest, shared, line).await?;
                }
            }
            () = down(&mut mode) => return Ok(()),
            event = line.next() => match event {
                Event::Over(why) => return Err(why),
                Event::Beat => line.send(&frames::heartbeat()).await?,
                Event::Said(Said::Heartbeat) => {
                    shared.heartbeats.fetch_add(1, Ordering::Relaxed);
                }
                Event::Said(Said::Method(method, arguments)) => match method {
                    frames::CONSUME => {
                        let tag = frames::tag_of_consume(&arguments).ok_or("no tag")?;
                        line.send(&frames::consume_ok(&tag)).await?;
                        consumer = Some(Consumer::new(tag, shared, *latest.borrow_and_update())?);
                    }
                    _ => answer(line, method, &arguments).await?,
                },
                Event::Said(other) => return Err(format!("{other:?} from a subscriber")),
            },
        }
    }
}

async fn down(mode: &mut watch::Receiver<Mode>) {
    // An error would mean that the broker was dropped: over as well.
    let _ = mode.wait_for(|mode| *mode == Mode::Down).await;
}

async fn answer(line: &mut Line, method: (u16, u16), arguments: &[u8]) -> Result<(), String> {
    let answer = match method {
        frames::START_OK => {
            // Frame head, class and method are not part of the arguments, nor is the end octet.
            let whole = frames::start_ok(USER, PASSWORD);
            if whole.get(11..whole.len() - 1) != Some(arguments) {
                return Err("wrong user or password".into());
            }
            frames::tuning(frames::TUNE, 0)
        }
        frames::TUNE_OK => {
            line.tuned(frames::heartbeat_of(arguments).ok_or("a short Tune-Ok")?);
            return Ok(());
        }
        frames::OPEN => frames::open_ok(),
        frames::CHANNEL_OPEN => frames::channel_open_ok(),
        frames::DECLARE => frames::declare_ok(frames::TOPIC),
        frames::BIND => frames::bind_ok(),
        other => return Err(format!("method {other:?}")),
    };
    line.send(&answer).await
}

/// Somebody who gets every decision from the next one on.
struct Consumer {
    tag: String,
    subscription: usize,
    next: u64,
}

impl Consumer {
    /// The number of the subscription is the end of its tag.
    fn new(tag: String, shared: &Shared, latest: u64) -> Result<Self, String> {
        let number = tag.rsplit('-').next().and_then(|number| number.parse().ok());
        let subscription = number.ok_or_else(|| format!("a tag without a number: {tag:?}"))?;
        shared.book.tally().began(subscription, latest + 1);
        Ok(Self {
            tag,
            subscription,
            next: latest + 1,
        })
    }

    async fn send_up_to(&mut self, latest: u64, shared: &Shared, line: &mut Line) -> Result<(), String> {
        while self.next <= latest {
            let body = super::decision(self.next);
            shared.book.tally().offered(self.subscription, self.next);
            line.send(&frames::delivery(&self.tag, self.next, body.as_bytes()))
                .await?;
            shared.book.tally().sent(self.subscription, self.next);
            self.next += 1;
        }
        Ok(())
    }
}
