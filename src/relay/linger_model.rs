//! The rule of `linger` in virtual time: gateways, one group, links, and a receiver that spends 15 µs on a frame and 1.6 µs
//! on an event.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::Outcome;
use super::state::{GroupId, State, Wake};
use super::{AgeLimits, Batch, Limits, Offer};
use crate::config::Shed;
use crate::wire::Events;

const FRAME_US: f64 = 15.0;
const EVENT_US: f64 = 1.6;
const BATCH_MAX_BYTES: usize = 128 << 10;
/// With its length; the usual size.
const EVENT_BYTES: usize = 604;
/// The runtime's timers count milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// Most events in a frame of WSO2's agent.
const AGENT_BATCH: usize = 200;
const LINGER: Duration = Duration::from_millis(10);

/// How the events of a gateway are spread.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    Regular,
    Random,
}

/// Gateways with WSO2's agent: what has come while a frame was unanswered goes in the next one.
#[derive(Debug, Clone, Copy)]
struct Gateways {
    count: u32,
    /// Events a second, together.
    rate: f64,
    /// From a frame to its answer.
    answer: Duration,
    pattern: Pattern,
}

impl Gateways {
    /// Their frames in order: when, and how many events; some 5,000 events, or 1,000 where that takes long.
    fn frames(self) -> Vec<(Duration, usize)> {
        let mut random = fastrand::Rng::with_seed(7);
        let each = self.rate / f64::from(self.count);
        let length = (1_000.0 / self.rate).max((5_000.0 / self.rate).min(1.0));
        let mut frames = Vec::new();
        for _ in 0..self.count {
            let (mut at, mut free, mut events) = (random.f64() / each, 0.0, 0);
            while at < length {
                if events > 0 && (at > free || events == AGENT_BATCH) {
                    frames.push((Duration::from_secs_f64(free), events));
                    (free, events) = (free + self.answer.as_secs_f64(), 0);
                    continue;
                }
                free = f64::max(free, at);
                events += 1;
                at += match self.pattern {
                    Pattern::Regular => 1.0 / each,
                    Pattern::Random => -(1.0 - random.f64()).ln() / each,
                };
            }
        }
        frames.sort_unstable();
        frames
    }
}

/// What was measured.
#[derive(Debug, Default)]
struct Seen {
    frames: u64,
    /// How long each event waited for its frame.
    waits: Vec<Duration>,
    /// The longest of those that left alone.
    alone: Duration,
    /// How often links looked.
    wakes: u64,
}

impl Seen {
    fn events_a_frame(&self) -> f64 {
        self.waits.len() as f64 / self.frames as f64
    }

    /// The receiver's CPU over that for the fullest frames.
    fn cost(&self) -> f64 {
        let best = EVENT_US + FRAME_US / (BATCH_MAX_BYTES / EVENT_BYTES) as f64;
        (EVENT_US + FRAME_US / self.events_a_frame()) / best
    }

    fn wait(&self, quantile: f64) -> Duration {
        self.waits[((self.waits.len() - 1) as f64 * quantile) as usize]
    }
}

/// An event of the usual size; the stream is that of no letters.
fn events(count: usize) -> Vec<u8> {
    let mut one = ((EVENT_BYTES - 4) as i32).to_be_bytes().to_vec();
    one.resize(EVENT_BYTES, 0);
    one.repeat(count)
}

/// A link does what the pump does: it looks when it is woken or its alarm fires, takes while something is ready, and waits
/// again.
#[derive(Default)]
struct Link {
    woken: bool,
    alarm: Option<Instant>,
    frames: u64,
}

/// One group, and what its events and its receivers have seen.
struct Model {
    start: Instant,
    state: State,
    group: GroupId,
    links: Vec<Link>,
    /// Links that wait, in the order in which they are woken.
    waiting: VecDeque<usize>,
    /// When each event that has not left was accepted.
    accepted: std::vec::IntoIter<Duration>,
    seen: Seen,
}

impl Model {
    fn wake(&mut self, wake: &Wake) {
        for _ in wake.links(1) {
            if let Some(link) = self.waiting.pop_front() {
                self.links[link].woken = true;
            }
        }
    }

    fn look(&mut self, id: usize, now: Instant) {
        self.seen.wakes += 1;
        self.links[id].woken = false;
        self.links[id].alarm = None;
        let mut served = false;
        let lingers = loop {
            match self.state.offer(self.group, now, LINGER) {
                Offer::Nothing => break false,
                Offer::Lingering(due) => {
                    let ticks = (due - self.start).as_nanos().div_ceil(TICK.as_nanos());
                    self.links[id].alarm = Some(self.start + TICK * u32::try_from(ticks).unwrap());
                    break true;
                }
                Offer::Ready => {}
            }
            let (frame, wake) = self.state.take(self.group, BATCH_MAX_BYTES, now, || 0);
            self.wake(&wake);
            let count: usize = frame.iter().map(Batch::events).sum();
            let accepted = self.accepted.by_ref().take(count);
            let waits: Vec<Duration> = accepted.map(|at| now - (self.start + at)).collect();
            if let [alone] = waits[..] {
                self.seen.alone = self.seen.alone.max(alone);
            }
            self.seen.waits.extend(waits);
            self.seen.frames += 1;
            self.links[id].frames += 1;
            let wake = self.state.end(self.group, frame, Outcome::Delivered);
            self.wake(&wake);
            self.waiting.retain(|waiting| *waiting != id);
            served = true;
        };
        let waits = self.waiting.contains(&id);
        match lingers && !served {
            _ if waits => {}
            true => self.waiting.push_front(id),
            false => self.waiting.push_back(id),
        }
    }

    /// Until `now`: alarms, and links that were woken.
    fn pass(&mut self, now: Option<Instant>) {
        loop {
            let woken = self.links.iter().position(|l| l.woken);
            if let (Some(woken), Some(now)) = (woken, now) {
                self.look(woken, now);
                continue;
            }
            let due = |link: &Link| link.alarm.filter(|at| now.is_none_or(|now| *at <= now));
            let alarms = self.links.iter().enumerate();
            let first = alarms.filter_map(|(id, link)| Some((due(link)?, id))).min();
            let Some((at, link)) = first else { return };
            self.look(link, at);
        }
    }
}

fn run(gateways: Gateways, links: usize) -> Model {
    let mut state = State::new(BATCH_MAX_BYTES);
    let group = state.add_group(Limits {
        events_max: 100_000,
        bytes_max: 256 << 20,
        block_timeout: None,
        shed: Shed::Oldest,
        age: AgeLimits::default(),
    });
    let _ = state.set_destinations(vec![group]);
    let frames = gateways.frames();
    let each = |(at, count): &(Duration, usize)| std::iter::repeat_n(*at, *count);
    let accepted: Vec<Duration> = frames.iter().flat_map(each).collect();
    let start = Instant::now();
    let mut model = Model {
        start,
        state,
        group,
        links: (0..links).map(|_| Link::default()).collect(),
        waiting: VecDeque::new(),
        accepted: accepted.into_iter(),
        seen: Seen::default(),
    };
    (0..links).for_each(|link| model.look(link, start));
    for (at, count) in frames {
        let now = start + at;
        model.pass(Some(now));
        let bytes = events(count);
        let frame = Events::check(&bytes, i32::try_from(count).unwrap(), 1 << 20).unwrap();
        let (_, wake) = model.state.admit(frame, now, false, &mut None).unwrap();
        model.wake(&wake);
        model.pass(Some(now));
    }
    model.pass(None);
    assert_eq!(model.accepted.len(), 0, "all have left");
    model.seen.waits.sort_unstable();
    model
}

#[test]
fn linger_saves_a_receiver_work_with_1_10_or_64_gateways_at_1_to_100_000_events_a_second() {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    for (count, answer_us) in [(1, 300), (1, 2_500), (10, 300), (64, 300), (64, 2_500)] {
        for rate in [1, 20, 100, 1_000, 5_000, 10_000, 20_000, 100_000] {
            for pattern in [Pattern::Regular, Pattern::Random] {
                let gateways = Gateways {
                    count,
                    rate: f64::from(rate),
                    answer: Duration::from_micros(answer_us),
                    pattern,
                };
                let seen = run(gateways, 1).seen;
                let (p50, p99) = (seen.wait(0.5), seen.wait(0.99));
                let seconds = gateways.frames().last().unwrap().0.as_secs_f64();
                let text = format!(
                    "{count} gateways, {rate}/s, {pattern:?}, answers after {answer_us} µs: {:.2} of the best, {:.1} events a frame, \
                     p50 {:.1} ms, p99 {:.1} ms, alone {:.1} ms, woken {:.0} times a second",
                    seen.cost(),
                    seen.events_a_frame(),
                    ms(p50),
                    ms(p99),
                    ms(seen.alone),
                    seen.wakes as f64 / seconds,
                );
                if rate >= 5_000 {
                    assert!(seen.cost() <= 1.2, "{text}");
                }
                assert!(p99 <= LINGER + TICK, "{text}");
                // And what the timer adds.
                assert!(seen.alone <= LINGER / 5 + TICK, "{text}");
                if rate <= 100 {
                    assert_eq!(p50, Duration::ZERO, "{text}");
                }
                if rate == 1 && matches!(pattern, Pattern::Regular) {
                    assert_eq!(seen.wait(1.0), Duration::ZERO, "{text}");
                }
            }
        }
    }
}

#[test]
fn links_of_a_group_take_turns_whether_frames_fill_or_their_time_is_over() {
    for links in [2, 3] {
        for rate in [50, 1_000, 5_000, 20_000, 100_000] {
            let gateways = Gateways {
                count: 64,
                rate: f64::from(rate),
                answer: Duration::from_micros(300),
                pattern: Pattern::Random,
            };
            let model = run(gateways, links);
            let frames: Vec<u64> = model.links.iter().map(|l| l.frames).collect();
            let (least, most) = (frames.iter().min().unwrap(), frames.iter().max().unwrap());
            assert!(*least * 10 >= *most * 9, "{rate}/s: {frames:?}");
        }
    }
}
