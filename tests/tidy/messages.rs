//! Every text that weir may print stands in docs/MESSAGES.md, with what it means.
//!
//! A text is a string literal of a room that speaks to people, with a space in it. What stands between braces
//! changes from case to case; the longest part that does not must be found on the page.

use super::tree::{File, files, none, root};

/// Rooms and files whose texts are not messages: help, tables, metrics, prose about what is in order, and rooms
/// that say what they say to those who develop weir or try it out.
const SILENT: &[&str] = &[
    "src/lab/",
    "src/demo/",
    "src/cli",
    "src/main.rs",
    "src/metrics/",
    "src/decisions/metrics.rs",
    "src/config/keys.rs",
    "src/config/change.rs",
    "src/check/words.rs",
    "src/check/table.rs",
    "src/admin/client/args.rs",
    "src/admin/client/tables.rs",
    "src/admin/page",
];

/// Texts elsewhere that are no messages either.
const OTHER: &[&str] = &[
    // Heads of tables, and lines to paste.
    "auth tcp",
    "auth tls",
    "data tcp",
    "data tls",
    "tls certificate",
    "This host",
    "Brokers of throttle decisions",
    "Traffic Managers",
    "days left",
    "verify = \"pin\"",
    "pins = [",
    // Headers of HTTP, the purpose of a signature, salts.
    "default-src 'none'; frame-ancestors 'none",
    "text/plain; version=0.0.4; charset=utf-8",
    "Authorization: Bearer",
    "weir session 1",
    "self-signed certificate",
    "Mighty Aphrodite",
    // Answers when all is well.
    "of group",
    "[+] configuration loaded",
    "called by plain threads, outside of any runtime",
    "to groups",
    // The attributes of the stream that is built in.
    "messageID appKey appTier apiKey apiTier subscriptionKey subscriptionTier resourceKey resourceTier userId apiContext apiVersion appTenant apiTenant appId apiName properties",
    // What a defect would say.
    "unknown label",
    "is no failure class",
    "an open batch never moves",
    "a parcel holds room in its queue until it ends",
    "a parcel was dropped without a verdict",
    "what was reserved is what is sealed",
    "no truststore",
    "subject",
];

#[test]
fn every_message_is_in_the_book_with_its_meaning() {
    let page = std::fs::read_to_string(root().join("docs/MESSAGES.md")).unwrap();
    // A bar inside a cell is escaped.
    let page = page.replace("\\|", "|");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files("src", &[".rs"]) {
        if file.is_test() || SILENT.iter().any(|silent| file.path.starts_with(silent)) {
            continue;
        }
        for text in literals(&code(&file)) {
            let part = steady(&text);
            if !part.contains(' ') || OTHER.contains(&part.as_str()) {
                continue;
            }
            seen += 1;
            if !page.contains(&part) {
                wrong.push(format!("{}: {part}", file.path));
            }
        }
    }
    assert!(seen > 300, "only {seen} texts found");
    none(&wrong, "docs/MESSAGES.md does not explain these");
}

/// The file without comments, attributes, and the module of tests at its end.
fn code(file: &File) -> String {
    let lines = file
        .text
        .lines()
        .take_while(|line| !line.starts_with("mod tests"));
    let speaks = |line: &&str| {
        !["//", "#["]
            .iter()
            .any(|mark| line.trim_start().starts_with(mark))
    };
    lines.filter(speaks).collect::<Vec<_>>().join("\n")
}

/// The string literals of a source text, as they are at run time.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A character literal may be a quote; a lifetime has no second apostrophe.
            '\'' => {
                let mut ahead = chars.clone();
                let first = ahead.next();
                if first == Some('\\') {
                    ahead.next();
                }
                if ahead.next() == Some('\'') {
                    chars = ahead;
                }
            }
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                            Some('n') => text.push('\n'),
                            Some(other) => text.push(other),
                            None => {}
                        },
                        c => text.push(c),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The longest part of a text that does not change from case to case.
fn steady(text: &str) -> String {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        match c {
            '{' | '\n' => {
                inside = c == '{';
                parts.push(String::new());
            }
            '}' => inside = false,
            c if !inside => parts.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    let plain = |part: &String| part.replace('\u{1}', "{").replace('\u{2}', "}");
    let trimmed = |part: String| part.trim_matches(|c: char| " :;,.()`\"'".contains(c)).to_owned();
    let longest = parts
        .iter()
        .map(plain)
        .map(trimmed)
        .max_by_key(|part| part.chars().count());
    longest.unwrap_or_default()
}

#[test]
fn the_steady_part_of_a_text_is_found() {
    let code = r#"f('"', "a {x} long one: {y:?}", "two\nlines here", b'\'', "say \"so\" {{now}}")"#;
    let parts: Vec<String> = literals(code).iter().map(|text| steady(text)).collect();
    assert_eq!(parts, ["long one", "lines here", "say \"so\" {now}"]);
}
