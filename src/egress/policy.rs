//! Which links of a group may take events now. Pure.

use std::time::Duration;

use crate::config::Policy;

/// A link as the policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// `None`: not up; else for how long it has been.
    pub(super) up_for: Option<Duration>,
    /// Its very first attempt is still under way.
    pub(super) undecided: bool,
}

/// What the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Who may take, by index.
    pub(super) may_take: Vec<bool>,
    /// Failover: the one in use.
    pub(super) active: Option<usize>,
    /// Ask again after this long even if nothing changes.
    pub(super) again_after: Option<Duration>,
}

/// Load balance: every link that is up. Failover: the one in use while it is up, or else the first that is
/// up; back to an earlier one when that has been up for `failback_after`. At the start an earlier link is
/// waited for until its first attempt has ended.
pub(super) fn choose(
    policy: Policy,
    links: &[View],
    active: Option<usize>,
    failback_after: Duration,
) -> Choice {
    if policy == Policy::Loadbalance {
        let may_take = links.iter().map(|l| l.up_for.is_some()).collect();
        return Choice {
            may_take,
            active: None,
            again_after: None,
        };
    }
    let first_up = links.iter().position(|l| l.up_for.is_some());
    let current = active.filter(|&i| links.get(i).is_some_and(|l| l.up_for.is_some()));
    let mut again_after = None;
    let chosen = match (current, first_up) {
        (Some(current), Some(first)) if first < current => {
            let left = links[..current]
                .iter()
                .filter_map(|l| l.up_for)
                .map(|up| failback_after.saturating_sub(up))
                .min()
                .unwrap_or_default();
            if left.is_zero() {
                links[..current]
                    .iter()
                    .position(|l| l.up_for.is_some_and(|up| up >= failback_after))
            } else {
                again_after = Some(left);
                Some(current)
            }
        }
        (Some(current), _) => Some(current),
        (None, Some(first)) if links[..first].iter().any(|l| l.undecided) => None,
        (None, first) => first,
    };
    let may_take = (0..links.len()).map(|i| chosen == Some(i)).collect();
    Choice {
        may_take,
        active: chosen,
        again_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const DOWN: View = View {
        up_for: None,
        undecided: false,
    };
    const NEW: View = View {
        up_for: None,
        undecided: true,
    };

    fn up(secs: u64) -> View {
        View {
            up_for: Some(S(secs)),
            undecided: false,
        }
    }

    fn failover(links: &[View], active: Option<usize>) -> (Option<usize>, Option<Duration>) {
        let choice = choose(Policy::Failover, links, active, S(10));
        let taking: Vec<usize> = (0..links.len()).filter(|i| choice.may_take[*i]).collect();
        assert_eq!(
            taking,
            choice.active.into_iter().collect::<Vec<_>>(),
            "only the active one takes"
        );
        (choice.active, choice.again_after)
    }

    #[test]
    fn loadbalance_uses_every_link_that_is_up() {
        let choice = choose(Policy::Loadbalance, &[up(1), DOWN, up(0), NEW], None, S(10));
        assert_eq!(choice.may_take, [true, false, true, false]);
    }

    #[test]
    fn failover_uses_the_first_that_is_up() {
        assert_eq!(failover(&[up(0), up(0)], None), (Some(0), None));
        assert_eq!(failover(&[DOWN, up(0)], None), (Some(1), None));
        assert_eq!(failover(&[DOWN, DOWN], Some(0)), (None, None));
        assert_eq!(failover(&[DOWN, up(3), up(9)], Some(0)), (Some(1), None));
    }

    #[test]
    fn failover_goes_back_only_to_a_link_that_has_proved_itself() {
        assert_eq!(failover(&[up(3), up(60)], Some(1)), (Some(1), Some(S(7))));
        assert_eq!(failover(&[up(10), up(60)], Some(1)), (Some(0), None));
        assert_eq!(
            failover(&[up(2), up(10), up(60)], Some(2)),
            (Some(1), None),
            "the one in the middle is ready"
        );
        assert_eq!(
            failover(&[up(3), DOWN], Some(1)),
            (Some(0), None),
            "in need it is used at once"
        );
    }

    #[test]
    fn at_the_start_the_first_link_is_waited_for() {
        assert_eq!(failover(&[NEW, up(0)], None), (None, None));
        assert_eq!(failover(&[DOWN, up(1)], None), (Some(1), None));
        assert_eq!(failover(&[NEW, up(0)], Some(1)), (Some(1), None));
    }
}
