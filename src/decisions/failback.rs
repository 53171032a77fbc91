//! Failback: moves connections back to the preferred broker.
//!
//! WSO2's own client never goes back. While gateways are connected to a later broker, the earlier ones are probed; once
//! one has answered for `failback_after` without a break, connections on later ones are asked to leave, a few at a time:
//! each at a quiet moment, or after ten seconds without one, and only while the preferred broker goes on answering.
//! Their gateways reconnect, to the preferred broker.

use std::time::Duration;

use tokio::time::Instant;

use super::connections::{LeaveRequest, Reason};
use super::shared::Shared;
use crate::config::{Decisions, Policy, Url};

/// Bounds of the time between two reviews; a quarter of `failback_after` within them.
const REVIEW_MIN: Duration = Duration::from_millis(250);
const REVIEW_MAX: Duration = Duration::from_secs(5);
/// A connection that finds no quiet moment goes back after this long: 20 decisions a second leave none.
const FAILBACK_WITHIN: Duration = Duration::from_secs(10);
/// Connections asked to leave in one review: many gateways logging in at once can overload a broker.
const LEAVING_MAX: usize = 32;

/// PURE: how long a preferred broker must have answered; `None` = no failback.
pub(super) fn after(config: &Decisions) -> Option<Duration> {
    match config.policy {
        Policy::Failover => config.failback_after,
        Policy::Loadbalance => None,
    }
}

/// PURE: between two probes of a preferred broker, and between two groups of connections that are asked to leave.
pub(super) fn review_interval(after: Duration) -> Duration {
    (after / 4).clamp(REVIEW_MIN, REVIEW_MAX)
}

/// When connections were last asked to go back.
#[derive(Debug, Default)]
pub(super) struct Failback {
    asked_at: Option<Instant>,
}

impl Failback {
    /// Renews or withdraws the requests under way, and asks more connections to leave when it is time to.
    pub(super) fn review(&mut self, shared: &Shared, now: Instant) {
        let config = shared.config();
        let after = after(&config);
        let names: Vec<String> = config.brokers.iter().map(Url::to_string).collect();
        let place = |name: &str| names.iter().position(|n| n == name);
        let proven = |name: &str| {
            place(name)?;
            shared.brokers.proven_until(name, after?, now)
        };
        let withdrawn = shared.connections.review_failbacks(proven);
        if withdrawn > 0 {
            tracing::info!(
                sessions = withdrawn,
                "preferred broker does not answer any more: sessions stay where they are"
            );
        }
        let Some(interval) = after.map(review_interval) else {
            return;
        };
        let mut ranked = names.iter().enumerate();
        let best = ranked.find_map(|(at, name)| Some((at, name, proven(name)?)));
        let Some((best, to, proven_until)) = best else {
            return;
        };
        if self.asked_at.is_some_and(|at| now < at + interval) {
            return;
        }
        let request = LeaveRequest {
            reason: Reason::Failback {
                to: to.clone(),
                proven_until,
            },
            asked_at: now,
            at_latest: now + FAILBACK_WITHIN,
        };
        let on_later = shared.connections.relaying().into_iter();
        let on_later = on_later.filter(|(_, broker)| place(broker).is_some_and(|at| at > best));
        let asked = on_later
            .filter(|(id, _)| shared.connections.ask_to_leave(*id, request.clone()))
            .take(LEAVING_MAX)
            .count();
        if asked > 0 {
            self.asked_at = Some(now);
            shared.connections.note(|s| s.failbacks_total += asked as u64);
            tracing::info!(
                broker = to,
                sessions = asked,
                "preferred broker answers again: sessions move back when quiet"
            );
        }
    }
}
