//! A fault proxy between any two: what a network can do to a connection, switchable at any time.
//!
//! Each direction has its own [`Trouble`]. What happens to a connection as a whole (a cut, one side that
//! never hears of the other's end) is a call on the [`Proxy`].

mod way;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::split;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weir::config::Url;
use weir::net::{Dialer, Raw, Stream};

use self::way::{End, Way};
use super::gateway::DIAL_TIMEOUT;
use super::sink::{Close, Opener, tcp};

/// What one direction of every connection suffers.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    /// Every byte arrives this much later.
    pub latency: Duration,
    /// Bytes leave in slices of at most this many, each by itself.
    pub slice_bytes: Option<usize>,
    /// Bytes per second.
    pub bandwidth: Option<u64>,
    /// Bytes are read and vanish.
    pub black_hole: bool,
    /// Bytes are not even read: the sender's window closes.
    pub stopped: bool,
    /// After so many bytes in this direction of a connection both its ends are closed.
    pub cut_at: Option<(u64, Close)>,
    /// The byte at this place of every connection is flipped.
    pub corrupt_at: Option<u64>,
    /// The other side is never told that this one has ended.
    pub half_open: bool,
}

/// What happened; witnesses that a fault took place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Connections taken.
    pub connections: u64,
    /// Connections closed by [`Trouble::cut_at`] or [`Proxy::cut`].
    pub cuts: u64,
    /// Bytes that vanished.
    pub vanished_bytes: u64,
    /// Bytes that were flipped.
    pub corrupted_bytes: u64,
    /// Ends that were kept from the other side.
    pub half_opens: u64,
}

/// A running proxy; dropping it resets its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Dialer,
    target: Url,
    /// Towards the target, and back from it.
    forth: watch::Sender<Trouble>,
    back: watch::Sender<Trouble>,
    cut: watch::Sender<(u64, Close)>,
    counters: [AtomicU64; 5],
    stop: CancellationToken,
}

const CONNECTIONS: usize = 0;
const CUTS: usize = 1;
const VANISHED: usize = 2;
const CORRUPTED: usize = 3;
const HALF_OPENS: usize = 4;

impl Proxy {
    /// In front of `target`, on a free loopback port, without faults. TLS passes through.
    ///
    /// # Errors
    /// No port.
    pub fn start(dialer: Dialer, target: Url) -> io::Result<Proxy> {
        Self::start_on(tcp(SocketAddr::from(([127, 0, 0, 1], 0))), dialer, target)
    }

    /// The same on a chosen port.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub fn start_on(mut listen: Opener, dialer: Dialer, target: Url) -> io::Result<Proxy> {
        let mut listener = listen()?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            dialer,
            target,
            forth: watch::Sender::new(Trouble::default()),
            back: watch::Sender::new(Trouble::default()),
            cut: watch::Sender::new((0, Close::Rst)),
            counters: Default::default(),
            stop: CancellationToken::new(),
        });
        let own = Arc::clone(&shared);
        tokio::spawn(async move {
            let accepting = async {
                loop {
                    match listener.accept().await {
                        Ok((raw, _)) => {
                            own.count(CONNECTIONS, 1);
                            let before = own.cut.borrow().0;
                            tokio::spawn(connection(Arc::clone(&own), raw, before));
                        }
                        Err(_) => sleep(Duration::from_millis(20)).await,
                    }
                }
            };
            // Biased: after the end no connection is accepted.
            tokio::select! {
                biased;
                () = own.stop.cancelled() => {}
                () = accepting => {}
            }
        });
        Ok(Proxy { address, shared })
    }

    /// Where to connect instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what bytes towards the target suffer.
    pub fn forth(&self, change: impl FnOnce(&mut Trouble)) {
        self.shared.forth.send_modify(change);
    }

    /// Changes what bytes from the target suffer.
    pub fn back(&self, change: impl FnOnce(&mut Trouble)) {
        self.shared.back.send_modify(change);
    }

    /// Ends every connection on both sides.
    pub fn cut(&self, how: Close) {
        self.shared
            .cut
            .send_modify(|(n, last)| (*n, *last) = (*n + 1, how));
    }

    /// Everything that happened so far.
    #[must_use]
    pub fn counts(&self) -> ProxyCounts {
        let [connections, cuts, vanished_bytes, corrupted_bytes, half_opens] =
            [CONNECTIONS, CUTS, VANISHED, CORRUPTED, HALF_OPENS].map(|i| self.shared.look(i));
        ProxyCounts {
            connections,
            cuts,
            vanished_bytes,
            corrupted_bytes,
            half_opens,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn count(&self, which: usize, n: usize) {
        if let Some(counter) = self.counters.get(which) {
            counter.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn look(&self, which: usize) -> u64 {
        self.counters.get(which).map_or(0, |c| c.load(Ordering::Relaxed))
    }
}

async fn connection(shared: Arc<Shared>, near: Raw, before: u64) {
    let near = Stream::Plain(near);
    let Ok(far) = shared.dialer.dial_raw(&shared.target, DIAL_TIMEOUT).await else {
        near.abort();
        return;
    };
    let (near_read, near_write) = split(near);
    let (far_read, far_write) = split(Stream::Plain(far));
    let mut forth = Way::new(&shared, near_read, far_write, &shared.forth);
    let mut back = Way::new(&shared, far_read, near_write, &shared.back);
    let mut cut = shared.cut.subscribe();
    let both = async {
        let (forth, back) = (forth.run(), back.run());
        tokio::pin!(forth, back);
        // Either may end first; an end that is not a mere FIN ends both. Biased so that a simulated run can
        // be replayed.
        tokio::select! {
            biased;
            end = &mut forth => match end { End::Passed => back.await, over @ End::Over(_) => over },
            end = &mut back => match end { End::Passed => forth.await, over @ End::Over(_) => over },
        }
    };
    // Biased: what is told from outside comes first.
    let how = tokio::select! {
        biased;
        () = shared.stop.cancelled() => Close::Rst,
        now = cut.wait_for(|(n, _)| *n != before) => {
            let how = now.map_or(Close::Rst, |cut| cut.1);
            shared.count(CUTS, 1);
            how
        }
        end = both => match end { End::Passed => Close::Fin, End::Over(how) => how },
    };
    let near = forth.from.unsplit(back.to);
    let far = back.from.unsplit(forth.to);
    match how {
        Close::Rst => {
            near.abort();
            far.abort();
        }
        Close::Fin => {
            // FIN in good order on both sides, as far as they take it.
            let _ = tokio::join!(near.close(), far.close());
        }
    }
}
