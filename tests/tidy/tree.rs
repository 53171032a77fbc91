//! Walks over the files of the project, and what no file of it may hold.

use std::path::{Path, PathBuf};

/// Folders that are not the project's.
const FOREIGN: [&str; 3] = ["target", ".git", "node_modules"];

/// A text file of the project.
pub(crate) struct File {
    /// From the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Lines that are code: no comments, and nothing of a module of tests at the end of the file. With their
    /// numbers, from 1.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines
            .windows(2)
            .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].trim_end() == "mod tests {");
        let end = tests.unwrap_or(lines.len());
        let code = lines.into_iter().take(end).enumerate();
        code.map(|(n, line)| (n + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Whether the file holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.starts_with("lab/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file under `under` whose name ends with one of `endings` (none: every one).
pub(crate) fn files(under: &str, endings: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    walk(&root().join(under), &mut paths);
    paths.sort();
    let wanted = |path: &PathBuf| {
        endings.is_empty() || endings.iter().any(|end| path.to_string_lossy().ends_with(end))
    };
    paths
        .into_iter()
        .filter(wanted)
        .filter_map(|path| {
            let text = String::from_utf8(std::fs::read(&path).ok()?).ok()?;
            let path = path.strip_prefix(root()).ok()?.to_string_lossy().into_owned();
            Some(File { path, text })
        })
        .collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !FOREIGN.iter().any(|foreign| name == *foreign) {
            walk(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

/// Fails with all of `wrong`, one a line.
pub(crate) fn none(wrong: &[String], rule: &str) {
    assert!(
        wrong.is_empty(),
        "{rule}\n{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn nothing_refers_to_a_place_outside_of_the_project() {
    // Put together here, so that this file does not hold them.
    let foreign = [
        ["..", "/shared"].concat(),
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
    ];
    let mut wrong = Vec::new();
    for file in files("", &[]).iter().filter(|f| f.path != ".git") {
        for (n, line) in file.text.lines().enumerate() {
            if let Some(path) = foreign.iter().find(|path| line.contains(path.as_str())) {
                wrong.push(format!("{}:{}: {path}", file.path, n + 1));
            }
        }
    }
    none(&wrong, "nothing refers to a place outside of the project");
}

#[test]
fn every_captured_vector_is_described() {
    let described = std::fs::read_to_string(root().join("tests/vectors/README.md")).unwrap();
    let endings = [".client.bin", ".server.bin", ".request.bin", ".reply.bin"];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("tests/vectors")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        seen += 1;
        let stem = endings
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(&name);
        if !described.contains(&format!("`{stem}`")) {
            wrong.push(name);
        }
    }
    assert!(seen > 20, "only {seen} vectors found");
    none(
        &wrong,
        "tests/vectors/README.md names every file, in backticks and without its direction",
    );
}
