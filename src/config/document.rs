//! A TOML file as a tree in which every key and value knows its place.
//!
//! Serde would stop at the first wrong value and forgets places inside most enums; the reader in `raw` walks
//! this tree instead and so can report everything at once.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::problem::{self, Place};
use super::references;

/// Larger files are refused: no configuration is, and everything below may be quadratic in small things.
pub(super) const TEXT_MAX_BYTES: usize = 1 << 20;

/// One file.
pub(super) struct Document {
    /// As given on the command line.
    pub(super) path: PathBuf,
    /// Its whole text.
    pub(super) text: String,
    /// Its top-level table.
    pub(super) root: Node,
}

/// A value and the bytes of the file it came from.
pub(super) struct Node {
    /// Byte range in the text.
    pub(super) span: Range<usize>,
    /// The value.
    pub(super) value: Value,
}

/// A TOML value.
pub(super) enum Value {
    /// References are not yet resolved.
    Text(String),
    /// Saturated where TOML text exceeds it.
    Integer(i64),
    /// Any float.
    Float(f64),
    /// true or false.
    Boolean(bool),
    /// No key of weir wants one.
    Datetime,
    /// In order.
    Array(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
}

/// One key of a table.
pub(super) struct Entry {
    /// Its name.
    pub(super) key: String,
    /// Where the name stands.
    pub(super) key_span: Range<usize>,
    /// What it is set to.
    pub(super) node: Node,
}

/// A syntax error.
#[derive(Debug)]
pub(super) struct Syntax {
    /// Where.
    pub(super) span: Range<usize>,
    /// What.
    pub(super) message: String,
}

impl Document {
    /// Parses `text`; with syntax errors the tree holds what could be understood.
    pub(super) fn parse(path: PathBuf, text: String) -> (Self, Vec<Syntax>) {
        if text.len() > TEXT_MAX_BYTES {
            let message = format!("{} bytes are no configuration file (limit 1 MiB)", text.len());
            let root = Node {
                span: 0..0,
                value: Value::Table(Vec::new()),
            };
            let document = Self {
                path,
                text: String::new(),
                root,
            };
            return (document, vec![Syntax { span: 0..0, message }]);
        }
        let (table, errors) = DeTable::parse_recoverable(&text);
        let root = Node {
            span: 0..0,
            value: Value::Table(entries(table.get_ref())),
        };
        let errors = errors
            .iter()
            .map(|e| Syntax {
                span: e.span().unwrap_or(0..0),
                message: e.message().to_owned(),
            })
            .collect();
        (Self { path, text, root }, errors)
    }

    /// The place of a key path, or of its nearest ancestor; `None` when not even the first key stands here.
    pub(super) fn place(&self, file: usize, path: &[&str]) -> Option<Place> {
        let mut span = None;
        let mut node = &self.root;
        for key in path {
            let Some(entry) = node.entry(key) else { break };
            node = &entry.node;
            span = Some(match node.value {
                Value::Array(_) | Value::Table(_) => entry.key_span.clone(),
                _ => node.span.clone(),
            });
        }
        span.map(|span| Place { file, span })
    }

    /// Byte ranges of the values nobody may see, by the names of their keys.
    pub(super) fn secrets(&self) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        secrets(&self.root, false, &mut spans);
        spans
    }
}

impl Node {
    /// The entry of that name, if this is a table that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// What a user would call this value.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

/// The depth is bounded by the parser's own limit.
fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: node(value.span(), value.get_ref()),
        })
        .collect();
    entries.sort_by_key(|e| e.key_span.start);
    entries
}

fn node(span: Range<usize>, value: &DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(s) => Value::Text(s.to_string()),
        DeValue::Integer(i) => Value::Integer(integer(i.as_str(), i.radix())),
        DeValue::Float(f) => Value::Float(f.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(items.iter().map(|i| node(i.span(), i.get_ref())).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
    };
    Node { span, value }
}

fn integer(text: &str, radix: u32) -> i64 {
    let saturated = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    i64::from_str_radix(text, radix).unwrap_or(saturated)
}

fn secrets(node: &Node, secret: bool, spans: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                secrets(&entry.node, secret || problem::names_a_secret(&entry.key), spans);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| secrets(item, secret, spans)),
        // A value that only refers to a secret is none.
        Value::Text(text) if references::is_nothing_but(text) => {}
        // A login inside a URL.
        Value::Text(text) if text.contains("://") && text.contains('@') => spans.push(node.span.clone()),
        _ if secret => spans.push(node.span.clone()),
        _ => {}
    }
}
