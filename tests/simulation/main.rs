//! The whole weir in a simulated world, in virtual time: a seed drives load, faults, reloads and the clock, and
//! replays them.
//!
//! `SEEDS=100000 cargo test --test simulation seeds` runs more of them, `FIRST=…` from another one on;
//! `SEED=… cargo test --test simulation replay -- --ignored --nocapture` tells what happens in one.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod chaos;
mod fuzz;
mod gateways;
mod looks;
mod many;
mod mutants;
mod plan;
mod process;
mod run;
mod sessions;
mod strikes;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod verdict;
mod world;

use std::time::Duration;

use many::{number, run_all};
use mutants::Mutation;
use plan::Plan;
use run::{run, run_plan};
use sessions::{Seen, available_after_a_sleep, sessions_end_after, used_after_a_sleep};

/// Of every run; `.ci/nightly` has more.
const SEEDS: u64 = 200;

/// Seeds that found something once; `docs/testing` says what.
const ONCE_FAILED: &[u64] = &[
    // Events over age made room, and nobody told the gateways that waited for it.
    375, 466,
];

#[test]
fn two_hundred_seeds_of_chaos_lose_nothing_and_every_kind_of_fault_happens() {
    let first = number("FIRST").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(SEEDS);
    let all = run_all(first..first + count, None);
    all.assert_well();
    // Fewer may happen to have none of some kind.
    if count >= SEEDS {
        all.assert_every_witness_speaks();
    }
}

#[test]
fn events_wait_no_longer_than_linger_beside_a_free_link_while_links_come_and_go() {
    for seed in 0..20 {
        let outcome = run_plan(Plan::lingering(seed), None, false);
        assert!(
            outcome.broken.is_empty(),
            "seed {seed}:\n{}",
            outcome.broken.join("\n")
        );
        let gone = ["Disable", "KillFin", "KillRst"].map(|what| outcome.witnesses[what]);
        assert!(gone.iter().sum::<u64>() > 0, "seed {seed}: no link went");
    }
}

#[test]
fn seeds_that_once_failed_pass() {
    run_all(ONCE_FAILED.iter().copied(), None).assert_well();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in (0..16).map(|i| i * 31) {
        let (one, two) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(one, two, "seed {seed}");
        assert!(one.digest.1 > 100, "seed {seed}: an empty trace");
    }
}

#[test]
fn each_planted_bug_is_found_within_twenty_seeds() {
    for mutation in Mutation::ALL {
        let found = (0..20).find_map(|seed| {
            let broken = run(seed, Some(mutation), false).broken;
            broken.first().map(|why| (seed, why.clone()))
        });
        let (seed, why) = found.unwrap_or_else(|| panic!("{mutation:?} was not found in twenty seeds"));
        println!("{mutation:?}: found by seed {seed}: {why}\n");
    }
}

#[test]
fn who_only_looks_on_the_way_is_not_accused() {
    run_all(0..20, Some(Mutation::Nothing)).assert_well();
}

fn undisturbed(seen: &Seen) {
    let verdict = &seen.verdict;
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(seen.link.connects_total, 1, "{:?}", seen.link);
    assert_eq!(seen.link.failures_total.iter().sum::<u64>(), 0, "{:?}", seen.link);
    assert_eq!(seen.standby_events, 0, "no failover");
    let group = &verdict.groups[0];
    assert_eq!(
        (group.missing.count, group.duplicated.count, group.reordered.count),
        (0, 0, 0)
    );
}

#[test]
fn a_session_of_thirty_minutes_is_renewed_before_it_expires_busy_or_idle() {
    for busy in [true, false] {
        let seen = sessions_end_after(Duration::from_secs(1800), Duration::from_secs(2 * 3600), busy);
        undisturbed(&seen);
        assert_eq!((seen.told_expired, seen.resent), (0, 0));
        // At the start, and every 27 minutes.
        assert_eq!(seen.logins, 5);
        assert_eq!(seen.link.heartbeats_total > 60, !busy);
    }
}

#[test]
fn a_session_that_expires_earlier_costs_one_login_and_its_life_is_learned() {
    for busy in [true, false] {
        // One heartbeat a minute finds it when nothing else does.
        let seen = sessions_end_after(Duration::from_secs(400), Duration::from_secs(3600), busy);
        undisturbed(&seen);
        assert!((1..=2).contains(&seen.told_expired), "{}", seen.told_expired);
        assert!((9..=12).contains(&seen.logins), "{}", seen.logins);
        assert!(seen.resent <= 4, "{}", seen.resent);
    }
}

#[test]
fn a_group_is_not_called_unavailable_for_time_that_weir_slept_through() {
    assert_eq!(available_after_a_sleep(), (true, false));
}

#[test]
fn an_endpoint_does_not_prove_itself_while_weir_sleeps() {
    assert_eq!(used_after_a_sleep(), [(0, 1), (1, 1)]);
}

#[test]
#[ignore = "replays the seed SEED"]
fn replay() {
    let seed = number("SEED").expect("SEED=… is the seed to replay");
    let outcome = run(seed, None, std::env::var_os("QUIET").is_none());
    for (what, count) in outcome.witnesses.iter().filter(|(_, n)| **n > 0) {
        println!("{what}: {count}");
    }
    println!("digest {:?}", outcome.digest);
    assert!(
        outcome.broken.is_empty(),
        "seed {seed}:\n{}",
        outcome.broken.join("\n")
    );
}
