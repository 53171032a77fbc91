//! How source files look: they begin with what they are for, they are short, and metrics have handles.

use super::tree::{files, none};

/// A longer file is two rooms.
const LINES_MAX: usize = 300;

/// Files that are longer, how long they may be, and why. Shorten one, and its row goes.
const LONGER: &[(&str, usize, &str)] = &[
    (
        "src/status.rs",
        370,
        "plain fields, each with its meaning; apart they would not be seen to add up",
    ),
    (
        "src/relay/queue.rs",
        435,
        "one state machine, whose counters must move together",
    ),
];

#[test]
fn a_file_is_no_longer_than_an_afternoon_bears() {
    let mut wrong = Vec::new();
    for file in files("src", &[".rs"]).iter().filter(|f| !f.is_test()) {
        let lines = file.text.lines().count();
        let allowed = LONGER.iter().find(|(path, ..)| *path == file.path);
        let max = allowed.map_or(LINES_MAX, |(_, max, _)| *max);
        if lines > max {
            wrong.push(format!("{}: {lines} lines, {max} allowed", file.path));
        }
        if allowed.is_some() && lines <= LINES_MAX {
            wrong.push(format!("{}: {lines} lines, its row in LONGER can go", file.path));
        }
    }
    none(&wrong, "a file over 300 lines is two rooms");
}

#[test]
fn every_file_says_at_its_top_what_it_is() {
    let mut wrong = Vec::new();
    for file in files("", &[".rs"]) {
        if !file.text.starts_with("//! ") {
            wrong.push(file.path);
        }
    }
    none(&wrong, "a source file begins with //! and a sentence");
}

#[test]
fn metrics_go_through_held_handles() {
    let macros = [
        "counter!(",
        "gauge!(",
        "histogram!(",
        "describe_counter!(",
        "describe_gauge!(",
        "describe_histogram!(",
    ];
    let mut wrong = Vec::new();
    for file in files("src", &[".rs"]) {
        for (n, line) in file.code() {
            if macros.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    none(
        &wrong,
        "a labelled macro costs many times a held handle, and hides a metric from the catalogue",
    );
}

#[test]
fn the_map_of_the_crate_is_prose_and_modules_and_nothing_else() {
    let lib = files("src", &["lib.rs"]);
    let map = lib.iter().find(|f| f.path == "src/lib.rs").unwrap();
    let other: Vec<String> = map
        .code()
        .map(|(_, line)| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with("pub mod "))
        .collect();
    none(&other, "src/lib.rs holds no code");
    for (_, line) in map.code().filter(|(_, line)| line.starts_with("pub mod ")) {
        let name = line.trim_start_matches("pub mod ").trim_end_matches(';');
        assert!(
            map.text.contains(&format!("[`{name}`]")),
            "the map does not say where {name} lies"
        );
    }
}
