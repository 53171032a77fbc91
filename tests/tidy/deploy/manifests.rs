//! YAML as JSON values, and the judgement of Kubernetes' schemas: both by `manifests.py`, where its library is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::{files, root};

/// Python with the library that CI installs: there, or the system's.
pub(super) fn python() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(search).clone();
    if found.is_none() {
        eprintln!(
            "skipped: no Python with kubernetes-validate: python3 -m venv target/deploy-venv && \
             target/deploy-venv/bin/pip install kubernetes-validate==1.37.0"
        );
    }
    found
}

fn search() -> Option<PathBuf> {
    let installed = root().join("target/deploy-venv/bin/python3");
    [installed, PathBuf::from("python3")].into_iter().find(|python| {
        let output = Command::new(python)
            .args(["-c", "import yaml, kubernetes_validate"])
            .output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// The script with these arguments: whether it agreed, and what it said.
pub(super) fn script(python: &Path, arguments: &[&str], paths: &[PathBuf]) -> (bool, String) {
    let output = Command::new(python)
        .arg(root().join("tests/tidy/deploy/manifests.py"))
        .args(arguments)
        .args(paths)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Every document of deploy/, by its path from there.
pub(super) struct Manifests {
    pub(super) python: PathBuf,
    documents: BTreeMap<String, Vec<Value>>,
}

impl Manifests {
    /// Nothing where YAML cannot be read; the reason has been printed then.
    pub(super) fn read() -> Option<Self> {
        let python = python()?;
        static TEXT: OnceLock<String> = OnceLock::new();
        let text = TEXT.get_or_init(|| {
            let (ok, text) = script(&python, &["json"], &files("deploy", ".yaml"));
            assert!(ok, "{text}");
            text
        });
        let all: BTreeMap<PathBuf, Vec<Value>> = serde_json::from_str(text).unwrap();
        let deploy = root().join("deploy");
        let below = |path: &Path| path.strip_prefix(&deploy).unwrap().to_string_lossy().into_owned();
        let documents = all.into_iter().map(|(path, values)| (below(&path), values));
        Some(Self {
            python,
            documents: documents.collect(),
        })
    }

    /// Path and document.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.documents
            .iter()
            .flat_map(|(path, values)| values.iter().map(move |value| (path.as_str(), value)))
    }

    pub(super) fn of_kind(&self, kind: &str) -> Vec<(&str, &Value)> {
        self.all().filter(|(_, value)| value["kind"] == kind).collect()
    }

    /// The first document of a file.
    pub(super) fn one(&self, path: &str) -> &Value {
        &self.documents[path][0]
    }
}

/// The elements of an array that may be missing.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Containers and init containers called weir.
pub(super) fn weirs(deployment: &Value) -> Vec<&Value> {
    let pod = &deployment["spec"]["template"]["spec"];
    let all = list(&pod["containers"])
        .iter()
        .chain(list(&pod["initContainers"]));
    all.filter(|container| container["name"] == "weir").collect()
}
