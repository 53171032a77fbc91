//! What happened in a simulated run, as one number: two runs are the same when their numbers are.

use tokio::time::Instant;

/// FNV-1a over everything that was noted, with the virtual time of each note.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    hash: u64,
    notes: u64,
    /// Lines for people, when they are wanted.
    aloud: bool,
}

impl Trace {
    /// Begins now. `aloud` prints every note on standard error.
    #[must_use]
    pub fn new(aloud: bool) -> Self {
        Self {
            start: Instant::now(),
            hash: 0xcbf2_9ce4_8422_2325,
            notes: 0,
            aloud,
        }
    }

    /// `what` happened to `whom`, with a number that says more.
    pub fn note(&mut self, what: &str, whom: u64, more: u64) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        for bytes in [
            &now.to_le_bytes(),
            &whom.to_le_bytes(),
            &more.to_le_bytes(),
            what.as_bytes(),
        ] {
            for byte in bytes {
                self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        self.notes += 1;
        if self.aloud {
            weir::output::note(format_args!(
                "{:>12.3} ms  {what} {whom} {more}",
                std::time::Duration::from_micros(now).as_secs_f64() * 1e3
            ));
        }
    }

    /// The number so far, and how many notes went into it.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        (self.hash, self.notes)
    }
}
