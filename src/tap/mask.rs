//! Masks what may identify a person; equal values get equal marks.
//!
//! A value becomes `~` and ten hexadecimal digits of its HMAC, under a key that lives as long as one tap. So one can
//! follow a throttled user without learning who it is; names can be neither guessed nor compared between two taps.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use serde_json::Value;

/// Shorter masked values are not searched for inside others: they would be found everywhere.
const NAME_MIN_CHARS: usize = 3;

/// Makes the pseudonyms of one tap.
#[derive(Debug)]
pub struct Mask {
    key: Key,
}

impl Mask {
    /// With a key that is used once.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            key: Key::new(HMAC_SHA256, key),
        }
    }

    /// The pseudonym of a value.
    #[must_use]
    pub fn hide(&self, value: &str) -> String {
        let tag = sign(&self.key, value.as_bytes());
        let digits = tag.as_ref().iter().take(5).map(|b| format!("{b:02x}"));
        std::iter::once("~".to_owned()).chain(digits).collect()
    }

    /// A masked text. JSON objects and arrays keep their form and the names of their fields.
    #[must_use]
    pub fn hide_text(&self, text: &str) -> Value {
        if text.starts_with(['{', '['])
            && let Ok(mut value) = serde_json::from_str(text)
        {
            self.hide_leaves(&mut value);
            return value;
        }
        Value::String(self.hide(text))
    }

    /// A text in which names that are masked elsewhere in the event are masked too: throttle keys by user end in the
    /// user's name.
    #[must_use]
    pub fn hide_names(&self, text: &str, names: &[&str]) -> String {
        let mut text = text.to_owned();
        for name in names.iter().filter(|n| n.chars().count() >= NAME_MIN_CHARS) {
            if text.contains(name) {
                text = text.replace(name, &self.hide(name));
            }
        }
        text
    }

    fn hide_leaves(&self, value: &mut Value) {
        match value {
            Value::Null => {}
            Value::String(text) => *value = Value::String(self.hide(text)),
            Value::Bool(_) | Value::Number(_) => *value = Value::String(self.hide(&value.to_string())),
            Value::Array(all) => all.iter_mut().for_each(|v| self.hide_leaves(v)),
            Value::Object(all) => all.values_mut().for_each(|v| self.hide_leaves(v)),
        }
    }
}
