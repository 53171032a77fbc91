//! Argon2 hashes of logins: one at a time for the whole process, on a thread of their own, in one buffer.
//!
//! A hash needs megabytes and milliseconds, and any client that reaches a listener can request one. Logins wait in a
//! bounded queue in which addresses take turns, so that a flood from some of them does not delay the others. Addresses
//! with a successful login take turns with all others together, so that a flood from many unknown addresses does
//! not delay a known gateway either.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use argon2::Block;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::auth::Attempt;

/// Logins that wait, of known addresses and of the others each.
const WAITING_MAX: usize = 1024;

/// No login waits longer for its hash. With the longest delay of an address that keeps failing it is still below the
/// 30 s after which the agent gives up.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Without work for so long the thread ends, and its buffer goes.
const IDLE: Duration = Duration::from_secs(10);

/// Addresses remembered for a successful login; beyond that the least recent is forgotten.
const KNOWN_MAX: usize = 1024;

/// A handle on the hashing thread; all workers share it.
#[derive(Debug, Clone, Default)]
pub struct Hashing {
    shared: Arc<Shared>,
}

/// No result: too many logins wait, or the system gives no thread or memory.
#[derive(Debug)]
pub(super) struct Busy;

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting<Job>,
    /// `None` before the first login, and after it has ended without work.
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    from: IpAddr,
    attempt: Attempt,
    answer: oneshot::Sender<Option<usize>>,
}

impl Hashing {
    /// The index of the user who is logged in, `None` for a wrong password. Addresses (`from`) take turns.
    pub(super) async fn settle(&self, from: IpAddr, attempt: Attempt) -> Result<Option<usize>, Busy> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            from,
            attempt,
            answer,
        };
        self.enqueue(job)?;
        match timeout(WAIT_MAX, answered).await {
            Ok(Ok(user)) => Ok(user),
            // Turned away, or it has waited too long. The thread skips a login whose receiver is gone.
            _ => Err(Busy),
        }
    }

    fn enqueue(&self, job: Job) -> Result<(), Busy> {
        let mut state = self.shared.state();
        // A thread that has crashed is replaced as well.
        if state.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new()
                .name("weir-logins".into())
                .spawn(move || run(&shared));
            state.thread = Some(spawned.map_err(|_| Busy)?);
        }
        // A job that is dropped is answered with `Busy`.
        drop(state.waiting.push(job.from, job));
        self.shared.work.notify_one();
        Ok(())
    }
}

fn run(shared: &Shared) {
    let mut memory = Vec::new();
    while let Some(Job {
        from,
        attempt,
        answer,
    }) = shared.next()
    {
        if !fit(&mut memory, attempt.blocks()) {
            tracing::error!("no memory for a login's argon2 hash");
            continue;
        }
        let user = attempt.user(&mut memory);
        if user.is_some() {
            shared.state().waiting.remember(from);
        }
        // The connection may be gone.
        let _ = answer.send(user);
    }
}

/// Makes `memory` exactly as large as needed, which is the same for all logins of one configuration.
fn fit(memory: &mut Vec<Block>, blocks: usize) -> bool {
    if memory.len() != blocks {
        *memory = Vec::new();
        if memory.try_reserve_exact(blocks).is_err() {
            return false;
        }
        memory.resize(blocks, Block::new());
    }
    true
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next login whose connection is still there; `None` after [`IDLE`] without one.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            while let Some(job) = state.waiting.pop() {
                if !job.answer.is_closed() {
                    return Some(job);
                }
            }
            let waited = self.work.wait_timeout(state, IDLE);
            let (woken, time) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if time.timed_out() && state.waiting.is_empty() {
                // Under the lock under which it was found empty: the next login starts another thread.
                state.thread = None;
                return None;
            }
        }
    }
}

/// PURE: the logins that wait, and whose turn it is.
#[derive(Debug)]
struct Waiting<J> {
    known: Turns<J>,
    others: Turns<J>,
    others_next: bool,
    /// Addresses with a successful login, the most recent last.
    addresses: VecDeque<IpAddr>,
}

impl<J> Default for Waiting<J> {
    fn default() -> Self {
        Self {
            known: Turns::default(),
            others: Turns::default(),
            others_next: false,
            addresses: VecDeque::new(),
        }
    }
}

impl<J> Waiting<J> {
    /// Returns the login that is turned away, if the queue is full.
    fn push(&mut self, from: IpAddr, job: J) -> Option<J> {
        match self.addresses.contains(&from) {
            true => self.known.push(from, job),
            false => self.others.push(from, job),
        }
    }

    fn pop(&mut self) -> Option<J> {
        self.others_next = !self.others_next;
        let (first, second) = match self.others_next {
            true => (&mut self.others, &mut self.known),
            false => (&mut self.known, &mut self.others),
        };
        first.pop().or_else(|| second.pop())
    }

    fn remember(&mut self, address: IpAddr) {
        self.addresses.retain(|known| *known != address);
        self.addresses.push_back(address);
        if self.addresses.len() > KNOWN_MAX {
            self.addresses.pop_front();
        }
    }

    fn is_empty(&self) -> bool {
        self.known.waiting + self.others.waiting == 0
    }
}

/// Addresses in the order of their turns, each with its logins, the oldest first.
#[derive(Debug)]
struct Turns<J> {
    addresses: VecDeque<(IpAddr, VecDeque<J>)>,
    waiting: usize,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Self {
            addresses: VecDeque::new(),
            waiting: 0,
        }
    }
}

impl<J> Turns<J> {
    /// When there are too many, the newest of the address that has the most is turned away.
    fn push(&mut self, from: IpAddr, job: J) -> Option<J> {
        match self.addresses.iter_mut().find(|(address, _)| *address == from) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.addresses.push_back((from, VecDeque::from([job]))),
        }
        self.waiting += 1;
        if self.waiting <= WAITING_MAX {
            return None;
        }
        let most = self.addresses.iter_mut().max_by_key(|(_, jobs)| jobs.len());
        let turned_away = most.and_then(|(_, jobs)| jobs.pop_back())?;
        self.addresses.retain(|(_, jobs)| !jobs.is_empty());
        self.waiting -= 1;
        Some(turned_away)
    }

    fn pop(&mut self) -> Option<J> {
        let (address, mut jobs) = self.addresses.pop_front()?;
        let job = jobs.pop_front()?;
        self.waiting -= 1;
        if !jobs.is_empty() {
            self.addresses.push_back((address, jobs));
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(n))
    }

    fn drained(mut waiting: Waiting<(u32, u32)>) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| waiting.pop()).collect()
    }

    #[test]
    fn addresses_take_turns_so_a_flood_from_one_does_not_delay_the_others() {
        let mut waiting = Waiting::default();
        for n in 0..100 {
            assert_eq!(waiting.push(address(1), (1, n)), None);
        }
        for from in [2, 3] {
            for n in 0..2 {
                assert_eq!(waiting.push(address(from), (from, n)), None);
            }
        }
        let order = drained(waiting);
        let first = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3)];
        assert_eq!(order[..8], first);
        assert_eq!(order.len(), 104);
    }

    #[test]
    fn a_flood_from_a_thousand_addresses_delays_a_known_one_by_one_hash() {
        let mut waiting = Waiting::default();
        waiting.remember(address(1));
        for from in 2..1000 {
            assert_eq!(waiting.push(address(from), (from, 0)), None);
        }
        for n in 0..3 {
            assert_eq!(waiting.push(address(1), (1, n)), None);
        }
        let order = drained(waiting);
        let at = |n| order.iter().position(|job| *job == (1, n)).unwrap();
        assert!(at(0) <= 1 && at(1) <= 3 && at(2) <= 5, "{:?}", &order[..8]);
    }

    #[test]
    fn a_full_queue_turns_away_the_newest_of_the_address_that_has_the_most() {
        let mut waiting = Waiting::default();
        let flood = u32::try_from(WAITING_MAX).unwrap();
        for n in 0..flood {
            assert_eq!(waiting.push(address(1), (1, n)), None);
        }
        assert_eq!(
            waiting.push(address(2), (2, 0)),
            Some((1, flood - 1)),
            "the other gets in"
        );
        assert_eq!(
            waiting.push(address(1), (1, flood)),
            Some((1, flood)),
            "it does not"
        );
        waiting.remember(address(3));
        assert_eq!(
            waiting.push(address(3), (3, 0)),
            None,
            "known addresses have a queue of their own"
        );
        assert_eq!(drained(waiting).len(), WAITING_MAX + 1);
    }

    #[test]
    fn remembered_addresses_are_bounded_and_the_latest_stay() {
        let mut waiting = Waiting::<()>::default();
        for n in 0..10_000 {
            waiting.remember(address(n));
            waiting.remember(address(0));
        }
        assert_eq!(waiting.addresses.len(), KNOWN_MAX);
        assert!(waiting.addresses.contains(&address(0)) && waiting.addresses.contains(&address(9_999)));
    }

    proptest! {
        #[test]
        fn every_login_is_served_or_turned_away_once_and_none_is_overtaken_at_its_own_address(
            pushes in prop::collection::vec((0_u32..6, any::<bool>()), 0..3000)
        ) {
            let mut waiting = Waiting::default();
            waiting.remember(address(5));
            let (mut served, mut pushed) = (Vec::new(), 0_u32);
            let mut turned_away = 0;
            for (from, serve) in pushes {
                turned_away += usize::from(waiting.push(address(from), (from, pushed)).is_some());
                pushed += 1;
                prop_assert!(waiting.known.waiting.max(waiting.others.waiting) <= WAITING_MAX);
                if serve {
                    served.extend(waiting.pop());
                }
            }
            served.extend(drained(waiting));
            prop_assert_eq!(served.len() + turned_away, pushed as usize);
            for from in 0..6 {
                let own: Vec<u32> = served.iter().filter(|s| s.0 == from).map(|s| s.1).collect();
                prop_assert!(own.is_sorted());
            }
        }
    }
}
