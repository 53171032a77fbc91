//! The relay against a naive model, and its manners as stories.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::config::Shed;
use crate::status::Overflow;
use crate::wire::events::{Events, iterate};
use crate::wire::stream::THROTTLE_STREAM;

fn limits(events_max: usize, block_timeout: Option<Duration>, shed: Shed) -> Limits {
    Limits {
        events_max,
        bytes_max: 1 << 20,
        block_timeout,
        shed,
        age: AgeLimits::default(),
    }
}

/// Events whose bytes are their number, a stream id (of no letters) and some filling.
fn frame(ids: std::ops::Range<u64>) -> Vec<u8> {
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

fn ids(bytes: &[u8]) -> Vec<u64> {
    iterate(bytes)
        .map(|e| u64::from_be_bytes(*e.bytes().first_chunk().unwrap()))
        .collect()
}

fn admit(fanout: &Fanout, ids: std::ops::Range<u64>, now: Instant) -> Result<(), Full> {
    admit_from(fanout, ids, now, &mut None)
}

/// A frame that finds no room, and keeps its place.
fn wait_for_room(fanout: &Fanout, ids: std::ops::Range<u64>, now: Instant) -> Place {
    let mut place = None;
    assert!(admit_from(fanout, ids, now, &mut place).is_err());
    place.unwrap()
}

fn admit_from(
    fanout: &Fanout,
    ids: std::ops::Range<u64>,
    now: Instant,
    place: &mut Option<Place>,
) -> Result<(), Full> {
    let count = (ids.end - ids.start) as i32;
    let bytes = frame(ids);
    fanout.admit(Events::check(&bytes, count, 1 << 20).unwrap(), now, None, place)
}

fn two_groups(a: Limits, b: Limits, batch_max: usize) -> (Fanout, Rc<GroupQueue>, Rc<GroupQueue>) {
    let fanout = Fanout::new(batch_max, || 1000);
    let (a, b) = (fanout.queue("a", a), fanout.queue("b", b));
    fanout.set_groups(vec![Rc::clone(&a), Rc::clone(&b)]);
    (fanout, a, b)
}

fn take(queue: &Rc<GroupQueue>, now: Instant) -> Option<Parcel> {
    queue.take(now)
}

fn deliver(delivered: &mut BTreeMap<u64, u32>, parcel: Parcel) {
    for id in ids(&parcel.bytes()) {
        *delivered.entry(id).or_default() += 1;
    }
    parcel.delivered();
}

#[derive(Debug, Clone)]
enum Step {
    Admit(u64),
    Take(bool),
    Deliver(bool),
    Refuse(bool, bool),
    GiveBackAll(bool),
    Available(bool, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..12_u64).prop_map(Step::Admit),
        3 => any::<bool>().prop_map(Step::Take),
        3 => any::<bool>().prop_map(Step::Deliver),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(g, only)| Step::Refuse(g, only)),
        1 => any::<bool>().prop_map(Step::GiveBackAll),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(g, a)| Step::Available(g, a)),
        1 => (1..2000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_every_event_ends_once_and_the_law_holds(
        steps in prop::collection::vec(step(), 1..120),
        events_max in 5_usize..60,
        shed in prop_oneof![Just(Shed::Oldest), Just(Shed::Newest)],
        strict in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let timeout = if strict { None } else { Some(Duration::from_secs(1)) };
        let (fanout, a, b) = two_groups(limits(events_max, timeout, shed), limits(events_max * 2, timeout, shed), 200);
        let mut next = 0_u64;
        let mut out: [VecDeque<Parcel>; 2] = Default::default();
        let mut delivered: [BTreeMap<u64, u32>; 2] = Default::default();
        let mut rejected = [0_u64; 2];
        let pick = |g: bool| if g { (1, &b) } else { (0, &a) };
        for step in steps {
            match step {
                Step::Admit(n) => {
                    let before = (a.status(now).events.accepted, b.status(now).events.accepted);
                    let taken = admit(&fanout, next..next + n, now).is_ok();
                    let after = (a.status(now).events.accepted, b.status(now).events.accepted);
                    let by = if taken { n } else { 0 };
                    prop_assert_eq!(after, (before.0 + by, before.1 + by), "all groups or none");
                    next += by;
                }
                Step::Take(g) => {
                    let (i, queue) = pick(g);
                    if let Some(parcel) = take(queue, now) {
                        prop_assert!(parcel.events() > 0);
                        out[i].push_back(parcel);
                    }
                }
                Step::Deliver(g) => {
                    let (i, _) = pick(g);
                    if let Some(parcel) = out[i].pop_front() {
                        deliver(&mut delivered[i], parcel);
                    }
                }
                Step::Refuse(g, only) => {
                    let (i, _) = pick(g);
                    if let Some(parcel) = out[i].pop_front() {
                        rejected[i] += u64::from(parcel.refused(only));
                    }
                }
                Step::GiveBackAll(g) => {
                    let (i, _) = pick(g);
                    while let Some(parcel) = out[i].pop_back() {
                        parcel.give_back();
                    }
                }
                Step::Available(g, yes) => pick(g).1.set_available(yes),
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
            for queue in [&a, &b] {
                let status = queue.status(now);
                prop_assert!(status.events.balanced(), "{status:?}");
                prop_assert!(status.events.queued + status.events.inflight <= status.held_events_max.max(12));
            }
        }
        for (i, queue) in [&a, &b].into_iter().enumerate() {
            while let Some(parcel) = out[i].pop_back() {
                parcel.give_back();
            }
            while let Some(parcel) = take(queue, now) {
                deliver(&mut delivered[i], parcel);
            }
            let status = queue.status(now);
            prop_assert!(status.events.balanced());
            prop_assert_eq!(status.events.queued + status.events.inflight + status.held_bytes, 0);
            prop_assert_eq!(status.events.rejected, rejected[i]);
            prop_assert_eq!(status.events.accepted, next);
            prop_assert!(delivered[i].values().all(|n| *n == 1), "nothing twice");
            let missing = (0..next).filter(|id| !delivered[i].contains_key(id)).count() as u64;
            prop_assert_eq!(missing, rejected[i] + status.events.dropped.total());
            prop_assert_eq!(status.events.dropped.lost, 0);
            if strict {
                prop_assert_eq!(status.events.dropped.queue_full, 0, "strict groups drop only while unavailable");
            }
        }
    }

    #[test]
    fn events_leave_in_the_order_they_came(sizes in prop::collection::vec(1_u64..20, 1..30), batch_max in 20_usize..400) {
        let now = Instant::now();
        let (fanout, a, b) = two_groups(limits(10_000, None, Shed::Oldest), limits(10_000, None, Shed::Oldest), batch_max);
        let mut next = 0;
        for n in sizes {
            admit(&fanout, next..next + n, now).unwrap();
            next += n;
        }
        for queue in [a, b] {
            let mut seen = Vec::new();
            while let Some(parcel) = take(&queue, now) {
                prop_assert!(parcel.bytes().len() <= batch_max || parcel.events() == 1);
                seen.extend(ids(&parcel.bytes()));
                parcel.delivered();
            }
            prop_assert_eq!(&seen, &(0..next).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_full_queue_blocks_once_then_sheds_the_oldest_until_half_empty() {
    let t0 = Instant::now();
    let second = Duration::from_secs(1);
    let (fanout, a, b) = two_groups(
        limits(10, Some(second), Shed::Oldest),
        limits(1000, Some(second), Shed::Oldest),
        1 << 16,
    );
    for i in 0..10 {
        admit(&fanout, i..i + 1, t0).unwrap();
        fanout.seal();
    }
    assert_eq!(
        admit(&fanout, 10..11, t0),
        Err(Full {
            retry_at: Some(t0 + second)
        })
    );
    assert_eq!(a.status(t0).overflow, Overflow::Blocking);
    assert_eq!(
        b.status(t0).events.accepted,
        10,
        "the other group waits too, and takes none of it"
    );
    let late = t0 + second;
    admit(&fanout, 10..13, late).unwrap();
    fanout.seal();
    assert_eq!(
        (a.status(late).overflow, a.status(late).events.dropped.queue_full),
        (Overflow::Shedding, 3)
    );
    assert_eq!(b.status(late).events.dropped.total(), 0);
    let first = take(&a, late).unwrap();
    assert_eq!(ids(&first.bytes()), [3], "0 to 2 were shed");
    first.delivered();
    for _ in 0..4 {
        take(&a, late).unwrap().delivered();
    }
    assert_eq!(
        a.status(late).overflow,
        Overflow::Open,
        "half empty: the incident is over"
    );
    assert_eq!(
        (
            a.status(late).blocked_incidents_total,
            a.status(late).shed_incidents_total
        ),
        (1, 1)
    );
}

#[test]
fn an_incident_lasts_while_a_frame_that_waits_needs_more_than_half_of_the_queue() {
    let t0 = Instant::now();
    let second = Duration::from_secs(1);
    let (fanout, a, _b) = two_groups(
        limits(10, Some(second), Shed::Oldest),
        limits(1000, Some(second), Shed::Oldest),
        1 << 16,
    );
    for i in 0..10 {
        admit(&fanout, i..i + 1, t0).unwrap();
        fanout.seal();
    }
    let mut place = Some(wait_for_room(&fanout, 10..18, t0));
    let half = t0 + second / 2;
    for _ in 0..7 {
        take(&a, half).unwrap().delivered();
    }
    let full = Full {
        retry_at: Some(t0 + second),
    };
    assert_eq!(admit_from(&fanout, 10..18, half, &mut place), Err(full));
    assert_eq!(a.status(half).blocked_incidents_total, 1, "the same incident");
    admit_from(&fanout, 10..18, t0 + second, &mut place).unwrap();
    assert_eq!(
        (
            a.status(half).events.dropped.queue_full,
            a.status(half).shed_incidents_total
        ),
        (1, 1),
        "patience ended when it should"
    );
}

#[test]
fn small_frames_that_come_later_do_not_starve_a_large_one() {
    let now = Instant::now();
    let (fanout, a, b) = two_groups(
        limits(10, None, Shed::Oldest),
        limits(1000, None, Shed::Oldest),
        1 << 16,
    );
    for i in 0..10 {
        admit(&fanout, i..i + 1, now).unwrap();
        fanout.seal();
    }
    let mut large = Some(wait_for_room(&fanout, 10..18, now));
    let mut small = Some(wait_for_room(&fanout, 18..19, now));
    let mut gives_up = Some(wait_for_room(&fanout, 100..101, now));
    let waker = Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    for left in (0..10).rev() {
        take(&a, now).unwrap().delivered();
        assert!(
            admit_from(&fanout, 18..19, now, &mut small).is_err(),
            "it waits behind"
        );
        let called = std::pin::pin!(large.as_ref().unwrap().called())
            .poll(&mut cx)
            .is_ready();
        assert_eq!(called, left <= 2, "called when there is room for it");
        if left <= 2 {
            break;
        }
        assert!(admit_from(&fanout, 10..18, now, &mut large).is_err());
    }
    admit_from(&fanout, 10..18, now, &mut large).unwrap();
    let called = std::pin::pin!(small.as_ref().unwrap().called()).poll(&mut cx);
    assert!(called.is_ready(), "then the next one");
    assert!(admit_from(&fanout, 18..19, now, &mut small).is_err());
    gives_up.take();
    while let Some(parcel) = take(&a, now) {
        parcel.delivered();
    }
    small.take();
    admit(&fanout, 19..20, now).expect("nobody waits any more");
    for queue in [&a, &b] {
        while let Some(parcel) = take(queue, now) {
            parcel.delivered();
        }
    }
}

#[test]
fn shedding_the_newest_skips_only_the_group_that_is_full() {
    let now = Instant::now();
    let (fanout, a, b) = two_groups(
        limits(4, Some(Duration::ZERO), Shed::Newest),
        limits(100, Some(Duration::ZERO), Shed::Newest),
        1 << 16,
    );
    admit(&fanout, 0..4, now).unwrap();
    admit(&fanout, 4..6, now).unwrap();
    let (pa, pb) = (take(&a, now).unwrap(), take(&b, now).unwrap());
    assert_eq!(
        (ids(&pa.bytes()), ids(&pb.bytes())),
        (vec![0, 1, 2, 3], vec![0, 1, 2, 3])
    );
    let rest = take(&b, now).unwrap();
    assert_eq!(ids(&rest.bytes()), [4, 5]);
    assert!(take(&a, now).is_none());
    assert_eq!(a.status(now).events.dropped.queue_full, 2);
    for parcel in [pa, pb, rest] {
        parcel.delivered();
    }
}

#[test]
fn an_unavailable_group_blocks_nobody() {
    let now = Instant::now();
    let (fanout, a, b) = two_groups(
        limits(4, None, Shed::Oldest),
        limits(100, None, Shed::Oldest),
        1 << 16,
    );
    admit(&fanout, 0..4, now).unwrap();
    assert!(admit(&fanout, 4..5, now).is_err());
    a.set_available(false);
    admit(&fanout, 4..5, now).unwrap();
    assert_eq!(
        a.status(now).events.dropped.unavailable,
        4,
        "the batch of the oldest four went as a whole"
    );
    assert_eq!(b.status(now).events.queued, 5);
}

#[test]
fn a_frame_larger_than_the_queue_enters_when_it_is_alone() {
    let now = Instant::now();
    let (fanout, a, b) = two_groups(limits(4, None, Shed::Oldest), limits(100, None, Shed::Oldest), 64);
    admit(&fanout, 0..9, now).unwrap();
    assert!(admit(&fanout, 9..10, now).is_err());
    for queue in [&a, &b] {
        while let Some(parcel) = take(queue, now) {
            parcel.delivered();
        }
    }
    admit(&fanout, 9..10, now).unwrap();
    for queue in [&a, &b] {
        take(queue, now).unwrap().delivered();
    }
}

#[test]
fn a_receipt_resolves_with_the_last_group_and_not_for_an_unavailable_one() {
    let now = Instant::now();
    let (fanout, a, b) = two_groups(limits(10, None, Shed::Oldest), limits(10, None, Shed::Oldest), 64);
    let waker = Waker::noop();
    let bytes = frame(0..9);
    let receipt = Receipt::new();
    fanout
        .admit(
            Events::check(&bytes, 9, 100).unwrap(),
            now,
            Some(&receipt),
            &mut None,
        )
        .unwrap();
    receipt.admitted();
    while let Some(parcel) = take(&a, now) {
        parcel.delivered();
        assert_eq!(receipt.poll(waker), None);
    }
    take(&b, now).unwrap().delivered();
    assert_eq!(receipt.poll(waker), None, "the frame is in more than one batch");
    b.set_available(false);
    assert_eq!(receipt.poll(waker), Some(Verdict::Settled));
    while let Some(parcel) = take(&b, now) {
        parcel.delivered();
    }
}

#[test]
fn a_frame_given_up_by_an_available_group_is_to_be_sent_again() {
    let now = Instant::now();
    let strict = limits(1, Some(Duration::ZERO), Shed::Newest);
    let (fanout, a, b) = two_groups(strict, limits(10, None, Shed::Oldest), 64);
    admit(&fanout, 0..1, now).unwrap();
    let bytes = frame(1..2);
    let receipt = Receipt::new();
    fanout
        .admit(
            Events::check(&bytes, 1, 100).unwrap(),
            now,
            Some(&receipt),
            &mut None,
        )
        .unwrap();
    receipt.admitted();
    for queue in [&a, &b] {
        while let Some(parcel) = take(queue, now) {
            parcel.delivered();
        }
    }
    assert_eq!(receipt.poll(Waker::noop()), Some(Verdict::GivenUp));
}

/// The next frame of at most `bytes_max`, as a link builds it.
pub(super) fn next_frame(queue: &Rc<GroupQueue>, bytes_max: usize, now: Instant) -> Vec<Parcel> {
    let mut frame: Vec<Parcel> = take(queue, now).into_iter().collect();
    let mut bytes: usize = frame.iter().map(|p| p.bytes().len()).sum();
    while let Some(more) = frame
        .first()
        .and_then(|first| queue.take_beside(first, bytes_max.saturating_sub(bytes), now))
    {
        bytes += more.bytes().len();
        frame.push(more);
    }
    frame
}

fn frame_ids(frame: &[Parcel]) -> Vec<u64> {
    frame.iter().flat_map(|p| ids(&p.bytes())).collect()
}

#[test]
fn a_single_event_is_rejected_with_its_third_refusal() {
    let now = Instant::now();
    let (fanout, a, b) = two_groups(limits(10, None, Shed::Oldest), limits(10, None, Shed::Oldest), 64);
    admit(&fanout, 0..1, now).unwrap();
    assert!(!take(&a, now).unwrap().refused(true));
    assert!(
        !take(&a, now).unwrap().refused(false),
        "a frame's refusal is not its own"
    );
    assert!(!take(&a, now).unwrap().refused(true));
    assert!(take(&a, now).unwrap().refused(true));
    assert_eq!(a.status(now).events.rejected, 1);
    take(&b, now).unwrap().delivered();
}

proptest! {
    #[test]
    fn a_traffic_manager_that_refuses_some_events_rejects_those_and_gets_all_others_once_and_in_order(
        sizes in prop::collection::vec(1_u64..30, 1..12), bad in prop::collection::btree_set(0_u64..150, 0..5)) {
        let now = Instant::now();
        let (fanout, a, b) = two_groups(limits(10_000, None, Shed::Oldest), limits(10_000, None, Shed::Oldest), 300);
        let (mut next, mut receipts) = (0, Vec::new());
        for n in sizes {
            let bytes = frame(next..next + n);
            let receipt = Receipt::new();
            fanout.admit(Events::check(&bytes, n as i32, 1 << 20).unwrap(), now, Some(&receipt), &mut None).unwrap();
            receipt.admitted();
            receipts.push(receipt);
            next += n;
        }
        fanout.seal();
        let (mut delivered, mut sent_again) = (Vec::new(), 0);
        loop {
            let frame = next_frame(&a, 1200, now);
            let ids = frame_ids(&frame);
            if ids.is_empty() {
                break;
            }
            if ids.iter().any(|id| bad.contains(id)) {
                let only = frame.len() == 1;
                let rejected = frame.into_iter().rev().filter(|p| p.events() > 0)
                    .map(|p| u64::from(p.refused(only))).sum::<u64>();
                sent_again += ids.len() as u64 - rejected;
            } else {
                delivered.extend(ids);
                frame.into_iter().for_each(Parcel::delivered);
            }
            let status = a.status(now);
            prop_assert!(status.events.balanced(), "{status:?}");
        }
        let good: Vec<u64> = (0..next).filter(|id| !bad.contains(id)).collect();
        prop_assert_eq!(delivered, good);
        let status = a.status(now);
        prop_assert_eq!(status.events.rejected, bad.iter().filter(|id| **id < next).count() as u64);
        prop_assert_eq!(status.events.dropped.total() + status.held_bytes, 0);
        prop_assert_eq!(status.resent_events_total, sent_again);
        let waker = Waker::noop();
        prop_assert!(receipts.iter().all(|r| r.poll(waker).is_none()), "the other group holds them");
        while let Some(parcel) = take(&b, now) {
            parcel.delivered();
        }
        prop_assert!(receipts.iter().all(|r| r.poll(waker) == Some(Verdict::Settled)));
    }
}

/// An event of a stream, and whether it can be decoded.
fn of_stream() -> impl Strategy<Value = (&'static str, bool)> {
    prop_oneof![
        4 => Just((THROTTLE_STREAM, true)),
        1 => Just((THROTTLE_STREAM, false)),
        2 => Just(("another.stream:1.0.0", true)),
        1 => Just(("", false)),
    ]
}

fn event_of(id: u64, (stream, sound): (&str, bool)) -> Vec<u8> {
    let mut event = id.to_be_bytes().to_vec();
    if !stream.is_empty() {
        event.extend_from_slice(&(stream.len() as i32).to_be_bytes());
        event.extend_from_slice(stream.as_bytes());
        event.extend_from_slice(if sound { &[0; 17 * 4] } else { &[0; 16 * 4] });
    }
    [&(event.len() as i32).to_be_bytes()[..], &event].concat()
}

proptest! {
    #[test]
    fn a_frame_holds_events_of_one_stream_and_one_that_cannot_be_decoded_has_a_frame_of_its_own(
        frames in prop::collection::vec(prop::collection::vec(of_stream(), 1..9), 1..12), batch_max in 200_usize..3000) {
        let now = Instant::now();
        let (fanout, a, b) = two_groups(limits(10_000, None, Shed::Oldest), limits(10_000, None, Shed::Oldest), batch_max);
        let mut all: Vec<(&str, bool)> = Vec::new();
        for events in &frames {
            let first = all.len() as u64;
            let bytes: Vec<u8> = (first..).zip(events).flat_map(|(id, e)| event_of(id, *e)).collect();
            fanout.admit(Events::check(&bytes, events.len() as i32, 1 << 20).unwrap(), now, None, &mut None).unwrap();
            all.extend(events);
        }
        for queue in [&a, &b] {
            let mut seen = Vec::new();
            loop {
                let frame = next_frame(queue, batch_max, now);
                if frame.is_empty() {
                    break;
                }
                let own = frame_ids(&frame);
                let of = |id: &u64| all[*id as usize];
                prop_assert!(own.iter().all(|id| of(id).0 == of(&own[0]).0), "{own:?}: more than one stream");
                prop_assert!(own.len() == 1 || own.iter().all(|id| of(id).1), "{own:?}: one of them is bad");
                seen.extend(own);
                frame.into_iter().for_each(Parcel::delivered);
            }
            prop_assert_eq!(&seen, &(0..all.len() as u64).collect::<Vec<_>>(), "in order");
            prop_assert_eq!(queue.status(now).held_bytes, 0);
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const LINGER: Duration = Duration::from_millis(10);

/// Two groups that have both taken something at `now`.
fn busy(now: Instant, batch_max: usize) -> (Fanout, Rc<GroupQueue>, Rc<GroupQueue>) {
    let no_limit = || limits(10_000, None, Shed::Oldest);
    let (fanout, a, b) = two_groups(no_limit(), no_limit(), batch_max);
    admit(&fanout, 0..1, now).unwrap();
    take(&a, now).unwrap().delivered();
    take(&b, now).unwrap().delivered();
    (fanout, a, b)
}

/// The events of one frame, answered at once.
fn sent(queue: &Rc<GroupQueue>, now: Instant) -> Vec<u64> {
    let frame = next_frame(queue, 1 << 16, now);
    let ids = frame_ids(&frame);
    frame.into_iter().for_each(Parcel::delivered);
    ids
}

fn end(queues: [&Rc<GroupQueue>; 2], now: Instant) {
    for queue in queues {
        while !sent(queue, now).is_empty() {}
    }
}

/// A link that waits.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn is_woken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it was woken since the last time.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn events_linger_only_while_the_group_is_busy() {
    let t0 = Instant::now();
    let (fanout, a, b) = two_groups(
        limits(100, None, Shed::Oldest),
        limits(100, None, Shed::Oldest),
        1000,
    );
    assert_eq!(a.offer(t0, LINGER), Offer::Nothing);
    admit(&fanout, 0..1, t0).unwrap();
    assert_eq!(
        a.offer(t0, LINGER),
        Offer::Ready,
        "after idleness one event goes at once"
    );
    take(&a, t0).unwrap().delivered();
    admit(&fanout, 1..2, t0).unwrap();
    assert_eq!(a.offer(t0, LINGER), Offer::Lingering(t0 + 2 * MS));
    assert_eq!(b.offer(t0, LINGER), Offer::Ready);
    assert_eq!(a.offer(t0, Duration::ZERO), Offer::Ready);
    admit(&fanout, 2..50, t0).unwrap();
    assert_eq!(a.offer(t0, LINGER), Offer::Ready, "a full batch does not wait");
    end([&a, &b], t0);
}

#[test]
fn an_event_alone_waits_for_a_fifth_of_linger_after_the_last_take_and_several_for_all_of_it() {
    let t0 = Instant::now();
    let (fanout, a, b) = busy(t0, 1 << 16);
    admit(&fanout, 1..2, t0 + MS).unwrap();
    assert_eq!(a.offer(t0 + MS, LINGER), Offer::Lingering(t0 + 2 * MS));
    assert_eq!(a.offer(t0 + 2 * MS, LINGER), Offer::Ready, "nothing has come");
    admit(&fanout, 2..3, t0 + MS).unwrap();
    assert_eq!(a.offer(t0 + MS, LINGER), Offer::Lingering(t0 + 4 * MS));
    admit(&fanout, 3..60, t0 + MS).unwrap();
    assert_eq!(a.offer(t0 + MS, LINGER), Offer::Lingering(t0 + 10 * MS));
    assert_eq!(a.offer(t0 + 10 * MS, LINGER), Offer::Ready);
    end([&a, &b], t0);
    admit(&fanout, 60..61, t0 + 2 * MS).unwrap();
    assert_eq!(
        a.offer(t0 + 2 * MS, LINGER),
        Offer::Ready,
        "no event in 2 ms: idle"
    );
    end([&a, &b], t0);
}

#[test]
fn events_that_are_worth_a_frame_leave_at_once_and_their_link_is_woken_for_it_once() {
    let t0 = Instant::now();
    let (fanout, a, b) = busy(t0, 1 << 16);
    let link = Arc::new(Flag::default());
    let waits = |first| a.bell().wait(0, &Waker::from(Arc::clone(&link)), first);
    waits(false);
    let mut next = 1;
    let mut woken_at = Vec::new();
    while next <= 200 {
        admit(&fanout, next..next + 1, t0).unwrap();
        if link.take() {
            woken_at.push(next);
            waits(true);
        }
        assert_eq!(a.offer(t0, LINGER) == Offer::Ready, next >= 64, "{next}");
        next += 1;
    }
    assert_eq!(woken_at, [1, 64]);
    end([&a, &b], t0);
}

#[test]
fn what_another_group_has_taken_early_goes_on_gathering_and_leaves_in_one_frame() {
    let t0 = Instant::now();
    let (fanout, a, b) = busy(t0, 1 << 16);
    admit(&fanout, 1..6, t0).unwrap();
    assert_eq!(sent(&a, t0), [1, 2, 3, 4, 5]);
    assert_eq!(b.offer(t0, LINGER), Offer::Lingering(t0 + 10 * MS));
    admit(&fanout, 6..9, t0).unwrap();
    assert_eq!(sent(&a, t0), [6, 7, 8]);
    admit(&fanout, 9..11, t0).unwrap();
    assert_eq!(b.offer(t0, LINGER), Offer::Lingering(t0 + 10 * MS));
    assert_eq!(sent(&b, t0 + 10 * MS), (1..11).collect::<Vec<_>>());
    // Worth a frame together.
    admit(&fanout, 11..50, t0).unwrap();
    end([&a, &a], t0);
    assert_eq!(b.offer(t0, LINGER), Offer::Lingering(t0 + 10 * MS));
    admit(&fanout, 50..75, t0).unwrap();
    assert_eq!(b.offer(t0, LINGER), Offer::Ready);
    assert_eq!(sent(&b, t0), (11..75).collect::<Vec<_>>());
    end([&a, &b], t0);
}

#[test]
fn events_that_others_of_their_stream_cannot_join_any_more_do_not_wait_for_any() {
    let t0 = Instant::now();
    for taken_early in [false, true] {
        let (fanout, a, b) = busy(t0, 1 << 16);
        admit(&fanout, 1..2, t0).unwrap();
        if taken_early {
            assert_eq!(sent(&a, t0), [1]);
        }
        let other = event_of(2, ("another.stream:1.0.0", true));
        let batch = Events::check(&other, 1, 1 << 20).unwrap();
        fanout.admit(batch, t0, None, &mut None).unwrap();
        assert_eq!(b.offer(t0, LINGER), Offer::Ready, "{taken_early}");
        assert_eq!(sent(&b, t0), [1]);
        assert_eq!(
            b.offer(t0, LINGER),
            Offer::Lingering(t0 + 2 * MS),
            "{taken_early}"
        );
        end([&a, &b], t0);
    }
}

#[test]
fn what_comes_back_leaves_at_once() {
    let t0 = Instant::now();
    let (fanout, a, b) = busy(t0, 1 << 16);
    admit(&fanout, 1..3, t0).unwrap();
    take(&a, t0).unwrap().give_back();
    assert_eq!(a.offer(t0, LINGER), Offer::Ready);
    assert!(!take(&a, t0).unwrap().refused(true));
    assert_eq!(a.offer(t0, LINGER), Offer::Ready, "in halves");
    end([&a, &b], t0);
}

#[test]
fn the_oldest_event_of_an_open_batch_has_an_age() {
    let now = Instant::now();
    let no_limit = || limits(100, None, Shed::Oldest);
    let (fanout, a, b) = two_groups(no_limit(), no_limit(), 1 << 16);
    let later = now + Duration::from_secs(600);
    assert_eq!(a.status(later).oldest_queued_ms, 0);
    admit(&fanout, 0..1, now).unwrap();
    admit(&fanout, 1..2, now + Duration::from_secs(1)).unwrap();
    for when in ["open", "sealed"] {
        assert_eq!(a.status(later).oldest_queued_ms, 600_000, "{when}");
        assert_eq!(b.status(later).oldest_undelivered_ms, 600_000, "{when}");
        fanout.seal();
    }
    take(&a, now).unwrap().delivered();
    assert_eq!(a.status(later).oldest_queued_ms, 0);
    take(&b, now).unwrap().delivered();
}

#[test]
fn events_over_age_end_when_a_link_would_take_them() {
    let now = Instant::now();
    let mut old = limits(100, None, Shed::Oldest);
    old.age = AgeLimits::new(Some(Duration::from_millis(100)), &BTreeMap::new());
    let (fanout, a, b) = two_groups(old, limits(100, None, Shed::Oldest), 1 << 16);
    // The test's clock stands at 1000 ms; an event's first eight bytes are its timestamp and its number.
    admit(&fanout, 898..902, now).unwrap();
    let parcel = take(&a, now).unwrap();
    assert_eq!(ids(&parcel.bytes()), [900, 901]);
    assert_eq!(a.status(now).events.dropped.max_age, 2);
    parcel.delivered();
    assert_eq!(a.status(now).held_bytes, 0);
    take(&b, now).unwrap().delivered();
}

#[tokio::test(start_paused = true)]
async fn room_that_events_over_age_have_made_is_told_to_who_waits_for_it() {
    let short = Limits {
        age: AgeLimits::new(Some(Duration::from_millis(100)), &BTreeMap::new()),
        ..limits(10, None, Shed::Oldest)
    };
    let (fanout, a, _) = two_groups(short, limits(1000, None, Shed::Oldest), 10_000);
    let now = Instant::now();
    admit(&fanout, 0..10, now).unwrap();
    let place = wait_for_room(&fanout, 10..12, now);
    let room = tokio::time::timeout(Duration::from_secs(1), place.called());
    let all_too_old = async { assert!(take(&a, now).is_none()) };
    let (room, ()) = tokio::join!(biased; room, all_too_old);
    assert!(room.is_ok(), "nobody was told");
}

#[test]
fn behind_batches_that_are_all_over_age_the_open_one_is_taken() {
    let now = Instant::now();
    let mut old = limits(100, None, Shed::Oldest);
    old.age = AgeLimits::new(Some(Duration::from_millis(100)), &BTreeMap::new());
    let (fanout, a, b) = two_groups(old, limits(100, None, Shed::Oldest), 1 << 16);
    admit(&fanout, 0..2, now).unwrap();
    fanout.seal();
    admit(&fanout, 950..951, now).unwrap();
    let parcel = take(&a, now).expect("the fresh event behind the stale ones");
    assert_eq!(ids(&parcel.bytes()), [950]);
    parcel.delivered();
    while let Some(parcel) = take(&b, now) {
        parcel.delivered();
    }
    assert_eq!(a.status(now).events.dropped.max_age, 2);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "without a verdict")]
fn a_parcel_dropped_without_a_verdict_is_a_defect() {
    let now = Instant::now();
    let (fanout, a, _b) = two_groups(limits(10, None, Shed::Oldest), limits(10, None, Shed::Oldest), 64);
    admit(&fanout, 0..2, now).unwrap();
    drop(take(&a, now));
}
