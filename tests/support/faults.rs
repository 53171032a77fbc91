//! What the fault tests share: a gateway that publishes event by event, proxies in front of Traffic
//! Managers, looks at failures by class.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir::config::{Config, Url};
use weir::status::{Endpoint, FAILURES, Snapshot};
use weir_lab::gateway::{Answer, Gateway, frame};
use weir_lab::{Judge, Proxy, Sink, Verdict};

use super::{Bed, dialer, url};

/// Reconnects at once: for tests that end hundreds of connections.
pub fn hurry(config: &mut Config) {
    config.link.backoff_min = Duration::from_millis(1);
    config.link.backoff_max = Duration::from_millis(2);
}

/// Puts a proxy between weir and the data port of one endpoint; logins go straight to `sink`.
pub fn proxied(config: &mut Config, sink: &Sink, group: usize, endpoint: usize) -> Proxy {
    let proxy = Proxy::start(dialer(), url(sink.data_address())).unwrap();
    let endpoint = &mut config.groups[group].endpoints[endpoint];
    endpoint.data = url(proxy.address());
    endpoint.name = proxy.address().to_string();
    proxy
}

pub fn failures(endpoint: &Endpoint, class: &str) -> u64 {
    endpoint.failures_total[FAILURES.iter().position(|c| *c == class).unwrap()]
}

pub fn all_failures(snapshot: &Snapshot, group: usize) -> u64 {
    let endpoints = &snapshot.groups[group].endpoints;
    endpoints.iter().flat_map(|e| e.failures_total).sum()
}

/// Waits for something that is cheaper to ask than weir.
pub async fn eventually(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// The verdict of a run in which nothing may be missing in any group.
pub async fn nothing_missing(bed: &Bed, witness: &str, count: u64) -> Verdict {
    let verdict = bed.verdict().await.witness(witness, count);
    assert!(verdict.ok(), "{verdict}");
    for group in &verdict.groups {
        assert_eq!(group.missing.count, 0, "{verdict}");
    }
    verdict
}

/// A gateway that is told of every frame, by hand: one event after the other, answered before the next. For tests that
/// need the answer to each frame, and frames of a given size at a given moment.
pub struct Publisher {
    gateway: Gateway,
    session: Vec<u8>,
    judge: Judge,
    origin: u32,
    next: u64,
}

impl Publisher {
    pub async fn connect(bed: &Bed, origin: u32) -> Self {
        Self::connect_to(&bed.url(), &bed.judge, origin).await
    }

    pub async fn connect_to(to: &Url, judge: &Judge, origin: u32) -> Self {
        let mut gateway = Gateway::connect(&dialer(), to).await.unwrap();
        let answer = gateway.login("admin", "admin", Duration::from_secs(10)).await;
        let Answer::Session(session) = answer else {
            panic!("no session: {answer:?}")
        };
        Self {
            gateway,
            session,
            judge: judge.clone(),
            origin,
            next: 0,
        }
    }

    /// One frame of so many events; told to the oracle when it is answered ok.
    pub async fn publish(&mut self, events: u64) -> Answer {
        let first = self.send(events).await;
        self.answer(first, events).await
    }

    /// One frame, not waiting for its answer; its first event.
    pub async fn send(&mut self, events: u64) -> u64 {
        let (first, now) = (self.next, self.judge.now());
        self.next += events;
        let bytes = {
            let mut oracle = self.judge.oracle();
            oracle.issue(self.origin, first, events, now);
            frame(&self.session, oracle.events(), self.origin, first, events)
        };
        self.gateway.send(&bytes).await.unwrap();
        first
    }

    /// The answer to the oldest unanswered frame, which was this one.
    pub async fn answer(&mut self, first: u64, events: u64) -> Answer {
        let answer = self.gateway.answer(Duration::from_secs(30)).await;
        if answer == Answer::Ok {
            self.judge.oracle().ack(self.origin, first, events);
        }
        answer
    }

    /// So many frames of one event each, all answered ok.
    pub async fn publish_ok(&mut self, frames: u64) {
        for _ in 0..frames {
            assert_eq!(self.publish(1).await, Answer::Ok);
        }
    }

    /// Distinct events published so far.
    pub fn published(&self) -> u64 {
        self.next
    }
}
