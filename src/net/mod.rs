//! The network: the only module that names `tokio::net`, `socket2` and `rustls`.
//!
//! [`Dialer`] makes connections (resolve, connect, TLS), [`Listener`] and [`Acceptor`] accept them; both yield a
//! [`Stream`]. Below TLS a connection is a [`Socket`], which [`Connect`] and [`Accept`] make: TCP here.

mod error;
mod info;
mod keystore;
mod ports;
mod stream;
mod tcp;
mod tls;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use error::{DialClass, DialError};
pub use info::{CertificateInfo, hex, sha256};
pub use ports::{Ports, pass, receive};
pub use stream::{Below, LINGER, Raw, Socket, Stream};
pub use tcp::{Accept, Listener, SocketOptions, bind, connect, out_of_descriptors, resolve};
pub use tls::{Acceptor, ClientTls, ServerTls, TlsError};

use crate::config::{Scheme, Url};

/// A connection on its way.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Raw, DialError>> + Send + 'a>>;

/// Opens connections, below TLS. Over TCP: [`SocketOptions`].
pub trait Connect: Send + Sync {
    /// Resolves and connects within this time. Cancel safe: dropping the future closes what was opened.
    fn connect<'a>(&'a self, url: &'a Url, within: Duration) -> Connecting<'a>;
}

/// Makes connections. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    connect: Arc<dyn Connect>,
    tls: ClientTls,
}

impl Dialer {
    /// Over TCP.
    #[must_use]
    pub fn new(tls: ClientTls, options: SocketOptions) -> Self {
        Self::over(Arc::new(options), tls)
    }

    /// Over connections of another kind; TLS runs on top of them all the same.
    #[must_use]
    pub fn over(connect: Arc<dyn Connect>, tls: ClientTls) -> Self {
        Self { connect, tls }
    }

    /// The TLS settings of `ssl://` connections; replaceable at run time.
    #[must_use]
    pub fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Resolves, connects, and does the TLS handshake where the URL says `ssl`. Cancel safe: dropping the future
    /// closes what was opened.
    ///
    /// # Errors
    /// With its class for counters, and a message.
    pub async fn dial(
        &self,
        url: &Url,
        connect_timeout: Duration,
        tls_timeout: Duration,
    ) -> Result<Stream, DialError> {
        let raw = self.dial_raw(url, connect_timeout).await?;
        match url.scheme {
            Scheme::Tcp => Ok(Stream::Plain(raw)),
            Scheme::Ssl => self.tls.handshake(url, raw, tls_timeout).await,
        }
    }

    /// The connection below TLS alone.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn dial_raw(&self, url: &Url, connect_timeout: Duration) -> Result<Raw, DialError> {
        self.connect.connect(url, connect_timeout).await
    }
}
