//! Every example of a configuration in the documentation is valid.

use std::collections::BTreeMap;

use weir::config::{Problems, Source, parse};

use super::tree::{files, none};

const CREDENTIALS: &str = "username = \"admin\"\npassword = \"admin\"\n";
const GROUP: &str = "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"tcp://tm.invalid:9611\"]\n";

#[test]
fn every_example_in_the_documentation_is_valid() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in files("docs", &[".md"]) {
        for (line, example) in examples(&page.text) {
            seen += 1;
            if let Err(problems) = taken(&example) {
                wrong.push(format!("{}:{line}: {problems}", page.path));
            }
        }
    }
    assert!(seen > 8, "only {seen} examples");
    none(&wrong, "invalid examples");
}

/// The first line of each block of TOML, and the block.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (n, line) in page.lines().enumerate() {
        match (&mut block, line.trim()) {
            (None, "```toml") => block = Some((n + 2, String::new())),
            (Some(_), "```") => found.extend(block.take()),
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}

/// What calls itself weir.toml must be whole. Of other examples a gateway's file, or a part of weir.toml.
fn taken(example: &str) -> Result<(), Problems> {
    // References and pins have no values in the documentation.
    let mut text = example.replace("\"…\"", &format!("\"{}\"", "ab".repeat(32)));
    for (port, name) in (1..).zip(["WEIR_TCP", "WEIR_TLS", "WEIR_ADMIN_LISTEN"]) {
        text = text.replace(&format!("$env{{{name}}}"), &format!("127.0.0.1:{port}"));
    }
    for kind in ["$env{", "$file{", "$secret{", "$sys{"] {
        while let Some(at) = text.find(kind) {
            let end = at + text.get(at..).and_then(|rest| rest.find('}')).unwrap();
            text.replace_range(at..=end, "sixteen-bytes-at-least");
        }
    }
    let whole = text.trim_start().starts_with("# weir.toml");
    if whole {
        return weir(&text);
    }
    if text.trim_start().starts_with("# deployment.toml") {
        return deployment(&text);
    }
    weir(&completed(&text)).or_else(|problems| deployment(&text).map_err(|_| problems))
}

/// With the credentials and the group that a part leaves out.
fn completed(part: &str) -> String {
    let mut text = part.to_owned();
    match text
        .lines()
        .any(|line| line.trim().starts_with("[apim.throttling]"))
    {
        true if text.contains("username") => {}
        true => {
            let at = text.find("[apim.throttling]").unwrap();
            let end = at + text.get(at..).and_then(|rest| rest.find('\n')).unwrap();
            text.insert_str(end + 1, CREDENTIALS);
        }
        false => text += &format!("[apim.throttling]\n{CREDENTIALS}"),
    }
    if !text.contains("[[apim.throttling.url_group]]") {
        text += GROUP;
    }
    text
}

fn weir(text: &str) -> Result<(), Problems> {
    let source = Source {
        weir_toml: Some(("weir.toml".into(), text.to_owned())),
        ..Source::default()
    };
    parse(&source).map(drop)
}

/// As another weir would read it: it may name this one.
fn deployment(text: &str) -> Result<(), Problems> {
    let listen = "listen = { tcp = \"off\", tls = \"127.0.0.1:1\" }\n";
    let super_admin = format!("[super_admin]\n{CREDENTIALS}");
    let source = Source {
        weir_toml: Some(("weir.toml".into(), listen.to_owned())),
        deployment_toml: Some(("deployment.toml".into(), format!("{super_admin}{text}"))),
        env: BTreeMap::new(),
        ..Source::default()
    };
    parse(&source).map(drop)
}

#[test]
fn a_wrong_example_is_found() {
    let page = "```toml\n# weir.toml\n[listen]\ntpc = \"off\"\n```\n\n   ```toml\n   [link]\n   linger = \"5\"\n   ```\n";
    let examples = examples(page);
    assert_eq!(examples.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 8]);
    for (_, example) in examples {
        assert!(taken(&example).is_err(), "{example}");
    }
}
