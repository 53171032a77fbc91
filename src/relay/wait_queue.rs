//! [`WaitQueue`]: tasks of one thread that wait for something, in the order in which they came.

use std::collections::VecDeque;
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    waiting: VecDeque<(u64, Waker)>,
}

impl WaitQueue {
    /// Adds `id`, or renews its waker if it waits already. A new one goes to the end, or to the front if it is `first`.
    pub(super) fn wait(&mut self, id: u64, waker: &Waker, first: bool) {
        match self.waiting.iter_mut().find(|(w, _)| *w == id) {
            Some((_, old)) => old.clone_from(waker),
            None if first => self.waiting.push_front((id, waker.clone())),
            None => self.waiting.push_back((id, waker.clone())),
        }
    }

    /// Removes `id`; returns its waker if it was waiting.
    pub(super) fn remove(&mut self, id: u64) -> Option<Waker> {
        let at = self.waiting.iter().position(|(w, _)| *w == id)?;
        self.waiting.remove(at).map(|(_, waker)| waker)
    }

    /// Removes the one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Waker> {
        self.waiting.pop_front().map(|(_, waker)| waker)
    }
}
