//! A decoded event as one line of JSON, in the order of its definition.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::Mask;
use super::event::{Decoded, Value};

/// 9999-12-31T23:59:59.999Z; later times have no date.
const DATED_MS_MAX: u64 = 253_402_300_799_999;

/// One line, without its newline; `mask`: `None` shows everything.
#[must_use]
pub fn line(event: &Decoded<'_>, length: usize, mask: Option<&Mask>) -> String {
    let names: Vec<&str> = event
        .attributes()
        .filter(|(attribute, _)| attribute.masked)
        .filter_map(|(_, value)| match value {
            Value::Text(text) => Some(text.as_ref()),
            _ => None,
        })
        // An application's key is its id, a colon, and its user.
        .flat_map(|text| [Some(text), text.split_once(':').map(|(_, user)| user)])
        .flatten()
        .collect();
    let mut object = Object::default();
    let date = u64::try_from(event.timestamp_ms)
        .ok()
        .filter(|ms| *ms <= DATED_MS_MAX);
    if let Some(ms) = date {
        let time = UNIX_EPOCH + Duration::from_millis(ms);
        object.put("time", &humantime::format_rfc3339_millis(time).to_string());
    }
    object.put("timestamp", &event.timestamp_ms);
    object.put("stream", &event.stream);
    object.put("bytes", &length);
    for (title, section) in ["meta", "correlation", "payload"]
        .into_iter()
        .zip(&event.sections)
    {
        if section.is_empty() {
            continue;
        }
        let mut inner = Object::default();
        for (attribute, value) in section {
            match (mask, value) {
                (Some(mask), value) if attribute.masked => inner.put(&attribute.name, &hidden(mask, value)),
                (Some(mask), Value::Text(text)) => {
                    inner.put(&attribute.name, &mask.hide_names(text, &names));
                }
                _ => put_value(&mut inner, &attribute.name, value),
            }
        }
        object.put_raw(title, &inner.end());
    }
    if !event.arbitrary.is_empty() {
        let mut inner = Object::default();
        for (key, value) in &event.arbitrary {
            match mask {
                Some(mask) => inner.put(key, &mask.hide_text(value)),
                None => inner.put(key, value),
            }
        }
        object.put_raw("arbitrary", &inner.end());
    }
    if let Some(problem) = &event.problem {
        object.put("problem", problem);
        if mask.is_none() && event.sections.iter().all(Vec::is_empty) {
            let hex: String = event.body.iter().map(|b| format!("{b:02x}")).collect();
            object.put("body_hex", &hex);
        }
    }
    harmless(&object.end())
}

fn hidden(mask: &Mask, value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Text(text) => mask.hide_text(text),
        Value::Int(n) => mask.hide(&n.to_string()).into(),
        Value::Long(n) => mask.hide(&n.to_string()).into(),
        Value::Float(n) => mask.hide(&n.to_string()).into(),
        Value::Double(n) => mask.hide(&n.to_string()).into(),
        Value::Bool(b) => mask.hide(&b.to_string()).into(),
    }
}

/// JSON has no words for what is not finite: those become strings, `"NaN"`, `"inf"`, `"-inf"`.
fn put_value(into: &mut Object, name: &str, value: &Value<'_>) {
    match value {
        Value::Null => into.put_raw(name, "null"),
        Value::Text(text) => into.put(name, text),
        Value::Int(n) => into.put(name, n),
        Value::Long(n) => into.put(name, n),
        Value::Float(n) if n.is_finite() => into.put(name, n),
        Value::Float(n) => into.put(name, &n.to_string()),
        Value::Double(n) if n.is_finite() => into.put(name, n),
        Value::Double(n) => into.put(name, &n.to_string()),
        Value::Bool(b) => into.put(name, b),
    }
}

/// An object that keeps the order in which it is filled.
#[derive(Default)]
struct Object(String);

impl Object {
    fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        // Only maps with keys that are no text, or a failing writer, could fail here.
        let text = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
        self.put_raw(name, &text);
    }

    fn put_raw(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0
            .push_str(&serde_json::to_string(name).unwrap_or_else(|_| "\"?\"".into()));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn end(self) -> String {
        if self.0.is_empty() {
            "{}".into()
        } else {
            self.0 + "}"
        }
    }
}

/// JSON lets characters pass that steer a terminal (C1 controls) or turn the direction of text; they occur inside of
/// strings only, where an escape means the same.
fn harmless(json: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !json.contains(steers) {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if steers(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}
