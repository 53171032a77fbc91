//! Where the configuration comes from, and whether any of it has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use crate::config::{self, Source};
use crate::config::{Config, KeyFile, Trust};
use crate::config::{Problems, Warning};

/// The files and words of the command line.
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

/// Files by path, each with a number that differs when the content does; `None`: it cannot be read.
pub(super) type Contents = BTreeMap<PathBuf, Option<u64>>;

impl Files {
    /// Reads and parses.
    ///
    /// # Errors
    /// Every problem with its place.
    pub fn load(&self) -> Result<(Config, Vec<Warning>), Problems> {
        config::parse(&self.source()?)
    }

    fn source(&self) -> Result<Source, Problems> {
        let (weir, deployment) = (self.weir_toml.as_deref(), self.deployment_toml.as_deref());
        config::load(weir, deployment, self.sys.clone(), self.secrets_dir.clone())
    }

    /// The contents of every file behind `config`, and of those that the texts name by now. Links are followed: a
    /// mounted Kubernetes volume swaps a symbolic link, which a watch on the file would see once and never again.
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

/// Only of a regular file: another one might never end.
fn content(path: &PathBuf) -> Option<u64> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}
