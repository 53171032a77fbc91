//! With `ack = "delivered"`: gateways that have just been answered, and whose next frames may share one with what waits. Pure.
//!
//! A gateway that waits for its answer sends nothing. So when a link has nothing in flight, those that its last answers were for
//! are the ones that can still come, and they do within the few turns of the loop in which weir reads the other groups'
//! answers, writes its own, and reads on. A turn in which nobody has anything to do takes microseconds, so no timer could be as short.

/// Turns of the loop that what waits lets pass after an answer.
const TURNS: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Returns {
    turns: u8,
}

impl Returns {
    /// An answer for so many gateways' frames; others are `queued`. One gateway alone waits for nobody.
    pub(super) fn answered(&mut self, frames: usize, queued: usize) {
        if frames + queued > 1 {
            self.turns = TURNS;
        }
    }

    /// Something was sent.
    pub(super) fn sent(&mut self) {
        self.turns = 0;
    }

    /// Whether there is a turn left in which they may come.
    pub(super) fn are_due(&self) -> bool {
        self.turns > 0
    }

    /// One turn more.
    pub(super) fn wait(&mut self) {
        self.turns = self.turns.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_answered_is_waited_for_a_few_turns_and_not_after_the_next_frame() {
        let mut returns = Returns::default();
        assert!(!returns.are_due(), "nobody was answered");
        returns.answered(1, 1);
        for _ in 0..TURNS {
            assert!(returns.are_due());
            returns.wait();
        }
        assert!(!returns.are_due());
        returns.answered(40, 24);
        returns.sent();
        assert!(!returns.are_due());
    }

    #[test]
    fn one_gateway_alone_waits_for_nobody() {
        let mut returns = Returns::default();
        returns.answered(1, 0);
        assert!(!returns.are_due());
    }
}
