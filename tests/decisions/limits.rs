//! Limits, cost, and what never appears in a log.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::decisions::frame::HEADER_0_9_1;

use super::support::*;

#[tokio::test]
async fn above_the_limit_gateways_wait_and_are_served_when_another_leaves() {
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.connections_max = 2;
    let weir = Weir::new(config);
    tokio::spawn(stub.serve_handshakes());
    let one = Wire::gateway(weir.addr(), 0).await;
    let _two = Wire::gateway(weir.addr(), 0).await;
    let mut three = Wire::connect(weir.addr()).await;
    three.send(&HEADER_0_9_1).await;
    assert!(three.silent_for(Duration::from_millis(300)).await);
    assert_eq!(weir.handle.status().accepted_total, 2);
    drop(one);
    three.expect(&start_frame()).await;

    // A reload that raises the limit is enough, too.
    let mut four = Wire::connect(weir.addr()).await;
    four.send(&HEADER_0_9_1).await;
    assert!(four.silent_for(Duration::from_millis(300)).await);
    let mut wider = weir.config.clone();
    wider.connections_max = 3;
    weir.handle.apply(wider).unwrap();
    four.expect(&start_frame()).await;
}

#[test]
fn it_runs_on_a_local_runtime_and_takes_a_reload_from_another_thread() {
    use tokio::runtime::{Builder, LocalOptions};
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let stub = StubBroker::new().await;
        let weir = Weir::new(config(&[stub.addr()]));
        tokio::spawn(stub.serve_handshakes());
        let _gateway = Wire::gateway(weir.addr(), 0).await;
        let (handle, mut changed) = (weir.handle.clone(), weir.config.clone());
        changed.listen = Some("127.0.0.3:0".parse().unwrap());
        let reload = std::thread::spawn(move || handle.apply(changed));
        soon("the reload", async {
            while !reload.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        reload.join().unwrap().unwrap();
        let _gateway = Wire::gateway(weir.addr(), 0).await;
    });
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One thread and its own subscriber, so that no other test's lines are looked at.
#[test]
fn not_even_the_finest_log_holds_the_password_and_a_broken_frame_is_logged_with_its_offset() {
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let stub = StubBroker::new().await;
            let weir = Weir::new(config(&[stub.addr()]));
            let (mut gateway, mut broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
            gateway.send(&body(5, 1)).await;
            broker.expect(&body(5, 1)).await;
            gateway.send(&[3, 0, 1, 0, 0, 0, 0, 0x42]).await;
            assert!(broker.closed().await);
            drop(gateway);
            weir.until("the end", |s| s.client.connections == [0; 6]).await;
            // 0-10, twice, to see that it is said once.
            for _ in 0..2 {
                let mut gateway = Wire::connect(weir.addr()).await;
                gateway.send(b"AMQP\x01\x01\x00\x0A").await;
                let mut broker = stub.accept().await;
                broker.send(b"A").await;
                gateway.exactly(1).await;
            }
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("broker answers"), "a log there was: {text}");
    assert!(
        !text.contains(PASSWORD) && !text.contains("correct-horse"),
        "{text}"
    );
    let offset = 8 + start_ok_frame().len() + 20 + 13 + 7;
    assert!(
        text.contains(&format!("(byte {offset} of the stream)")),
        "{offset}: {text}"
    );
    assert_eq!(text.matches("relayed as bytes").count(), 1, "{text}");
    assert_eq!(
        text.matches("collide on the broker").count(),
        1,
        "the loopback trap is told once: {text}"
    );
}

/// Witness for the documentation: what a connection and a frame cost.
#[test]
fn five_hundred_gateways_are_held_and_a_frame_costs_microseconds() {
    let threads = (runtime("decisions-peers"), runtime("decisions-relay"));
    let (peers, relay) = (&threads.0, &threads.1);
    let stub = peers.block_on(StubBroker::new());
    let weir = {
        let _here = relay.enter();
        Weir::new(config(&[stub.addr()]))
    };
    let (addr, gateways) = (weir.addr(), 500);
    let rss_before = rss_bytes();
    let (mut gateway, mut broker) = peers.block_on(async {
        let (one, broker) = tokio::join!(Wire::gateway(addr, 0), stub.open());
        tokio::spawn(stub.serve_handshakes());
        let mut others = Vec::new();
        for _ in 1..gateways {
            others.push(Wire::gateway(addr, 0).await);
        }
        weir.until("all open", |s| s.client.connections[3] == gateways).await;
        let per_connection = rss_bytes().saturating_sub(rss_before) / gateways;
        println!("{gateways} connections held, {per_connection} bytes of memory each, the test's own two ends included");
        assert!(per_connection < 128 * 1024);
        drop(others);
        (one, broker)
    });
    // Decisions of 700 bytes, one frame in flight at a time, then as fast as they go.
    let (frame, frames) = (body(700, 9), 20_000_u32);
    let cpu_before = cpu_nanos("decisions-relay");
    peers.block_on(async {
        for _ in 0..2_000 {
            broker.send(&frame).await;
            gateway.expect(&frame).await;
        }
    });
    let one_by_one = (cpu_nanos("decisions-relay") - cpu_before) / 2_000;
    let cpu_before = cpu_nanos("decisions-relay");
    peers.block_on(async {
        let batch = frame.repeat(50);
        for _ in 0..frames / 50 {
            broker.send(&batch).await;
            for _ in 0..50 {
                gateway.expect(&frame).await;
            }
        }
    });
    let batched = (cpu_nanos("decisions-relay") - cpu_before) / u64::from(frames);
    println!(
        "CPU per frame of {} bytes: {one_by_one} ns one at a time, {batched} ns in batches of 50 ({} build)",
        frame.len(),
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
    );
    assert!(one_by_one > 0 && one_by_one < 1_000_000);
}

fn runtime(name: &str) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// CPU of all threads of this name.
fn cpu_nanos(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let named = tasks
        .filter_map(Result::ok)
        .filter(|t| std::fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    let spent = named.map(|t| std::fs::read_to_string(t.path().join("schedstat")).unwrap_or_default());
    spent
        .filter_map(|s| s.split(' ').next().and_then(|n| n.parse::<u64>().ok()))
        .sum()
}
