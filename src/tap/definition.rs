//! Stream definitions: which attributes an event has, in which order, of which types.
//!
//! The format is WSO2's own (`name`, `version`, `metaData`, `correlationData`, `payloadData`, each attribute with
//! `name` and `type`), with one addition: `"masked": false` shows an attribute without unmasking.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::stream::{THROTTLE_ATTRIBUTES, THROTTLE_NAME, THROTTLE_VERSION};

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// `i32` length and UTF-8.
    #[serde(alias = "string", alias = "String")]
    #[serde(rename = "STRING")]
    Text,
    /// Four bytes.
    #[serde(rename = "INT", alias = "int")]
    Int,
    /// Eight bytes.
    #[serde(rename = "LONG", alias = "long")]
    Long,
    /// Four bytes.
    #[serde(rename = "FLOAT", alias = "float")]
    Float,
    /// Eight bytes.
    #[serde(rename = "DOUBLE", alias = "double")]
    Double,
    /// One byte.
    #[serde(rename = "BOOL", alias = "bool", alias = "BOOLEAN", alias = "boolean")]
    Bool,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether it may identify a person; true unless the definition says otherwise.
    #[serde(default = "yes")]
    pub masked: bool,
}

fn yes() -> bool {
    true
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Definition {
    name: String,
    version: String,
    /// Attributes that come first.
    #[serde(default, rename = "metaData")]
    pub meta: Vec<Attribute>,
    /// Those after them.
    #[serde(default, rename = "correlationData")]
    pub correlation: Vec<Attribute>,
    /// And those at the end.
    #[serde(default, rename = "payloadData")]
    pub payload: Vec<Attribute>,
}

impl Definition {
    /// `name:version`, as in an event.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    /// The definition of throttle events (docs/PROTOCOL.md). What identifies the caller is masked: the application's key
    /// ends in its user, and the properties hold addresses, headers, query parameters and claims.
    fn throttle() -> Self {
        let attribute = |name: &str| Attribute {
            name: name.into(),
            kind: Kind::Text,
            masked: matches!(name, "appKey" | "userId" | "properties"),
        };
        Self {
            name: THROTTLE_NAME.into(),
            version: THROTTLE_VERSION.into(),
            meta: Vec::new(),
            correlation: Vec::new(),
            payload: THROTTLE_ATTRIBUTES.into_iter().map(attribute).collect(),
        }
    }
}

/// All streams that can be decoded.
#[derive(Debug, Clone)]
pub struct Definitions {
    by_id: BTreeMap<String, Definition>,
}

impl Definitions {
    /// The throttle stream alone.
    #[must_use]
    pub fn built_in() -> Self {
        let throttle = Definition::throttle();
        Self {
            by_id: BTreeMap::from([(throttle.id(), throttle)]),
        }
    }

    /// Adds those of a file: one definition, several in a row, or an array. They replace others of the same id.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let found: Vec<Definition> = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).map_err(|e| e.to_string())?
        } else {
            let each = serde_json::Deserializer::from_str(text).into_iter();
            each.collect::<Result<_, _>>().map_err(|e| e.to_string())?
        };
        if found.is_empty() {
            return Err("there is no stream definition".into());
        }
        for definition in found {
            if definition.name.is_empty() || definition.version.is_empty() {
                return Err("a stream definition has an empty name or version".into());
            }
            self.by_id.insert(definition.id(), definition);
        }
        Ok(())
    }

    /// The definition of a stream id.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<&Definition> {
        self.by_id.get(id)
    }
}
