//! The files that a configuration brings in by `$file{}`, so that a change of one can be noticed.

use std::path::PathBuf;

use super::document::{Document, Node, Value};
use super::parse::Source;
use super::references::{Piece, pieces};

/// Every path that a `$file{}` of the texts names, whether or not it can be read, in order and each once.
#[must_use]
pub fn files_referred_to(source: &Source) -> Vec<PathBuf> {
    let texts = source.weir_toml.iter().chain(&source.deployment_toml);
    let mut found = Vec::new();
    for (path, text) in texts {
        let (document, _) = Document::parse(path.clone(), text.clone());
        collect(&document.root, &mut found);
    }
    found.sort();
    found.dedup();
    found
}

fn collect(node: &Node, found: &mut Vec<PathBuf>) {
    match &node.value {
        Value::Text(text) => found.extend(pieces(text).iter().filter_map(|piece| match piece {
            Piece::Reference {
                kind: "file",
                argument,
            } => Some(PathBuf::from(argument)),
            _ => None,
        })),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Table(entries) => entries.iter().for_each(|entry| collect(&entry.node, found)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime => {}
    }
}
