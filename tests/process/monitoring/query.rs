//! What a PromQL expression names: metrics, labels it matches or groups by. Syntax is promtool's to judge.

/// A metric that an expression names, with the labels that it matches and their values as written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Named {
    pub(crate) metric: String,
    /// Label, operator, value.
    pub(crate) matched: Vec<(String, String, String)>,
}

/// Everything that an expression names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Query {
    pub(crate) named: Vec<Named>,
    /// Labels of `by`, `without`, `on`, `ignoring` and `group_left`.
    pub(crate) grouped: Vec<String>,
}

const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Reads an expression.
pub(crate) fn read(expression: &str) -> Query {
    let tokens = tokens(expression);
    let mut query = Query::default();
    let mut at = 0;
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    while at < tokens.len() {
        let word = token(at);
        at += 1;
        let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if word == "[" {
            // A range: what is in it is a duration.
            while at < tokens.len() && token(at) != "]" {
                at += 1;
            }
        } else if BEFORE_LABELS.contains(&word) {
            while at < tokens.len() && token(at) != ")" {
                if !matches!(token(at), "(" | ",") {
                    query.grouped.push(token(at).to_owned());
                }
                at += 1;
            }
        } else if is_name
            && !OPERATORS.contains(&word)
            && token(at) != "("
            && !BEFORE_LABELS.contains(&token(at))
        {
            let mut named = Named {
                metric: word.to_owned(),
                ..Named::default()
            };
            if token(at) == "{" {
                at += 1;
                while at < tokens.len() && token(at) != "}" {
                    if token(at) != "," {
                        let part = |i| token(at + i).to_owned();
                        named.matched.push((part(0), part(1), part(2)));
                        at += 2;
                    }
                    at += 1;
                }
            }
            query.named.push(named);
        }
    }
    query
}

/// Names, numbers, strings without their quotes, and the rest sign by sign, but for `=~`, `!~` and `!=`.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let long = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '$');
        let (token, end) = if first == '"' {
            let end = rest[1..].find('"').expect("a string ends") + 1;
            (&rest[1..end], end + 1)
        } else if long(first) {
            let end = rest.find(|c| !long(c)).unwrap_or(rest.len());
            (&rest[..end], end)
        } else {
            let two = ["=~", "!~", "!="].iter().any(|o| rest.starts_with(o));
            let end = if two { 2 } else { first.len_utf8() };
            (&rest[..end], end)
        };
        tokens.push(token.to_owned());
        rest = rest[end..].trim_start();
    }
    tokens
}

#[test]
fn what_an_expression_names_is_found() {
    let query = read(
        "sum by (group, le) (rate(weir_a_bucket{x=~\"a|b\",y!=\"c\"}[5m])) / on(job) weir_b > 0 or vector(0)",
    );
    let metrics: Vec<&str> = query.named.iter().map(|n| n.metric.as_str()).collect();
    assert_eq!(metrics, ["weir_a_bucket", "weir_b"]);
    let own = |parts: [&str; 3]| (parts[0].to_owned(), parts[1].to_owned(), parts[2].to_owned());
    assert_eq!(
        query.named[0].matched,
        [own(["x", "=~", "a|b"]), own(["y", "!=", "c"])]
    );
    assert_eq!(query.grouped, ["group", "le", "job"]);
}
