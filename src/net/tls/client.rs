//! Towards Traffic Managers and brokers: whom weir trusts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Current, TlsError, provider};
use crate::config::Url;
use crate::net::error::{DialClass, DialError};
use crate::net::stream::{Raw, Stream};

/// The settings of outgoing TLS; clones share them, also after [`ClientTls::replace`].
#[derive(Clone)]
pub struct ClientTls {
    config: Current<ClientConfig>,
}

impl ClientTls {
    /// Trusts no certificate: every `ssl://` URL fails. For a weir without such URLs, and tests.
    ///
    /// # Errors
    /// None in practice: the provider lacks a TLS version.
    pub fn trusting_nobody() -> Result<ClientTls, TlsError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(ClientTls {
            config: Current::new(Arc::new(config)),
        })
    }

    /// New handshakes follow `other` from now on, in every clone. Open connections stay.
    pub fn replace(&self, other: &ClientTls) {
        self.config.replace(other.config.load());
    }

    /// Shakes hands over an open connection.
    ///
    /// # Errors
    /// Class `tls` or `timeout`; the message says what mends it.
    pub async fn handshake(&self, url: &Url, raw: Raw, within: Duration) -> Result<Stream, DialError> {
        let name = ServerName::try_from(url.host.clone()).map_err(|_| {
            let text = format!(
                "cannot connect to {url}: {} is no valid host name for TLS",
                url.host
            );
            DialError::new(DialClass::Tls, text)
        })?;
        let connector = TlsConnector::from(self.config.load());
        match timeout(within, connector.connect(name, raw)).await {
            Ok(Ok(tls)) => Ok(Stream::Tls(Box::new(tls.into()))),
            Ok(Err(e)) => Err(DialError::new(
                DialClass::Tls,
                format!("TLS with {url} failed: {e}"),
            )),
            Err(_) => {
                let text = format!("TLS with {url}: no handshake within {within:.1?}");
                Err(DialError::new(DialClass::Timeout, text))
            }
        }
    }
}
