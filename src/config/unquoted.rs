//! Values without quotes: TOML's reader says "invalid float" or "invalid boolean" about an address, a duration, a
//! size or a word. Here such a value is found again in the text, and the line that was meant is written out.

use std::ops::Range;

use super::problem::suspects;
use super::references::is_nothing_but;

/// A value that needs quotes.
pub(super) struct Unquoted {
    /// Where it stands.
    pub(super) span: Range<usize>,
    /// The line to write.
    pub(super) hint: String,
}

/// The value at an error of syntax, `message` as the reader gave it, if quotes would mend it.
pub(super) fn find(text: &str, error: &Range<usize>, message: &str) -> Option<Unquoted> {
    let line_start = text.get(..error.start)?.rfind('\n').map_or(0, |n| n + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let equals = line.find('=').filter(|n| line_start + n < error.start);
    let key = equals.and_then(|n| line.get(..n)).map(str::trim);
    let after = equals.map_or(0, |n| n + 1);
    let rest = line.get(after..)?;
    let begin = after + rest.len() - rest.trim_start().len();
    let value = without_comment(line.get(begin..)?);
    let whole = line_start + begin..line_start + begin + value.len();
    match key {
        Some(key) if !value.starts_with(['[', '{']) || is_address(value) => {
            hint(text, whole, Some(key), value)
        }
        // Inside an array or an inline table: the one word, where the reader expected a value.
        _ if message.contains("quoted") || message.starts_with("invalid") => {
            let part = |c: char| !c.is_whitespace() && !matches!(c, ',' | '[' | ']' | '{' | '}' | '=' | '#');
            let at = error.start - line_start;
            let before = line.get(..at)?;
            let start = before.trim_end_matches(part).len();
            let word = line.get(start..)?;
            let word = word.get(..word.find(|c| !part(c)).unwrap_or(word.len()))?;
            let start = line_start + start;
            hint(text, start..start + word.len(), None, word)
        }
        _ => None,
    }
}

fn hint(text: &str, span: Range<usize>, key: Option<&str>, value: &str) -> Option<Unquoted> {
    let quotable = |c: char| !c.is_control() && !matches!(c, '"' | '\'' | '\\');
    let says_something = value.chars().any(char::is_alphanumeric);
    // What is sound without quotes is not what is wrong here.
    let sound = |value: &str| toml::from_str::<toml::Table>(&format!("x = {value}")).is_ok();
    if !says_something || !value.chars().all(quotable) || sound(value.trim_end_matches([',', ' '])) {
        return None;
    }
    let lower = value.to_ascii_lowercase();
    if lower == "true" || lower == "false" {
        let hint = format!("write {lower}, in lower case");
        return Some(Unquoted { span, hint });
    }
    let overlaps = |range: &Range<usize>| range.start < span.end && span.start < range.end;
    let secret = suspects(text).iter().any(overlaps);
    let shown = match secret && !is_nothing_but(value) {
        true => "…",
        false => value,
    };
    let hint = match key {
        Some(key) => format!("put it in quotes: {key} = \"{shown}\""),
        None => format!("put it in quotes: \"{shown}\""),
    };
    Some(Unquoted { span, hint })
}

/// `[::1]:9611` begins as an array does.
fn is_address(value: &str) -> bool {
    value.parse::<std::net::SocketAddr>().is_ok()
}

fn without_comment(value: &str) -> &str {
    let end = value.find(" #").or_else(|| value.find("\t#"));
    value
        .get(..end.unwrap_or(value.len()))
        .unwrap_or(value)
        .trim_end()
}
