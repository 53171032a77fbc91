//! Many seeds on two threads, watched: a run that neither ends nor lets virtual time pass is named.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::chaos::Fault;
use crate::mutants::Mutation;
use crate::run::run;

const THREADS: usize = 2;
/// Of real time, for one seed.
const PATIENCE: Duration = Duration::from_secs(40);
/// After so many failures the rest is not needed.
const FAILURES_MAX: usize = 5;

#[derive(Default)]
pub struct Many {
    seeds: u64,
    failed: BTreeMap<u64, Vec<String>>,
    witnesses: BTreeMap<String, u64>,
}

pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

// Here, and only here, real time is what counts.
#[allow(clippy::disallowed_methods)]
pub fn run_all(seeds: impl Iterator<Item = u64> + Send, mutation: Option<Mutation>) -> Many {
    let seeds = Mutex::new(seeds);
    let many = Mutex::new(Many::default());
    let under_way: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let over = AtomicBool::new(false);
    let next = || {
        seeds
            .lock()
            .unwrap()
            .next()
            .filter(|_| many.lock().unwrap().failed.len() < FAILURES_MAX)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                let stuck = under_way
                    .lock()
                    .unwrap()
                    .iter()
                    .find(|(_, t)| t.elapsed() > PATIENCE)
                    .map(|(s, _)| *s);
                if let Some(seed) = stuck {
                    eprintln!("seed {seed} does not end\n{}", how_to_replay(seed));
                    std::process::exit(101);
                }
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(seed) = next() {
                        under_way.lock().unwrap().insert(seed, Instant::now());
                        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, mutation, false)));
                        under_way.lock().unwrap().remove(&seed);
                        let mut many = many.lock().unwrap();
                        many.seeds += 1;
                        match outcome {
                            Ok(outcome) => {
                                for (what, count) in outcome.witnesses {
                                    *many.witnesses.entry(what).or_default() += count;
                                }
                                if !outcome.broken.is_empty() {
                                    many.failed.insert(seed, outcome.broken);
                                }
                            }
                            Err(panic) => {
                                let text = panic.downcast_ref::<String>().cloned();
                                let text =
                                    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                                let text = text.unwrap_or_default();
                                many.failed.insert(seed, vec![format!("panicked: {text}")]);
                            }
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    many.into_inner().unwrap()
}

fn how_to_replay(seed: u64) -> String {
    format!("SEED={seed} cargo test --test simulation replay -- --ignored --nocapture")
}

impl Many {
    pub fn assert_well(&self) {
        let told: Vec<String> = self
            .failed
            .iter()
            .map(|(seed, broken)| format!("seed {seed}: {}\n{}", how_to_replay(*seed), broken.join("\n")))
            .collect();
        assert!(told.is_empty(), "{} seeds run\n{}", self.seeds, told.join("\n\n"));
        for (what, count) in &self.witnesses {
            println!("{what}: {count}");
        }
    }

    /// Every kind of fault has struck, and what it was meant to cause has been seen.
    pub fn assert_every_witness_speaks(&self) {
        // A removed endpoint takes the counters of its links with it, no Traffic Manager here is a weir, and weir never
        // loses.
        let silent = [
            "weir: dropped lost",
            "mutation",
            "link: tls",
            "link: other",
            "link: loop",
            "weir: dropped group_removed",
        ];
        let void: Vec<&String> = self
            .witnesses
            .iter()
            .filter(|(what, count)| **count == 0 && !silent.contains(&what.as_str()))
            .map(|(what, _)| what)
            .collect();
        assert!(
            void.is_empty(),
            "never happened in {} seeds: {void:?}",
            self.seeds
        );
        assert!(self.witnesses.len() >= Fault::ALL.len());
    }
}
