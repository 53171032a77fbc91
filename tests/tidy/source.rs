//! Source files: they begin with what they are for, metrics have handles, commands print through `output`.

use super::tree::{File, files, none};

/// Longer files are printed: one may be about two things. Meaning decides, so this fails nothing.
const LINES_NOTICED: usize = 300;

/// The product and the laboratory.
fn sources() -> Vec<File> {
    ["src", "lab/src"]
        .iter()
        .flat_map(|folder| files(folder, &[".rs"]))
        .collect()
}

#[test]
fn long_files_are_printed() {
    for file in sources().iter().filter(|f| !f.is_test()) {
        let lines = file.text.lines().count();
        if lines > LINES_NOTICED {
            println!("warning: {}: {lines} lines: is it about one thing?", file.path);
        }
    }
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
    for file in sources() {
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
fn commands_print_through_output() {
    let macros = ["println!(", "print!(", "dbg!("];
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|f| !f.is_test()) {
        for (n, line) in file.code() {
            if macros.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{n}: {}", file.path, line.trim()));
            }
        }
    }
    none(
        &wrong,
        "these macros panic when stdout is closed or full: use output::print and output::note",
    );
}

#[test]
fn lib_rs_holds_only_documentation_and_modules() {
    let lib = files("src", &["lib.rs"]);
    let map = lib.iter().find(|f| f.path == "src/lib.rs").unwrap();
    let other: Vec<String> = map
        .code()
        .map(|(_, line)| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with("pub mod "))
        .collect();
    none(&other, "src/lib.rs must hold no code");
    for (_, line) in map.code().filter(|(_, line)| line.starts_with("pub mod ")) {
        let name = line.trim_start_matches("pub mod ").trim_end_matches(';');
        assert!(
            map.text.contains(&format!("[`{name}`]")),
            "lib.rs does not describe {name}"
        );
    }
}
