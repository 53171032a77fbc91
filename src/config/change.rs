//! What differs between two valid configurations, for a reload: what takes effect at once, and what needs
//! a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::settings::Settings;
use super::{Config, Group, Reload};

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
        for group in &old.groups {
            match new.groups.iter().find(|g| g.name == group.name) {
                None => change.groups_removed.push(group.name.clone()),
                Some(new) => {
                    let inside = GroupChange::between(group, new);
                    if inside != GroupChange::default() {
                        change.groups_changed.insert(group.name.clone(), inside);
                    }
                }
            }
        }
        let known = |name: &str| old.groups.iter().any(|g| g.name == name);
        let added = new.groups.iter().filter(|g| !known(&g.name));
        change.groups_added = added.map(|g| g.name.clone()).collect();
        change.settings(old, new);
        change
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
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
        let mut change = Self {
            queue: old.queue != new.queue,
            ..Self::default()
        };
        for endpoint in &old.endpoints {
            match new.endpoints.iter().find(|e| e.name == endpoint.name) {
                None => change.endpoints_removed.push(endpoint.name.clone()),
                Some(same) if login || same != endpoint => {
                    change.endpoints_changed.push(endpoint.name.clone())
                }
                Some(_) => {}
            }
        }
        let known = |name: &str| old.endpoints.iter().any(|e| e.name == name);
        let added = new.endpoints.iter().filter(|e| !known(&e.name));
        change.endpoints_added = added.map(|e| e.name.clone()).collect();
        change.policy = old.policy != new.policy || Self::order(old, new) != Self::order(new, old);
        change
    }

    /// The endpoints of `a` that `b` has too, in order.
    fn order<'a>(a: &'a Group, b: &Group) -> Vec<&'a str> {
        let shared = |name: &str| b.endpoints.iter().any(|e| e.name == name);
        a.endpoints
            .iter()
            .map(|e| e.name.as_str())
            .filter(|name| shared(name))
            .collect()
    }
}

/// One line for the log: what changed, and what waits for a restart.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<&str> = self.groups_changed.keys().map(String::as_str).collect();
        let parts = [
            ("groups added", self.groups_added.join(", ")),
            ("groups removed", self.groups_removed.join(", ")),
            ("groups changed", changed.join(", ")),
            ("in effect", self.hot.join(", ")),
            ("after a restart", self.restart.join(", ")),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {names}"))
            .collect();
        match parts.is_empty() {
            true => f.write_str("nothing changed"),
            false => f.write_str(&parts.join("; ")),
        }
    }
}
