//! The judgement of a whole run: the oracle's, and what the promises say beside it.

use weir::status::Snapshot;
use weir_lab::WeirCounts;

use crate::chaos::Fault;
use crate::plan::{GUEST, WEIR};
use crate::run::Gateways;
use crate::world::World;

pub fn judge(world: &World, snapshot: &Snapshot, gateways: &Gateways) -> Vec<String> {
    let mut broken = Vec::new();
    let mut holds = |holds: bool, otherwise: String| {
        if !holds {
            broken.push(otherwise);
        }
    };
    let history = world.history.borrow();
    // A group that came or went has numbers of another span than the oracle's.
    let guest_stayed = history.iter().all(|s| s.guest);
    let is_core = |name: &str| name != GUEST || guest_stayed;
    let mut counts = WeirCounts::from(snapshot);
    counts.groups.retain(|g| is_core(&g.name));
    for group in &mut counts.groups {
        // Endpoints that a reload removed, and weirs that crashed, have taken their failures with them.
        group.failures += 1;
    }
    let verdict = world.judge.verdict(Some(&counts));
    holds(verdict.ok(), format!("the oracle says\n{verdict}"));

    let faults = &world.plan.faults;
    let had = |fault: Fault| world.done.borrow().contains_key(&fault);
    // The last entry is that of the calm.
    let (_, chaos) = history.split_last().unwrap_or((&history[0], &[]));
    let strict = chaos.iter().all(|s| s.strict);
    let core = || snapshot.groups.iter().filter(|g| is_core(&g.name));
    if strict {
        for group in core() {
            let d = &group.events.dropped;
            holds(
                d.queue_full + d.unavailable + d.max_age == 0,
                format!("{} dropped though it must never: {d:?}", group.name),
            );
        }
    }
    let rejected: u64 = core().map(|g| g.events.rejected).sum();
    let delivered_only = history.iter().all(|s| s.ack_delivered);
    if strict && delivered_only && rejected == 0 {
        for group in verdict.groups.iter().filter(|g| is_core(&g.name)) {
            holds(
                group.missing.count == 0,
                format!(
                    "ack = \"delivered\", yet {} misses {:?}",
                    group.name, group.missing
                ),
            );
        }
    }
    if !had(Fault::Crash) {
        for group in core().skip(usize::from(gateways.dead_group)) {
            let d = &group.events.dropped;
            holds(
                d.drain_timeout + d.group_removed == 0,
                format!(
                    "{}: the last drain lost something with all groups live: {d:?}",
                    group.name
                ),
            );
        }
    }

    holds(
        gateways.fresh_acked == 3 && gateways.fresh_received.iter().all(|n| *n == 3),
        format!(
            "fresh events: {} acknowledged, received {:?}",
            gateways.fresh_acked, gateways.fresh_received
        ),
    );
    let open = verdict.issued - verdict.acked - gateways.cut_short;
    holds(
        open == world.bad_issued.get(),
        format!(
            "{open} events without an answer, {} expected",
            world.bad_issued.get()
        ),
    );
    // Where there is one way only, what is sent again goes out in its old place.
    if world.plan.workers == 1 && !had(Fault::Crash) && !had(Fault::Endpoints) {
        for (plan, group) in world.plan.groups.iter().zip(&verdict.groups) {
            holds(
                plan.endpoints.len() > 1 || group.reordered.count == 0,
                format!(
                    "{} has one endpoint, yet it got events out of order: {:?}",
                    group.name, group.reordered
                ),
            );
        }
    }
    for (i, counts) in gateways.counts.iter().enumerate() {
        holds(
            counts.acked_by_fin == 0,
            format!("weir ended a connection with FIN: {counts:?}"),
        );
        holds(
            counts.given_up == 0,
            format!("a sound frame was called malformed: {counts:?}"),
        );
        // An idle connection that weir has reset is noticed by its gateway's next frame.
        let patient = faults.iter().all(|f| !f.touches_gateways()) && snapshot.ingress.reset_idle_total == 0;
        // The last load is cut off by the stop, and meant to be.
        let resets = if i < world.plan.loads.len() {
            counts.resets
        } else {
            0
        };
        holds(
            !patient || counts.reply_timeouts + resets == 0,
            format!("gateways were kept waiting or cut off: {counts:?}"),
        );
    }
    for name in world.hosts.iter().map(|h| h.name.as_str()).chain([WEIR]) {
        let side = usize::from(name == WEIR);
        let held = world.sim.held(name, side);
        holds(held == 0, format!("{held} connections of {name} outlive weir"));
    }
    broken
}
