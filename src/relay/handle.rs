//! The handles on a worker's [`State`], and beside it the tasks that wait: one borrow of the state for each operation,
//! then the tasks that it names are woken.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::Delivery;
use super::queue::{Limits, Offer, Reason};
use super::receipts::{ReceiptId, Verdict};
use super::state::{Full, GroupId, PlaceId, State, Wake};
use super::wait_queue::WaitQueue;
use crate::status;
use crate::wire::Events;

/// The relay of one worker, as gateways' sessions see it.
#[derive(Debug, Clone)]
pub struct Relay {
    shared: Rc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: RefCell<State>,
    waiting: RefCell<Waiting>,
    /// The wall clock, for `max_age`.
    unix_ms: fn() -> i64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Links that wait for something to take, by group.
    links: Vec<WaitQueue>,
    /// Frames that wait for capacity, by place.
    frames: WaitQueue,
    /// Sessions that wait for a receipt, by receipt.
    receipts: Vec<Option<Waker>>,
}

impl Shared {
    #[inline]
    pub(super) fn wake(&self, wake: Wake) {
        // Most operations wake no task.
        if !wake.is_empty() {
            self.wake_tasks(wake);
        }
    }

    fn wake_tasks(&self, wake: Wake) {
        // No borrow is held while a task is woken.
        let groups = self.waiting.borrow().links.len();
        for group in wake.links(groups) {
            self.wake_link(group);
        }
        if let Some(place) = wake.frame {
            let waker = self.waiting.borrow_mut().frames.remove(place);
            waker.into_iter().for_each(Waker::wake);
        }
        for receipt in wake.receipts {
            let mut waiting = self.waiting.borrow_mut();
            let waker = waiting.receipts.get_mut(receipt).and_then(Option::take);
            drop(waiting);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn wake_link(&self, group: GroupId) {
        let waker = self.waiting.borrow_mut().links[group].pop();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Relay {
    /// No groups yet. `unix_ms` reads the wall clock, for `max_age`.
    #[must_use]
    pub fn new(batch_max_bytes: usize, unix_ms: fn() -> i64) -> Self {
        Self {
            shared: Rc::new(Shared {
                state: RefCell::new(State::new(batch_max_bytes)),
                waiting: RefCell::default(),
                unix_ms,
            }),
        }
    }

    /// A queue for a group that frames do not go to yet.
    #[must_use]
    pub fn queue(&self, name: &str, limits: Limits) -> Rc<GroupQueue> {
        let group = self.shared.state.borrow_mut().add_group(limits);
        let mut waiting = self.shared.waiting.borrow_mut();
        if waiting.links.len() == group {
            waiting.links.push(WaitQueue::default());
        }
        Rc::new(GroupQueue {
            shared: Rc::clone(&self.shared),
            group,
            name: name.to_owned(),
        })
    }

    /// From now on every frame goes to exactly these.
    pub fn set_groups(&self, groups: &[Rc<GroupQueue>]) {
        let groups = groups.iter().map(|queue| queue.group).collect();
        let wake = self.shared.state.borrow_mut().set_destinations(groups);
        self.shared.wake(wake);
    }

    /// Largest batch from now on.
    pub fn set_batch_max_bytes(&self, bytes: usize) {
        self.shared.state.borrow_mut().set_batch_max_bytes(bytes);
    }

    /// Takes a frame's events into all groups, or into none. A frame that has to wait gets a `place` among the waiting
    /// ones, unless it has one, and is to be tried again with it. Returns a receipt, if the caller `wants_receipt`.
    ///
    /// # Errors
    /// [`Full`] when some group makes gateways wait, or another frame has waited longer.
    pub fn admit(
        &self,
        events: Events<'_>,
        now: Instant,
        wants_receipt: bool,
        place: &mut Option<Place>,
    ) -> Result<Option<Receipt>, Full> {
        let shared = &self.shared;
        let mut id = place.as_ref().map(|p| p.id);
        let admitted = shared
            .state
            .borrow_mut()
            .admit(events, now, wants_receipt, &mut id);
        match admitted {
            Ok((receipt, wake)) => {
                *place = None;
                shared.wake(wake);
                Ok(receipt.map(|id| Receipt {
                    shared: Rc::clone(shared),
                    id,
                }))
            }
            Err(full) => {
                if place.is_none() {
                    let shared = Rc::clone(shared);
                    *place = id.map(|id| Place { shared, id });
                }
                Err(full)
            }
        }
    }
}

/// A frame's place among the waiting frames. When it is given up, the next frame is tried.
#[derive(Debug)]
pub struct Place {
    shared: Rc<Shared>,
    id: PlaceId,
}

impl Place {
    /// Resolves when the frame should be tried again.
    pub async fn called(&self) {
        poll_fn(|cx| {
            if self.shared.state.borrow().is_called(self.id) {
                return Poll::Ready(());
            }
            let mut waiting = self.shared.waiting.borrow_mut();
            waiting.frames.wait(self.id, cx.waker(), false);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.waiting.borrow_mut().frames.remove(self.id);
        let wake = self.shared.state.borrow_mut().leave(self.id);
        self.shared.wake(wake);
    }
}

/// Resolves when every group has ended all events of one frame (`ack = "delivered"`).
#[derive(Debug)]
pub struct Receipt {
    shared: Rc<Shared>,
    id: ReceiptId,
}

impl Receipt {
    /// The worst verdict over all groups, once there is one; else `waker` is woken when it is known.
    #[must_use]
    pub fn poll(&self, waker: &Waker) -> Option<Verdict> {
        let verdict = self.shared.state.borrow().verdict(self.id);
        if verdict.is_none() {
            let wakers = &mut self.shared.waiting.borrow_mut().receipts;
            if wakers.len() <= self.id {
                wakers.resize(self.id + 1, None);
            }
            wakers[self.id] = Some(waker.clone());
        }
        verdict
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(waker) = self.shared.waiting.borrow_mut().receipts.get_mut(self.id) {
            *waker = None;
        }
        self.shared.state.borrow_mut().forget_receipt(self.id);
    }
}

/// One group's queue on one worker, as its links see it. The last handle dropped removes the queue.
#[derive(Debug)]
pub struct GroupQueue {
    pub(super) shared: Rc<Shared>,
    pub(super) group: GroupId,
    name: String,
}

impl GroupQueue {
    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What waits for a link.
    #[must_use]
    pub fn offer(&self, now: Instant, linger: Duration) -> Offer {
        self.shared.state.borrow().offer(self.group, now, linger)
    }

    /// Whether what is queued gains nothing by waiting.
    #[must_use]
    pub fn has_gathered(&self) -> bool {
        self.shared.state.borrow().has_gathered(self.group)
    }

    /// With `ack = "delivered"`: gateways' frames whose replies depend on what is queued; of many, some.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.shared.state.borrow().frames(self.group)
    }

    /// Takes the batches of the next frame: the oldest one, whatever its size, and those behind it that may share a
    /// frame of `bytes_max` with it.
    #[must_use]
    pub fn take(self: &Rc<Self>, bytes_max: usize, now: Instant) -> Option<Delivery> {
        let shared = &self.shared;
        let (batches, wake) = shared
            .state
            .borrow_mut()
            .take(self.group, bytes_max, now, shared.unix_ms);
        shared.wake(wake);
        Delivery::new(batches, self)
    }

    /// Waits for something to take, or renews the waker of a link that waits already. A new one goes to the end of the
    /// wait queue, or to the front if it is `first`: it was woken for events that it has yet to take.
    pub fn wait(&self, link: u64, waker: &Waker, first: bool) {
        self.shared.waiting.borrow_mut().links[self.group].wait(link, waker, first);
    }

    /// The link no longer waits, because it is busy with what it was woken for.
    pub fn stop_waiting(&self, link: u64) {
        self.shared.waiting.borrow_mut().links[self.group].remove(link);
    }

    /// The link takes nothing for now. It may have been woken for what is queued, or be the only one with a timer for it,
    /// so the next link is woken.
    pub fn leave(&self, link: u64) {
        self.stop_waiting(link);
        let has_queued = self.shared.state.borrow().has_queued(self.group);
        if has_queued {
            self.shared.wake_link(self.group);
        }
    }

    /// No gateway waits for an unavailable group.
    pub fn set_available(&self, available: bool) {
        self.run(|state| state.set_available(self.group, available));
    }

    /// Whether its Traffic Managers have not answered for so long that no gateway's reply waits for them. An answer ends
    /// it.
    pub fn set_silent(&self, silent: bool) {
        self.run(|state| state.set_silent(self.group, silent));
    }

    /// New limits from a reload.
    pub fn set_limits(&self, limits: Limits) {
        self.run(|state| state.set_limits(self.group, limits));
    }

    /// Drops everything that is queued.
    pub fn drop_queued(&self, reason: Reason) {
        self.run(|state| state.drop_queued(self.group, reason));
    }

    /// Nothing queued, nothing in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.state.borrow().is_empty(self.group)
    }

    /// This group's numbers, without its endpoints.
    #[must_use]
    pub fn status(&self, now: Instant) -> status::Group {
        status::Group {
            name: self.name.clone(),
            ..self.shared.state.borrow().status(self.group, now)
        }
    }

    pub(super) fn run(&self, operation: impl FnOnce(&mut State) -> Wake) {
        let wake = operation(&mut self.shared.state.borrow_mut());
        self.shared.wake(wake);
    }
}

impl Drop for GroupQueue {
    fn drop(&mut self) {
        self.run(|state| state.remove_group(self.group));
    }
}
