//! Decodes an event by its stream's definition, as far as its bytes are valid.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::definition::{Attribute, Definition, Kind};
use super::feed::Sample;

/// The part of an event that could be decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded<'a> {
    /// Milliseconds since 1970, as the gateway wrote it.
    pub timestamp_ms: i64,
    /// The stream id.
    pub stream: Cow<'a, str>,
    /// `meta`, `correlation` and `payload`, as far as they go; empty without a definition.
    pub sections: [Vec<(&'a Attribute, Value<'a>)>; 3],
    /// Pairs after the last attribute.
    pub arbitrary: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// What follows the stream id, undecoded.
    pub body: &'a [u8],
    /// Why the rest could not be decoded.
    pub problem: Option<String>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// A string of length 0: the wire format does not distinguish an empty string from none.
    Null,
    /// A string.
    Text(Cow<'a, str>),
    /// An int.
    Int(i32),
    /// A long.
    Long(i64),
    /// A float.
    #[serde(serialize_with = "float")]
    Float(f32),
    /// A double.
    #[serde(serialize_with = "double")]
    Double(f64),
    /// A bool.
    Bool(bool),
}

/// JSON has no numbers that are not finite: they become strings, `"NaN"`, `"inf"`, `"-inf"`.
fn float<S: Serializer>(n: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    match n.is_finite() {
        true => serializer.serialize_f32(*n),
        false => serializer.collect_str(n),
    }
}

/// As [`float`].
fn double<S: Serializer>(n: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match n.is_finite() {
        true => serializer.serialize_f64(*n),
        false => serializer.collect_str(n),
    }
}

impl Decoded<'_> {
    /// The attributes of all sections.
    pub fn attributes(&self) -> impl Iterator<Item = &(&Attribute, Value<'_>)> {
        self.sections.iter().flatten()
    }
}

/// Decodes a sample; `None` when its stream id cannot be read.
pub fn decode<'a>(
    sample: &'a Sample,
    definition: impl FnOnce(&str) -> Option<&'a Definition>,
) -> Option<Decoded<'a>> {
    let mut rest = Rest(&sample.bytes);
    let timestamp_ms = i64::from_be_bytes(*rest.take()?);
    let stream = rest.text().ok()?;
    let definition = definition(&stream);
    let mut decoded = Decoded {
        timestamp_ms,
        stream,
        sections: Default::default(),
        arbitrary: Vec::new(),
        body: rest.0,
        problem: None,
    };
    let outcome = match definition {
        Some(definition) => attributes(&mut decoded, definition, rest),
        None => Err("this stream has no definition; admin.tap_streams names a file of them".into()),
    };
    let is_cut = sample.bytes.len() < sample.length;
    decoded.problem = match (outcome, definition.is_some() && is_cut) {
        (_, true) => Some(format!(
            "only the first {} of {} bytes are decoded",
            sample.bytes.len(),
            sample.length
        )),
        (outcome, false) => outcome.err(),
    };
    Some(decoded)
}

fn attributes<'a>(
    into: &mut Decoded<'a>,
    definition: &'a Definition,
    mut rest: Rest<'a>,
) -> Result<(), String> {
    let all = [&definition.meta, &definition.correlation, &definition.payload];
    for (section, attributes) in into.sections.iter_mut().zip(all) {
        for attribute in attributes {
            let value = rest
                .value(attribute.kind)
                .map_err(|e| format!("{}: {e}", attribute.name))?;
            section.push((attribute, value));
        }
    }
    while !rest.0.is_empty() {
        let pair = rest.text().and_then(|key| Ok((key, rest.text()?)));
        into.arbitrary
            .push(pair.map_err(|e| format!("the pairs after the last attribute: {e}"))?);
    }
    Ok(())
}

/// The bytes that are not decoded yet.
struct Rest<'a>(&'a [u8]);

const TOO_SHORT: &str = "the event ends before it";

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(head)
    }

    fn value(&mut self, kind: Kind) -> Result<Value<'a>, &'static str> {
        Ok(match kind {
            Kind::Text => match self.text()? {
                text if text.is_empty() => Value::Null,
                text => Value::Text(text),
            },
            Kind::Int => Value::Int(i32::from_be_bytes(*self.take().ok_or(TOO_SHORT)?)),
            Kind::Long => Value::Long(i64::from_be_bytes(*self.take().ok_or(TOO_SHORT)?)),
            Kind::Float => Value::Float(f32::from_be_bytes(*self.take().ok_or(TOO_SHORT)?)),
            Kind::Double => Value::Double(f64::from_be_bytes(*self.take().ok_or(TOO_SHORT)?)),
            Kind::Bool => Value::Bool(*self.take::<1>().ok_or(TOO_SHORT)? != [0]),
        })
    }

    fn text(&mut self) -> Result<Cow<'a, str>, &'static str> {
        let length = i32::from_be_bytes(*self.take().ok_or(TOO_SHORT)?);
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let (text, rest) = self
            .0
            .split_at_checked(length)
            .ok_or("its length exceeds the event")?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(text))
    }
}
