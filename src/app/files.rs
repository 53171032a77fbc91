//! The files of the configuration, and whether any of them has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::limits;
use crate::config::{self, Source};
use crate::config::{Config, KeyFile, Trust};
use crate::config::{Problems, Warning};
use crate::net::TlsError;

/// The files and variables that the command line names.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// weir.toml.
    pub weir_toml: Option<PathBuf>,
    /// A gateway's deployment.toml.
    pub deployment_toml: Option<PathBuf>,
    /// For `$sys{}`.
    pub sys: BTreeMap<String, String>,
    /// For `$secret{}`.
    pub secrets_dir: Option<PathBuf>,
}

/// The largest file that a configuration may name.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Files by path, each with a hash of its content; `None`: it cannot be read.
pub(super) type Contents = BTreeMap<PathBuf, Option<u64>>;

impl Files {
    /// Reads and parses the files.
    ///
    /// # Errors
    /// Every problem with its location.
    pub fn load(&self) -> Result<(Config, Vec<Warning>), Problems> {
        let source = self.source()?;
        let (config, mut warnings) = config::parse(&source)?;
        if let Some((message, hint)) = limits::too_few_descriptors(&config, limits::descriptors()) {
            let about = ("listen.max_connections", message, Some(hint));
            warnings.extend(config::complain(&source, &[about]).list().iter().cloned());
        }
        Ok((config, warnings))
    }

    /// Problems with certificates, keys and trust, at the lines that name them.
    #[must_use]
    pub fn locate_all(&self, errors: &[TlsError]) -> Problems {
        let source = self.source().unwrap_or_default();
        let about: Vec<_> = errors.iter().map(|e| (e.key, e.message.clone(), None)).collect();
        config::complain(&source, &about)
    }

    /// One of them, on one line.
    pub(super) fn locate(&self, error: &TlsError) -> String {
        let problems = self.locate_all(std::slice::from_ref(error));
        problems
            .list()
            .first()
            .map_or_else(|| error.to_string(), ToString::to_string)
    }

    fn source(&self) -> Result<Source, Problems> {
        let (weir, deployment) = (self.weir_toml.as_deref(), self.deployment_toml.as_deref());
        config::load(weir, deployment, self.sys.clone(), self.secrets_dir.clone())
    }

    /// The contents of every file behind `config`, and of those that the files refer to now. Links are followed: a
    /// mounted Kubernetes volume swaps a symbolic link, which a watch on the file would see only once.
    pub(super) fn contents(&self, config: &Config) -> Contents {
        let paths = self.paths(config);
        paths
            .into_iter()
            .map(|path| (path.clone(), content(&path)))
            .collect()
    }

    fn paths(&self, config: &Config) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self
            .weir_toml
            .iter()
            .chain(&self.deployment_toml)
            .cloned()
            .collect();
        match &config.tls.identity {
            Some(KeyFile::Pem { certificate, key }) => paths.extend([certificate.clone(), key.clone()]),
            Some(KeyFile::Keystore { file, .. }) => paths.push(file.clone()),
            None => {}
        }
        match &config.tls.trust {
            Trust::Pem(file) | Trust::Keystore { file, .. } => paths.push(file.clone()),
            Trust::System => {}
        }
        paths.extend(self.source().iter().flat_map(config::files_referred_to));
        let secrets = self
            .secrets_dir
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten());
        paths.extend(secrets.flatten().map(|entry| entry.path()));
        paths
    }
}

fn content(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    config::read_file(path, FILE_MAX_BYTES).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// What the files held when they were loaded, and at the last check.
#[derive(Debug)]
pub(super) struct Seen {
    read: Contents,
    unsettled: Option<Contents>,
}

impl Seen {
    /// From the contents before and after a load. Those before count, so that a change during the load is found at the
    /// next check; files that only the new configuration names have those after it.
    pub(super) fn of(before: Contents, after: Contents) -> Self {
        let mut read = after;
        for (path, content) in before {
            read.entry(path).and_modify(|held| *held = content);
        }
        Self {
            read,
            unsettled: None,
        }
    }

    /// Whether the contents have changed and are the same as at the last check: a file that is still being written does
    /// not count yet, and a change followed by a request to reload is reported by that reload.
    pub(super) fn has_changed_to(&mut self, now: Contents) -> bool {
        if now == self.read {
            self.unsettled = None;
            return false;
        }
        let settled = self.unsettled.as_ref() == Some(&now);
        self.unsettled = Some(now);
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, u64)]) -> Contents {
        let hold = |(path, content): &(&str, u64)| (PathBuf::from(path), Some(*content));
        files.iter().map(hold).collect()
    }

    #[test]
    fn a_change_counts_when_two_checks_agree_on_it() {
        let mut seen = Seen::of(Contents::new(), contents(&[("a", 1)]));
        assert!(!seen.has_changed_to(contents(&[("a", 1)])));
        assert!(
            !seen.has_changed_to(contents(&[("a", 2)])),
            "may still be written"
        );
        assert!(!seen.has_changed_to(contents(&[("a", 3)])), "it was");
        assert!(seen.has_changed_to(contents(&[("a", 3)])));
        assert!(!seen.has_changed_to(contents(&[("a", 1)])), "taken back");
        assert!(!seen.has_changed_to(contents(&[("a", 3)])));
    }

    #[test]
    fn a_change_during_a_load_is_found_and_a_newly_named_file_is_no_change() {
        let mut seen = Seen::of(
            contents(&[("a", 1), ("old", 1)]),
            contents(&[("a", 2), ("new", 1)]),
        );
        let now = contents(&[("a", 2), ("new", 1)]);
        assert!(!seen.has_changed_to(now.clone()) && seen.has_changed_to(now));
        let mut seen = Seen::of(
            contents(&[("a", 1), ("old", 1)]),
            contents(&[("a", 1), ("new", 1)]),
        );
        let now = contents(&[("a", 1), ("new", 1)]);
        assert!(!seen.has_changed_to(now.clone()) && !seen.has_changed_to(now));
    }
}
