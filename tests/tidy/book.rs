//! The documentation: its links, the tests it names, and the configurations that the README shows.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use weir::config::{Source, parse};

use super::tree::{File, files, none, root};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_configurations_in_the_readme_are_valid_and_fit_together() {
    let readme = read("README.md");
    // Indented below the step they belong to.
    let blocks: Vec<String> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block.to_owned())
        .collect();
    let [weir, gateway] = blocks.as_slice() else {
        panic!(
            "{} blocks of TOML, 2 expected: weir.toml and deployment.toml",
            blocks.len()
        );
    };
    let variable = |name: &str| (name.to_owned(), "secret".to_owned());
    let env = BTreeMap::from([variable("TM_PASSWORD"), variable("KEYSTORE_PASSWORD")]);
    let source = Source {
        weir_toml: Some(("weir.toml".into(), weir.clone())),
        env: env.clone(),
        ..Source::default()
    };
    let (config, warnings) = parse(&source).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.groups.len(), 2);
    // As another weir would read the gateway's file, but for credentials, which stand elsewhere in it.
    let credentials = "[super_admin]\nusername = \"admin\"\npassword = \"admin\"\n";
    let source = Source {
        weir_toml: Some((
            "weir.toml".into(),
            "listen = { tcp = \"off\", tls = \"0.0.0.0:1\" }".into(),
        )),
        deployment_toml: Some(("deployment.toml".into(), format!("{credentials}{gateway}"))),
        ..Source::default()
    };
    let (gateway, _) = parse(&source).unwrap_or_else(|problems| panic!("{problems}"));
    let listen = &config.ingress;
    let endpoint = &gateway.groups[0].endpoints[0];
    assert_eq!(
        Some(endpoint.data.port),
        listen.tcp.map(|at| at.port()),
        "the gateway publishes to weir"
    );
    assert_eq!(
        Some(endpoint.auth.port),
        listen.tls.map(|at| at.port()),
        "and logs in at weir"
    );
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let sources: Vec<String> = ["src", "lab", "tests"]
        .iter()
        .flat_map(|folder| files(folder, &[".rs"]))
        .map(|file| file.text)
        .collect();
    let text = read("docs/TESTING.md");
    let named = text
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit('`').next());
    let named: Vec<&str> = named.filter(|name| name.contains("::")).collect();
    assert!(named.len() > 20, "only {} tests named", named.len());
    let gone = named.iter().filter(|name| {
        let function = format!("fn {}(", name.rsplit("::").next().unwrap_or_default());
        !sources.iter().any(|text| text.contains(&function))
    });
    let wrong: Vec<String> = gone.map(|name| (*name).to_owned()).collect();
    none(&wrong, "docs/TESTING.md names tests that are not there");
}

#[test]
fn no_row_of_the_fault_tables_lacks_a_test() {
    let sources: Vec<File> = ["src", "lab", "tests"]
        .iter()
        .flat_map(|folder| files(folder, &[".rs"]))
        .collect();
    let is_there = |name: &str| match name.rsplit_once("::") {
        Some((_, function)) => {
            let function = format!("fn {function}(");
            sources.iter().any(|file| file.text.contains(&function))
        }
        None => sources.iter().any(|file| file.path.ends_with(name)),
    };
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in files("docs/testing", &[".md"]) {
        let mut in_table = false;
        for line in page.text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            if !line.starts_with('|') {
                in_table = false;
            } else if cells.last() == Some(&"test") {
                in_table = true;
            } else if in_table && !line.starts_with("|---") {
                seen += 1;
                let tests = cells.last().copied().unwrap_or_default();
                let named: Vec<&str> = tests
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|name| name.ends_with(".rs") || (name.contains("::") && !name.contains(' ')))
                    .collect();
                let refers = tests.starts_with("likewise") || tests.starts_with("every test of");
                let gone = named
                    .iter()
                    .filter(|name| !name.starts_with("Fault::"))
                    .find(|name| !is_there(name));
                if (named.is_empty() && !refers && !tests.contains('`')) || gone.is_some() {
                    wrong.push(format!("{}: {line}", page.path));
                }
            }
        }
    }
    assert!(seen > 80, "only {seen} rows");
    none(
        &wrong,
        "docs/testing: rows without a test, or with one that is not there",
    );
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files("", &[".md"]) {
        for target in links(&file.text) {
            seen += 1;
            if ["http://", "https://", "mailto:"]
                .iter()
                .any(|web| target.starts_with(web))
            {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let here = Path::new(&file.path);
            let there = match path {
                "" => here.to_owned(),
                path => plain(&here.parent().unwrap().join(path)),
            };
            let Ok(metadata) = std::fs::metadata(root().join(&there)) else {
                wrong.push(format!("{}: {target}", file.path));
                continue;
            };
            if !anchor.is_empty()
                && (metadata.is_dir()
                    || !anchors(&read(&there.to_string_lossy())).contains(&anchor.to_owned()))
            {
                wrong.push(format!("{}: {target}: no such heading", file.path));
            }
        }
    }
    assert!(seen > 20, "only {seen} links found");
    none(&wrong, "links that lead nowhere");
}

#[test]
fn the_readme_of_a_folder_names_every_page() {
    let mut wrong = Vec::new();
    for folder in ["docs", "docs/adr"] {
        let contents = read(&format!("{folder}/README.md"));
        for file in files(folder, &[".md"]) {
            let name = file.path.trim_start_matches(&format!("{folder}/"));
            if !name.contains('/') && name != "README.md" && !contents.contains(name) {
                wrong.push(file.path);
            }
        }
    }
    none(&wrong, "the README.md of their folder does not name these");
}

/// Targets of `[text](target)`, code blocks left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for piece in line.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The names that headings can be linked by.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            part => out.push(part),
        }
    }
    out
}
