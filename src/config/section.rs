//! One table of a file. Reading a key makes it known; [`Section::finish`] refuses every other key, with the nearest
//! known one as advice.

use std::cell::RefCell;
use std::ops::Range;

use strsim::normalized_damerau_levenshtein as likeness;
use toml::de::{DeTable, DeValue};

use super::context::Context;
use super::document::{Entry, Node, kind, span};
use super::problem::{Bad, Place, names_a_secret};
use super::references::{self, Scalar};
use super::settings::keys;

/// One table, or the absence of one.
pub(super) struct Section<'a> {
    /// Where problems go.
    pub(super) context: &'a Context<'a>,
    /// Full path of this table, `""` for the top level.
    pub(super) path: String,
    file: usize,
    /// The top level of the file, where `$ref{}` begins.
    root: Option<&'a DeTable<'a>>,
    table: Option<&'a DeTable<'a>>,
    /// The place of its name.
    pub(super) place: Option<Place>,
    /// Keys that were read.
    known: RefCell<Vec<&'static str>>,
}

/// A value with its references resolved.
pub(super) struct Given {
    pub(super) scalar: Scalar,
    pub(super) place: Place,
    /// Full path of its key.
    pub(super) key: String,
    /// It came, at least in part, through a reference: it may be a secret and is never quoted.
    pub(super) referred: bool,
}

impl Given {
    /// The value for a message.
    pub(super) fn quote(&self) -> String {
        match &self.scalar {
            _ if self.referred => "the value of the reference".into(),
            Scalar::Text(text) => format!("{text:?}"),
            other => other.to_string(),
        }
    }

    /// A string; numbers are text only where a reference brought them in.
    pub(super) fn text(&self) -> Result<String, Bad> {
        match &self.scalar {
            Scalar::Text(text) => Ok(text.clone()),
            Scalar::Integer(n) if self.referred => Ok(n.to_string()),
            _ => Err(Bad::new("must be a string", "put it in quotes")),
        }
    }

    /// The text that a reference brought in, where another type is wanted.
    pub(super) fn referred_text(&self) -> Option<&str> {
        match &self.scalar {
            Scalar::Text(text) if self.referred => Some(text.trim()),
            _ => None,
        }
    }
}

impl<'a> Section<'a> {
    /// The top level of a file; an empty table when there is no such file.
    pub(super) fn top(context: &'a Context<'a>, file: Option<usize>) -> Self {
        let root = file
            .and_then(|file| context.files.get(file))
            .map(|document| &document.root);
        Self {
            context,
            path: String::new(),
            file: file.unwrap_or(0),
            root,
            table: root,
            place: None,
            known: RefCell::default(),
        }
    }

    fn child(&self, path: String, table: Option<&'a DeTable<'a>>, place: Option<Place>) -> Section<'a> {
        let known = RefCell::default();
        Section {
            path,
            table,
            place,
            known,
            ..*self
        }
    }

    /// Whether the file has this table.
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Whether it has this key.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// The place of the beginning of the file.
    pub(super) fn file_place(&self) -> Option<Place> {
        self.root.map(|_| self.at(0..0))
    }

    /// The value of a key that is not a single one.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a DeValue<'a>> {
        self.entry(key).map(|(_, node)| node.get_ref())
    }

    /// The place of a key, else of the table.
    pub(super) fn place(&self, key: &'static str) -> Option<Place> {
        match self.entry(key) {
            Some(entry) => Some(self.at(span(entry))),
            None => self.place.clone(),
        }
    }

    /// Notes a problem with a key.
    pub(super) fn problem(&self, key: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let bad = Bad::new(message, hint);
        self.context
            .problem(self.place(key).as_ref(), &self.key(key), bad);
    }

    /// Notes a problem with a value.
    pub(super) fn refuse(&self, given: &Given, bad: Bad) {
        self.context.problem(Some(&given.place), &given.key, bad);
    }

    /// The value, or the problem with it, noted.
    pub(super) fn accept<T>(&self, given: &Given, result: Result<T, Bad>) -> Option<T> {
        result.map_err(|bad| self.refuse(given, bad)).ok()
    }

    /// Whether none of these keys has a problem.
    pub(super) fn sound(&self, keys: &[&'static str]) -> bool {
        keys.iter().all(|key| !self.context.noted(&self.key(key)))
    }

    /// Notes a warning about a key.
    pub(super) fn warning(&self, key: &'static str, message: &str, hint: &str) {
        let place = self.place(key);
        self.context
            .warning(place.as_ref(), &self.key(key), message, hint);
    }

    /// A table inside this one, empty when it is missing.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        match self.entry(key) {
            Some(entry) => self.inner(entry),
            None => self.child(self.key(key), None, self.place.clone()),
        }
    }

    /// The tables inside this one whatever their names, for `[group.NAME]`.
    pub(super) fn sections(&self) -> Vec<(&'a str, Section<'a>)> {
        let entries = self.entries().into_iter();
        entries
            .map(|entry| (entry.0.get_ref().as_ref(), self.inner(entry)))
            .collect()
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((_, node)) = self.entry(key) else {
            return Vec::new();
        };
        let (nodes, is_array): (Vec<&'a Node<'a>>, bool) = match node.get_ref() {
            DeValue::Array(items) => (items.iter().collect(), true),
            _ => (vec![node], false),
        };
        let mut sections = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.key(key));
            let place = self.at(node.span());
            if let (Some(table), true) = (node.get_ref().as_table(), is_array) {
                sections.push(self.child(path, Some(table), Some(place)));
            } else {
                let message = format!("must be an array of tables, not {}", kind(node.get_ref()));
                let bad = Bad::new(message, format!("write [[{}]]", self.key(key)));
                self.context.problem(Some(&place), &path, bad);
            }
        }
        sections
    }

    fn inner(&self, (key, node): Entry<'a>) -> Section<'a> {
        let path = self.key(key.get_ref());
        let place = self.at(key.span());
        match node.get_ref().as_table() {
            Some(table) => self.child(path, Some(table), Some(place)),
            None => {
                let message = format!("must be a table, not {}", kind(node.get_ref()));
                let bad = Bad::new(message, format!("write [{path}], its keys below it"));
                self.hide(node);
                self.context.problem(Some(&place), &path, bad);
                self.child(path, None, self.place.clone())
            }
        }
    }

    /// An entry by name; the name is known from then on.
    fn entry(&self, key: &'static str) -> Option<Entry<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table?.get_key_value(key)
    }

    /// All entries, in the order of the file.
    fn entries(&self) -> Vec<Entry<'a>> {
        let mut entries: Vec<_> = self.table.into_iter().flatten().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// A place in this file.
    fn at(&self, span: Range<usize>) -> Place {
        Place {
            file: self.file,
            span,
        }
    }

    /// Full path of a key of this table.
    fn key(&self, key: &str) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = match !key.is_empty() && key.chars().all(bare) {
            true => key.to_owned(),
            false => format!("{key:?}"),
        };
        match self.path.as_str() {
            "" => key,
            path => format!("{path}.{key}"),
        }
    }

    /// A single value, references resolved; `None` when missing, or when it could not be had (noted).
    pub(super) fn given(&self, key: &'static str) -> Option<Given> {
        let (_, node) = self.entry(key)?;
        self.resolve(node, self.key(key))
    }

    /// Every value of the table, whatever the keys' names.
    pub(super) fn all_given(&self) -> Vec<(&'a str, Given)> {
        let resolve = |(key, node): Entry<'a>| {
            let key: &'a str = key.get_ref();
            Some((key, self.resolve(node, self.key(key))?))
        };
        self.entries().into_iter().filter_map(resolve).collect()
    }

    /// The values of an array, `None` when missing.
    pub(super) fn array(&self, key: &'static str) -> Option<Vec<Given>> {
        let value = self.value(key)?;
        let Some(items) = value.as_array() else {
            let message = format!("must be an array, not {}", kind(value));
            self.problem(key, message, "put it in brackets: [\"…\"]");
            return Some(Vec::new());
        };
        let resolve = |(index, node)| self.resolve(node, format!("{}[{index}]", self.key(key)));
        Some(items.iter().enumerate().filter_map(resolve).collect())
    }

    /// Reads a value with `parse`; `None` when it is missing, or wrong (noted).
    pub(super) fn maybe<T>(&self, key: &'static str, parse: impl Fn(&Given) -> Result<T, Bad>) -> Option<T> {
        let given = self.given(key)?;
        self.accept(&given, parse(&given))
    }

    fn resolve(&self, node: &'a Node<'a>, key: String) -> Option<Given> {
        let place = self.at(node.span());
        let value = node.get_ref();
        let Some(scalar) = Scalar::of(value) else {
            let bad = Bad::new(
                format!("must be a single value, not {}", kind(value)),
                "see config/weir.toml",
            );
            self.context.problem(Some(&place), &key, bad);
            return None;
        };
        let (scalar, referred) = match scalar {
            Scalar::Text(text) => {
                self.warn_of_variables(&text, &place, &key);
                match references::has_reference(&text) {
                    false => (Scalar::Text(text), false),
                    true => match references::resolve(&text, self.root?, self.context.source) {
                        Ok(scalar) => (scalar, true),
                        Err(all) => {
                            all.into_iter()
                                .for_each(|bad| self.context.problem(Some(&place), &key, bad));
                            return None;
                        }
                    },
                }
            }
            scalar => (scalar, false),
        };
        Some(Given {
            scalar,
            place,
            key,
            referred,
        })
    }

    /// `$HOME` is hardly meant literally. In a password a dollar sign may well be, so there only a value that is nothing
    /// but a variable counts, and is not quoted.
    fn warn_of_variables(&self, text: &str, place: &Place, key: &str) {
        let Some(name) = references::shell_variable(text) else {
            return;
        };
        let (message, name) = match key.split('.').any(names_a_secret) {
            false => (format!("${name} is taken literally"), name),
            true if text.strip_prefix('$') == Some(name) => (
                "is taken literally, though it looks like a variable".to_owned(),
                "NAME",
            ),
            true => return,
        };
        let hint = format!("write $env{{{name}}} for the environment variable");
        self.context.warning(Some(place), key, &message, &hint);
    }

    /// Refuses every key that was not read.
    pub(super) fn finish(&self) {
        for entry @ (key, _) in self.unread() {
            let hint = match (self.nearest(key.get_ref(), 0.7), elsewhere(key.get_ref())) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(path)) => format!("did you mean `{path}`?"),
                (None, None) => format!("known here: {}", self.known.borrow().join(", ")),
            };
            self.no_such_key(entry, hint);
        }
    }

    /// Notes that a key is missing; where a misspelt one stands, at that one.
    pub(super) fn missing(&self, key: &'static str, message: &str, hint: &str) {
        self.has(key);
        let alike = |(other, _): &Entry<'_>| likeness(key, other.get_ref());
        let near = self
            .unread()
            .into_iter()
            .max_by(|a, b| alike(a).total_cmp(&alike(b)));
        match near.filter(|entry| alike(entry) >= 0.8) {
            None => self.problem(key, message, hint),
            Some(entry) => self.no_such_key(entry, format!("did you mean `{key}`?")),
        }
    }

    fn no_such_key(&self, (key, node): Entry<'a>, hint: String) {
        // It may be a misspelt password.
        self.hide(node);
        let bad = Bad::new("no such key", hint);
        self.context
            .problem(Some(&self.at(key.span())), &self.key(key.get_ref()), bad);
    }

    /// Ignores keys that were not read, for WSO2's tables; warns where one is nearly a key that counts.
    pub(super) fn finish_leniently(&self) {
        for (key, _) in self.unread() {
            if let Some(near) = self.nearest(key.get_ref(), 0.88) {
                let (place, path) = (self.at(key.span()), self.key(key.get_ref()));
                let hint = format!("did you mean `{near}`?");
                self.context
                    .warning(Some(&place), &path, "unknown here, ignored", &hint);
            }
        }
    }

    fn unread(&self) -> Vec<Entry<'a>> {
        let known = self.known.borrow();
        let unread = |(key, _): &Entry<'_>| !known.contains(&key.get_ref().as_ref());
        self.entries().into_iter().filter(unread).collect()
    }

    fn nearest(&self, key: &str, at_least: f64) -> Option<&'static str> {
        let known = self.known.borrow();
        let alike = |known: &&str| likeness(known, key);
        let nearest = known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        nearest.filter(|near| alike(near) >= at_least)
    }

    /// Keeps all values below a node out of what is shown.
    fn hide(&self, node: &Node<'_>) {
        match node.get_ref() {
            DeValue::Array(items) => items.iter().for_each(|item| self.hide(item)),
            DeValue::Table(table) => table.iter().for_each(|(_, node)| self.hide(node)),
            _ => self.context.hide(&self.at(node.span())),
        }
    }
}

/// The key of that name in another table: the table's header may be missing, or commented out.
fn elsewhere(key: &str) -> Option<&'static str> {
    let paths = keys()
        .iter()
        .map(|known| known.path)
        .filter(|path| !path.contains(['[', 'N']));
    paths
        .into_iter()
        .find(|path| path.rsplit_once('.').is_some_and(|(_, last)| last == key))
}
