//! PURE: what a soak has seen, and whether weir has grown.

use std::fmt;

use serde::Serialize;

use crate::{LoadCounts, Verdict};

/// One look at the size of weir.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Look {
    /// Since the start.
    pub at_seconds: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Gateway connections, by weir's own count.
    pub gateway_connections: u64,
    /// Links that are up.
    pub links: u64,
    /// Events queued and in flight, over all groups.
    pub held: u64,
    /// Events answered ok to gateways so far.
    pub acked: u64,
}

/// The end of a soak.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What chose the troubles.
    pub seed: u64,
    /// The first look.
    pub first: Look,
    /// After everything, at rest.
    pub last: Look,
    /// Median of resident memory in each quarter of the run.
    pub rss_bytes_by_quarter: [u64; 4],
    /// Most resident memory.
    pub rss_bytes_max: u64,
    /// What gateways counted.
    pub load: LoadCounts,
    /// The oracle's.
    pub verdict: Verdict,
    /// Of weir, after SIGTERM at rest.
    pub exit_code: Option<i32>,
    /// What has grown, or else is wrong with the process.
    pub faults: Vec<String>,
}

/// Memory may grow by this from the second quarter to the last, whose medians are compared: the allocator
/// keeps what a trouble once needed.
const RSS_GROWTH_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Too few looks to compare quarters.
const LOOKS_MIN: usize = 40;

impl Report {
    pub(super) fn new(
        seed: u64,
        looks: &[Look],
        last: Look,
        load: LoadCounts,
        verdict: Verdict,
        exit_code: Option<i32>,
    ) -> Self {
        let first = looks.first().copied().unwrap_or_default();
        let rss: Vec<u64> = looks.iter().map(|l| l.rss_bytes).collect();
        let quarters = quarters(&rss);
        let [_, second, _, fourth] = quarters;
        let mut faults = Vec::new();
        if rss.len() >= LOOKS_MIN && fourth > second + RSS_GROWTH_MAX_BYTES {
            faults.push(format!("memory has grown from {second} to {fourth} bytes"));
        }
        // What is no connection of a gateway or a link. A connection that is being made or ended between two
        // numbers of one look is, too: so the most of the first quarter counts.
        let own = |look: &Look| {
            look.descriptors
                .saturating_sub(look.gateway_connections + look.links)
        };
        let early = looks.iter().take(looks.len().div_ceil(4)).map(own).max();
        let early = early.unwrap_or_else(|| own(&last));
        if own(&last) > early {
            faults.push(format!(
                "descriptors that are no connection have grown from {early} to {}",
                own(&last)
            ));
        }
        if last.threads > first.threads {
            faults.push(format!(
                "threads have grown from {} to {}",
                first.threads, last.threads
            ));
        }
        if exit_code != Some(0) {
            faults.push(format!("at SIGTERM weir ended with {exit_code:?} instead of 0"));
        }
        Self {
            seed,
            first,
            last,
            rss_bytes_by_quarter: quarters,
            rss_bytes_max: rss.iter().copied().max().unwrap_or(0),
            load,
            verdict,
            exit_code,
            faults,
        }
    }

    /// Whether weir has passed.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.verdict.ok() && self.faults.is_empty()
    }
}

/// The median of each quarter; zeros where there is nothing.
fn quarters(values: &[u64]) -> [u64; 4] {
    let length = values.len().div_ceil(4).max(1);
    let mut chunks = values.chunks(length);
    [(); 4].map(|()| {
        let mut quarter = chunks.next().unwrap_or_default().to_vec();
        quarter.sort_unstable();
        quarter.get(quarter.len() / 2).copied().unwrap_or(0)
    })
}

fn mib(bytes: u64) -> f64 {
    super::super::per(bytes, 1024 * 1024)
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.0} s  RSS {:>6.1} MiB  fds {:>5}  threads {:>3}  gateways {:>5}  links {:>3}  held {:>8}  acked {:>12}",
            self.at_seconds,
            mib(self.rss_bytes),
            self.descriptors,
            self.threads,
            self.gateway_connections,
            self.links,
            self.held,
            self.acked
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "first {}", self.first)?;
        writeln!(f, "last  {}", self.last)?;
        let [a, b, c, d] = self.rss_bytes_by_quarter.map(mib);
        writeln!(
            f,
            "RSS by quarter {a:.1} {b:.1} {c:.1} {d:.1} MiB, at most {:.1} MiB",
            mib(self.rss_bytes_max)
        )?;
        let l = &self.load;
        writeln!(
            f,
            "gateways: {} events, sent again {}, resets {}, logins failed {}, late replies {}",
            l.events_acked, l.events_resent, l.resets, l.login_failures, l.reply_timeouts
        )?;
        for fault in &self.faults {
            writeln!(f, "FAULT: {fault}")?;
        }
        writeln!(f, "{}", self.verdict)?;
        write!(
            f,
            "soak: {} (replay with --seed {})",
            if self.ok() { "ok" } else { "FAILED" },
            self.seed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, Oracle, Sizes};

    fn report(rss: impl Fn(u64) -> u64, last: Look) -> Report {
        let look = |i: u64| Look {
            rss_bytes: rss(i),
            descriptors: 14,
            gateway_connections: 4,
            ..Look::default()
        };
        let verdict = Oracle::new(Events::new(Sizes::Typical, 0), &[], false).verdict(None);
        Report::new(
            1,
            &(0..100).map(look).collect::<Vec<_>>(),
            last,
            LoadCounts::default(),
            verdict,
            Some(0),
        )
    }

    #[test]
    fn growth_of_memory_descriptors_and_threads_is_a_fault_and_peaks_are_not() {
        const MIB: u64 = 1024 * 1024;
        let same = Look {
            descriptors: 10,
            ..Look::default()
        };
        let steady = report(|i| 20 * MIB + if i % 10 == 0 { 90 * MIB } else { 0 }, same);
        assert!(steady.ok(), "{steady}");
        let leak = report(|i| 20 * MIB + i * MIB, same);
        assert!(
            !leak.ok() && leak.to_string().contains("memory has grown"),
            "{leak}"
        );
        let more = Look {
            descriptors: 11,
            threads: 1,
            ..same
        };
        assert_eq!(report(|_| MIB, more).faults.len(), 2);
    }
}
