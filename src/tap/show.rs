//! A decoded event as one line of JSON, in the order of its definition.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::Mask;
use super::event::{Decoded, Value};
use crate::output::one_line_json;

/// 9999-12-31T23:59:59.999Z; later times have no date.
const DATED_MS_MAX: u64 = 253_402_300_799_999;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    timestamp: i64,
    stream: &'a str,
    bytes: usize,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    meta: Fields<'a>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    correlation: Fields<'a>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    payload: Fields<'a>,
    #[serde(skip_serializing_if = "Fields::is_empty")]
    arbitrary: Fields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

/// Names and values in their order; a name may stand there twice.
struct Fields<'a>(Vec<(&'a str, Shown<'a>)>);

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Open(&'a Value<'a>),
    Text(&'a str),
    Masked(Json),
}

impl Fields<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

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
    let [meta, correlation, payload] = event.sections.each_ref().map(|section| {
        let fields = section.iter().map(|(attribute, value)| {
            let shown = match (mask, value) {
                (Some(mask), value) if attribute.masked => Shown::Masked(masked(mask, value)),
                (Some(mask), Value::Text(text)) => Shown::Masked(mask.hide_names(text, &names).into()),
                _ => Shown::Open(value),
            };
            (attribute.name.as_str(), shown)
        });
        Fields(fields.collect())
    });
    let arbitrary = event.arbitrary.iter().map(|(key, value)| {
        let shown = mask.map_or(Shown::Text(value), |mask| Shown::Masked(mask.hide_text(value)));
        (key.as_ref(), shown)
    });
    let date = u64::try_from(event.timestamp_ms)
        .ok()
        .filter(|ms| *ms <= DATED_MS_MAX);
    let is_opaque = mask.is_none() && event.problem.is_some() && event.sections.iter().all(Vec::is_empty);
    let line = Line {
        time: date.map(|ms| {
            let time = UNIX_EPOCH + Duration::from_millis(ms);
            humantime::format_rfc3339_millis(time).to_string()
        }),
        timestamp: event.timestamp_ms,
        stream: &event.stream,
        bytes: length,
        meta,
        correlation,
        payload,
        arbitrary: Fields(arbitrary.collect()),
        problem: event.problem.as_deref(),
        body_hex: is_opaque.then(|| event.body.iter().map(|b| format!("{b:02x}")).collect()),
    };
    // Only maps with keys that are not text, or a failing writer, could fail here.
    let json = serde_json::to_string(&line).unwrap_or_default();
    one_line_json(&json).into_owned()
}

fn masked(mask: &Mask, value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => mask.hide_text(text),
        other => mask
            .hide(&serde_json::to_string(other).unwrap_or_default())
            .into(),
    }
}
