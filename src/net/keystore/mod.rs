//! Keys and trusted certificates from files: PEM, JKS and PKCS#12, distinguished by their first bytes.
//!
//! Every error names the configuration key, the file, what is wrong with it, and what to do.

mod jks;
mod pem;
#[cfg(feature = "pkcs12")]
mod pkcs12;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::Path;

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::tls::TlsError;
use crate::config::{KeyFile, Secret, Trust, read_file};

/// A keystore's checksum holds its password, so the two cannot be told apart.
const WRONG_PASSWORD: &str = "the password is wrong, or the file is damaged";

/// Larger files are no keystores.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// A private key with its certificate chain, leaf first, never empty.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// For messages: the file, and the alias where there is one.
    pub(super) origin: String,
    /// The key of the configuration that names the file; empty when none does.
    pub(super) named_by: &'static str,
}

/// Trusted certificates.
#[derive(Debug)]
pub(super) struct Anchors {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// For messages: `truststore.jks` or `the operating system's certificates`.
    pub(super) origin: String,
}

/// Reads weir's own certificate and key.
pub(super) fn identity(file: &KeyFile) -> Result<Identity, TlsError> {
    match file {
        KeyFile::Pem { certificate, key } => {
            let (of_chain, of_key) = (At("tls.certificate", certificate), At("tls.key", key));
            let chain = pem::certificates(&of_chain.read()?).map_err(|e| of_chain.error(&e))?;
            let key = pem::key(&of_key.read()?).map_err(|e| of_key.error(&e))?;
            Ok(Identity {
                chain,
                key,
                origin: certificate.display().to_string(),
                named_by: "tls.certificate",
            })
        }
        KeyFile::Keystore {
            file,
            password,
            alias,
            key_password,
        } => {
            let at = At("tls.keystore.file", file);
            let store = open(at, "tls.keystore.password", password)?;
            let chosen_by = match alias {
                Some(_) => "tls.keystore.alias",
                None => at.0,
            };
            let entry = choose(store, alias.as_deref()).map_err(|e| At(chosen_by, file).error(&e))?;
            let origin = format!("{}, alias {}", file.display(), entry.alias);
            let (key_password, password_key) = match key_password {
                Some(own) => (own, "tls.keystore.key_password"),
                None => (password, "tls.keystore.password"),
            };
            let key = entry.key.decrypt(key_password).map_err(|e| {
                let text = format!(
                    "{origin}: {e} (a key may have a password of its own: tls.keystore.key_password)"
                );
                TlsError::about(password_key, text)
            })?;
            if entry.chain.is_empty() {
                return Err(TlsError::about(
                    at.0,
                    format!("{origin}: the key has no certificate"),
                ));
            }
            Ok(Identity {
                chain: entry.chain,
                key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
                origin,
                named_by: at.0,
            })
        }
    }
}

/// Reads the trusted certificates. An operating system without certificates is not an error here: a weir without
/// `ssl://` URLs needs none, and a handshake reports it.
pub(super) fn trust(trust: &Trust) -> Result<Anchors, TlsError> {
    match trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a trusted certificate of the operating system is left out");
            }
            Ok(Anchors {
                certificates: found.certs,
                origin: "the operating system's certificates".into(),
            })
        }
        Trust::Pem(file) => {
            let at = At("tls.trust.pem", file);
            Ok(Anchors {
                certificates: pem::certificates(&at.read()?).map_err(|e| at.error(&e))?,
                origin: file.display().to_string(),
            })
        }
        Trust::Keystore { file, password } => {
            let at = At("tls.trust.keystore.file", file);
            let store = open(at, "tls.trust.keystore.password", password)?;
            // As Java's trust manager does: trusted entries, and the leaf of each key entry.
            let leaves = store.keys.into_iter().filter_map(|k| k.chain.into_iter().next());
            let certificates: Vec<_> = store.certificates.into_iter().chain(leaves).collect();
            if certificates.is_empty() {
                return Err(at.error(
                    "it holds no trusted certificate: add one with keytool -importcert -alias NAME -file \
                     CERTIFICATE -keystore FILE, or give weir a PEM file",
                ));
            }
            Ok(Anchors {
                certificates,
                origin: file.display().to_string(),
            })
        }
    }
}

/// A keystore of either kind, read.
#[derive(Default)]
struct Store {
    keys: Vec<KeyEntry>,
    certificates: Vec<CertificateDer<'static>>,
}

struct KeyEntry {
    alias: String,
    chain: Vec<CertificateDer<'static>>,
    key: Key,
}

enum Key {
    /// PKCS#8.
    #[cfg_attr(not(feature = "pkcs12"), allow(dead_code))]
    Plain(Vec<u8>),
    /// By JKS's key protector, with a password of its own.
    Encrypted(Vec<u8>),
}

impl Key {
    fn decrypt(self, password: &Secret) -> Result<Vec<u8>, String> {
        match self {
            Key::Plain(key) => Ok(key),
            Key::Encrypted(key) => jks::decrypt(&key, password.expose()),
        }
    }
}

/// `password_key` is the configuration key of the password.
fn open(at: At<'_>, password_key: &'static str, password: &Secret) -> Result<Store, TlsError> {
    store(&at.read()?, password.expose(), at.1).map_err(|e| match e == WRONG_PASSWORD {
        true => At(password_key, at.1).error(&e),
        false => at.error(&e),
    })
}

fn store(bytes: &[u8], password: &str, path: &Path) -> Result<Store, String> {
    let path = path.display();
    if bytes.starts_with(&jks::MAGIC) {
        jks::parse(bytes, password)
    } else if bytes.starts_with(&jks::MAGIC_JCEKS) {
        Err(format!(
            "it is a JCEKS keystore, which weir does not read; this converts it: keytool -importkeystore \
             -srckeystore {path} -srcstoretype JCEKS -destkeystore {path}.p12 -deststoretype PKCS12"
        ))
    } else if bytes.first() == Some(&0x30) {
        #[cfg(feature = "pkcs12")]
        return pkcs12::parse(bytes, password);
        #[cfg(not(feature = "pkcs12"))]
        return Err(format!(
            "it looks like PKCS#12, which this weir was built without (feature pkcs12); this converts it: \
             keytool -importkeystore -srckeystore {path} -srcstoretype PKCS12 -destkeystore {path}.jks \
             -deststoretype JKS"
        ));
    } else if bytes.starts_with(b"-----BEGIN") {
        Err(
            "it is a PEM file, not a keystore: set tls.certificate and tls.key, or tls.trust.pem, to it"
                .into(),
        )
    } else if bytes.starts_with(&[0xef, 0xbf, 0xbd]) {
        Err(
            "it is not a keystore any more: something has treated the binary file as text (UTF-8 replacement \
             characters at its start); copy the original again"
                .into(),
        )
    } else {
        Err("it is neither a JKS nor a PKCS#12 keystore".into())
    }
}

fn choose(store: Store, alias: Option<&str>) -> Result<KeyEntry, String> {
    if store.keys.is_empty() {
        let n = store.certificates.len();
        return Err(format!(
            "it holds no private key, only {n} trusted certificates: a truststore?"
        ));
    }
    let names: Vec<&str> = store.keys.iter().map(|k| k.alias.as_str()).collect();
    let names = names.join(", ");
    // Java lowers the case of aliases.
    let wanted = |k: &KeyEntry| alias.is_none_or(|a| a.to_lowercase() == k.alias.to_lowercase());
    let mut found = store.keys.into_iter().filter(wanted);
    match (found.next(), found.next(), alias) {
        (Some(key), None, _) => Ok(key),
        (None, _, Some(alias)) => Err(format!(
            "it has no private key with alias {alias}; it has: {names}"
        )),
        _ => Err(format!(
            "it holds several private keys ({names}): say which one with tls.keystore.alias"
        )),
    }
}

/// A configuration key, and the file it names.
#[derive(Clone, Copy)]
struct At<'a>(&'static str, &'a Path);

impl At<'_> {
    fn read(self) -> Result<Vec<u8>, TlsError> {
        read_file(self.1, FILE_MAX_BYTES).map_err(|e| match e.kind() {
            ErrorKind::FileTooLarge => self.error("it is larger than 16 MiB: no keystore"),
            _ => self.error(&format!("it cannot be read: {e}")),
        })
    }

    fn error(self, problem: &str) -> TlsError {
        TlsError::about(self.0, format!("{}: {problem}", self.1.display()))
    }
}
