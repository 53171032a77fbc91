//! Tasks of one thread that wait for the same thing, woken in the order they came: links that are rung one
//! at a time rotate, which is what load balance is made of.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::Waker;

/// A first-in first-out line of waiting tasks.
#[derive(Debug, Default)]
pub struct Bell {
    line: RefCell<VecDeque<(usize, Waker)>>,
}

impl Bell {
    /// Joins the line as `who`, or renews the waker of a `who` that already stands in it. A new one stands at
    /// the end, or `first`, where it was woken for something that it is still to take.
    pub fn wait(&self, who: usize, waker: &Waker, first: bool) {
        let mut line = self.line.borrow_mut();
        match line.iter_mut().find(|(w, _)| *w == who) {
            Some((_, old)) => old.clone_from(waker),
            None if first => line.push_front((who, waker.clone())),
            None => line.push_back((who, waker.clone())),
        }
    }

    /// Leaves the line.
    pub fn leave(&self, who: usize) {
        self.line.borrow_mut().retain(|(w, _)| *w != who);
    }

    /// Wakes the one who has waited longest.
    pub fn ring_one(&self) {
        let first = self.line.borrow_mut().pop_front();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }

    /// Wakes everybody.
    pub fn ring_all(&self) {
        let line = std::mem::take(&mut *self.line.borrow_mut());
        for (_, waker) in line {
            waker.wake();
        }
    }
}
