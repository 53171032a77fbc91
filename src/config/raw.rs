//! The tables of a file as the rest of the room sees them: each read names a key and thereby makes it known.
//!
//! [`Section`] finds its way here; `given` reads single values, `unknown` deals with keys that nobody read.

use std::cell::RefCell;
use std::ops::Range;

use super::context::Context;
use super::document::{Entry, Node, Value};
use super::problem::{Bad, Place};

/// One table, or the absence of one.
pub(super) struct Section<'a> {
    /// Where problems go.
    pub(super) context: &'a Context<'a>,
    /// Full path of this table, `""` for the top level.
    pub(super) path: String,
    file: usize,
    /// The file's top level, where `$ref{}` begins.
    pub(super) root: Option<&'a Node>,
    node: Option<&'a Node>,
    place: Option<Place>,
    /// Keys that were read.
    pub(super) known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The top level of a file; an empty table when there is no such file.
    pub(super) fn top(context: &'a Context<'a>, file: Option<usize>) -> Self {
        let document = file.and_then(|file| context.files.get(file));
        Self {
            context,
            path: String::new(),
            file: file.unwrap_or(0),
            root: document.map(|d| &d.root),
            node: document.map(|d| &d.root),
            place: None,
            known: RefCell::default(),
        }
    }

    /// Whether this table stands in the file.
    pub(super) fn exists(&self) -> bool {
        self.node.is_some()
    }

    /// Whether a key of it does.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// The place of the beginning of the file.
    pub(super) fn file_place(&self) -> Option<Place> {
        self.root.map(|_| self.at(0..0))
    }

    /// Whether a key is there and is an array without items.
    pub(super) fn is_empty_array(&self, key: &'static str) -> bool {
        self.entry(key)
            .is_some_and(|e| matches!(&e.node.value, Value::Array(items) if items.is_empty()))
    }

    /// Whether a key is there and is a table.
    pub(super) fn is_table(&self, key: &'static str) -> bool {
        self.entry(key)
            .is_some_and(|entry| matches!(entry.node.value, Value::Table(_)))
    }

    /// The place of a key, else of the table.
    pub(super) fn place(&self, key: &'static str) -> Option<Place> {
        match self.entry(key) {
            Some(entry) => Some(self.at(match entry.node.value {
                Value::Table(_) | Value::Array(_) => entry.key_span.clone(),
                _ => entry.node.span.clone(),
            })),
            None => self.place.clone(),
        }
    }

    /// The place of the table's own name.
    pub(super) fn own_place(&self) -> Option<Place> {
        self.place.clone()
    }

    /// The place of a key whose name only the file knows.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.node?.entry(key).map(|entry| self.at(entry.key_span.clone()))
    }

    /// Notes a problem with a key.
    pub(super) fn problem(&self, key: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        self.context
            .problem(self.place(key).as_ref(), &self.key(key), Bad::new(message, hint));
    }

    /// Whether the values of these keys, or their defaults, are what the user meant.
    pub(super) fn sound(&self, keys: &[&'static str]) -> bool {
        keys.iter().all(|key| !self.context.noted(&self.key(key)))
    }

    /// Notes a warning about a key.
    pub(super) fn warning(&self, key: &'static str, message: &str, hint: &str) {
        self.context
            .warning(self.place(key).as_ref(), &self.key(key), message, hint);
    }

    /// A table inside this one, empty when it is missing.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let entry = self.entry(key);
        self.inner(key, entry)
    }

    /// The tables inside this one whatever their names, for `[group.NAME]`.
    pub(super) fn sections(&self) -> Vec<(&'a str, Section<'a>)> {
        self.entries()
            .iter()
            .map(|e| (e.key.as_str(), self.inner(&e.key, Some(e))))
            .collect()
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(entry) = self.entry(key) else {
            return Vec::new();
        };
        let items = match &entry.node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        let mut sections = Vec::new();
        for (index, node) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.key(key));
            if matches!(node.value, Value::Table(_)) && matches!(entry.node.value, Value::Array(_)) {
                sections.push(self.of(path, node, self.at(node.span.clone())));
            } else {
                let message = format!("must be an array of tables, not {}", node.kind());
                let hint = format!("write [[{}]]", self.key(key));
                self.context
                    .problem(Some(&self.at(node.span.clone())), &path, Bad::new(message, hint));
            }
        }
        sections
    }

    fn inner(&self, key: &str, entry: Option<&'a Entry>) -> Section<'a> {
        let path = self.key(key);
        match entry {
            Some(entry) if matches!(entry.node.value, Value::Table(_)) => {
                self.of(path, &entry.node, self.at(entry.key_span.clone()))
            }
            Some(entry) => {
                let place = self.at(entry.key_span.clone());
                let bad = Bad::new(
                    format!("must be a table, not {}", entry.node.kind()),
                    format!("write [{path}], its keys below it"),
                );
                self.hide(&entry.node);
                self.context.problem(Some(&place), &path, bad);
                self.absent(path)
            }
            None => self.absent(path),
        }
    }

    fn of(&self, path: String, node: &'a Node, place: Place) -> Section<'a> {
        Section {
            context: self.context,
            path,
            file: self.file,
            root: self.root,
            node: Some(node),
            place: Some(place),
            known: RefCell::default(),
        }
    }

    fn absent(&self, path: String) -> Section<'a> {
        Section {
            context: self.context,
            path,
            file: self.file,
            root: self.root,
            node: None,
            place: self.place.clone(),
            known: RefCell::default(),
        }
    }

    /// An entry by name; the name is known from then on.
    pub(super) fn entry(&self, key: &'static str) -> Option<&'a Entry> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.node?.entry(key)
    }

    /// All entries, in the order of the file.
    pub(super) fn entries(&self) -> &'a [Entry] {
        match self.node.map(|n| &n.value) {
            Some(Value::Table(entries)) => entries,
            _ => &[],
        }
    }

    /// A place in this file.
    pub(super) fn at(&self, span: Range<usize>) -> Place {
        Place {
            file: self.file,
            span,
        }
    }

    /// Full path of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        let bare = key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            && !key.is_empty();
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }
}
