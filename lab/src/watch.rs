//! A value that tasks can wait on, as tokio's `watch`, but waking them in the order in which they came:
//! tokio's wakes them in random order, and a simulated run could not be replayed.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The end that changes the value; it lives as long as anybody looks.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// An end that looks and waits.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<(u64, T)>,
    changed: Notify,
}

/// The value, locked: never keep it across an await.
pub(super) struct Look<'a, T>(MutexGuard<'a, (u64, T)>);

impl<T> Deref for Look<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, (u64, T)> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: Mutex::new((0, value)),
            changed: Notify::new(),
        }))
    }

    /// A receiver that has seen the value as it is.
    pub(super) fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.0.lock().0,
            shared: Arc::clone(&self.0),
        }
    }

    pub(super) fn borrow(&self) -> Look<'_, T> {
        Look(self.0.lock())
    }

    pub(super) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        {
            let mut value = self.0.lock();
            value.0 += 1;
            change(&mut value.1);
        }
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T: Clone> Receiver<T> {
    pub(super) fn borrow(&self) -> Look<'_, T> {
        Look(self.shared.lock())
    }

    pub(super) fn borrow_and_update(&mut self) -> Look<'_, T> {
        let look = Look(self.shared.lock());
        self.seen = look.0.0;
        look
    }

    /// Resolves when the value is another one than was seen last.
    pub(super) async fn changed(&mut self) {
        loop {
            // Before the look, so that no change falls between look and wait.
            let changed = self.shared.changed.notified();
            let version = self.shared.lock().0;
            if version != self.seen {
                self.seen = version;
                return;
            }
            changed.await;
        }
    }

    /// Resolves when the value is such; returns it.
    pub(super) async fn wait_for(&mut self, is: impl Fn(&T) -> bool) -> T {
        loop {
            {
                let look = self.borrow_and_update();
                if is(&look) {
                    return look.clone();
                }
            }
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_woken_in_the_order_of_coming() {
        let sender = Sender::new(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|i| {
                let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
                tokio::spawn(async move {
                    assert_eq!(receiver.wait_for(|v| *v > 1).await, 2);
                    order.lock().unwrap().push(i);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send_modify(|v| *v += 1);
        tokio::task::yield_now().await;
        sender.send_modify(|v| *v += 1);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }
}
