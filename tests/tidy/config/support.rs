//! Short ways to parse a text.

use std::collections::BTreeMap;

use weir::config::{Config, Problems, Source, Warning, parse};

/// The smallest complete `[apim.throttling]`.
pub(crate) const MINIMAL: &str = r#"
[apim.throttling]
username = "admin"
password = "admin"
[[apim.throttling.url_group]]
traffic_manager_urls = ["tcp://tm1:9611"]
"#;

/// A source of one weir.toml.
pub(crate) fn weir(text: &str) -> Source {
    Source {
        weir_toml: Some(("weir.toml".into(), text.into())),
        ..Source::default()
    }
}

/// [`MINIMAL`] and the given tables above it.
pub(crate) fn with(text: &str) -> Source {
    weir(&format!("{text}{MINIMAL}"))
}

/// The configuration of a source that must be valid.
pub(crate) fn valid(source: &Source) -> Config {
    both(source).0
}

/// The warnings of a source that must be valid, one line each.
pub(crate) fn warnings(source: &Source) -> Vec<String> {
    both(source).1.iter().map(ToString::to_string).collect()
}

/// The problems of a source that must not be valid.
pub(crate) fn problems(source: &Source) -> Problems {
    parse(source).expect_err("must be refused")
}

/// Its problems, one line each.
pub(crate) fn lines(source: &Source) -> Vec<String> {
    problems(source).list().iter().map(ToString::to_string).collect()
}

/// Pairs as a map.
pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn both(source: &Source) -> (Config, Vec<Warning>) {
    parse(source).unwrap_or_else(|problems| panic!("{problems}"))
}
