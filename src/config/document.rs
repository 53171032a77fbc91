//! One configuration file, parsed by `toml` into a tree in which every key and value has its place.
//!
//! Serde would stop at the first wrong value; [`Section`](super::section::Section) walks this tree instead, so that
//! one run reports everything.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::names_a_secret;
use super::references;

/// Limit of a file: everything below may take time quadratic in its size.
pub(super) const TEXT_MAX_BYTES: usize = 1 << 20;

/// A value with its place.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// A key with its place, and its value.
pub(super) type Entry<'a> = (&'a Spanned<DeString<'a>>, &'a Node<'a>);

/// One file.
pub(super) struct Document<'a> {
    /// As given on the command line.
    pub(super) path: &'a Path,
    /// Its whole text; empty when it is too large to be read.
    pub(super) text: &'a str,
    /// Its top-level table.
    pub(super) root: DeTable<'a>,
}

/// A syntax error.
pub(super) struct Syntax {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

impl<'a> Document<'a> {
    /// Parses `text`; with syntax errors the tree holds what could be understood.
    pub(super) fn parse(path: &'a Path, text: &'a str) -> (Self, Vec<Syntax>) {
        if text.len() > TEXT_MAX_BYTES {
            let message = format!(
                "{} bytes are too many for a configuration file (limit 1 MiB)",
                text.len()
            );
            let (text, root) = ("", DeTable::new());
            return (Self { path, text, root }, vec![Syntax { span: 0..0, message }]);
        }
        let (root, errors) = DeTable::parse_recoverable(text);
        let syntax = |e: &toml::de::Error| Syntax {
            span: e.span().unwrap_or(0..0),
            message: e.message().to_owned(),
        };
        let root = root.into_inner();
        (Self { path, text, root }, errors.iter().map(syntax).collect())
    }

    /// The entries along a dotted path, as far as they exist, and whether that is the whole of it.
    pub(super) fn entries(&'a self, path: &str) -> (Vec<Entry<'a>>, bool) {
        let mut found = Vec::new();
        let (mut table, mut rest) = (Some(&self.root), path);
        loop {
            // The name of a group may have dots in it.
            let begins = |(key, _): &Entry<'_>| {
                let after = rest.strip_prefix(key.get_ref().as_ref());
                after.is_some_and(|after| after.is_empty() || after.starts_with('.'))
            };
            let Some(entry @ (key, node)) = table.into_iter().flatten().find(begins) else {
                return (found, false);
            };
            found.push(entry);
            match rest.get(key.get_ref().len() + 1..) {
                Some(after) => (table, rest) = (node.get_ref().as_table(), after),
                None => return (found, true),
            }
        }
    }

    /// Byte ranges of the values that must not be shown, by the names of their keys.
    pub(super) fn secrets(&self) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        table_secrets(&self.root, false, &mut spans);
        spans
    }
}

/// Where to point to for an entry: its value, or its key where the value is long.
pub(super) fn span((key, node): Entry<'_>) -> Range<usize> {
    match node.get_ref() {
        DeValue::Table(_) | DeValue::Array(_) => key.span(),
        _ => node.span(),
    }
}

/// The kind of a value, in the words of a user.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn table_secrets(table: &DeTable<'_>, secret: bool, spans: &mut Vec<Range<usize>>) {
    for (key, node) in table {
        secrets(node, secret || names_a_secret(key.get_ref()), spans);
    }
}

fn secrets(node: &Node<'_>, secret: bool, spans: &mut Vec<Range<usize>>) {
    match node.get_ref() {
        DeValue::Table(table) => table_secrets(table, secret, spans),
        DeValue::Array(items) => items.iter().for_each(|item| secrets(item, secret, spans)),
        // A reference gives nothing away.
        DeValue::String(text) if references::is_nothing_but(text) => {}
        // A login inside a URL.
        DeValue::String(text) if text.contains("://") && text.contains('@') => spans.push(node.span()),
        _ if secret => spans.push(node.span()),
        _ => {}
    }
}
