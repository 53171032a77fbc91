//! TLS in both directions. Settings can be replaced at run time, and apply to new handshakes.

mod client;
mod explain;
mod old_key;
mod selfsigned;
mod server;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use client::ClientTls;
pub use server::{Acceptor, ServerTls};

/// Key or trust material that cannot be used: which key of the configuration names it, which file, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// Full path of the key; empty when no key is at fault.
    pub key: &'static str,
    /// File, problem and remedy.
    pub message: String,
}

impl TlsError {
    pub(in crate::net) fn about(key: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { key, message }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<tokio_rustls::rustls::Error> for TlsError {
    fn from(e: tokio_rustls::rustls::Error) -> Self {
        TlsError::about("", e.to_string())
    }
}

/// Unix seconds.
fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The crypto provider. Always passed explicitly: the process default depends on features that any
/// crate in the tree can switch on.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A shared value that is read often and replaced rarely.
struct Current<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Current<T> {
    fn new(value: Arc<T>) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
