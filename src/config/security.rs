//! Who may log in, and the keys and trust of both directions, in their valid form.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Users and session tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// Accepted users, in the order of the file; never empty.
    pub users: Vec<User>,
    /// Key for signing session tokens; `None` = generated at start.
    pub session_secret: Option<Secret>,
    /// Life of a session after login.
    pub session_ttl: Duration,
    /// Whether a login on the plain listener is served.
    pub allow_plaintext_login: bool,
}

/// One accepted user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Name as the gateway sends it.
    pub name: String,
    /// What it is checked against.
    pub password: Password,
}

/// A stored password.
#[derive(Debug, Clone, PartialEq)]
pub enum Password {
    /// In clear (from the file, `$env{}`, `$file{}`, `$secret{}`).
    Clear(Secret),
    /// An argon2 PHC string, `$argon2id$…`, already checked to be well-formed.
    Argon2(String),
}

/// TLS in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// Weir's own certificate and key for the TLS listener; `None` = self-signed at start.
    pub identity: Option<KeyFile>,
    /// Whom weir trusts when it connects to a Traffic Manager.
    pub trust: Trust,
    /// How a Traffic Manager's certificate is checked.
    pub verify: Verify,
}

/// A certificate chain with its key.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyFile {
    /// Two PEM files.
    Pem {
        /// Certificate chain, leaf first.
        certificate: PathBuf,
        /// Private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
        key: PathBuf,
    },
    /// A Java keystore (JKS) or PKCS#12 file; the kind is found by its first bytes.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Store password.
        password: Secret,
        /// Alias; `None` = the only key entry.
        alias: Option<String>,
        /// Key password; `None` = the store's.
        key_password: Option<Secret>,
    },
}

/// Trust anchors.
#[derive(Debug, Clone, PartialEq)]
pub enum Trust {
    /// The operating system's.
    System,
    /// A PEM bundle.
    Pem(PathBuf),
    /// A JKS or PKCS#12 truststore.
    Keystore {
        /// The file.
        file: PathBuf,
        /// Store password.
        password: Secret,
    },
}

/// How a server certificate is verified.
#[derive(Debug, Clone, PartialEq)]
pub enum Verify {
    /// Chain and host name.
    Full,
    /// Chain only: what WSO2's own agent does.
    Chain,
    /// SHA-256 of the certificate (DER), any of these.
    Pin(Vec<[u8; 32]>),
}
