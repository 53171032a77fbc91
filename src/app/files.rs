//! Where the configuration comes from, and whether any of it has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

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

    /// A number that changes when the content of any file behind `config` does, links followed: a mounted
    /// Kubernetes volume swaps a symbolic link, which a watch on the file would see once and never again.
    #[must_use]
    pub fn fingerprint(&self, config: &Config) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut add = |path: &Path| std::fs::read(path).ok().hash(&mut hasher);
        for path in self.weir_toml.iter().chain(&self.deployment_toml) {
            add(path);
        }
        match &config.tls.identity {
            Some(KeyFile::Pem { certificate, key }) => {
                add(certificate);
                add(key);
            }
            Some(KeyFile::Keystore { file, .. }) => add(file),
            None => {}
        }
        match &config.tls.trust {
            Trust::Pem(file) | Trust::Keystore { file, .. } => add(file),
            Trust::System => {}
        }
        let mut secrets: Vec<PathBuf> = self
            .secrets_dir
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .collect();
        secrets.sort();
        for secret in secrets {
            add(&secret);
        }
        hasher.finish()
    }
}
