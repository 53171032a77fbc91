//! With `ack = "delivered"`: gateways that have just been answered, whose next frames may share a frame with what is
//! queued. Pure.
//!
//! A gateway that waits for its reply sends nothing. So when a link has nothing in flight, only the gateways that its last
//! replies were for can send something new. They do so within the few turns of the event loop in which weir reads the
//! other groups' replies, writes its own, and reads on. An idle turn takes microseconds, less than any timer.

/// Turns of the event loop that queued events wait after a reply.
const TURNS: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct JustAnswered {
    turns: u8,
}

impl JustAnswered {
    /// A reply has answered so many gateways' frames, and others are `queued`. A single gateway waits for no other.
    pub(super) fn add(&mut self, frames: usize, queued: usize) {
        if frames + queued > 1 {
            self.turns = TURNS;
        }
    }

    /// A frame was sent.
    pub(super) fn clear(&mut self) {
        self.turns = 0;
    }

    /// Whether their next frames may still come.
    pub(super) fn may_follow(&self) -> bool {
        self.turns > 0
    }

    /// One more turn has passed.
    pub(super) fn turn(&mut self) {
        self.turns = self.turns.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_that_were_answered_are_waited_for_a_few_turns_or_until_the_next_frame() {
        let mut answered = JustAnswered::default();
        assert!(!answered.may_follow());
        answered.add(1, 1);
        for _ in 0..TURNS {
            assert!(answered.may_follow());
            answered.turn();
        }
        assert!(!answered.may_follow());
        answered.add(40, 24);
        answered.clear();
        assert!(!answered.may_follow());
    }

    #[test]
    fn a_single_gateway_waits_for_no_other() {
        let mut answered = JustAnswered::default();
        answered.add(1, 0);
        assert!(!answered.may_follow());
    }
}
