//! What connections and frames cost: the built weir as a process of its own, so that nothing of the test is counted.

use std::time::Duration;

use super::support::*;
use super::whole::process::{Process, Start};
use super::whole::{Plan, toml, url_group};

const GATEWAYS: u64 = 500;
/// A decision of 700 bytes in its frame.
const BODY_BYTES: usize = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn five_hundred_gateways_are_held_and_a_frame_costs_microseconds() {
    let stub = StubBroker::new().await;
    let weir = process(&stub).await;
    let ready = weir.lines("weir is ready").remove(0);
    let addr = ready["decisions"].as_str().unwrap().parse().unwrap();
    let before = weir.rss_bytes();
    let (mut gateway, mut broker) = tokio::join!(Wire::gateway(addr, 0), stub.open());
    tokio::spawn(stub.serve_handshakes());
    let mut others = Vec::new();
    for _ in 1..GATEWAYS {
        others.push(Wire::gateway(addr, 0).await);
    }
    let each = weir.rss_bytes().saturating_sub(before) / GATEWAYS;
    println!("{GATEWAYS} connections held, {each} bytes of memory each");
    assert!(each < 64 * 1024);
    for other in &mut others {
        assert!(other.silent_for(Duration::from_micros(100)).await, "still open");
    }

    let frame = body(BODY_BYTES, 9);
    let mut spent = Vec::new();
    for (batch, batches) in [(1, 20_000_u64), (50, 2_000)] {
        let frames = frame.repeat(batch);
        let before = cpu_nanos(weir.pid());
        for _ in 0..batches {
            broker.send(&frames).await;
            assert!(gateway.exactly(frames.len()).await == frames);
        }
        spent.push((cpu_nanos(weir.pid()) - before) / (batches * batch as u64));
    }
    println!(
        "CPU per frame of {} bytes, {GATEWAYS} connections open: {} ns one at a time, {} ns in batches of 50 ({} build)",
        frame.len(),
        spent[0],
        spent[1],
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
    );
    assert!(
        spent.iter().all(|nanos| (1..1_000_000).contains(nanos)),
        "{spent:?}"
    );
}

/// One group of a Traffic Manager that is never there, and the return leg.
async fn process(broker: &StubBroker) -> Process {
    let (_reserved, nobody) = reserved();
    let group = url_group("one", "failover", &format!("\"tcp://{nobody}\""));
    let plan = Plan {
        tables: format!(
            "[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://{}\"]\n",
            broker.addr()
        ),
        ..Plan::default()
    };
    Process::start(&toml(&plan, &group), Start::default(), None).await
}

/// CPU of the thread that relays decisions, system calls included.
fn cpu_nanos(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = tasks.filter_map(Result::ok).filter(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim() == "weir-decisions")
    });
    let spent = named.map(|task| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default());
    spent
        .filter_map(|s| s.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()))
        .sum()
}
