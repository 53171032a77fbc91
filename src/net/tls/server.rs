//! Towards gateways: the certificate weir shows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::Current;
use crate::net::error::{DialClass, DialError};
use crate::net::stream::{Raw, Stream};

/// The settings of incoming TLS.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

/// Takes TLS handshakes; clones share the certificate, also after [`Acceptor::replace`].
#[derive(Clone)]
pub struct Acceptor {
    config: Current<ServerConfig>,
}

impl Acceptor {
    /// Shows the certificate of `tls`.
    #[must_use]
    pub fn new(tls: &ServerTls) -> Acceptor {
        Acceptor {
            config: Current::new(Arc::clone(&tls.config)),
        }
    }

    /// New handshakes show the certificate of `tls` from now on, in every clone. Open connections stay.
    pub fn replace(&self, tls: &ServerTls) {
        self.config.replace(Arc::clone(&tls.config));
    }

    /// Shakes hands over an accepted connection.
    ///
    /// # Errors
    /// Class `tls` or `timeout`.
    pub async fn handshake(&self, raw: Raw, within: Duration) -> Result<Stream, DialError> {
        let acceptor = TlsAcceptor::from(self.config.load());
        match timeout(within, acceptor.accept(raw)).await {
            Ok(Ok(tls)) => Ok(Stream::Tls(Box::new(tls.into()))),
            Ok(Err(e)) => Err(DialError::new(
                DialClass::Tls,
                format!("TLS handshake failed: {e}"),
            )),
            Err(_) => {
                let text = format!("no TLS handshake within {within:.1?}");
                Err(DialError::new(DialClass::Timeout, text))
            }
        }
    }
}
