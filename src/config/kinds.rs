//! What a single value may hold: durations, sizes, numbers, addresses, URLs, words of a list.
//!
//! A [`Kind`] reads a value as given, or says what is wrong with it and what to write; and it says in the documentation
//! what may be written.

use std::fmt::Display;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::problem::Bad;
use super::references::Scalar;
use super::section::{Given, Section};
use super::settings::Field;
use super::units::{duration_text, size_text};
use super::{Scheme, Secret, Url};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Longest duration: ten years. Clocks overflow beyond.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

type Parse<T> = Box<dyn Fn(&Given) -> Result<T, Bad>>;

/// A kind of single values.
pub(super) struct Kind<T> {
    form: String,
    parse: Parse<T>,
}

impl<T: 'static> Kind<T> {
    pub(super) fn new(form: impl Into<String>, parse: impl Fn(&Given) -> Result<T, Bad> + 'static) -> Self {
        let (form, parse) = (form.into(), Box::new(parse));
        Self { form, parse }
    }

    pub(super) fn parse(&self, given: &Given) -> Result<T, Bad> {
        (self.parse)(given)
    }

    /// Also a word for "none".
    pub(super) fn or(self, word: &'static str) -> Kind<Option<T>> {
        let parse = self.parse;
        Kind::new(
            format!("{}, `\"{word}\"`", self.form),
            move |given| match is_none(given) {
                true => Ok(None),
                false => parse(given)
                    .map(Some)
                    .map_err(|bad| bad.advise(format_args!(", or \"{word}\""))),
            },
        )
    }

    /// Says in each advice why the limit is where it is.
    pub(super) fn because(self, why: &'static str) -> Self {
        let parse = self.parse;
        Self::new(self.form, move |given| {
            parse(given).map_err(|bad| bad.advise(format_args!(": {why}")))
        })
    }
}

impl<T: 'static> Field for Kind<T> {
    type Value = T;

    fn read(&self, s: &Section<'_>, key: &'static str) -> Option<T> {
        s.maybe(key, |given| self.parse(given))
    }

    fn form(&self) -> String {
        self.form.clone()
    }
}

/// Whether a value says "none": `"never"`, `"off"` or false.
pub(super) fn is_none(given: &Given) -> bool {
    match &given.scalar {
        Scalar::Text(text) => ["never", "off"]
            .iter()
            .any(|word| text.trim().eq_ignore_ascii_case(word)),
        Scalar::Boolean(on) => !on,
        _ => false,
    }
}

/// `"30s"`, `"1m 30s"`, `0`; between `min` and `max`.
pub(super) fn time(min: Duration, max: Duration) -> Kind<Duration> {
    let form = match max {
        DURATION_MAX => format!("{} or more", short(min)),
        max => format!("{} to {}", short(min), short(max)),
    };
    Kind::new(form, move |given| {
        let hint = "write a number with its unit, as \"250ms\", \"30s\", \"5m\" or \"16h\"";
        let value = match &given.scalar {
            Scalar::Integer(0) => Duration::ZERO,
            Scalar::Text(text) => humantime::parse_duration(text.trim())
                .map_err(|_| Bad::new(format!("{} is not a duration", given.quote()), hint))?,
            _ => return Err(Bad::new(format!("{} has no unit", given.quote()), hint)),
        };
        between(given, value, (min, max), ["short", "long"], |time| {
            format!("{:?}", duration_text(time))
        })
    })
}

/// A duration without an upper limit of its own.
pub(super) fn time_from(min: Duration) -> Kind<Duration> {
    time(min, DURATION_MAX)
}

fn short(time: Duration) -> String {
    match time.is_zero() {
        true => "0".to_owned(),
        false => duration_text(time),
    }
}

/// `"64MiB"`, `"10MB"` or a number of bytes; between `min` and `max`.
pub(super) fn size(min: usize, max: usize) -> Kind<usize> {
    let form = format!("{} to {}", size_text(min), size_text(max)).replace('"', "");
    Kind::new(form, move |given| {
        let hint = "write a size with its unit, as \"64MiB\", or a number of bytes";
        let value = match &given.scalar {
            Scalar::Integer(n) => u64::try_from(*n).ok(),
            Scalar::Text(text) => text
                .trim()
                .parse::<bytesize::ByteSize>()
                .ok()
                .map(|size| size.as_u64()),
            _ => None,
        };
        let Some(value) = value.and_then(|n| usize::try_from(n).ok()) else {
            return Err(Bad::new(format!("{} is not a size", given.quote()), hint));
        };
        between(given, value, (min, max), ["small", "large"], size_text)
    })
}

/// A whole number between `min` and `max`.
pub(super) fn count(min: usize, max: usize) -> Kind<usize> {
    Kind::new(format!("{min} to {max}"), move |given| {
        let value = match &given.scalar {
            Scalar::Integer(n) => usize::try_from(*n).ok(),
            _ => given.referred_text().and_then(|text| text.parse().ok()),
        };
        let Some(value) = value else {
            let hint = format!("write a number from {min} to {max}");
            return Err(Bad::new(format!("{} is not a whole number", given.quote()), hint));
        };
        between(given, value, (min, max), ["small", "large"], |n| n.to_string())
    })
}

fn between<T: PartialOrd + Copy>(
    given: &Given,
    value: T,
    (min, max): (T, T),
    [below, above]: [&str; 2],
    show: impl Fn(T) -> String,
) -> Result<T, Bad> {
    let (wrong, hint) = match value {
        value if value < min => (below, format!("write {} or more", show(min))),
        value if value > max => (above, format!("write {} or less", show(max))),
        value => return Ok(value),
    };
    Err(Bad::new(format!("{} is too {wrong}", given.quote()), hint))
}

/// A number between `min` and `max`, with or without a fraction.
pub(super) fn number(given: &Given, min: f64, max: f64) -> Result<f64, Bad> {
    let value = match &given.scalar {
        Scalar::Float(n) => *n,
        Scalar::Integer(n) => i32::try_from(*n).map_or(f64::NAN, f64::from),
        _ => given
            .referred_text()
            .and_then(|text| text.parse().ok())
            .unwrap_or(f64::NAN),
    };
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    let message = format!("{} is not between {min:?} and {max:?}", given.quote());
    Err(Bad::new(
        message,
        format!("write a number from {min:?} to {max:?}"),
    ))
}

/// true or false.
pub(super) fn flag() -> Kind<bool> {
    Kind::new("true, false", |given| {
        match (&given.scalar, given.referred_text()) {
            (Scalar::Boolean(b), _) => Ok(*b),
            (_, Some("true")) => Ok(true),
            (_, Some("false")) => Ok(false),
            _ => Err(Bad::new(
                format!("{} is neither true nor false", given.quote()),
                "write true or false",
            )),
        }
    })
}

/// One word of a list.
pub(super) fn word<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Kind<T> {
    let listed = |separator| {
        words
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(separator)
    };
    let hint = format!("write {}", listed(" or "));
    Kind::new(format!("`{}`", listed("`, `")), move |given| {
        let text = match &given.scalar {
            Scalar::Text(text) => text.trim(),
            _ => "",
        };
        let found = words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
        let unknown = || Bad::new(format!("{} is not a known value", given.quote()), hint.clone());
        found.map(|(_, value)| *value).ok_or_else(unknown)
    })
}

fn not_empty(text: String) -> Result<String, Bad> {
    match text.is_empty() {
        true => Err(Bad::new("is empty", "give it a value, or remove the line")),
        false => Ok(text),
    }
}

/// A string that is not empty.
pub(super) fn text() -> Kind<String> {
    Kind::new("text", |given| not_empty(given.text()?))
}

/// A password or key that is not empty.
pub(super) fn secret() -> Kind<Secret> {
    Kind::new("text", |given| not_empty(given.text()?).map(Secret::new))
}

/// The path of a file.
pub(super) fn path() -> Kind<PathBuf> {
    Kind::new("path", |given| not_empty(given.text()?).map(PathBuf::from))
}

/// `ADDRESS:PORT`, or `"off"`.
pub(super) fn address() -> Kind<Option<SocketAddr>> {
    Kind::new("address, `\"off\"`", |given| {
        if is_none(given) {
            return Ok(None);
        }
        let hint = "write an IP address and a port, as \"0.0.0.0:9611\" or \"[::1]:9611\", or \"off\"";
        let text = given.text().map_err(|bad| Bad::new(bad.message, hint))?;
        let wrong = |_| Bad::new(format!("{} is not an address to listen on", given.quote()), hint);
        text.trim().parse().map(Some).map_err(wrong)
    })
}

/// `tcp://host:port` or `ssl://host:port`. `text` is the value or a part of it, `given` where it came from.
pub(super) fn url(given: &Given, text: &str) -> Result<Url, Bad> {
    let text = text.trim();
    // A URL that holds a login is not quoted either.
    let quote = match given.referred {
        true => given.quote(),
        false if text.contains('@') => "the URL".to_owned(),
        false => format!("{text:?}"),
    };
    let bad = |what: &str| {
        Bad::new(
            format!("{quote} {what}"),
            "write tcp://HOST:PORT or ssl://HOST:PORT",
        )
    };
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| bad("is not a URL: it has no scheme"))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "tcp" => Scheme::Tcp,
        "ssl" => Scheme::Ssl,
        _ => return Err(bad("has a scheme that weir does not speak")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bracketed = rest.strip_prefix('[');
    let (host, port) = match bracketed {
        Some(inside) => {
            let closed = inside.split_once(']');
            let (host, port) = closed.ok_or_else(|| bad("has a bracket that is never closed"))?;
            (host, port.strip_prefix(':'))
        }
        None => rest
            .rsplit_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = port.ok_or_else(|| bad("has no port"))?;
    // `parse` alone would take "+1".
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(0) => return Err(bad("has port 0, on which nothing can listen")),
        Ok(port) if digits => port,
        _ => return Err(bad("has a port that is not a number from 1 to 65535")),
    };
    let name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let valid = match bracketed {
        Some(_) => host.parse::<Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.chars().all(name),
    };
    match (host, valid) {
        ("", _) => Err(bad("has no host")),
        (_, false) => Err(bad("has no valid host")),
        (host, true) => Ok(Url {
            scheme,
            host: host.to_owned(),
            port,
        }),
    }
}

impl Bad {
    /// With more at the end of its hint.
    fn advise(self, more: impl Display) -> Self {
        let hint = self.hint.map(|hint| format!("{hint}{more}"));
        Self { hint, ..self }
    }
}
