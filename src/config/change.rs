//! What differs between two valid configurations, for a reload: what can be put in force at once, and what
//! needs a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::{Config, Group};

/// The difference from an old configuration to a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Groups that are new, by name.
    pub groups_added: Vec<String>,
    /// Groups that are gone; they drain first.
    pub groups_removed: Vec<String>,
    /// Groups that stay, with what differs in them.
    pub groups_changed: BTreeMap<String, GroupChange>,
    /// Key paths or tables, as `auth.user`, that differ and are put in force while running.
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
    /// Limits or manners of the queue.
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
        // Destructured so that a new field cannot be forgotten here.
        let Config {
            workers,
            ingress,
            auth,
            tls,
            ack,
            link,
            groups: _,
            admin,
            decisions,
            log,
            drain_timeout,
            drain_notice,
            drain_sends_away,
        } = old;
        let mut listeners_as_before = new.ingress.clone();
        listeners_as_before.tcp = ingress.tcp;
        listeners_as_before.tls = ingress.tls;
        let address = |admin: &Option<super::Admin>| admin.as_ref().map(|a| a.listen);
        let amqp =
            |decisions: &Option<super::Decisions>| decisions.as_ref().map(|d| (d.listen, d.listen_tls));
        let same_amqp = amqp(decisions) == amqp(&new.decisions);
        let token = |admin: &Option<super::Admin>| admin.as_ref().and_then(|a| a.token.clone());
        let tap = |admin: &Option<super::Admin>| admin.as_ref().map(|a| (a.tap, a.tap_streams.clone()));
        let same_admin = address(admin) == address(&new.admin);
        let hot = [
            ("listen limits", listeners_as_before != *ingress),
            ("auth.user", auth.users != new.auth.users),
            (
                "auth.session_secret",
                auth.session_secret != new.auth.session_secret,
            ),
            ("auth.session_ttl", auth.session_ttl != new.auth.session_ttl),
            (
                "auth.allow_plaintext_login",
                auth.allow_plaintext_login != new.auth.allow_plaintext_login,
            ),
            ("tls", *tls != new.tls),
            ("ack", *ack != new.ack),
            ("link", *link != new.link),
            ("admin.token", same_admin && token(admin) != token(&new.admin)),
            ("admin.tap", same_admin && tap(admin) != tap(&new.admin)),
            ("log.level", log.level != new.log.level),
            ("decisions", same_amqp && *decisions != new.decisions),
            ("drain_timeout", *drain_timeout != new.drain_timeout),
            ("drain_notice", *drain_notice != new.drain_notice),
            ("drain_sends_away", *drain_sends_away != new.drain_sends_away),
        ];
        let restart = [
            ("workers", *workers != new.workers),
            ("listen.tcp", ingress.tcp != new.ingress.tcp),
            ("listen.tls", ingress.tls != new.ingress.tls),
            ("admin.listen", !same_admin),
            ("decisions.listen", !same_amqp),
            ("log.format", log.format != new.log.format),
        ];
        let differing =
            |all: &[(&'static str, bool)]| all.iter().filter(|(_, d)| *d).map(|(k, _)| *k).collect();
        self.hot = differing(&hot);
        self.restart = differing(&restart);
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
            ("in force", self.hot.join(", ")),
            ("waits for a restart", self.restart.join(", ")),
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
