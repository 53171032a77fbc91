//! What a single value may look like: durations, sizes, numbers, addresses, URLs, words of a list.
//!
//! Each function takes a value as given and returns what it means, or what is wrong with it and what to write.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::given::Given;
use super::problem::Bad;
use super::references::Scalar;
use super::units::{duration_text, size_text};
use super::{Scheme, Secret, Url};

/// Words for "none".
const NEVER: [&str; 2] = ["never", "off"];
/// Longest duration: ten years. Clocks overflow beyond.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// `"30s"`, `"1m 30s"`, `0`; between `min` and `max`.
pub(super) fn duration(given: &Given, min: Duration, max: Duration) -> Result<Duration, Bad> {
    let hint = "write a number with its unit, as \"250ms\", \"30s\", \"5m\" or \"16h\"";
    let value = match &given.scalar {
        Scalar::Integer(0) => Duration::ZERO,
        Scalar::Text(text) => humantime::parse_duration(text.trim())
            .map_err(|_| Bad::new(format!("{} is not a duration", given.quote()), hint))?,
        _ => return Err(Bad::new(format!("{} has no unit", given.quote()), hint)),
    };
    let max = max.min(DURATION_MAX);
    if value < min {
        let least = format!("write \"{}\" or more", duration_text(min));
        return Err(Bad::new(format!("{} is too short", given.quote()), least));
    }
    if value > max {
        let most = format!("write \"{}\" or less", duration_text(max));
        return Err(Bad::new(format!("{} is too long", given.quote()), most));
    }
    Ok(value)
}

/// A duration, or `"never"` / `"off"`.
pub(super) fn duration_or_never(given: &Given, min: Duration) -> Result<Option<Duration>, Bad> {
    if is_never(given) {
        return Ok(None);
    }
    duration(given, min, DURATION_MAX).map(Some).map_err(|bad| Bad {
        hint: bad.hint.map(|hint| format!("{hint}, or \"never\"")),
        ..bad
    })
}

/// Whether a value says "none".
pub(super) fn is_never(given: &Given) -> bool {
    match &given.scalar {
        Scalar::Text(text) => NEVER.iter().any(|word| text.trim().eq_ignore_ascii_case(word)),
        Scalar::Boolean(on) => !on,
        _ => false,
    }
}

/// `"64MiB"`, `"10MB"` or a number of bytes; between `min` and `max`.
pub(super) fn size(given: &Given, min: usize, max: usize) -> Result<usize, Bad> {
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
    between(given, value, min, max, size_text)
}

/// A whole number between `min` and `max`.
pub(super) fn count(given: &Given, min: usize, max: usize) -> Result<usize, Bad> {
    let value = match &given.scalar {
        Scalar::Integer(n) => usize::try_from(*n).ok(),
        Scalar::Text(text) if given.referred => text.trim().parse().ok(),
        _ => None,
    };
    let Some(value) = value else {
        let hint = format!("write a number from {min} to {max}");
        return Err(Bad::new(format!("{} is not a whole number", given.quote()), hint));
    };
    between(given, value, min, max, |n| n.to_string())
}

fn between(
    given: &Given,
    value: usize,
    min: usize,
    max: usize,
    show: impl Fn(usize) -> String,
) -> Result<usize, Bad> {
    if value < min {
        return Err(Bad::new(
            format!("{} is too small", given.quote()),
            format!("write {} or more", show(min)),
        ));
    }
    if value > max {
        return Err(Bad::new(
            format!("{} is too large", given.quote()),
            format!("write {} or less", show(max)),
        ));
    }
    Ok(value)
}

/// A number between `min` and `max`, with or without a fraction.
pub(super) fn number(given: &Given, min: f64, max: f64) -> Result<f64, Bad> {
    let value = match &given.scalar {
        Scalar::Float(n) => *n,
        Scalar::Integer(n) => i32::try_from(*n).map_or(f64::NAN, f64::from),
        Scalar::Text(text) if given.referred => text.trim().parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
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
pub(super) fn flag(given: &Given) -> Result<bool, Bad> {
    match &given.scalar {
        Scalar::Boolean(b) => Ok(*b),
        Scalar::Text(text) if given.referred && text.trim() == "true" => Ok(true),
        Scalar::Text(text) if given.referred && text.trim() == "false" => Ok(false),
        _ => Err(Bad::new(
            format!("{} is neither true nor false", given.quote()),
            "write true or false",
        )),
    }
}

/// One word of a list.
pub(super) fn word<T: Copy>(given: &Given, words: &[(&str, T)]) -> Result<T, Bad> {
    let text = match &given.scalar {
        Scalar::Text(text) => text.trim(),
        _ => "",
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)) {
        return Ok(*value);
    }
    let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let message = format!("{} is not a known value", given.quote());
    Err(Bad::new(message, format!("write {}", all.join(" or "))))
}

/// A string that is not empty.
pub(super) fn text(given: &Given) -> Result<String, Bad> {
    let text = given.text()?;
    if text.is_empty() {
        return Err(Bad::new("is empty", "give it a value, or remove the line"));
    }
    Ok(text)
}

/// A password or key that is not empty.
pub(super) fn secret(given: &Given) -> Result<Secret, Bad> {
    let text = given
        .text()
        .map_err(|_| Bad::new("must be a string", "put it in quotes"))?;
    if text.is_empty() {
        return Err(Bad::new("is empty", "give it a value, or remove the line"));
    }
    Ok(Secret::new(text))
}

/// The path of a file.
pub(super) fn path(given: &Given) -> Result<PathBuf, Bad> {
    text(given).map(PathBuf::from)
}

/// `ADDRESS:PORT`, or `"off"`.
pub(super) fn address(given: &Given) -> Result<Option<SocketAddr>, Bad> {
    if is_never(given) {
        return Ok(None);
    }
    let hint = "write an IP address and a port, as \"0.0.0.0:9611\" or \"[::1]:9611\", or \"off\"";
    let text = given.text().map_err(|bad| Bad::new(bad.message, hint))?;
    let wrong = |_| Bad::new(format!("{} is not an address to listen on", given.quote()), hint);
    text.trim().parse().map(Some).map_err(wrong)
}

/// `tcp://host:port` or `ssl://host:port`.
///
/// `text` is the value or a part of it, `given` where it came from.
pub(super) fn url(given: &Given, text: &str) -> Result<Url, Bad> {
    let hint = "write tcp://HOST:PORT or ssl://HOST:PORT";
    let text = text.trim();
    // Neither is a URL quoted that has a login in it.
    let quote = match given.referred {
        true => given.quote(),
        false if text.contains('@') => "the URL".to_owned(),
        false => format!("{text:?}"),
    };
    let bad = |what: &str| Bad::new(format!("{quote} {what}"), hint);
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| bad("is not a URL: it has no scheme"))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "tcp" => Scheme::Tcp,
        "ssl" => Scheme::Ssl,
        _ => return Err(bad("has a scheme that weir does not speak")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(inside) => match inside.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => return Err(bad("has a bracket that is never closed")),
        },
        None => rest
            .rsplit_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = port.ok_or_else(|| bad("has no port"))?;
    // `parse` alone would take "+1".
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|_| digits);
    let port = port.ok_or_else(|| bad("has a port that is not a number from 1 to 65535"))?;
    if port == 0 {
        return Err(bad("has port 0, where nobody listens"));
    }
    let address = rest.starts_with('[');
    let name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host_is_sound = if address {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.len() <= 253 && host.chars().all(name)
    };
    if !host_is_sound {
        return Err(bad(if host.is_empty() {
            "has no host"
        } else {
            "has no valid host"
        }));
    }
    Ok(Url {
        scheme,
        host: host.to_owned(),
        port,
    })
}
