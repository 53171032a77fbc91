//! One endpoint of a gateway's url group: its batches, its publishing thread, its login.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use weir::config::Url;
use weir::net::Stream;
use weir::wire::reply::{self, Reply};
use weir::wire::request::{encode_login, encode_publish_header};

use super::pool::{Pool, Pools};
use super::{Gateway, Queued, Version, lock};
use crate::event::Id;
use crate::stamp;

/// Java's `BufferedOutputStream` and `BufferedInputStream`.
const JAVA_BUFFER_BYTES: usize = 8_192;

/// `new Socket(host, port)` sets no limit: the kernel's, six SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// The reconnection task sleeps for so long before it looks at an endpoint.
const RECONNECT_LOOK: Duration = Duration::from_millis(10);

/// Between two probes of the data port.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// The one exception that leaves the pool as it is.
const DATA_ENDPOINT_EXCEPTION: &str = "org.wso2.carbon.databridge.agent.exception.DataEndpointException";

/// As the agent names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Initializing,
    Active,
    Busy,
    Unavailable,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    data: Url,
    auth: Url,
    state: Mutex<State>,
    /// Collected for the next frame.
    batch: Mutex<Vec<Queued>>,
    /// `max_pool_size` = 1: one frame in flight. Agent 6.1 never gives it back after a failure.
    permit: Semaphore,
    jobs: mpsc::Sender<Vec<Queued>>,
    jobs_to_do: Mutex<Option<mpsc::Receiver<Vec<Queued>>>>,
    session: Mutex<Vec<u8>>,
    data_pool: Arc<Pool>,
    auth_pool: Arc<Pool>,
    /// Empty the data pool before the next publish.
    invalidate: AtomicBool,
    /// No attempt to log in before this.
    reconnect_at: Mutex<Instant>,
}

/// What came of a frame.
enum Published {
    Ok,
    /// End of stream in place of an answer: an ok to the agent.
    Fin,
    Expired,
    Undefined,
    Failed(String),
}

impl Endpoint {
    pub(super) fn new(data: Url, auth: Url, pools: &Pools) -> Self {
        let (jobs, jobs_to_do) = mpsc::channel(1);
        Self {
            data_pool: pools.data(&data),
            auth_pool: pools.auth(&auth),
            data,
            auth,
            state: Mutex::new(State::Initializing),
            batch: Mutex::default(),
            permit: Semaphore::new(1),
            jobs,
            jobs_to_do: Mutex::new(Some(jobs_to_do)),
            session: Mutex::default(),
            invalidate: AtomicBool::new(false),
            reconnect_at: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    fn set_state(&self, state: State, gateway: &Gateway) {
        *lock(&self.state) = state;
        if state == State::Unavailable {
            gateway.lost.notify_one();
        }
        gateway.changed.notify_waiters();
    }

    /// `collectAndSend`.
    pub(super) async fn collect(&self, event: Queued, gateway: &Gateway) {
        let full = {
            let mut batch = lock(&self.batch);
            batch.push(event);
            batch.len() >= gateway.options.batch_size
        };
        if full {
            self.flush(gateway).await;
        }
    }

    /// `flushEvents`: hands the batch to the publishing thread, which must have sent the one before.
    pub(super) async fn flush(&self, gateway: &Gateway) {
        let batch = std::mem::take(&mut *lock(&self.batch));
        if batch.is_empty() {
            return;
        }
        self.set_state(State::Busy, gateway);
        if let Ok(permit) = self.permit.acquire().await {
            permit.forget();
        }
        // The other end lives as long as the gateway.
        let _ = self.jobs.send(batch).await;
    }

    /// `EventPublisher.run`.
    async fn publish_batch(&self, batch: Vec<Queued>, gateway: &Gateway) {
        let session = lock(&self.session).clone();
        let mut end = self.publish(&batch, gateway).await;
        if matches!(end, Published::Expired) {
            gateway.shared.count(|c| c.session_errors += 1);
            if *lock(&self.session) == session && self.log_in(gateway).await.is_err() {
                self.set_state(State::Unavailable, gateway);
            }
            gateway.issue_again(&batch);
            end = match self.publish(&batch, gateway).await {
                Published::Expired => Published::Failed("session expired twice".into()),
                end => end,
            };
        }
        let events = u64::try_from(batch.len()).unwrap_or(0);
        match end {
            Published::Ok | Published::Fin => {
                self.permit.add_permits(1);
                if matches!(end, Published::Fin) {
                    gateway.shared.count(|c| c.acked_by_fin += 1);
                }
                self.acknowledge(&batch, gateway);
            }
            Published::Undefined => {
                self.permit.add_permits(1);
                gateway.shared.count(|c| c.given_up += 1);
                gateway.settle(events);
            }
            Published::Expired => {}
            Published::Failed(why) => {
                gateway.shared.failed(why);
                if gateway.options.version == Version::V5_4 {
                    self.permit.add_permits(1);
                }
                self.set_state(State::Unavailable, gateway);
                gateway.resend(batch, self).await;
            }
        }
        if self.state() == State::Busy {
            self.set_state(State::Active, gateway);
        }
    }

    fn acknowledge(&self, batch: &[Queued], gateway: &Gateway) {
        if let Some(judge) = &gateway.shared.options.judge {
            let mut oracle = judge.oracle();
            for event in batch {
                oracle.ack(gateway.origin, event.sequence, 1);
            }
        }
        {
            let mut latency = lock(&gateway.latency);
            for event in batch {
                latency.record(event.due.elapsed());
            }
        }
        let events = u64::try_from(batch.len()).unwrap_or(0);
        gateway.shared.count(|c| {
            c.frames_acked += 1;
            c.events_acked += events;
        });
        gateway.settle(events);
    }

    /// One frame on a pooled connection, which goes back to the pool whatever has become of it.
    async fn publish(&self, batch: &[Queued], gateway: &Gateway) -> Published {
        if self.invalidate.swap(false, Ordering::Relaxed) {
            self.data_pool.clear();
        }
        if lock(&self.session).is_empty() {
            self.invalidate.store(true, Ordering::Relaxed);
            return Published::Failed("no session".into());
        }
        let mut stream = match self.data_pool.borrow() {
            Some(stream) => stream,
            None => match self.dial(&self.data, gateway).await {
                Ok(stream) => stream,
                Err(why) => return Published::Failed(why),
            },
        };
        let pieces = self.frame(batch, gateway);
        let within = gateway.shared.options.reply_timeout;
        let end = match exchange(&mut stream, pieces, within).await {
            Ok(end) => end,
            Err(error) => {
                let late = error.kind() == io::ErrorKind::TimedOut;
                gateway.shared.count(|c| {
                    c.resets += u64::from(!late);
                    c.reply_timeouts += u64::from(late);
                });
                self.invalidate.store(true, Ordering::Relaxed);
                Published::Failed(format!("{}: {error}", self.data))
            }
        };
        self.data_pool.give_back(stream);
        match end {
            Published::Failed(why) if !why.starts_with(DATA_ENDPOINT_EXCEPTION) => {
                self.invalidate.store(true, Ordering::Relaxed);
                Published::Failed(why)
            }
            end => end,
        }
    }

    /// The frame in the pieces in which Java's buffered stream writes it: the header and whole events up to
    /// 8 KiB, a longer event by itself.
    fn frame(&self, batch: &[Queued], gateway: &Gateway) -> Vec<Vec<u8>> {
        let load = &gateway.shared.options;
        let id = |event: &Queued| Id {
            origin: gateway.origin,
            sequence: event.sequence,
        };
        let bytes = batch.iter().map(|e| load.events.length(id(e)) + 4).sum();
        let mut piece = Vec::with_capacity(JAVA_BUFFER_BYTES);
        encode_publish_header(&mut piece, &lock(&self.session), batch.len(), bytes);
        let mut pieces = Vec::new();
        for event in batch {
            let mut next = Vec::new();
            load.events.append(&mut next, id(event));
            if load.stamp {
                let waited = i64::try_from(event.due.elapsed().as_micros()).unwrap_or(0);
                stamp::put(&mut next, stamp::now_micros().saturating_sub(waited));
            }
            if piece.len() + next.len() > JAVA_BUFFER_BYTES && !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
            }
            piece.append(&mut next);
        }
        pieces.push(piece);
        pieces
    }

    async fn dial(&self, url: &Url, gateway: &Gateway) -> Result<Stream, String> {
        let load = &gateway.shared.options;
        // The handshake comes with the first write, under SO_TIMEOUT.
        let dialed = load.dialer.dial(url, CONNECT_TIMEOUT, load.reply_timeout).await;
        gateway.shared.count(|c| match dialed {
            Ok(_) => c.connections += 1,
            Err(_) => c.connect_failures += 1,
        });
        dialed.map_err(|e| e.to_string())
    }

    /// `DataEndpointConnectionWorker.connect`: on the pooled login connection, stale or not.
    async fn log_in(&self, gateway: &Gateway) -> Result<(), String> {
        let result = self.session_of(gateway).await;
        match result {
            Ok(session) => {
                gateway.shared.count(|c| c.logins += 1);
                *lock(&self.session) = session;
                self.set_state(State::Active, gateway);
                Ok(())
            }
            Err(why) => {
                gateway.shared.count(|c| c.login_failures += 1);
                gateway.shared.failed(why.clone());
                Err(why)
            }
        }
    }

    async fn session_of(&self, gateway: &Gateway) -> Result<Vec<u8>, String> {
        let load = &gateway.shared.options;
        let mut stream = match self.auth_pool.borrow() {
            Some(stream) => stream,
            None => match self.dial(&self.auth, gateway).await {
                Ok(stream) => stream,
                Err(why) => {
                    self.auth_pool.clear();
                    return Err(why);
                }
            },
        };
        let mut login = Vec::new();
        encode_login(&mut login, &load.user, &load.password);
        let session = timeout(load.reply_timeout, async {
            stream.write_all(&login).await?;
            stream.flush().await?;
            let mut answer = Vec::new();
            loop {
                if stream.read_buf(&mut answer).await? == 0 {
                    // The agent believes that it has logged in, with no session.
                    return Ok(Vec::new());
                }
                match Reply::decode(&answer) {
                    Ok(None) => {}
                    Ok(Some((Reply::LoginOk { session }, _))) => return Ok(session.to_vec()),
                    other => return Err(io::Error::other(format!("{other:?}"))),
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.auth_pool.give_back(stream);
        session.map_err(|e| format!("login at {}: {e}", self.auth))
    }

    /// The reconnection task's turn for an endpoint that is not available.
    async fn reconnect(&self, gateway: &Gateway) {
        if *lock(&self.reconnect_at) > Instant::now() {
            return;
        }
        if self.log_in(gateway).await.is_err() {
            *lock(&self.reconnect_at) = Instant::now() + gateway.options.reconnection_interval;
            self.set_state(State::Unavailable, gateway);
        }
    }
}

/// Writes a frame and reads its answer as the agent does: from a buffer that is thrown away afterwards.
async fn exchange(stream: &mut Stream, pieces: Vec<Vec<u8>>, within: Duration) -> io::Result<Published> {
    for piece in pieces {
        stream.write_all(&piece).await?;
    }
    stream.flush().await?;
    let mut input = Vec::with_capacity(JAVA_BUFFER_BYTES);
    loop {
        let read = timeout(within, stream.read_buf(&mut input));
        let read = read
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if read == 0 && input.is_empty() {
            return Ok(Published::Fin);
        }
        return Ok(match Reply::decode(&input) {
            Ok(None) if read > 0 => continue,
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Some((Reply::Error { class, message }, _))) => match class {
                reply::SESSION_TIMEOUT => Published::Expired,
                reply::UNDEFINED_EVENT_TYPE => Published::Undefined,
                class => Published::Failed(format!("{class}: {message}")),
            },
            // Any other byte is an ok.
            Ok(Some(_)) | Err(_) => Published::Ok,
        });
    }
}

/// The endpoint's publishing thread and the eviction of its pools. Never ends.
pub(super) async fn run(gateway: Arc<Gateway>, at: usize) {
    let Some(endpoint) = gateway.endpoints.get(at) else {
        return;
    };
    let Some(mut jobs) = lock(&endpoint.jobs_to_do).take() else {
        return;
    };
    let publishing = async {
        while let Some(batch) = jobs.recv().await {
            endpoint.publish_batch(batch, &gateway).await;
        }
    };
    let options = &gateway.options;
    tokio::join!(
        publishing,
        endpoint
            .data_pool
            .evict(options.eviction_period, options.min_idle),
        endpoint
            .auth_pool
            .evict(options.login_eviction_period, options.login_min_idle)
    );
}

/// The first login of each endpoint, then `ReconnectionTask`: one look at every endpoint in turn. Never ends.
pub(super) async fn watch(gateway: Arc<Gateway>) {
    for endpoint in &gateway.endpoints {
        endpoint.reconnect(&gateway).await;
    }
    let mut probe_at = Instant::now();
    loop {
        // The agent's task looks every 11 ms; this one is woken when there is something to see.
        let mut wake_at = Instant::now() + PROBE_EVERY;
        for endpoint in &gateway.endpoints {
            if endpoint.state() == State::Unavailable {
                sleep(RECONNECT_LOOK).await;
                endpoint.reconnect(&gateway).await;
            } else if probe_at <= Instant::now() {
                probe_at = Instant::now() + PROBE_EVERY;
                if endpoint.dial(&endpoint.data, &gateway).await.is_err() {
                    endpoint.set_state(State::Unavailable, &gateway);
                }
            }
            wake_at = wake_at.min(match endpoint.state() {
                State::Unavailable => *lock(&endpoint.reconnect_at),
                _ => probe_at,
            });
        }
        // Biased towards what has happened.
        tokio::select! {
            biased;
            () = gateway.lost.notified() => {}
            () = sleep_until(wake_at) => {}
        }
    }
}
