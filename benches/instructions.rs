//! `cargo bench --bench instructions`: how many instructions an event costs on the pure path, from the bytes a
//! gateway sent to the answer of every Traffic Manager, without a system call. Counted by valgrind's callgrind,
//! so that a busy machine does not matter, and held to `benches/instructions.txt` with 5 % slack either way.
//!
//! `-- --record` writes that file anew. The same case runs shorter and longer; the difference is divided
//! by the events in it, so nothing of the start is counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IoSlice;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use tokio::time::Instant;
use weir::config::Shed;
use weir::egress::{Outbox, Pipeline, SLICES_MAX, next_frame};
use weir::relay::{AgeLimits, GroupQueue, Limits, Relay};
use weir::wire::reply::Reply;
use weir::wire::{Decoded, Decoder, Request};
use weir_lab::{Events, Sizes, gateway};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const SLACK_PERCENT: f64 = 5.0;
const SESSION: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BATCH_MAX_BYTES: usize = 128 * 1024;
const ROUNDS: (u64, u64) = (200, 600);

/// One turn of the loop: so many reads come in, each with frames of events; then every group sends.
struct Case {
    name: &'static str,
    groups: usize,
    reads: u64,
    frames: u64,
    events: u64,
    delivered: bool,
}

const CASES: [Case; 6] = [
    case("one event a frame, one frame a turn, 2 groups", 2, 1, 1, 1),
    case("one event a frame, 64 gateways a turn, 1 group", 1, 64, 1, 1),
    case("one event a frame, 64 gateways a turn, 2 groups", 2, 64, 1, 1),
    Case {
        delivered: true,
        ..case(
            "one event a frame, 64 gateways a turn, 2 groups, ack = delivered",
            2,
            64,
            1,
            1,
        )
    },
    case("one event a frame, 32 frames a read, 2 groups", 2, 4, 32, 1),
    case("200 events a frame, 2 groups", 2, 4, 1, 200),
];

const fn case(name: &'static str, groups: usize, reads: u64, frames: u64, events: u64) -> Case {
    Case {
        name,
        groups,
        reads,
        frames,
        events,
        delivered: false,
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, index, rounds] = args.as_slice()
        && flag == "--case"
    {
        let case = &CASES[index.parse::<usize>().expect("the index of a case")];
        run(case, rounds.parse().expect("a number of rounds"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let counts: BTreeMap<&str, f64> = CASES
        .iter()
        .enumerate()
        .map(|(i, case)| (case.name, per_event(i, case)))
        .collect();
    if args.iter().any(|a| a == "--record") {
        record(&counts);
        return ExitCode::SUCCESS;
    }
    judge(&counts)
}

/// Prints each case beside its recorded figure; fails when one is off.
fn judge(counts: &BTreeMap<&str, f64>) -> ExitCode {
    let text = std::fs::read_to_string(RECORDED).expect("benches/instructions.txt");
    let (compiler, recorded) = parse(&text);
    let same = compiler == rustc();
    let mut off = false;
    for (name, count) in counts {
        let Some(known) = recorded.get(*name) else {
            println!("{count:8.1}  {name}: not recorded");
            off = true;
            continue;
        };
        let change = (count / known - 1.0) * 100.0;
        off |= change.abs() > SLACK_PERCENT;
        println!("{count:8.1}  {name}: {change:+.1} % of {known:.1}");
    }
    if off && !same {
        println!("skipped: recorded with {compiler}, here it is {}", rustc());
    } else if off {
        println!(
            "more than {SLACK_PERCENT} % off: find out why; if it is meant, cargo bench --bench instructions -- --record"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn record(counts: &BTreeMap<&str, f64>) {
    let mut text = format!(
        "# Instructions an event, valgrind --tool=callgrind; cargo bench --bench instructions -- --record\ncompiler {}\n",
        rustc()
    );
    for (name, count) in counts {
        let _ = writeln!(text, "{count:.1} {name}");
    }
    std::fs::write(RECORDED, &text).expect("benches/instructions.txt can be written");
    print!("{text}");
}

fn parse(text: &str) -> (&str, BTreeMap<&str, f64>) {
    let mut compiler = "";
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        match line.split_once(' ').expect("a figure and its name") {
            ("compiler", name) => compiler = name,
            (count, name) => {
                counts.insert(name, count.parse().expect("a number"));
            }
        }
    }
    (compiler, counts)
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn per_event(index: usize, case: &Case) -> f64 {
    let (short, long) = (counted(index, ROUNDS.0), counted(index, ROUNDS.1));
    let events = (ROUNDS.1 - ROUNDS.0) * case.reads * case.frames * case.events;
    (long - short) as f64 / events as f64
}

/// Instructions of this program running a case.
fn counted(index: usize, rounds: u64) -> u64 {
    let output = Command::new("valgrind")
        // Callgrind counts every byte of a `rep movsb`; which copies use it depends on the processor.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x10000000")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--case", &index.to_string(), &rounds.to_string()])
        .output()
        .expect("valgrind runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|l| l.contains("Collected :"));
    let count = line.and_then(|l| l.rsplit(' ').next());
    count.and_then(|n| n.parse().ok()).expect("callgrind's count")
}

fn run(case: &Case, rounds: u64) {
    let now = Instant::now();
    let limits = Limits {
        events_max: 1_000_000,
        bytes_max: 256 << 20,
        block_timeout: None,
        shed: Shed::Oldest,
        age: AgeLimits::default(),
    };
    let decoder = Decoder {
        frame_max_bytes: 1 << 24,
        event_max_bytes: 1 << 20,
    };
    let relay = Relay::new(BATCH_MAX_BYTES, || 0);
    let queues: Vec<_> = (0..case.groups)
        .map(|i| relay.queue(&format!("g{i}"), limits.clone()))
        .collect();
    relay.set_groups(&queues);
    let frame = gateway::frame(SESSION, &Events::new(Sizes::Typical, 0), 0, 0, case.events);
    let read: Vec<u8> = (0..case.frames).flat_map(|_| frame.iter().copied()).collect();
    let mut links: Vec<Link> = queues.into_iter().map(Link::new).collect();
    let mut receipts = Vec::new();
    for _ in 0..rounds {
        for _ in 0..case.reads {
            let mut rest = read.as_slice();
            while let Ok(Decoded::Frame { request, length }) = decoder.decode(rest) {
                let Ok(Request::Publish { events, .. }) = request else {
                    panic!("a publish")
                };
                let receipt = relay.admit(events, now, case.delivered, &mut None);
                receipts.extend(receipt.expect("the frame fits"));
                rest = &rest[length..];
            }
        }
        for link in &mut links {
            link.turn(now);
        }
        receipts.clear();
    }
}

/// A link without its socket: everything is taken by the kernel at once, every frame is answered ok.
struct Link {
    queue: Rc<GroupQueue>,
    outbox: Outbox,
    pipeline: Pipeline,
}

impl Link {
    fn new(queue: Rc<GroupQueue>) -> Self {
        Self {
            queue,
            outbox: Outbox::default(),
            pipeline: Pipeline::default(),
        }
    }

    fn turn(&mut self, now: Instant) {
        loop {
            let Self {
                queue,
                outbox,
                pipeline,
            } = self;
            if next_frame(queue, SESSION, BATCH_MAX_BYTES, now, outbox, pipeline) == 0 {
                return;
            }
            while !self.outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = self.outbox.slices(&mut slices);
                let bytes = slices[..used].iter().map(|s| s.len()).sum();
                self.outbox.advance(bytes);
            }
            let Ok(Some((Reply::Ok, 1))) = Reply::decode(&[0]) else {
                panic!("an ok")
            };
            let frame = self.pipeline.pop().expect("a frame in flight");
            frame.delivery.expect("events").delivered();
        }
    }
}
