//! Reading single values of a table: references resolved, the default standing in where a value is missing or
//! wrong, so that one run finds every problem.

use super::document::{Entry, Node, Value};
use super::problem::{Bad, Place, names_a_secret};
use super::raw::Section;
use super::references::{self, Scalar};

/// A value as it was given.
pub(super) struct Given {
    /// Its value, references resolved.
    pub(super) scalar: Scalar,
    /// Where it stands.
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
            _ if self.referred => "what the reference brings in".into(),
            Scalar::Text(text) => format!("{text:?}"),
            Scalar::Integer(n) => n.to_string(),
            Scalar::Float(n) => format!("{n:?}"),
            Scalar::Boolean(b) => b.to_string(),
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
}

impl<'a> Section<'a> {
    /// A single value, references resolved; `None` when missing, or when it could not be had (noted).
    pub(super) fn given(&self, key: &'static str) -> Option<Given> {
        let entry = self.entry(key)?;
        self.resolve(&entry.node, self.key(key))
    }

    /// Every value of the table, whatever the keys' names.
    pub(super) fn all_given(&self) -> Vec<(&'a str, Given)> {
        let resolve = |e: &'a Entry| Some((e.key.as_str(), self.resolve(&e.node, self.key(&e.key))?));
        self.entries().iter().filter_map(resolve).collect()
    }

    /// The values of an array, `None` when missing.
    pub(super) fn array(&self, key: &'static str) -> Option<Vec<Given>> {
        let entry = self.entry(key)?;
        let Value::Array(items) = &entry.node.value else {
            let message = format!("must be an array, not {}", entry.node.kind());
            self.problem(key, message, "put it in brackets: [\"…\"]");
            return Some(Vec::new());
        };
        let resolve = |(index, node)| self.resolve(node, format!("{}[{index}]", self.key(key)));
        Some(items.iter().enumerate().filter_map(resolve).collect())
    }

    /// Reads a value with `parse`; the default stands in where it is missing or wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl Fn(&Given) -> Result<T, Bad>,
    ) -> T {
        self.maybe(key, parse).unwrap_or(default)
    }

    /// Reads a value that has no default.
    pub(super) fn maybe<T>(&self, key: &'static str, parse: impl Fn(&Given) -> Result<T, Bad>) -> Option<T> {
        let given = self.given(key)?;
        match parse(&given) {
            Ok(value) => Some(value),
            Err(bad) => {
                self.context.problem(Some(&given.place), &given.key, bad);
                None
            }
        }
    }

    /// Nobody means `$HOME` as it stands. In a password a dollar sign may well stand, so there only a value that is
    /// nothing but a variable counts, and is not quoted.
    fn warn_of_variables(&self, text: &str, place: &Place, key: &str) {
        let Some(name) = references::shell_variable(text) else {
            return;
        };
        let (message, name) = match key.split('.').any(names_a_secret) {
            false => (format!("${name} is taken as it stands"), name),
            true if text.strip_prefix('$') == Some(name) => (
                "is taken as it stands, though it looks like a variable".to_owned(),
                "NAME",
            ),
            true => return,
        };
        let hint = format!("write $env{{{name}}} for the environment variable");
        self.context.warning(Some(place), key, &message, &hint);
    }

    fn resolve(&self, node: &'a Node, key: String) -> Option<Given> {
        let place = self.at(node.span.clone());
        if let Value::Text(text) = &node.value {
            self.warn_of_variables(text, &place, &key);
        }
        let (scalar, referred) = match &node.value {
            Value::Integer(n) => (Scalar::Integer(*n), false),
            Value::Float(n) => (Scalar::Float(*n), false),
            Value::Boolean(b) => (Scalar::Boolean(*b), false),
            Value::Text(text) if references::has_reference(text) => {
                match references::resolve(text, self.root?, self.context.source) {
                    Ok(scalar) => (scalar, true),
                    Err(all) => {
                        all.into_iter()
                            .for_each(|bad| self.context.problem(Some(&place), &key, bad));
                        return None;
                    }
                }
            }
            Value::Text(text) => (Scalar::Text(text.clone()), false),
            Value::Datetime | Value::Array(_) | Value::Table(_) => {
                let bad = Bad::new(
                    format!("must be a single value, not {}", node.kind()),
                    "see config/weir.toml",
                );
                self.context.problem(Some(&place), &key, bad);
                return None;
            }
        };
        Some(Given {
            scalar,
            place,
            key,
            referred,
        })
    }
}
