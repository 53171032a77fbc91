//! Back to the preferred broker, at a quiet moment.
//!
//! WSO2's own client never goes back. While gateways sit on a later broker, the earlier ones are probed; once one has
//! answered for `failback_after` without a break, sessions on later ones are asked to leave, a few at a time: each
//! at a quiet moment, or after ten seconds without one, and only while the preferred broker goes on answering. Their
//! gateways connect anew and get it.

use std::time::Duration;

use tokio::time::Instant;

use super::room::Room;
use super::stage::Leave;
use crate::config::{Decisions, Policy, Url};

/// Bounds of the time between two looks; a quarter of `failback_after` within them.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A session that finds no quiet moment goes back after this long: 20 decisions a second leave none.
const FAILBACK_WITHIN: Duration = Duration::from_secs(10);
/// Sessions asked to leave in one look: all gateways logging in at once is what broke many a broker.
const LEAVERS_MAX: usize = 32;

/// PURE: how long a preferred broker must have answered; `None` = nobody goes back.
pub(super) fn after(config: &Decisions) -> Option<Duration> {
    match config.policy {
        Policy::Failover => config.failback_after,
        Policy::Loadbalance => None,
    }
}

/// PURE: between two looks at a preferred broker, and between two groups of sessions that are asked to leave.
pub(super) fn look_every(after: Duration) -> Duration {
    let (least, most) = LOOK_EVERY;
    (after / 4).clamp(least, most)
}

/// Looks after the order of preference.
#[derive(Debug, Default)]
pub(super) struct Failback {
    asked_at: Option<Instant>,
}

impl Failback {
    /// Renews or takes back the wishes under way, and asks more sessions to leave when it is time to.
    pub(super) fn look(&mut self, room: &Room, now: Instant) {
        let config = room.config();
        let after = after(&config);
        let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
        let proven = |name: &str| {
            let listed = names.iter().any(|n| n == name);
            room.brokers.proven_until(name, after.filter(|_| listed)?, now)
        };
        let withdrawn = room.ledger.review_failbacks(proven);
        if withdrawn > 0 {
            tracing::info!(
                sessions = withdrawn,
                "preferred broker does not answer any more: sessions stay where they are"
            );
        }
        let Some(after) = after else { return };
        let best = names
            .iter()
            .enumerate()
            .find_map(|(at, name)| Some((at, name, proven(name)?)));
        let Some((best, to, proven_until)) = best else {
            return;
        };
        if self.asked_at.is_some_and(|at| now < at + look_every(after)) {
            return;
        }
        let wish = Leave::Failback {
            at_latest: now + FAILBACK_WITHIN,
            proven_until,
        };
        let asked = sitting(&names, room.ledger.relaying())
            .filter(|(_, at)| *at > best)
            .filter(|(id, _)| room.ledger.ask_to_leave(*id, wish, Some(to), now));
        let asked = asked.take(LEAVERS_MAX).count();
        if asked > 0 {
            self.asked_at = Some(now);
            room.ledger.note(|s| s.failbacks_total += asked as u64);
            tracing::info!(
                broker = to,
                sessions = asked,
                "preferred broker answers again: sessions move back when quiet"
            );
        }
    }
}

/// Sessions and the place of their broker in the order of preference; those elsewhere are not ours to judge.
fn sitting(names: &[String], placements: Vec<(u64, String)>) -> impl Iterator<Item = (u64, usize)> {
    placements
        .into_iter()
        .filter_map(|(id, name)| Some((id, names.iter().position(|n| *n == name)?)))
}
