//! Frames that found no room, in the order in which they came. Only the first may ask for room, so a large frame
//! is not passed by small ones for ever; it is called when there may be room, and the next one when it has gone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::{Poll, Waker};

#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: RefCell<VecDeque<Waiting>>,
    next: Cell<u64>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    called: bool,
    waker: Option<Waker>,
}

impl Line {
    /// A place at the end, by its number.
    pub(super) fn enter(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.waiting.borrow_mut().push_back(Waiting {
            number,
            called: false,
            waker: None,
        });
        number
    }

    /// Whether somebody stands before this place, or before one that is yet to be taken.
    pub(super) fn is_behind(&self, place: Option<u64>) -> bool {
        let first = self.waiting.borrow().front().map(|w| w.number);
        first.is_some_and(|first| place != Some(first))
    }

    /// Gives a place up; whether it was the first.
    pub(super) fn leave(&self, number: u64) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let at = waiting.iter().position(|w| w.number == number);
        at.is_some_and(|at| waiting.remove(at).is_some() && at == 0)
    }

    /// The first one should ask again.
    pub(super) fn call_first(&self) {
        let waker = self.waiting.borrow_mut().front_mut().and_then(|first| {
            first.called = true;
            first.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready, once, when the place was called.
    pub(super) fn poll(&self, number: u64, waker: &Waker) -> Poll<()> {
        let mut waiting = self.waiting.borrow_mut();
        let Some(own) = waiting.iter_mut().find(|w| w.number == number) else {
            return Poll::Ready(());
        };
        if std::mem::take(&mut own.called) {
            return Poll::Ready(());
        }
        own.waker = Some(waker.clone());
        Poll::Pending
    }
}
