//! What a reply means to the frame it answers.

use tokio::time::sleep;
use weir::wire::reply::{self, Reply};

use super::agent::{Agent, End, Frame};
use super::session::Session;

impl Agent {
    /// Settles every frame whose reply has come.
    pub(super) async fn replies(&mut self, session: &mut Session) -> Result<(), End> {
        let mut input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        let mut expired = false;
        let mut tired = false;
        while let Some((&first, after)) = rest.split_first() {
            // An unsolicited reply: the agent would read it as the next frame's.
            let Some(frame) = self.inflight.front().copied() else {
                return Err(End::Refused("a reply without a request".into()));
            };
            if first == reply::OK {
                rest = after;
                self.inflight.pop_front();
                self.latency.record(frame.due.elapsed());
                self.acknowledge(frame);
                continue;
            }
            let (class, message, length) = match Reply::decode(rest) {
                Ok(None) => break,
                Ok(Some((Reply::Error { class, message }, length))) => (class, message, length),
                Ok(Some(_)) => return Err(End::Refused("a login reply to a publish".into())),
                Err(e) => return Err(End::Refused(e.to_string())),
            };
            rest = rest.get(length..).unwrap_or_default();
            match class {
                reply::SESSION_TIMEOUT => {
                    self.shared.count(|c| c.session_errors += 1);
                    self.inflight.pop_front();
                    expired = true;
                    // The agent tries once more at once; after that it waits.
                    tired |= frame.session_errors > 0;
                    self.send_again(Frame {
                        session_errors: frame.session_errors + 1,
                        ..frame
                    });
                }
                reply::UNDEFINED_EVENT_TYPE => {
                    self.shared.count(|c| c.given_up += 1);
                    self.inflight.pop_front();
                }
                other => {
                    self.shared.count(|c| c.refused += 1);
                    return Err(End::Refused(format!("{other}: {message}")));
                }
            }
        }
        let settled = input.len() - rest.len();
        input.drain(..settled);
        self.input = input;
        if tired {
            sleep(self.shared.options.retry_delay).await;
        }
        if expired {
            *session = self.shared.session(Some(session)).await.map_err(End::Refused)?;
        }
        Ok(())
    }

    pub(super) fn acknowledge(&self, frame: Frame) {
        if let Some(judge) = &self.shared.options.judge {
            judge.oracle().ack(self.origin, frame.first, frame.count);
        }
        self.shared.count(|c| {
            c.frames_acked += 1;
            c.events_acked += frame.count;
        });
    }

    /// Queues a frame among the others that go again, by age.
    pub(super) fn send_again(&mut self, frame: Frame) {
        self.shared.count(|c| c.events_resent += frame.count);
        let at = self.again.partition_point(|f| f.first < frame.first);
        self.again.insert(at, frame);
    }
}
