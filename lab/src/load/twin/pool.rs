//! The agent's pool of connections to one URL: last in, first out, never validated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::config::Url;
use weir::net::Stream;

use super::lock;

/// The pools of one agent, which all its publishers share: one for each URL, of data and of logins.
#[derive(Debug, Clone, Default)]
pub struct Pools(Arc<Mutex<ByUrl>>);

/// Whether of logins, and the URL.
type ByUrl = HashMap<(bool, String), Arc<Pool>>;

impl Pools {
    pub(super) fn data(&self, url: &Url) -> Arc<Pool> {
        self.of(false, url)
    }

    pub(super) fn auth(&self, url: &Url) -> Arc<Pool> {
        self.of(true, url)
    }

    fn of(&self, login: bool, url: &Url) -> Arc<Pool> {
        Arc::clone(lock(&self.0).entry((login, url.to_string())).or_default())
    }
}

/// Idle connections, and since when.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<(Stream, Instant)>>);

impl Pool {
    /// The connection used last, without a check that its peer is still there.
    pub(super) fn borrow(&self) -> Option<Stream> {
        lock(&self.0).pop().map(|(stream, _)| stream)
    }

    /// Broken ones come back, too.
    pub(super) fn give_back(&self, stream: Stream) {
        lock(&self.0).push((stream, Instant::now()));
    }

    /// Closes everything that is idle.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// Closes, every `period`, what was idle for `min_idle`. Never ends.
    pub(super) async fn evict(&self, period: Duration, min_idle: Duration) {
        loop {
            sleep(period).await;
            lock(&self.0).retain(|(_, since)| since.elapsed() < min_idle);
        }
    }
}
