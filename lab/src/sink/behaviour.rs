//! How a stand-in Traffic Manager behaves; replaceable as a whole at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir::wire::reply::UNDEFINED_EVENT_TYPE;

/// The way a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// End of stream, in good order.
    Fin,
    /// TCP reset.
    Rst,
}

/// What a publish gets for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ok.
    Ok,
    /// Nothing, until another answer is set; then the frames held back are answered ok, in order.
    Stall,
    /// A Java exception. Its lengths count characters, as the real receiver's do: wrong ones where the
    /// text is not ASCII.
    Error {
        /// Class with package.
        class: String,
        /// Message.
        message: String,
    },
    /// These bytes, whatever they mean.
    Raw(Vec<u8>),
    /// The events are taken, but the connection ends instead of an ok.
    CloseBeforeOk(Close),
    /// Ok, and then the connection ends.
    CloseAfterOk(Close),
}

/// What a login gets for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// User and password are checked.
    Check,
    /// Wrong, whatever they are.
    Refuse,
    /// Nothing, ever.
    Silent,
}

/// Everything at once.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Whether the ports are open; a closed port refuses connections, open connections stay.
    pub listening: bool,
    /// Whether connections are read.
    pub reading: bool,
    /// To publishes.
    pub answer: Answer,
    /// For so many publishes with events, over all connections; after them [`Answer::Ok`].
    pub answer_times: Option<Arc<AtomicU64>>,
    /// A publish in which these bytes occur is answered with an error, whatever `answer` says.
    pub refused_bytes: Option<Vec<u8>>,
    /// A frame with an event that is no throttle event, or a garbled one, is answered ok and dropped as a whole, as the
    /// real receiver does.
    pub decodes: bool,
    /// To logins.
    pub login: Login,
    /// A session ends so long after its login; the real one's after 30 minutes.
    pub session_life: Option<Duration>,
    /// Replies leave this much later than their frames were read, the connection is not read meanwhile.
    pub delay: Duration,
    /// What one publish costs the thread of its connection; replies do not leave before it is paid.
    pub frame_cost: Duration,
    /// A connection ends after so many publishes, each answered.
    pub close_after_frames: Option<(u64, Close)>,
    /// Every raise ends all connections in this way.
    pub(super) cut: (u64, Close),
}

impl Default for Behaviour {
    /// A Traffic Manager in good health.
    fn default() -> Self {
        Self {
            listening: true,
            reading: true,
            answer: Answer::Ok,
            answer_times: None,
            refused_bytes: None,
            decodes: false,
            login: Login::Check,
            session_life: None,
            delay: Duration::ZERO,
            frame_cost: Duration::ZERO,
            close_after_frames: None,
            cut: (0, Close::Rst),
        }
    }
}

impl Behaviour {
    /// Answers publishes so, until told otherwise.
    pub fn answer(&mut self, answer: Answer) {
        self.answer = answer;
        self.answer_times = None;
    }

    /// Answers the next `times` publishes with events so, and all others ok.
    pub fn answer_times(&mut self, answer: Answer, times: u64) {
        self.answer = answer;
        self.answer_times = Some(Arc::new(AtomicU64::new(times)));
    }

    /// The answer for one publish of so many events.
    pub(super) fn next_answer(&self, count: usize, events: &[u8]) -> Answer {
        let refused = self.refused_bytes.as_ref();
        if refused.is_some_and(|bad| events.windows(bad.len().max(1)).any(|w| w == bad)) {
            return Answer::Error {
                class: UNDEFINED_EVENT_TYPE.into(),
                message: "no such stream".into(),
            };
        }
        let due = match &self.answer_times {
            None => true,
            Some(_) if count == 0 => false,
            Some(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok(),
        };
        if due { self.answer.clone() } else { Answer::Ok }
    }
}
