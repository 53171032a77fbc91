//! PURE: what a broker sent and what a gateway received, and the rules by which a stream of decisions is judged.
//!
//! A topic keeps nothing for those who are not there. So decisions that were published while the gateway had no
//! subscription are missed, and no fault; every other one must arrive, once, in order, as it was. And the gateway
//! must be there again soon after the broker is, with the first connection it makes.

use std::fmt;
use std::time::Duration;

/// How long after a broker's return a gateway may be without a subscription. A gateway that weir does not hold
/// sleeps for 20 s.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(5);

/// The text of a decision.
#[must_use]
pub fn decision(number: u64) -> String {
    format!(
        "{{\"throttleKey\":\"/pizza/1.0:1.0:admin@carbon.super\",\"isThrottled\":true,\"number\":{number}}}"
    )
}

/// The number of a decision that is word for word as it was published.
fn number_of(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let digits = text.rsplit_once(':')?.1.strip_suffix('}')?;
    let number = digits.parse().ok()?;
    (decision(number) == text).then_some(number)
}

/// Both ends of a stream, as they tell it.
#[derive(Debug, Default)]
pub struct Tally {
    published: u64,
    returns: Vec<Duration>,
    subscriptions: Vec<Subscription>,
    corrupted: u64,
}

/// One subscription of the gateway, by its number.
#[derive(Debug, Default)]
struct Subscription {
    /// Numbers the broker began with, offered to the socket last, and handed to it last.
    first: Option<u64>,
    offered: u64,
    sent: u64,
    received: Vec<u64>,
    /// Since the run began; and the connections it took since the one before.
    subscribed: Option<(Duration, u32)>,
}

impl Tally {
    /// The broker makes a decision; its number, from 1.
    pub fn published(&mut self) -> u64 {
        self.published += 1;
        self.published
    }

    /// The broker listens again.
    pub(crate) fn returned(&mut self, at: Duration) {
        self.returns.push(at);
    }

    /// The broker has a subscription that gets decisions from `first` on.
    pub fn began(&mut self, subscription: usize, first: u64) {
        self.of(subscription).first = Some(first);
    }

    /// The broker begins to write a decision.
    pub fn offered(&mut self, subscription: usize, number: u64) {
        self.of(subscription).offered = number;
    }

    /// The broker has written it.
    pub fn sent(&mut self, subscription: usize, number: u64) {
        self.of(subscription).sent = number;
    }

    /// The gateway is subscribed, with its `attempts`-th connection since it lost one.
    pub fn subscribed(&mut self, subscription: usize, attempts: u32, at: Duration) {
        self.of(subscription).subscribed = Some((at, attempts));
    }

    /// The gateway got a message.
    pub fn received(&mut self, subscription: usize, body: &[u8]) {
        match number_of(body) {
            Some(number) => self.of(subscription).received.push(number),
            None => self.corrupted += 1,
        }
    }

    /// Decisions the gateway got so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.subscriptions.iter().map(|s| s.received.len() as u64).sum()
    }

    /// Whether the gateway has been subscribed since the broker last returned.
    #[must_use]
    pub fn is_back(&self) -> bool {
        let last = self.returns.last().copied().unwrap_or_default();
        self.subscriptions
            .iter()
            .any(|s| s.subscribed.is_some_and(|(at, _)| at >= last))
    }

    /// Whether everything that was sent has been received, in number.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let all = |s: &Subscription| s.received.len() as u64 >= s.expected().count() as u64;
        self.subscriptions.iter().all(all)
    }

    /// The judgement; `relayed` is how many weir says it handed over, where it is asked.
    #[must_use]
    pub fn verdict(&self, relayed: Option<u64>) -> Verdict {
        let mut verdict = Verdict {
            published: self.published,
            delivered: self.delivered(),
            corrupted: self.corrupted,
            relayed,
            ..Verdict::default()
        };
        let mut covered = 0;
        for subscription in &self.subscriptions {
            covered += subscription.expected().count() as u64;
            subscription.judge(&mut verdict);
        }
        verdict.missed = self.published.saturating_sub(covered);
        for returned in &self.returns {
            let back = self.subscriptions.iter().filter_map(|s| s.subscribed);
            let back = back.filter(|(at, _)| at >= returned).min();
            match back {
                Some((at, attempts)) => {
                    let after = at.saturating_sub(*returned);
                    verdict.back_after = verdict.back_after.max(Some(after));
                    verdict.attempts_max = verdict.attempts_max.max(attempts);
                }
                None => verdict.never_back += 1,
            }
        }
        verdict
    }

    fn of(&mut self, subscription: usize) -> &mut Subscription {
        if self.subscriptions.len() <= subscription {
            self.subscriptions
                .resize_with(subscription + 1, Subscription::default);
        }
        &mut self.subscriptions[subscription]
    }
}

impl Subscription {
    /// What must arrive.
    fn expected(&self) -> std::ops::RangeInclusive<u64> {
        self.first.unwrap_or(u64::MAX)..=self.sent
    }

    fn judge(&self, verdict: &mut Verdict) {
        let mut sorted = self.received.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let expected = self.expected();
        let arrived = sorted.iter().filter(|n| expected.contains(n)).count();
        verdict.lost += (expected.count() - arrived) as u64;
        // What was being written when a connection ended may have arrived.
        let known = self.first.unwrap_or(u64::MAX)..=self.offered;
        verdict.invented += sorted.iter().filter(|n| !known.contains(n)).count() as u64;
        // Each one must be higher than all before it; what is not is out of order or there twice.
        let mut highest = 0;
        for number in &self.received {
            verdict.disordered += u64::from(*number <= highest);
            highest = highest.max(*number);
        }
    }
}

/// How a stream of decisions went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Made by the broker.
    pub published: u64,
    /// Got by the gateway, copies too.
    pub delivered: u64,
    /// Published while the gateway was not subscribed: a topic keeps nothing.
    pub missed: u64,
    /// Sent to the gateway and never received.
    pub lost: u64,
    /// Received and never sent.
    pub invented: u64,
    /// Received behind a later one, or again.
    pub disordered: u64,
    /// Received with other bytes than were sent.
    pub corrupted: u64,
    /// Handed over by weir's own count.
    pub relayed: Option<u64>,
    /// From a broker's return to the gateway's subscription, the longest; `None` = no broker was away.
    pub back_after: Option<Duration>,
    /// Connections it took, at most.
    pub attempts_max: u32,
    /// Returns of a broker without a subscription after it.
    pub never_back: u64,
}

impl Verdict {
    /// Each broken rule, in words; none is right.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (count, what) in [
            (self.lost, "sent to a connected gateway and lost"),
            (self.invented, "received that were never sent"),
            (self.disordered, "received out of order or twice"),
            (self.corrupted, "received with other bytes"),
        ] {
            if count > 0 {
                broken.push(format!("decisions {what}: {count}"));
            }
        }
        let received = self.delivered + self.corrupted;
        if let Some(relayed) = self.relayed.filter(|relayed| *relayed != received) {
            broken.push(format!(
                "weir counts {relayed} decisions handed over, the gateway got {received}"
            ));
        }
        if self.delivered == 0 {
            broken.push("no decision was delivered".into());
        }
        if self.never_back > 0 {
            broken.push("the gateway never subscribed again after the broker's return".into());
        }
        if let Some(late) = self.back_after.filter(|after| *after > BACK_WITHIN) {
            broken.push(format!(
                "the gateway subscribed again {late:.1?} after the broker's return, which is more than {BACK_WITHIN:?}"
            ));
        }
        if self.attempts_max > 1 {
            broken.push(format!(
                "the gateway needed {} connections to subscribe again; the first should have been held",
                self.attempts_max
            ));
        }
        broken
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let back = self
            .back_after
            .map_or("-".into(), |after| format!("{} ms", after.as_millis()));
        let head = [
            "published",
            "delivered",
            "lost",
            "out of order",
            "invented",
            "missed",
            "back after",
        ];
        let (published, delivered, missed) = (self.published, self.delivered, self.missed);
        let (lost, disordered, invented) = (self.lost, self.disordered, self.invented + self.corrupted);
        write!(f, "{:<9}", "decisions")?;
        for word in head {
            write!(f, " {word:>12}")?;
        }
        write!(
            f,
            "\n{:<9} {published:>12} {delivered:>12} {lost:>12} {disordered:>12} {invented:>12} {missed:>12} {back:>12}",
            ""
        )?;
        for violation in self.violations() {
            write!(f, "\nVIOLATED: {violation}")?;
        }
        Ok(())
    }
}
