//! Keys that nobody read. The keys that are read are the keys that exist: all others are refused, with the
//! nearest known one as advice; only in WSO2's own tables they pass.

use super::document::{Entry, Node, Value};
use super::keys::keys;
use super::problem::Bad;
use super::raw::Section;

impl<'a> Section<'a> {
    /// Refuses every key that was not read.
    pub(super) fn finish(&self) {
        for entry in self.unread() {
            let place = self.at(entry.key_span.clone());
            // It may be a misspelt password.
            self.hide(&entry.node);
            let near = self.nearest(&entry.key, 0.7);
            let hint = match (near, elsewhere(&entry.key)) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(path)) => format!("did you mean `{path}`?"),
                (None, None) => format!("known here: {}", self.known.borrow().join(", ")),
            };
            let bad = Bad::new("no such key", hint);
            self.context.problem(Some(&place), &self.key(&entry.key), bad);
        }
    }

    /// Notes that a key is missing, where a misspelt one stands at that one.
    pub(super) fn missing(&self, key: &'static str, message: &str, hint: &str) {
        self.has(key);
        let likeness = |entry: &&Entry| strsim::normalized_damerau_levenshtein(key, &entry.key);
        let near = self
            .unread()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
            .filter(|entry| likeness(entry) >= 0.8);
        match near {
            None => self.problem(key, message, hint),
            Some(entry) => {
                let place = self.at(entry.key_span.clone());
                self.hide(&entry.node);
                let bad = Bad::new("no such key", format!("did you mean `{key}`?"));
                self.context.problem(Some(&place), &self.key(&entry.key), bad);
            }
        }
    }

    /// Lets keys that were not read pass, for tables of WSO2's; warns where one is nearly a key that counts.
    pub(super) fn finish_leniently(&self) {
        for entry in self.unread() {
            if let Some(near) = self.nearest(&entry.key, 0.88) {
                let place = self.at(entry.key_span.clone());
                let hint = format!("did you mean `{near}`?");
                self.context.warning(
                    Some(&place),
                    &self.key(&entry.key),
                    "unknown here, ignored",
                    &hint,
                );
            }
        }
    }

    fn unread(&self) -> impl Iterator<Item = &'a Entry> {
        let known = self.known.borrow().clone();
        self.entries()
            .iter()
            .filter(move |e| !known.contains(&e.key.as_str()))
    }

    fn nearest(&self, key: &str, at_least: f64) -> Option<&'static str> {
        let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(known, key);
        let known = self.known.borrow();
        let nearest = known
            .iter()
            .copied()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        nearest.filter(|near| likeness(near) >= at_least)
    }

    /// Keeps all values below a node out of what is shown.
    pub(super) fn hide(&self, node: &Node) {
        match &node.value {
            Value::Array(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Table(entries) => entries.iter().for_each(|e| self.hide(&e.node)),
            _ => self.context.hide(&self.at(node.span.clone())),
        }
    }
}

/// The key of that name in another table: someone forgot, or commented out, the table's header.
fn elsewhere(key: &str) -> Option<&'static str> {
    let paths = keys()
        .iter()
        .map(|known| known.path)
        .filter(|path| !path.contains(['[', 'N']));
    paths
        .into_iter()
        .find(|path| path.rsplit_once('.').is_some_and(|(_, last)| last == key))
}
