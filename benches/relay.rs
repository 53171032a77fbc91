//! `cargo bench --bench relay`: the decoder, the scan of events, the queue, a tap, and the relay from end to end on loopback.
//!
//! Absolute times mean little on a shared machine: compare two runs of the same machine, or use
//! `python3 benches/compare` for ratios against other relays (docs/PERFORMANCE.md).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use weir::app::Weir;
use weir::config::{Config, Log, LogFormat, Scheme, Shed, Source, Url, parse};
use weir::net::{ClientTls, Dialer, SocketOptions};
use weir::relay::{AgeLimits, Limits, Relay};
use weir::tap::{Feed, Taps};
use weir::telemetry;
use weir::wire::reply::Reply;
use weir::wire::{self, Decoded, Decoder, Request};
use weir_lab::{Events, Load, LoadOptions, Sink, SinkOptions, Sizes, gateway};

const DECODER: Decoder = Decoder {
    frame_max_bytes: 1 << 24,
    event_max_bytes: 1 << 20,
};
const SESSION: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn frame(events: u64) -> Vec<u8> {
    gateway::frame(SESSION, &Events::new(Sizes::Typical, 0), 0, 0, events)
}

fn events_of(frame: &[u8]) -> wire::Events<'_> {
    match DECODER.decode(frame) {
        Ok(Decoded::Frame {
            request: Ok(Request::Publish { events, .. }),
            ..
        }) => events,
        other => unreachable!("{other:?}"),
    }
}

fn wire(c: &mut Criterion) {
    for events in [1, 200] {
        let frame = frame(events);
        let mut group = c.benchmark_group("wire");
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("decode a frame of {events}"), |b| {
            b.iter(|| black_box(DECODER.decode(black_box(&frame))));
        });
        group.finish();
    }
    c.bench_function("wire/decode an ok", |b| {
        b.iter(|| black_box(Reply::decode(black_box(&[0]))))
    });
}

/// The scan for the end of a stream and for events that cannot be decoded; goal: at most 30 ns an event.
fn scan(c: &mut Criterion) {
    for events in [1, 200] {
        let frame = frame(events);
        let published = events_of(&frame);
        let mut group = c.benchmark_group("scan");
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("at a frame of {events}"), |b| {
            b.iter(|| black_box(black_box(published).split(1 << 20)));
        });
        group.finish();
    }
}

fn queue(c: &mut Criterion) {
    let now = tokio::time::Instant::now();
    for (groups, events) in [(1, 1), (2, 1), (3, 1), (2, 200)] {
        let limits = Limits {
            events_max: 1_000_000,
            bytes_max: 256 << 20,
            block_timeout: None,
            shed: Shed::Oldest,
            age: AgeLimits::default(),
        };
        let relay = Relay::new(128 * 1024, || 0);
        let queues: Vec<_> = (0..groups)
            .map(|i| relay.queue(&format!("g{i}"), limits.clone()))
            .collect();
        relay.set_groups(&queues);
        let frame = frame(events);
        let published = events_of(&frame);
        let mut group = c.benchmark_group("relay");
        // A turn of the loop: 64 frames come in, every group takes what has gathered.
        group.throughput(Throughput::Elements(64 * events));
        group.bench_function(format!("64 frames of {events} to {groups} groups"), |b| {
            b.iter(|| {
                for _ in 0..64 {
                    let admitted = relay.admit(black_box(published), now, false, &mut None);
                    admitted.expect("the frame fits");
                }
                for queue in &queues {
                    while let Some(delivery) = queue.take(128 * 1024, now) {
                        black_box(delivery.batches());
                        delivery.delivered();
                    }
                }
            });
        });
        group.finish();
    }
}

/// What a tap adds to a frame of one event, closed and open.
fn tap(c: &mut Criterion) {
    let now = tokio::time::Instant::now();
    let frame = frame(1);
    let published = events_of(&frame);
    let mut group = c.benchmark_group("tap");
    group.throughput(Throughput::Elements(1));
    let taps = Taps::default();
    group.bench_function("none is open", |b| {
        b.iter(|| taps.pass(black_box(published), now))
    });
    // Time stands still, so the first has shown all that it may in this second, and the second shows every event.
    for (name, per_second) in [
        ("open, its second used up", 1),
        ("open, every event copied", u32::MAX),
    ] {
        let taps = Taps::default();
        let (out, mut shown) = mpsc::channel(16);
        taps.open(Feed::new(None, 1, per_second, Arc::default(), out));
        group.bench_function(name, |b| {
            b.iter(|| {
                taps.pass(black_box(published), now);
                black_box(shown.try_recv().ok())
            });
        });
    }
    group.finish();
}

fn end_to_end(c: &mut Criterion) {
    for (connections, events_per_frame, window) in [(64, 1, 1), (64, 1, 32), (8, 200, 1)] {
        let mut group = c.benchmark_group("end to end, 2 groups");
        group.sample_size(10).measurement_time(Duration::from_secs(8));
        group.throughput(Throughput::Elements(1));
        let name = format!("{connections} gateways, {events_per_frame} events a frame, window {window}");
        group.bench_function(name, |b| {
            b.iter_custom(|events| relay(events, connections, events_per_frame, window));
        });
        group.finish();
    }
}

/// The time until `events` events have been answered by weir and delivered to both groups.
fn relay(events: u64, connections: u32, events_per_frame: u64, window: usize) -> Duration {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let sinks = [
            Sink::start(SinkOptions::local()).unwrap(),
            Sink::start(SinkOptions::local()).unwrap(),
        ];
        let weir = Weir::start(config(&sinks), Vec::new(), quiet()).unwrap();
        let address = weir.addresses().tcp.unwrap();
        let url = Url {
            scheme: Scheme::Tcp,
            host: address.ip().to_string(),
            port: address.port(),
        };
        let dialer = Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default());
        let options = LoadOptions {
            connections,
            events_per_frame,
            window,
            count: Some(events),
            ..LoadOptions::new(dialer, url)
        };
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let report = Load::start(options).finish().await;
        assert_eq!(report.counts.events_acked, events);
        assert!(weir.drain().await);
        let elapsed = start.elapsed();
        assert!(sinks.iter().all(|s| s.counts().events == events));
        elapsed
    })
}

fn config(sinks: &[Sink]) -> Config {
    let group = |s: &Sink| {
        let url = format!("\"tcp://{}\"", s.data_address());
        format!(
            "[[apim.throttling.url_group]]\ntraffic_manager_urls = [{url}]\ntraffic_manager_auth_urls = [{url}]\n"
        )
    };
    let groups: String = sinks.iter().map(group).collect();
    let text = format!(
        "drain_notice = \"0s\"\n[apim.throttling]\nusername = \"admin\"\npassword = \"admin\"\n{groups}\
         [listen]\ntcp = \"127.0.0.1:0\"\ntls = \"off\"\n[auth]\nallow_plaintext_login = true\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n"
    );
    let source = Source {
        weir_toml: Some(("bench.toml".into(), text)),
        ..Source::default()
    };
    parse(&source).unwrap().0
}

fn quiet() -> telemetry::LogHandle {
    let log = Log {
        level: "error".into(),
        format: LogFormat::Text,
    };
    telemetry::build(&log, std::io::sink).unwrap().1
}

criterion_group!(benches, wire, scan, queue, tap, end_to_end);
criterion_main!(benches);
