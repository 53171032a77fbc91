//! The faults of a soak, chosen by the seed: one at a time, then a pause, then the next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sink::Answer;
use crate::{Close, Proxy, Sink};

/// A Traffic Manager and the network in front of it.
pub(super) struct Way {
    pub(super) sink: Sink,
    pub(super) proxy: Proxy,
}

/// Every kind, in the words of the report.
const KINDS: [&str; 13] = [
    "gateways reset",
    "gateways delayed",
    "reset",
    "closed in good order",
    "requests vanish",
    "replies vanish",
    "nobody reads",
    "latency",
    "slices of a few bytes",
    "narrow",
    "Traffic Manager dead",
    "session expired",
    "error replies",
];

pub(super) struct Troubles {
    random: fastrand::Rng,
    front: Proxy,
    ways: Vec<Way>,
    happened: BTreeMap<&'static str, u64>,
    /// The way that has trouble, and until when.
    now: Option<(usize, Duration)>,
    /// When the next one comes.
    next: Duration,
}

impl Troubles {
    pub(super) fn new(seed: u64, front: Proxy, ways: Vec<Way>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            front,
            ways,
            happened: BTreeMap::new(),
            now: None,
            next: Duration::from_secs(2),
        }
    }

    /// Ends or begins what is due `at` this time since the start.
    pub(super) async fn next(&mut self, at: Duration) {
        if let Some((way, until)) = self.now {
            if at >= until {
                self.mend(way).await;
                self.now = None;
                self.next = at + Duration::from_secs(self.random.u64(1..=2));
            }
        } else if at >= self.next {
            // Never the first way: the steady group shows that one group's trouble is not another's.
            let way = self.random.usize(1..self.ways.len().max(2));
            // Each kind as often as the others, in an order of the seed's.
            let least = KINDS.iter().map(|k| self.times(k)).min().unwrap_or(0);
            let kinds: Vec<&'static str> = KINDS.iter().copied().filter(|k| self.times(k) == least).collect();
            let Some(kind) = kinds.get(self.random.usize(0..kinds.len().max(1))).copied() else {
                return;
            };
            self.begin(kind, way).await;
            *self.happened.entry(kind).or_default() += 1;
            self.now = Some((way, at + Duration::from_secs(self.random.u64(1..=4))));
        }
    }

    fn times(&self, kind: &str) -> u64 {
        self.happened.get(kind).copied().unwrap_or(0)
    }

    async fn begin(&mut self, kind: &str, way: usize) {
        let Some(Way { sink, proxy }) = self.ways.get(way) else {
            return;
        };
        match kind {
            "gateways reset" => self.front.cut(Close::Rst),
            "gateways delayed" => self.front.forth(|t| t.latency = Duration::from_millis(50)),
            "reset" => proxy.cut(Close::Rst),
            "closed in good order" => proxy.cut(Close::Fin),
            "requests vanish" => proxy.forth(|t| t.black_hole = true),
            "replies vanish" => proxy.back(|t| t.black_hole = true),
            "nobody reads" => proxy.forth(|t| t.stopped = true),
            "latency" => proxy.back(|t| t.latency = Duration::from_millis(100)),
            "slices of a few bytes" => proxy.forth(|t| t.slice_bytes = Some(7)),
            "narrow" => proxy.forth(|t| t.bandwidth = Some(500_000)),
            "Traffic Manager dead" => sink.kill(Close::Rst).await,
            "session expired" => {
                sink.expire_sessions();
            }
            _ => {
                let error = Answer::Error {
                    class: "java.lang.IllegalStateException".into(),
                    message: "soak".into(),
                };
                sink.set(|b| b.answer_times(error, 2));
            }
        }
    }

    async fn mend(&self, way: usize) {
        self.front.forth(|t| t.latency = Duration::ZERO);
        let Some(Way { sink, proxy }) = self.ways.get(way) else {
            return;
        };
        let swallowed = {
            let before = proxy.counts().vanished_bytes;
            proxy.forth(|t| *t = Default::default());
            proxy.back(|t| *t = Default::default());
            before
        };
        // Bytes that vanished in the middle of a frame leave nothing to go on with.
        if swallowed > 0 {
            proxy.cut(Close::Rst);
        }
        sink.set(|b| b.answer(Answer::Ok));
        sink.revive().await;
    }

    /// Ends every trouble.
    pub(super) async fn calm(&mut self) {
        for way in 0..self.ways.len() {
            self.mend(way).await;
        }
        self.now = None;
    }

    /// How often each kind has happened; those that had no time are left out.
    pub(super) fn witnesses(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.happened.iter().map(|(kind, times)| (*kind, *times))
    }
}
