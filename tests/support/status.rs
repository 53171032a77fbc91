//! /status of a weir process, in the words of tests.

use serde_json::Value;
use weir_lab::{GroupCounts, WeirCounts};

/// What /status said.
pub struct Status(pub Value);

impl Status {
    /// The number at a JSON pointer.
    pub fn number(&self, at: &str) -> u64 {
        let found = self.0.pointer(at).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no number at {at}: {:#}", self.0))
    }

    /// The number at a pointer within a group.
    pub fn of(&self, group: &str, at: &str) -> u64 {
        let groups = self.0["groups"].as_array().unwrap();
        let i = groups.iter().position(|g| g["name"] == group);
        let i = i.unwrap_or_else(|| panic!("no group {group}: {:#}", self.0));
        self.number(&format!("/groups/{i}/{at}"))
    }

    pub fn groups(&self) -> Vec<String> {
        let groups = self.0["groups"].as_array().unwrap();
        groups
            .iter()
            .map(|g| g["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Every endpoint has a link.
    pub fn all_up(&self) -> bool {
        let groups = self.0["groups"].as_array().unwrap();
        groups
            .iter()
            .flat_map(|g| g["endpoints"].as_array().unwrap())
            .all(|e| e["links_up"] == 1)
    }

    pub fn at_rest(&self) -> bool {
        self.counts()
            .groups
            .iter()
            .all(|g| g.events.queued + g.events.inflight == 0)
    }

    /// What the oracle needs.
    pub fn counts(&self) -> WeirCounts {
        let groups = self.groups().into_iter().map(|name| {
            let group = self.0["groups"]
                .as_array()
                .unwrap()
                .iter()
                .find(|g| g["name"] == name.as_str());
            let failures = group.unwrap()["endpoints"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|e| e["failures_total"].as_object().unwrap().values())
                .map(|n| n.as_u64().unwrap());
            GroupCounts {
                events: serde_json::from_value(group.unwrap()["events"].clone()).unwrap(),
                resent: self.of(&name, "resent_events_total"),
                failures: failures.sum(),
                name: name.clone(),
            }
        });
        WeirCounts {
            groups: groups.collect(),
        }
    }
}
