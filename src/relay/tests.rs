//! The relay: its state against a model, story by story, and what its handles add.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake as WakeTask, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::queue::Outcome;
use super::state::{Full, GroupId, PlaceId, State, Wake};
use super::{AgeLimits, Batch, Limits, Offer, Reason, Relay, Verdict};
use crate::config::Shed;
use crate::status::{self, Group, Overflow};
use crate::wire::Events;
use crate::wire::events::iterate;
use crate::wire::stream::THROTTLE_STREAM;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(10);

// === Frames and groups ===

fn limits(events_max: usize, block_timeout: Option<Duration>, shed: Shed) -> Limits {
    Limits {
        events_max,
        bytes_max: 1 << 20,
        block_timeout,
        shed,
        age: AgeLimits::default(),
    }
}

fn strict(events_max: usize) -> Limits {
    limits(events_max, None, Shed::Oldest)
}

/// Events whose bytes are their number, a stream id (of no letters) and some filling.
fn frame(ids: Range<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    for id in ids {
        let filling = (id % 7) as usize;
        out.extend_from_slice(&(12 + filling as i32).to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend(std::iter::repeat_n(id as u8, filling));
    }
    out
}

/// An event of a stream, and whether it can be decoded.
fn event_of(id: u64, (stream, sound): (&str, bool)) -> Vec<u8> {
    let mut event = id.to_be_bytes().to_vec();
    if !stream.is_empty() {
        event.extend_from_slice(&(stream.len() as i32).to_be_bytes());
        event.extend_from_slice(stream.as_bytes());
        event.extend_from_slice(if sound { &[0; 17 * 4] } else { &[0; 16 * 4] });
    }
    [&(event.len() as i32).to_be_bytes()[..], &event].concat()
}

fn ids(batches: &[Batch]) -> Vec<u64> {
    let events = batches.iter().flat_map(|b| iterate(b.bytes()));
    events
        .map(|e| u64::from_be_bytes(*e.bytes().first_chunk().unwrap()))
        .collect()
}

fn two_groups(a: Limits, b: Limits, batch_max: usize) -> (State, GroupId, GroupId) {
    let mut state = State::new(batch_max);
    let (a, b) = (state.add_group(a), state.add_group(b));
    let _ = state.set_destinations(vec![a, b]);
    (state, a, b)
}

/// What happens, for stories that do not ask who is woken.
impl State {
    fn admit_from(&mut self, ids: Range<u64>, now: Instant, place: &mut Option<PlaceId>) -> Result<(), Full> {
        let count = (ids.end - ids.start) as i32;
        let bytes = frame(ids);
        let events = Events::check(&bytes, count, 1 << 20).unwrap();
        self.admit(events, now, false, place).map(|_| ())
    }

    fn admit_one(&mut self, ids: Range<u64>, now: Instant) -> Result<(), Full> {
        let mut place = None;
        let admitted = self.admit_from(ids, now, &mut place);
        place.map(|place| self.leave(place));
        admitted
    }

    fn admit_bytes(&mut self, bytes: &[u8], count: usize, now: Instant) {
        let events = Events::check(bytes, count as i32, 1 << 20).unwrap();
        let _ = self.admit(events, now, false, &mut None).unwrap();
    }

    /// A frame that does not fit, and keeps its place.
    fn wait_in_line(&mut self, ids: Range<u64>, now: Instant) -> Option<PlaceId> {
        let mut place = None;
        assert!(self.admit_from(ids, now, &mut place).is_err());
        place
    }

    fn next_frame(&mut self, group: GroupId, bytes_max: usize, now: Instant) -> Vec<Batch> {
        // The wall clock of these tests stands at 1000 ms.
        self.take(group, bytes_max, now, || 1000).0
    }

    fn next_batch(&mut self, group: GroupId, now: Instant) -> Vec<Batch> {
        self.next_frame(group, 0, now)
    }

    fn deliver(&mut self, group: GroupId, batches: Vec<Batch>) -> Vec<u64> {
        let ids = ids(&batches);
        let _ = self.end(group, batches, Outcome::Delivered);
        ids
    }

    /// The events of one frame, answered at once.
    fn sent(&mut self, group: GroupId, now: Instant) -> Vec<u64> {
        let frame = self.next_frame(group, 1 << 16, now);
        self.deliver(group, frame)
    }

    fn events(&self, group: GroupId) -> status::Events {
        self.status(group, Instant::now()).events
    }
}

// === The state against a model ===

#[derive(Debug, Clone)]
enum Step {
    /// A frame of so many events, of one of two streams.
    Admit(u64, bool),
    /// The first waiting frame is tried again, if it was called or its time has come.
    Retry,
    /// A waiting frame gives up its place.
    GiveUp(usize),
    /// A link that is awake looks, and takes at most so many frames.
    Look(usize, usize),
    Deliver(usize),
    Error(usize),
    /// All that is out returns, as when a connection ends.
    ReturnAll(usize),
    Release(usize),
    Available(usize, bool),
    Silent(usize, bool),
    Limit(usize, usize),
    /// Frames go to the first group only, or to both.
    Destinations(bool),
    DropQueued(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let group = || 0..2_usize;
    prop_oneof![
        8 => (1..12_u64, any::<bool>()).prop_map(|(n, stream)| Step::Admit(n, stream)),
        4 => Just(Step::Retry),
        1 => (0..4_usize).prop_map(Step::GiveUp),
        8 => (group(), 1..4_usize).prop_map(|(g, n)| Step::Look(g, n)),
        6 => group().prop_map(Step::Deliver),
        2 => group().prop_map(Step::Error),
        2 => group().prop_map(Step::ReturnAll),
        1 => group().prop_map(Step::Release),
        1 => (group(), any::<bool>()).prop_map(|(g, yes)| Step::Available(g, yes)),
        1 => (group(), any::<bool>()).prop_map(|(g, yes)| Step::Silent(g, yes)),
        1 => (group(), 3..60_usize).prop_map(|(g, n)| Step::Limit(g, n)),
        1 => any::<bool>().prop_map(Step::Destinations),
        1 => group().prop_map(Step::DropQueued),
        2 => (1..2000_u64).prop_map(Step::Wait),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    /// Was woken, or has just come.
    Awake,
    Waiting {
        alarm: Option<Instant>,
    },
    /// Its window is full.
    Busy,
}

/// What a group's links have, and what became of its events.
#[derive(Debug, Default)]
struct Side {
    links: Vec<Link>,
    waiting: VecDeque<usize>,
    out: Vec<Vec<Batch>>,
    accepted: BTreeSet<u64>,
    delivered: BTreeMap<u64, u32>,
    rejected: u64,
    /// Receipts have never stopped waiting for it.
    always_holds: bool,
}

#[derive(Debug)]
struct WaitingFrame {
    place: PlaceId,
    bytes: Vec<u8>,
    count: u64,
    retry_at: Option<Instant>,
}

struct Model {
    state: State,
    now: Instant,
    limits: Limits,
    sides: [Side; 2],
    both: bool,
    next: u64,
    line: VecDeque<WaitingFrame>,
    /// The first waiting frame was woken and has not been tried since.
    called: bool,
    /// Receipts with the events of their frames, and those that were woken.
    receipts: Vec<(usize, Range<u64>)>,
    resolved: BTreeSet<usize>,
    /// After an error reply, a receipt waits for both halves of a batch, whichever holds its frame.
    halved: bool,
}

const BATCH_MAX: usize = 200;

impl Model {
    fn new(limits: Limits) -> Self {
        let larger = Limits {
            events_max: limits.events_max * 2,
            ..limits.clone()
        };
        let (state, a, b) = two_groups(limits.clone(), larger, BATCH_MAX);
        assert_eq!((a, b), (0, 1));
        let side = || Side {
            links: vec![Link::Awake; 2],
            always_holds: true,
            ..Side::default()
        };
        Self {
            state,
            now: Instant::now(),
            limits,
            sides: [side(), side()],
            both: true,
            next: 0,
            line: VecDeque::new(),
            called: false,
            receipts: Vec::new(),
            resolved: BTreeSet::new(),
            halved: false,
        }
    }

    fn wake(&mut self, wake: Wake) {
        for group in wake.links(2) {
            self.wake_link(group);
        }
        if let Some(place) = wake.frame {
            assert_eq!(
                Some(place),
                self.line.front().map(|f| f.place),
                "only the first is called"
            );
            self.called = true;
        }
        self.resolved.extend(wake.receipts);
    }

    fn wake_link(&mut self, group: GroupId) {
        let side = &mut self.sides[group];
        if let Some(link) = side.waiting.pop_front() {
            side.links[link] = Link::Awake;
        }
    }

    fn admit(&mut self, bytes: &[u8], count: u64, place: &mut Option<PlaceId>) -> Result<(), Full> {
        let events = Events::check(bytes, count as i32, 1 << 20).unwrap();
        let before = [0, 1].map(|g| self.state.events(g).accepted);
        let admitted = self.state.admit(events, self.now, true, place);
        let groups = if self.both { 2 } else { 1 };
        let by = |g| if admitted.is_ok() && g < groups { count } else { 0 };
        let after = [0, 1].map(|g| self.state.events(g).accepted);
        assert_eq!(
            after,
            [before[0] + by(0), before[1] + by(1)],
            "all groups or none"
        );
        let (receipt, wake) = admitted?;
        let ids = self.ids_in(bytes);
        for side in &mut self.sides[..groups] {
            side.accepted.extend(ids.clone());
        }
        self.receipts.push((receipt.unwrap(), ids));
        self.wake(wake);
        Ok(())
    }

    fn ids_in(&self, bytes: &[u8]) -> Range<u64> {
        let first = iterate(bytes).next().unwrap();
        let first = u64::from_be_bytes(*first.bytes().first_chunk().unwrap());
        first..first + iterate(bytes).count() as u64
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Admit(count, other_stream) => {
                let ids = self.next..self.next + count;
                let bytes = match other_stream {
                    true => ids
                        .flat_map(|id| event_of(id, ("other.stream:1.0.0", true)))
                        .collect(),
                    false => frame(ids),
                };
                self.next += count;
                let mut place = None;
                if let Err(full) = self.admit(&bytes, count, &mut place) {
                    self.line.push_back(WaitingFrame {
                        place: place.unwrap(),
                        bytes,
                        count,
                        retry_at: full.retry_at,
                    });
                }
            }
            Step::Retry => {
                let due = |f: &WaitingFrame| f.retry_at.is_some_and(|at| at <= self.now);
                if !self.called && !self.line.front().is_some_and(due) {
                    return;
                }
                self.called = false;
                let mut frame = self.line.pop_front().unwrap();
                if let Err(full) = self.admit(&frame.bytes, frame.count, &mut Some(frame.place)) {
                    frame.retry_at = full.retry_at;
                    self.line.push_front(frame);
                }
            }
            Step::GiveUp(at) => {
                if at < self.line.len() {
                    let frame = self.line.remove(at).unwrap();
                    self.called &= at > 0;
                    let wake = self.state.leave(frame.place);
                    self.wake(wake);
                }
            }
            Step::Look(group, frames) => self.look(group, frames),
            Step::Deliver(group) => {
                if let Some(batches) = self.pop_out(group) {
                    for id in ids(&batches) {
                        *self.sides[group].delivered.entry(id).or_default() += 1;
                    }
                    let wake = self.state.end(group, batches, Outcome::Delivered);
                    self.wake(wake);
                }
            }
            Step::Error(group) => {
                self.halved = true;
                if let Some(batches) = self.pop_out(group) {
                    let (rejected, wake) = self.state.end_with_error(group, batches);
                    self.sides[group].rejected += rejected as u64;
                    self.wake(wake);
                }
            }
            Step::ReturnAll(group) => {
                while let Some(batches) = self.sides[group].out.pop() {
                    let wake = self.state.end_unanswered(group, batches);
                    self.wake(wake);
                }
            }
            Step::Release(group) => {
                self.sides[group].always_holds = false;
                for batches in &mut self.sides[group].out {
                    let wake = self.state.release(batches);
                    self.resolved.extend(wake.receipts);
                }
            }
            Step::Available(group, yes) => {
                self.sides[group].always_holds = false;
                let wake = self.state.set_available(group, yes);
                self.wake(wake);
            }
            Step::Silent(group, yes) => {
                self.sides[group].always_holds = false;
                let wake = self.state.set_silent(group, yes);
                self.wake(wake);
            }
            Step::Limit(group, events_max) => {
                let limits = Limits {
                    events_max,
                    ..self.limits.clone()
                };
                let wake = self.state.set_limits(group, limits);
                self.wake(wake);
            }
            Step::Destinations(both) => {
                self.both = both;
                let wake = self
                    .state
                    .set_destinations(if both { vec![0, 1] } else { vec![0] });
                self.wake(wake);
            }
            Step::DropQueued(group) => {
                let wake = self.state.drop_queued(group, Reason::GroupRemoved);
                self.wake(wake);
            }
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
        }
    }

    /// The oldest delivery ends; a link whose window was full looks again.
    fn pop_out(&mut self, group: GroupId) -> Option<Vec<Batch>> {
        let side = &mut self.sides[group];
        if let Some(busy) = side.links.iter_mut().find(|l| **l == Link::Busy) {
            *busy = Link::Awake;
        }
        (!side.out.is_empty()).then(|| side.out.remove(0))
    }

    /// As the pump does it.
    fn look(&mut self, group: GroupId, frames: usize) {
        let fires = |l: &Link| matches!(l, Link::Waiting { alarm: Some(at) } if *at <= self.now);
        let awake = |l: &Link| *l == Link::Awake || fires(l);
        let Some(link) = self.sides[group].links.iter().position(awake) else {
            return;
        };
        let mut served = false;
        for _ in 0..frames {
            if self.state.offer(group, self.now, LINGER) != Offer::Ready {
                break;
            }
            let (batches, wake) = self.state.take(group, 3 * BATCH_MAX, self.now, || 1000);
            self.wake(wake);
            assert!(!batches.is_empty(), "something was ready");
            let bytes: usize = batches.iter().map(|b| b.bytes().len()).sum();
            assert!(bytes <= 3 * BATCH_MAX || batches.len() == 1);
            self.sides[group].out.push(batches);
            self.sides[group].waiting.retain(|l| *l != link);
            served = true;
        }
        let offer = self.state.offer(group, self.now, LINGER);
        let side = &mut self.sides[group];
        if offer == Offer::Ready {
            side.waiting.retain(|l| *l != link);
            side.links[link] = Link::Busy;
            assert!(self.state.has_queued(group));
            self.wake_link(group);
            return;
        }
        let alarm = match offer {
            Offer::Lingering(due) => Some(due),
            _ => None,
        };
        side.links[link] = Link::Waiting { alarm };
        match side.waiting.contains(&link) {
            true => {}
            false if alarm.is_some() && !served => side.waiting.push_front(link),
            false => side.waiting.push_back(link),
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        let held = [0, 1].map(|group| self.held(group));
        for (group, side) in self.sides.iter().enumerate() {
            let status = self.state.status(group, self.now);
            assert!(status.events.balanced(), "{status:?}");
            let held = &held[group];
            let all = held.iter().chain(side.delivered.keys()).copied();
            let all: Vec<u64> = all.collect();
            let different: BTreeSet<u64> = all.iter().copied().collect();
            assert_eq!(all.len(), different.len(), "nothing twice");
            assert!(side.delivered.values().all(|n| *n == 1), "nothing twice");
            assert!(different.is_subset(&side.accepted));
            let out: usize = side.out.iter().flatten().map(Batch::events).sum();
            assert_eq!(status.events.inflight, out as u64);
            assert_eq!(status.events.queued, (held.len() - out) as u64);
            let gone = status.events.dropped.total() + side.rejected;
            assert_eq!((side.accepted.len() - different.len()) as u64, gone);
            self.check_links(group, side);
        }
        self.check_line();
        for (receipt, ids) in &self.receipts {
            self.check_receipt(*receipt, ids, &held);
        }
    }

    /// Events in the queue and out with links.
    fn held(&self, group: GroupId) -> Vec<u64> {
        let mut rest = self.state.clone();
        let mut held: Vec<u64> = self.sides[group].out.iter().flat_map(|b| ids(b)).collect();
        loop {
            let (batches, _) = rest.take(group, usize::MAX, self.now, || 1000);
            if batches.is_empty() {
                return held;
            }
            held.extend(ids(&batches));
        }
    }

    /// A link that waits was woken for what is ready, or has an alarm in time.
    fn check_links(&self, group: GroupId, side: &Side) {
        let waiting = side
            .links
            .iter()
            .filter(|l| matches!(l, Link::Waiting { .. }))
            .count();
        assert_eq!(waiting, side.waiting.len());
        if waiting == 0 || side.links.contains(&Link::Awake) {
            return;
        }
        let due = match self.state.offer(group, self.now, LINGER) {
            Offer::Nothing => return,
            Offer::Ready => self.now,
            Offer::Lingering(due) => due,
        };
        let in_time = |l: &Link| matches!(l, Link::Waiting { alarm: Some(at) } if *at <= due);
        assert!(
            side.links.iter().any(in_time),
            "no link was woken for what group {group} has queued"
        );
    }

    /// The first waiting frame was called, or would still not be admitted.
    fn check_line(&self) {
        let Some(first) = self.line.front() else {
            assert_eq!(self.state.first_place(), None);
            return;
        };
        assert_eq!(self.state.first_place(), Some(first.place));
        assert_eq!(self.state.is_called(first.place), self.called);
        if self.called || first.retry_at.is_some_and(|at| at <= self.now) {
            return;
        }
        let events = Events::check(&first.bytes, first.count as i32, 1 << 20).unwrap();
        let again = self
            .state
            .clone()
            .admit(events, self.now, true, &mut Some(first.place));
        assert!(
            again.is_err(),
            "capacity was freed, and the frame that waits for it was not called"
        );
    }

    /// It has resolved if, and not before, every group that it waits for has ended its events.
    fn check_receipt(&self, receipt: usize, ids: &Range<u64>, held: &[Vec<u64>; 2]) {
        let resolved = self.state.verdict(receipt).is_some();
        let holds = |group: &usize| held[*group].iter().any(|id| ids.contains(id));
        let (always, sometimes): (Vec<usize>, Vec<usize>) =
            (0..2).partition(|group| self.sides[*group].always_holds);
        let pending = always.iter().any(holds);
        assert!(!resolved || !pending, "answered before every group has ended it");
        let ended = !self.halved && !pending && !sometimes.iter().any(holds);
        assert!(resolved || !ended, "every group has ended it");
        let woken = self.resolved.contains(&receipt);
        assert_eq!(resolved, woken, "woken exactly when it resolves");
    }

    /// Everything ends.
    fn finish(mut self, never_sheds: bool) {
        for group in [0, 1] {
            self.step(Step::ReturnAll(group));
            let status = self.state.status(group, self.now);
            if never_sheds {
                assert_eq!(
                    status.events.dropped.queue_full, 0,
                    "it drops only while unavailable"
                );
            }
        }
        while let Some(frame) = self.line.pop_front() {
            self.called = false;
            let wake = self.state.leave(frame.place);
            self.wake(wake);
        }
        for group in [0, 1] {
            loop {
                let (batches, wake) = self.state.take(group, 1000, self.now, || 1000);
                self.wake(wake);
                if batches.is_empty() {
                    break;
                }
                let wake = self.state.end(group, batches, Outcome::Delivered);
                self.wake(wake);
            }
            let status = self.state.status(group, self.now);
            assert!(status.events.balanced() && self.state.is_empty(group));
            assert_eq!((status.held_bytes, status.events.dropped.lost), (0, 0));
        }
        for (receipt, _) in &self.receipts {
            assert!(self.state.verdict(*receipt).is_some(), "every frame is answered");
            self.state.forget_receipt(*receipt);
        }
        assert!(!self.state.has_receipts(), "nothing is left behind");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn in_any_sequence_of_operations_every_event_ends_once_and_no_wakeup_is_lost(
        steps in prop::collection::vec(step(), 1..120),
        events_max in 5_usize..60,
        shed in prop_oneof![Just(Shed::Oldest), Just(Shed::Newest)],
        never_sheds in any::<bool>(),
    ) {
        let timeout = if never_sheds { None } else { Some(SECOND) };
        let mut model = Model::new(limits(events_max, timeout, shed));
        for step in steps {
            model.step(step);
            model.check();
        }
        model.finish(never_sheds);
    }

    #[test]
    fn events_leave_in_the_order_in_which_they_came(sizes in prop::collection::vec(1_u64..20, 1..30), batch_max in 20_usize..400) {
        let now = Instant::now();
        let (mut state, a, b) = two_groups(strict(10_000), strict(10_000), batch_max);
        let mut next = 0;
        for n in sizes {
            state.admit_one(next..next + n, now).unwrap();
            next += n;
        }
        for group in [a, b] {
            let mut seen = Vec::new();
            loop {
                let batch = state.next_batch(group, now);
                if batch.is_empty() {
                    break;
                }
                prop_assert!(batch[0].bytes().len() <= batch_max || batch[0].events() == 1);
                seen.extend(state.deliver(group, batch));
            }
            prop_assert_eq!(&seen, &(0..next).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_traffic_manager_that_refuses_some_events_rejects_those_and_gets_all_others_once_and_in_order(
        sizes in prop::collection::vec(1_u64..30, 1..12), bad in prop::collection::btree_set(0_u64..150, 0..5)) {
        let now = Instant::now();
        let (mut state, a, b) = two_groups(strict(10_000), strict(10_000), 300);
        let (mut next, mut receipts) = (0, Vec::new());
        for n in sizes {
            let bytes = frame(next..next + n);
            let events = Events::check(&bytes, n as i32, 1 << 20).unwrap();
            let (receipt, _) = state.admit(events, now, true, &mut None).unwrap();
            receipts.push(receipt.unwrap());
            next += n;
        }
        state.seal(false);
        let (mut delivered, mut sent_again) = (Vec::new(), 0);
        loop {
            let frame = state.next_frame(a, 1200, now);
            let ids = ids(&frame);
            if ids.is_empty() {
                break;
            }
            if ids.iter().any(|id| bad.contains(id)) {
                let (rejected, _) = state.end_with_error(a, frame);
                sent_again += (ids.len() - rejected) as u64;
            } else {
                delivered.extend(state.deliver(a, frame));
            }
            prop_assert!(state.events(a).balanced());
        }
        let good: Vec<u64> = (0..next).filter(|id| !bad.contains(id)).collect();
        prop_assert_eq!(delivered, good);
        let status = state.status(a, now);
        prop_assert_eq!(status.events.rejected, bad.iter().filter(|id| **id < next).count() as u64);
        prop_assert_eq!(status.events.dropped.total() + status.held_bytes, 0);
        prop_assert_eq!(status.resent_events_total, sent_again);
        prop_assert!(receipts.iter().all(|r| state.verdict(*r).is_none()), "the other group holds them");
        while !state.sent(b, now).is_empty() {}
        prop_assert!(receipts.iter().all(|r| state.verdict(*r) == Some(Verdict::Settled)));
    }
}

/// A stream, and whether the event can be decoded.
fn of_stream() -> impl Strategy<Value = (&'static str, bool)> {
    prop_oneof![
        4 => Just((THROTTLE_STREAM, true)),
        1 => Just((THROTTLE_STREAM, false)),
        2 => Just(("another.stream:1.0.0", true)),
        1 => Just(("", false)),
    ]
}

proptest! {
    #[test]
    fn a_frame_holds_events_of_one_stream_and_one_that_cannot_be_decoded_has_a_frame_of_its_own(
        frames in prop::collection::vec(prop::collection::vec(of_stream(), 1..9), 1..12), batch_max in 200_usize..3000) {
        let now = Instant::now();
        let (mut state, a, b) = two_groups(strict(10_000), strict(10_000), batch_max);
        let mut all: Vec<(&str, bool)> = Vec::new();
        for events in &frames {
            let first = all.len() as u64;
            let bytes: Vec<u8> = (first..).zip(events).flat_map(|(id, e)| event_of(id, *e)).collect();
            state.admit_bytes(&bytes, events.len(), now);
            all.extend(events);
        }
        for group in [a, b] {
            let mut seen = Vec::new();
            loop {
                let frame = state.next_frame(group, batch_max, now);
                if frame.is_empty() {
                    break;
                }
                let own = state.deliver(group, frame);
                let of = |id: &u64| all[*id as usize];
                prop_assert!(own.iter().all(|id| of(id).0 == of(&own[0]).0), "{own:?}: more than one stream");
                prop_assert!(own.len() == 1 || own.iter().all(|id| of(id).1), "{own:?}: one of them is bad");
                seen.extend(own);
            }
            prop_assert_eq!(&seen, &(0..all.len() as u64).collect::<Vec<_>>(), "in order");
            prop_assert_eq!(state.status(group, now).held_bytes, 0);
        }
    }
}

// === A full queue ===

/// Ten events in batches of their own, in a queue of ten and in a large one.
fn full(block_timeout: Option<Duration>, now: Instant) -> (State, GroupId, GroupId) {
    let of = |events_max| limits(events_max, block_timeout, Shed::Oldest);
    let (mut state, a, b) = two_groups(of(10), of(1000), 1 << 16);
    for i in 0..10 {
        state.admit_one(i..i + 1, now).unwrap();
        state.seal(false);
    }
    (state, a, b)
}

fn incidents(status: &Group) -> (u64, u64) {
    (status.blocked_incidents_total, status.shed_incidents_total)
}

#[test]
fn a_full_queue_blocks_once_then_sheds_the_oldest_until_half_empty() {
    let t0 = Instant::now();
    let (mut state, a, b) = full(Some(SECOND), t0);
    let retry_at = Some(t0 + SECOND);
    assert_eq!(state.admit_one(10..11, t0), Err(Full { retry_at }));
    assert_eq!(state.status(a, t0).overflow, Overflow::Blocking);
    assert_eq!(state.events(b).accepted, 10, "the other group takes none of it");
    let late = t0 + SECOND;
    state.admit_one(10..13, late).unwrap();
    state.seal(false);
    assert_eq!(state.status(a, late).overflow, Overflow::Shedding);
    assert_eq!(state.events(a).dropped.queue_full, 3);
    assert_eq!(state.events(b).dropped.total(), 0);
    for id in 3..8 {
        let batch = state.next_batch(a, late);
        assert_eq!(state.deliver(a, batch), [id], "0 to 2 were shed");
    }
    let status = state.status(a, late);
    assert_eq!(
        status.overflow,
        Overflow::Open,
        "half empty: the incident is over"
    );
    assert_eq!(incidents(&status), (1, 1));
}

#[test]
fn an_incident_lasts_while_a_waiting_frame_needs_more_than_half_of_the_queue() {
    let t0 = Instant::now();
    let (mut state, a, _) = full(Some(SECOND), t0);
    let mut place = state.wait_in_line(10..18, t0);
    let half = t0 + SECOND / 2;
    for _ in 0..7 {
        let batch = state.next_batch(a, half);
        state.deliver(a, batch);
    }
    let retry_at = Some(t0 + SECOND);
    assert_eq!(state.admit_from(10..18, half, &mut place), Err(Full { retry_at }));
    assert_eq!(incidents(&state.status(a, half)), (1, 0), "the same incident");
    state.admit_from(10..18, t0 + SECOND, &mut place).unwrap();
    assert_eq!(incidents(&state.status(a, half)), (1, 1));
    assert_eq!(state.events(a).dropped.queue_full, 1);
}

#[test]
fn small_frames_that_come_later_do_not_starve_a_large_one() {
    let now = Instant::now();
    let (mut state, a, _) = full(None, now);
    let mut large = state.wait_in_line(10..18, now);
    let mut small = state.wait_in_line(18..19, now);
    let gives_up = state.wait_in_line(100..101, now);
    for left in (0..10).rev() {
        let batch = state.next_batch(a, now);
        state.deliver(a, batch);
        assert!(
            state.admit_from(18..19, now, &mut small).is_err(),
            "it waits behind"
        );
        let called = state.is_called(large.unwrap());
        assert_eq!(called, left <= 2, "called when it fits");
        if called {
            break;
        }
        assert!(state.admit_from(10..18, now, &mut large).is_err());
    }
    state.admit_from(10..18, now, &mut large).unwrap();
    assert!(state.is_called(small.unwrap()), "then the next one");
    assert!(state.admit_from(18..19, now, &mut small).is_err());
    let _ = state.leave(gives_up.unwrap());
    while !state.sent(a, now).is_empty() {}
    let _ = state.leave(small.unwrap());
    state.admit_one(19..20, now).expect("no frame waits any more");
}

#[test]
fn shedding_the_newest_skips_only_the_group_that_is_full() {
    let now = Instant::now();
    let newest = |events_max| limits(events_max, Some(Duration::ZERO), Shed::Newest);
    let (mut state, a, b) = two_groups(newest(4), newest(100), 1 << 16);
    state.admit_one(0..4, now).unwrap();
    state.admit_one(4..6, now).unwrap();
    for group in [a, b] {
        let batch = state.next_batch(group, now);
        assert_eq!(state.deliver(group, batch), [0, 1, 2, 3]);
    }
    assert_eq!(state.sent(b, now), [4, 5]);
    assert!(state.sent(a, now).is_empty());
    assert_eq!(state.events(a).dropped.queue_full, 2);
}

#[test]
fn no_gateway_waits_for_an_unavailable_group() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(4), strict(100), 1 << 16);
    state.admit_one(0..4, now).unwrap();
    assert!(state.admit_one(4..5, now).is_err());
    let _ = state.set_available(a, false);
    state.admit_one(4..5, now).unwrap();
    assert_eq!(state.events(a).dropped.unavailable, 4, "a batch goes as a whole");
    assert_eq!(state.events(b).queued, 5);
}

#[test]
fn a_frame_larger_than_the_queue_enters_when_it_is_alone() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(4), strict(100), 64);
    state.admit_one(0..9, now).unwrap();
    assert!(state.admit_one(9..10, now).is_err());
    for group in [a, b] {
        while !state.sent(group, now).is_empty() {}
    }
    state.admit_one(9..10, now).unwrap();
}

#[test]
fn an_incident_ends_although_the_frame_that_waited_has_given_up() {
    let now = Instant::now();
    let (mut state, a, _) = full(None, now);
    let place = state.wait_in_line(10..18, now);
    for _ in 0..5 {
        let batch = state.next_batch(a, now);
        state.deliver(a, batch);
    }
    assert_eq!(state.status(a, now).overflow, Overflow::Blocking);
    let _ = state.leave(place.unwrap());
    assert_eq!(state.status(a, now).overflow, Overflow::Open);
}

// === Groups ===

#[test]
fn a_group_that_was_removed_delivers_what_it_holds_and_gets_no_more() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(100), strict(100), 1 << 16);
    state.admit_one(0..2, now).unwrap();
    let _ = state.set_destinations(vec![a]);
    let c = state.add_group(strict(100));
    let _ = state.set_destinations(vec![c, a]);
    state.admit_one(2..3, now).unwrap();
    assert_eq!(state.sent(b, now), [0, 1]);
    assert_eq!((state.sent(c, now), state.sent(a, now)), (vec![2], vec![0, 1, 2]));
    assert!(state.is_empty(b));
    let _ = state.remove_group(b);
    assert_eq!(state.add_group(strict(100)), b, "its number is free again");
}

#[test]
fn links_are_woken_in_more_groups_than_there_are_bits() {
    let now = Instant::now();
    let mut state = State::new(1 << 16);
    let groups: Vec<GroupId> = (0..100).map(|_| state.add_group(strict(10))).collect();
    let _ = state.set_destinations(groups[40..].to_vec());
    let bytes = frame(0..1);
    let events = Events::check(&bytes, 1, 100).unwrap();
    let (_, wake) = state.admit(events, now, false, &mut None).unwrap();
    assert!(wake.links(100).eq(40..100));
    for group in &groups[40..] {
        assert_eq!(state.sent(*group, now), [0]);
    }
}

#[test]
fn dropping_what_is_queued_drops_the_open_batch_too() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(10), strict(10), 1 << 16);
    state.admit_one(0..3, now).unwrap();
    let _ = state.drop_queued(a, Reason::GroupRemoved);
    assert!(state.is_empty(a));
    assert_eq!(state.events(a).dropped.group_removed, 3);
    assert_eq!(state.sent(b, now), [0, 1, 2]);
}

// === Error replies ===

#[test]
fn a_single_event_is_rejected_with_its_third_error_reply() {
    let now = Instant::now();
    let (mut state, a, _) = two_groups(strict(10), strict(10), 64);
    let error = |state: &mut State, frame| state.end_with_error(a, frame).0;
    for ids in [0..1, 1..2] {
        state.admit_one(ids, now).unwrap();
        state.seal(false);
    }
    let both = state.next_frame(a, 1 << 16, now);
    assert_eq!(both.len(), 2);
    assert_eq!(
        error(&mut state, both),
        0,
        "the reply to a shared frame does not count"
    );
    for rejected in [0, 0, 1] {
        let first = state.next_frame(a, 1 << 16, now);
        assert_eq!(ids(&first), [0], "it is sent alone");
        assert_eq!(error(&mut state, first), rejected);
    }
    assert_eq!((state.events(a).rejected, state.events(a).queued), (1, 1));
}

#[test]
fn a_waiting_frame_is_called_when_a_rejection_has_freed_capacity() {
    let now = Instant::now();
    let (mut state, a, _) = two_groups(strict(1), strict(10), 64);
    state.admit_one(0..1, now).unwrap();
    let place = state.wait_in_line(1..2, now);
    let error = |state: &mut State| {
        let batch = state.next_batch(a, now);
        state.end_with_error(a, batch).1.frame
    };
    let called = [error(&mut state), error(&mut state), error(&mut state)];
    assert_eq!(called, [None, None, place]);
}

// === Receipts ===

fn with_receipt(state: &mut State, ids: Range<u64>, now: Instant) -> usize {
    let count = (ids.end - ids.start) as i32;
    let bytes = frame(ids);
    let events = Events::check(&bytes, count, 1 << 20).unwrap();
    let (receipt, _) = state.admit(events, now, true, &mut None).unwrap();
    receipt.unwrap()
}

#[test]
fn a_receipt_resolves_with_the_last_group_and_does_not_wait_for_an_unavailable_one() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(10), strict(10), 64);
    let receipt = with_receipt(&mut state, 0..9, now);
    while !state.sent(a, now).is_empty() {
        assert_eq!(state.verdict(receipt), None);
    }
    let batch = state.next_batch(b, now);
    state.deliver(b, batch);
    assert_eq!(
        state.verdict(receipt),
        None,
        "the frame is in more than one batch"
    );
    let wake = state.set_available(b, false);
    assert_eq!(wake.receipts, [receipt]);
    assert_eq!(state.verdict(receipt), Some(Verdict::Settled));
}

#[test]
fn a_frame_dropped_by_an_available_group_is_to_be_sent_again() {
    let now = Instant::now();
    let newest = limits(1, Some(Duration::ZERO), Shed::Newest);
    let (mut state, a, b) = two_groups(newest, strict(10), 64);
    state.admit_one(0..1, now).unwrap();
    let receipt = with_receipt(&mut state, 1..2, now);
    for group in [a, b] {
        while !state.sent(group, now).is_empty() {}
    }
    assert_eq!(state.verdict(receipt), Some(Verdict::GivenUp));
}

#[test]
fn a_silent_group_holds_no_receipt_until_it_answers() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(10), strict(10), 64);
    let before = with_receipt(&mut state, 0..1, now);
    let _ = state.set_silent(b, true);
    state.sent(a, now);
    assert_eq!(state.verdict(before), Some(Verdict::Settled));
    state.sent(b, now);
    let after = with_receipt(&mut state, 1..2, now);
    state.sent(a, now);
    assert_eq!(state.verdict(after), None, "it has answered");
    state.sent(b, now);
    assert_eq!(state.verdict(after), Some(Verdict::Settled));
}

#[test]
fn a_receipt_in_an_open_batch_does_not_wait_for_groups_that_have_become_silent_or_unavailable() {
    let now = Instant::now();
    for silent in [true, false] {
        let (mut state, a, b) = two_groups(strict(10), strict(10), 64);
        let receipt = with_receipt(&mut state, 0..1, now);
        for group in [a, b] {
            assert_eq!(state.verdict(receipt), None);
            let _ = match silent {
                true => state.set_silent(group, true),
                false => state.set_available(group, false),
            };
        }
        assert_eq!(state.verdict(receipt), Some(Verdict::Settled));
    }
}

// === Linger ===

/// Two groups that have both taken something at `now`.
fn busy(now: Instant, batch_max: usize) -> (State, GroupId, GroupId) {
    let (mut state, a, b) = two_groups(strict(10_000), strict(10_000), batch_max);
    state.admit_one(0..1, now).unwrap();
    assert_eq!((state.sent(a, now), state.sent(b, now)), (vec![0], vec![0]));
    (state, a, b)
}

#[test]
fn events_linger_only_while_the_group_is_busy() {
    let t0 = Instant::now();
    let (mut state, a, b) = two_groups(strict(100), strict(100), 1000);
    assert_eq!(state.offer(a, t0, LINGER), Offer::Nothing);
    state.admit_one(0..1, t0).unwrap();
    assert_eq!(
        state.offer(a, t0, LINGER),
        Offer::Ready,
        "an idle group sends at once"
    );
    state.sent(a, t0);
    state.admit_one(1..2, t0).unwrap();
    assert_eq!(state.offer(a, t0, LINGER), Offer::Lingering(t0 + 2 * MS));
    assert_eq!(state.offer(b, t0, LINGER), Offer::Ready);
    assert_eq!(state.offer(a, t0, Duration::ZERO), Offer::Ready);
    state.admit_one(2..50, t0).unwrap();
    assert_eq!(
        state.offer(a, t0, LINGER),
        Offer::Ready,
        "a full batch does not wait"
    );
}

#[test]
fn a_single_event_waits_for_a_fifth_of_linger_after_the_last_take_and_several_for_all_of_it() {
    let t0 = Instant::now();
    let (mut state, a, _) = busy(t0, 1 << 16);
    state.admit_one(1..2, t0 + MS).unwrap();
    assert_eq!(state.offer(a, t0 + MS, LINGER), Offer::Lingering(t0 + 2 * MS));
    assert_eq!(state.offer(a, t0 + 2 * MS, LINGER), Offer::Ready);
    state.admit_one(2..3, t0 + MS).unwrap();
    assert_eq!(state.offer(a, t0 + MS, LINGER), Offer::Lingering(t0 + 4 * MS));
    state.admit_one(3..60, t0 + MS).unwrap();
    assert_eq!(state.offer(a, t0 + MS, LINGER), Offer::Lingering(t0 + 10 * MS));
    assert_eq!(state.offer(a, t0 + 10 * MS, LINGER), Offer::Ready);
    state.sent(a, t0);
    state.admit_one(60..61, t0 + 2 * MS).unwrap();
    assert_eq!(
        state.offer(a, t0 + 2 * MS, LINGER),
        Offer::Ready,
        "no event in 2 ms: idle"
    );
}

#[test]
fn events_worth_a_frame_leave_at_once_and_wake_their_link_once() {
    let t0 = Instant::now();
    let (mut state, a, _) = busy(t0, 1 << 16);
    let mut woken_at = Vec::new();
    for next in 1..=200 {
        let bytes = frame(next..next + 1);
        let events = Events::check(&bytes, 1, 100).unwrap();
        let (_, wake) = state.admit(events, t0, false, &mut None).unwrap();
        if wake.links(2).any(|group| group == a) {
            woken_at.push(next);
        }
        assert_eq!(state.offer(a, t0, LINGER) == Offer::Ready, next >= 64, "{next}");
    }
    assert_eq!(woken_at, [1, 64]);
}

#[test]
fn what_another_group_has_taken_early_goes_on_gathering_and_leaves_in_one_frame() {
    let t0 = Instant::now();
    let (mut state, a, b) = busy(t0, 1 << 16);
    state.admit_one(1..6, t0).unwrap();
    assert_eq!(state.sent(a, t0), [1, 2, 3, 4, 5]);
    assert_eq!(state.offer(b, t0, LINGER), Offer::Lingering(t0 + 10 * MS));
    state.admit_one(6..9, t0).unwrap();
    assert_eq!(state.sent(a, t0), [6, 7, 8]);
    state.admit_one(9..11, t0).unwrap();
    assert_eq!(state.offer(b, t0, LINGER), Offer::Lingering(t0 + 10 * MS));
    assert_eq!(state.sent(b, t0 + 10 * MS), (1..11).collect::<Vec<_>>());
    // Worth a frame together.
    state.admit_one(11..50, t0).unwrap();
    while !state.sent(a, t0).is_empty() {}
    assert_eq!(state.offer(b, t0, LINGER), Offer::Lingering(t0 + 10 * MS));
    state.admit_one(50..75, t0).unwrap();
    assert_eq!(state.offer(b, t0, LINGER), Offer::Ready);
    assert_eq!(state.sent(b, t0), (11..75).collect::<Vec<_>>());
}

#[test]
fn events_that_no_later_event_can_join_do_not_linger() {
    let t0 = Instant::now();
    for taken_early in [false, true] {
        let (mut state, a, b) = busy(t0, 1 << 16);
        state.admit_one(1..2, t0).unwrap();
        if taken_early {
            assert_eq!(state.sent(a, t0), [1]);
        }
        state.admit_bytes(&event_of(2, ("another.stream:1.0.0", true)), 1, t0);
        assert_eq!(state.offer(b, t0, LINGER), Offer::Ready, "{taken_early}");
        assert_eq!(state.sent(b, t0), [1]);
        let due = Offer::Lingering(t0 + 2 * MS);
        assert_eq!(state.offer(b, t0, LINGER), due, "{taken_early}");
    }
}

#[test]
fn links_of_all_groups_are_woken_for_a_batch_that_is_complete() {
    let t0 = Instant::now();
    let newest = |events_max| limits(events_max, Some(Duration::ZERO), Shed::Newest);
    let (mut state, _, b) = two_groups(newest(100), newest(1), 1 << 16);
    state.admit_one(0..1, t0).unwrap();
    let bytes = frame(1..2);
    let events = Events::check(&bytes, 1, 100).unwrap();
    let (_, wake) = state.admit(events, t0, false, &mut None).unwrap();
    assert!(
        wake.links(2).any(|group| group == b),
        "the frame went to the other group only"
    );
}

#[test]
fn what_returns_leaves_at_once() {
    let t0 = Instant::now();
    let (mut state, a, _) = busy(t0, 1 << 16);
    state.admit_one(1..3, t0).unwrap();
    let batches = state.next_frame(a, 1 << 16, t0);
    let wake = state.end_unanswered(a, batches);
    assert!(wake.links(2).eq([a]));
    assert_eq!(state.offer(a, t0, LINGER), Offer::Ready);
    let batches = state.next_frame(a, 1 << 16, t0);
    let (_, wake) = state.end_with_error(a, batches);
    assert!(wake.links(2).eq([a]));
    assert_eq!(state.offer(a, t0, LINGER), Offer::Ready, "in halves");
}

// === Age ===

fn short_lived(events_max: usize) -> Limits {
    Limits {
        age: AgeLimits::new(Some(100 * MS), &BTreeMap::new()),
        ..strict(events_max)
    }
}

#[test]
fn the_oldest_event_of_an_open_batch_has_an_age() {
    let now = Instant::now();
    let (mut state, a, b) = two_groups(strict(100), strict(100), 1 << 16);
    let later = now + 600 * SECOND;
    assert_eq!(state.status(a, later).oldest_queued_ms, 0);
    state.admit_one(0..1, now).unwrap();
    state.admit_one(1..2, now + SECOND).unwrap();
    for when in ["open", "sealed"] {
        assert_eq!(state.status(a, later).oldest_queued_ms, 600_000, "{when}");
        assert_eq!(state.status(b, later).oldest_undelivered_ms, 600_000, "{when}");
        state.seal(false);
    }
    state.sent(a, now);
    assert_eq!(state.status(a, later).oldest_queued_ms, 0);
}

#[test]
fn events_over_age_end_when_a_link_would_take_them() {
    let now = Instant::now();
    let (mut state, a, _) = two_groups(short_lived(100), strict(100), 1 << 16);
    // An event's first eight bytes are its timestamp and its number.
    state.admit_one(898..902, now).unwrap();
    assert_eq!(state.sent(a, now), [900, 901]);
    assert_eq!(state.events(a).dropped.max_age, 2);
    assert_eq!(state.status(a, now).held_bytes, 0);
}

#[test]
fn a_waiting_frame_is_called_when_events_over_age_have_freed_capacity() {
    let now = Instant::now();
    let (mut state, a, _) = two_groups(short_lived(10), strict(1000), 10_000);
    state.admit_one(0..10, now).unwrap();
    let place = state.wait_in_line(10..12, now);
    let (batches, wake) = state.take(a, 1 << 16, now, || 1000);
    assert!(batches.is_empty(), "all were too old");
    assert_eq!(wake.frame, place);
}

#[test]
fn behind_batches_that_are_all_over_age_the_open_one_is_taken() {
    let now = Instant::now();
    let (mut state, a, _) = two_groups(short_lived(100), strict(100), 1 << 16);
    state.admit_one(0..2, now).unwrap();
    state.seal(false);
    state.admit_one(950..951, now).unwrap();
    assert_eq!(state.sent(a, now), [950]);
    assert_eq!(state.events(a).dropped.max_age, 2);
}

// === The handles ===

#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    /// Whether it was woken since the last time.
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl WakeTask for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn links_frames_and_receipts_are_woken_through_the_handles() {
    let now = Instant::now();
    let flags: [Arc<Flag>; 3] = Default::default();
    let [link, frame_waits, session] = &flags;
    let waker = |flag: &Arc<Flag>| Waker::from(Arc::clone(flag));
    let relay = Relay::new(1 << 16, || 0);
    let queue = relay.queue("a", strict(2));
    relay.set_groups(std::slice::from_ref(&queue));
    queue.wait(7, &waker(link), false);
    let bytes = frame(0..2);
    let events = Events::check(&bytes, 2, 100).unwrap();
    let receipt = relay.admit(events, now, true, &mut None).unwrap().unwrap();
    assert!(link.take());
    assert_eq!(receipt.poll(&waker(session)), None);
    let mut place = None;
    assert!(relay.admit(events, now, false, &mut place).is_err());
    let waiting = place.take().unwrap();
    {
        let mut called = std::pin::pin!(waiting.called());
        let waker = waker(frame_waits);
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(called.as_mut().poll(&mut cx).is_pending());
        let delivery = queue.take(1 << 16, now).unwrap();
        assert!(!frame_waits.take() && !session.take());
        queue.wait(7, &waker, false);
        delivery.delivered();
        assert!(frame_waits.take());
        assert!(called.as_mut().poll(&mut cx).is_ready());
    }
    assert!(session.take());
    assert_eq!(receipt.poll(Waker::noop()), Some(Verdict::Settled));
    place = Some(waiting);
    relay.admit(events, now, false, &mut place).unwrap();
    assert!(place.is_none());
    queue.wait(8, &waker(link), false);
    queue.leave(7);
    assert!(link.take(), "what is queued is for the next link");
    queue.take(1 << 16, now).unwrap().unanswered();
    assert_eq!(queue.status(now).resent_events_total, 2);
    queue.drop_queued(Reason::DrainTimeout);
    assert!(queue.is_empty());
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "without an end")]
fn a_delivery_dropped_without_an_end_is_a_defect() {
    let now = Instant::now();
    let relay = Relay::new(1 << 16, || 0);
    let queue = relay.queue("a", strict(2));
    relay.set_groups(std::slice::from_ref(&queue));
    let bytes = frame(0..2);
    let _ = relay.admit(Events::check(&bytes, 2, 100).unwrap(), now, false, &mut None);
    drop(queue.take(1 << 16, now));
}
