//! TLS towards Traffic Managers and brokers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::verify::Verifier;
use super::{Current, TlsError, explain, provider, unix_now};
use crate::config::{Tls, Url, Verify};
use crate::net::error::{DialClass, DialError};
use crate::net::keystore::{self, Anchors};
use crate::net::stream::{Below, Raw, Stream};

/// The settings of outgoing TLS; clones share them, also after [`ClientTls::replace`].
#[derive(Clone)]
pub struct ClientTls {
    settings: Current<Settings>,
}

struct Settings {
    config: Arc<ClientConfig>,
    anchors: usize,
    early: Vec<String>,
}

impl ClientTls {
    /// Reads the trusted certificates.
    ///
    /// # Errors
    /// A file that cannot be used. An operating system without certificates is not an error: handshakes report it.
    pub fn load(tls: &Tls) -> Result<ClientTls, TlsError> {
        let anchors = match &tls.verify {
            Verify::Pin(_) => no_anchors(),
            Verify::Full | Verify::Chain => keystore::trust(&tls.trust)?,
        };
        ClientTls::with(Verifier::new(tls.verify.clone(), anchors)?)
    }

    /// Trusts no certificate: every `ssl://` URL fails. For a weir without such URLs, and tests.
    ///
    /// # Errors
    /// None in practice: the provider lacks a TLS version.
    pub fn trusting_nobody() -> Result<ClientTls, TlsError> {
        ClientTls::with(Verifier::new(Verify::Full, no_anchors())?)
    }

    /// With settings made elsewhere.
    #[must_use]
    pub fn new(config: ClientConfig) -> ClientTls {
        ClientTls::of(config, 0, Vec::new())
    }

    fn with(verifier: Verifier) -> Result<ClientTls, TlsError> {
        let (anchors, early) = (verifier.anchors(), verifier.early(unix_now()));
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(ClientTls::of(config, anchors, early))
    }

    fn of(config: ClientConfig, anchors: usize, early: Vec<String>) -> ClientTls {
        let config = Arc::new(config);
        let settings = Arc::new(Settings {
            config,
            anchors,
            early,
        });
        ClientTls {
            settings: Current::new(settings),
        }
    }

    /// How many certificates were read as trusted; 0 with `verify = "pin"`.
    #[must_use]
    pub fn anchors(&self) -> usize {
        self.settings.load().anchors
    }

    /// Trusted certificates that were not valid yet when they were read, one line each.
    #[must_use]
    pub fn not_yet_valid(&self) -> Vec<String> {
        self.settings.load().early.clone()
    }

    /// New handshakes follow `other` from now on, in every clone. Open connections stay.
    pub fn replace(&self, other: &ClientTls) {
        self.settings.replace(other.settings.load());
    }

    /// Does the handshake over an open connection.
    ///
    /// # Errors
    /// Class `tls` or `timeout`; the message says how to fix it.
    pub async fn handshake(&self, url: &Url, raw: Raw, within: Duration) -> Result<Stream, DialError> {
        let name = ServerName::try_from(url.host.clone()).map_err(|_| {
            let text = format!(
                "cannot connect to {url}: {} is not a valid host name for TLS",
                url.host
            );
            DialError::new(DialClass::Tls, text)
        })?;
        let connector = TlsConnector::from(Arc::clone(&self.settings.load().config));
        match timeout(within, connector.connect(name, Below::new(raw))).await {
            Ok(Ok(tls)) => Ok(Stream::Tls(Box::new(tls.into()))),
            Ok(Err(e)) => {
                let text = format!("TLS with {url} failed: {}", explain::client(&e));
                let certificate = explain::refused(&e).map(Box::new);
                Err(DialError {
                    certificate,
                    ..DialError::new(DialClass::Tls, text)
                })
            }
            Err(_) => {
                let text = format!(
                    "TLS with {url}: connected, but no handshake within {within:.1?} (does it speak TLS on this \
                     port? a plain one needs tcp://)"
                );
                Err(DialError::new(DialClass::Timeout, text))
            }
        }
    }
}

fn no_anchors() -> Anchors {
    Anchors {
        certificates: Vec::new(),
        origin: "no truststore".into(),
    }
}
