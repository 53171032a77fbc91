//! What becomes of a publish frame, and when its reply leaves.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, sleep_until};
use weir::wire::events::iterate;
use weir::wire::reply::{self, Reply};

use super::behaviour::{Answer, Behaviour};
use super::connection::{Connection, End, Session};
use super::counts::add;
use super::decode::decodes;
use crate::stamp;

/// Costs shorter than this are spent spinning, as a timer is not that exact.
const SPIN: Duration = Duration::from_millis(2);

impl Connection {
    pub(super) async fn publish(
        &mut self,
        session: &[u8],
        events: &[u8],
        count: usize,
        now: &Behaviour,
    ) -> Result<(), End> {
        self.time(events);
        self.pay(now).await?;
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        if count == 0 {
            add(&counters.zero_event_frames, 1);
        } else {
            add(&counters.frames, 1);
            add(&counters.events, u64::try_from(count).unwrap_or(0));
        }
        if !self.session_is_good(session, now) {
            add(&counters.session_errors, 1);
            self.error(
                reply::SESSION_TIMEOUT,
                &format!("{} expired", String::from_utf8_lossy(session)),
            );
            return Ok(());
        }
        self.frames += 1;
        // Behind a frame that waits for its answer every other must wait, or the replies would shift.
        let answer = if self.withheld.is_empty() {
            now.next_answer(count, events)
        } else {
            Answer::Stall
        };
        match answer {
            Answer::Ok => self.answer_ok(events),
            Answer::Stall => self.withheld.push(events.to_vec()),
            Answer::Error { class, message } => {
                add(&counters.frames_error, 1);
                self.error(&class, &message);
                self.tell(events, false);
            }
            Answer::Raw(bytes) => {
                self.replies.extend_from_slice(&bytes);
                self.tell(events, bytes.first() == Some(&reply::OK));
            }
            Answer::CloseBeforeOk(how) => {
                self.tell(events, false);
                return Err(End::Script(how));
            }
            Answer::CloseAfterOk(how) => {
                self.answer_ok(events);
                return Err(End::Script(how));
            }
        }
        match now.close_after_frames {
            Some((frames, how)) if self.frames >= frames => Err(End::Script(how)),
            _ => Ok(()),
        }
    }

    /// Whether the session is known and still lives: the events of a frame without one are not looked at.
    fn session_is_good(&mut self, session: &[u8], now: &Behaviour) -> bool {
        let epoch = self.shared.sessions_epoch.load(Ordering::Acquire);
        let known = |s: &Session| s.epoch == epoch && s.id == session;
        if !self.session.as_ref().is_some_and(known) {
            let since = self.shared.sessions().get(session).copied();
            let id = session.to_vec();
            self.session = since.map(|since| Session { id, epoch, since });
        }
        let lives = |s: &Session| now.session_life.is_none_or(|life| s.since.elapsed() < life);
        self.session.as_ref().is_some_and(lives)
    }

    fn time(&self, events: &[u8]) {
        if let Some(delivery) = &self.shared.delivery {
            let mut delivery = delivery.lock().unwrap_or_else(PoisonError::into_inner);
            stamp::ages(events, stamp::now_micros(), |age| delivery.record(age));
        }
    }

    pub(super) fn answer_ok(&mut self, events: &[u8]) {
        self.replies.push(reply::OK);
        if !events.is_empty() {
            add(&self.shared.counters.frames_ok, 1);
        }
        if self.shared.behaviour.borrow().decodes && !decodes(events) {
            let dropped = u64::try_from(iterate(events).count()).unwrap_or(0);
            add(&self.shared.counters.frames_dropped, 1);
            add(&self.shared.counters.events_dropped, dropped);
            return;
        }
        self.tell(events, true);
    }

    pub(super) fn error(&mut self, class: &str, message: &str) {
        let message = message.to_owned();
        Reply::Error { class, message }.encode(&mut self.replies);
    }

    pub(super) fn tell(&self, events: &[u8], answered_ok: bool) {
        if let Some((judge, group)) = self.shared.judge.as_ref().filter(|_| !events.is_empty()) {
            let now = judge.now();
            judge.oracle().take(*group, self.number, events, answered_ok, now);
        }
    }

    /// Charges one frame; when the debt has grown longer than a spin, answers what is paid and sleeps.
    pub(super) async fn pay(&mut self, now: &Behaviour) -> Result<(), End> {
        if now.frame_cost.is_zero() {
            return Ok(());
        }
        let present = Instant::now();
        if self.paid > present + SPIN {
            if !self.replies.is_empty() {
                self.flush(now).await?;
            }
            sleep_until(self.paid).await;
        }
        self.paid = self.paid.max(present) + now.frame_cost;
        Ok(())
    }

    pub(super) async fn flush(&mut self, now: &Behaviour) -> Result<(), End> {
        if !now.frame_cost.is_zero() {
            if self.paid > Instant::now() + SPIN {
                sleep_until(self.paid).await;
            }
            let mut last = Instant::now();
            while last < self.paid {
                (0..64).for_each(|_| std::hint::spin_loop());
                let now = Instant::now();
                if now == last {
                    // A clock that stands still is a simulated one: only a timer moves it.
                    sleep_until(self.paid).await;
                    break;
                }
                last = now;
            }
        }
        if !now.delay.is_zero() {
            sleep(now.delay).await;
        }
        self.stream.write_all(&self.replies).await?;
        self.stream.flush().await?;
        self.replies.clear();
        Ok(())
    }
}
