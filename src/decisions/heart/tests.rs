//! Both timers, second by second.

use super::*;

const S: Duration = Duration::from_secs(1);

fn beating(now: Instant, delay_seconds: u32) -> Heart {
    let mut heart = Heart::default();
    heart.start(now, S * delay_seconds, 2.0);
    heart
}

#[test]
fn nothing_is_due_before_tune_ok_was_forwarded() {
    let now = Instant::now();
    let heart = Heart::default();
    assert_eq!(heart.wakes_at(), None);
    assert_eq!(heart.due(now + S * 3600), Due::Nothing);
}

#[test]
fn a_heartbeat_is_due_after_half_the_delay_of_write_silence_whatever_was_read() {
    let t = Instant::now();
    let mut heart = beating(t, 30);
    heart.read(t + S * 14);
    assert_eq!(heart.due(t + S * 14), Due::Nothing);
    assert_eq!(heart.wakes_at(), Some(t + S * 15));
    assert_eq!(heart.due(t + S * 15), Due::Beat);
    heart.wrote(t + S * 15);
    assert_eq!(heart.due(t + S * 15), Due::Nothing);
    assert_eq!(heart.wakes_at(), Some(t + S * 30));
}

#[test]
fn a_side_is_dead_after_delay_times_factor_without_a_byte_whatever_was_written() {
    let t = Instant::now();
    let mut heart = beating(t, 30);
    heart.wrote(t + S * 59);
    assert_eq!(heart.due(t + S * 60 - Duration::from_millis(1)), Due::Nothing);
    assert_eq!(heart.due(t + S * 60), Due::Dead);
    heart.read(t + S * 60);
    heart.wrote(t + S * 60);
    assert_eq!(heart.due(t + S * 60), Due::Nothing, "any byte is life");
    assert_eq!(heart.due(t + S * 120), Due::Dead);
}

#[test]
fn death_stands_still_while_weir_itself_does_not_read_and_beats_go_on() {
    let t = Instant::now();
    let mut heart = beating(t, 30);
    heart.pause(t + S * 50, true);
    heart.pause(t + S * 55, true);
    assert_eq!(heart.due(t + S * 3600), Due::Beat, "injecting goes on");
    heart.wrote(t + S * 3600);
    assert_eq!(heart.due(t + S * 3600), Due::Nothing);
    heart.pause(t + S * 3650, false);
    heart.wrote(t + S * 3650);
    assert_eq!(
        heart.due(t + S * 3659),
        Due::Nothing,
        "ten of the sixty seconds are left"
    );
    assert_eq!(heart.due(t + S * 3660), Due::Dead);
}

#[test]
fn after_close_nothing_is_injected_and_death_is_still_noticed() {
    let t = Instant::now();
    let mut heart = beating(t, 30);
    heart.hush();
    assert_eq!(heart.due(t + S * 59), Due::Nothing);
    assert_eq!(heart.wakes_at(), Some(t + S * 60));
    assert_eq!(heart.due(t + S * 60), Due::Dead);
}

#[test]
fn a_client_that_chose_zero_gets_no_heartbeat_and_never_dies() {
    let t = Instant::now();
    let heart = beating(t, 0);
    assert_eq!(heart.wakes_at(), None);
    assert_eq!(heart.due(t + S * 100_000), Due::Nothing);
}

#[test]
fn a_pause_that_began_before_the_heart_counts_from_its_start() {
    let t = Instant::now();
    let mut heart = Heart::default();
    heart.pause(t, true);
    heart.start(t + S * 10, S * 30, 2.0);
    heart.pause(t + S * 20, false);
    assert_eq!(heart.wakes_at().map(|at| at - t), Some(S * 25), "the beat");
    heart.hush();
    assert_eq!(
        heart.wakes_at().map(|at| at - t),
        Some(S * 80),
        "death: 10 + 60, and 10 paused"
    );
}

#[test]
fn absurd_values_do_not_overflow() {
    let t = Instant::now();
    for factor in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
        let mut heart = Heart::default();
        heart.start(t, S * 65_535, factor);
        assert!(heart.wakes_at().is_some(), "{factor}");
    }
}
