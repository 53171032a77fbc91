//! What differs between two valid configurations, for a reload: what takes effect at once, and what needs
//! a restart.

use std::collections::BTreeMap;

use super::settings::Settings;
use super::{Config, Endpoint, Group, Reload};

/// The difference from an old configuration to a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Groups that are new, by name.
    pub groups_added: Vec<String>,
    /// Groups that are gone; they drain first.
    pub groups_removed: Vec<String>,
    /// Groups that stay, with what differs in them.
    pub groups_changed: BTreeMap<String, GroupChange>,
    /// Key paths or tables, as `auth.user`, that differ and take effect while weir runs.
    pub hot: Vec<&'static str>,
    /// Those that differ and wait for a restart; until then the old value holds.
    pub restart: Vec<&'static str>,
}

/// What differs in one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// Endpoints that are new, by name.
    pub endpoints_added: Vec<String>,
    /// Endpoints that are gone.
    pub endpoints_removed: Vec<String>,
    /// Endpoints with another data or auth URL behind the same name, or whose credentials changed: their links
    /// connect anew. All others stay connected.
    pub endpoints_changed: Vec<String>,
    /// The policy, or the order of endpoints that failover goes by.
    pub policy: bool,
    /// A setting of the queue.
    pub queue: bool,
}

impl Change {
    /// Compares.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut change = Self::default();
        let name = |group: &Group| group.name.clone();
        (change.groups_added, change.groups_removed) = added_and_removed(&old.groups, &new.groups, name);
        for old in &old.groups {
            let same = new.groups.iter().find(|new| new.name == old.name);
            let inside = same.map(|new| GroupChange::between(old, new));
            if let Some(inside) = inside.filter(|inside| *inside != GroupChange::default()) {
                change.groups_changed.insert(old.name.clone(), inside);
            }
        }
        change.settings(old, new);
        change
    }

    fn settings(&mut self, old: &Config, new: &Config) {
        self.keys(old.differences(new));
        self.keys(old.ingress.differences(&new.ingress));
        self.keys(old.auth.differences(&new.auth));
        self.hot
            .extend((old.auth.users != new.auth.users).then_some("auth.user"));
        self.hot.extend((old.tls != new.tls).then_some("tls"));
        self.keys(old.link.differences(&new.link));
        match (&old.admin, &new.admin) {
            (Some(old), Some(new)) if old.listen == new.listen => self.keys(old.differences(new)),
            (None, None) => {}
            _ => self.restart.push("admin.listen"),
        }
        match (&old.decisions, &new.decisions) {
            (Some(old), Some(new)) if (old.listen, old.listen_tls) == (new.listen, new.listen_tls) => {
                self.keys(old.differences(new));
                self.hot
                    .extend((old.brokers != new.brokers).then_some("decisions.endpoints"));
            }
            (None, None) => {}
            _ => self.restart.push("decisions.listen"),
        }
        self.keys(old.log.differences(&new.log));
    }

    fn keys(&mut self, differences: Vec<(&'static str, Reload)>) {
        for (key, when) in differences {
            match when {
                Reload::Now | Reload::NextConnection => self.hot.push(key),
                Reload::Restart => self.restart.push(key),
            }
        }
    }
}

impl GroupChange {
    fn between(old: &Group, new: &Group) -> Self {
        let login = old.username != new.username || old.password != new.password;
        let name = |endpoint: &Endpoint| endpoint.name.clone();
        let (added, removed) = added_and_removed(&old.endpoints, &new.endpoints, name);
        let pairs = old.endpoints.iter().filter_map(|old| {
            let same = new.endpoints.iter().position(|new| new.name == old.name)?;
            Some((same, old))
        });
        let changed = |(same, old): &(usize, &Endpoint)| login || new.endpoints.get(*same) != Some(old);
        Self {
            endpoints_changed: pairs.clone().filter(changed).map(|(_, old)| name(old)).collect(),
            endpoints_added: added,
            endpoints_removed: removed,
            policy: old.policy != new.policy || !pairs.is_sorted_by_key(|(same, _)| same),
            queue: old.queue != new.queue,
        }
    }
}

/// The names that only `new` has, and those that only `old` has.
fn added_and_removed<T>(old: &[T], new: &[T], name: impl Fn(&T) -> String) -> (Vec<String>, Vec<String>) {
    let names = |all: &[T]| all.iter().map(&name).collect::<Vec<_>>();
    let (old, new) = (names(old), names(new));
    let without =
        |all: &[String], other: &[String]| all.iter().filter(|n| !other.contains(n)).cloned().collect();
    (without(&new, &old), without(&old, &new))
}
