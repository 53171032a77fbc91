//! The network: the only room that names `tokio::net`, `socket2` and `rustls`.
//!
//! [`Dialer`] makes connections (resolve, connect, TLS), [`Listener`] and [`Acceptor`] take them, and both
//! end in a [`Stream`]. Both sides also run over a simulated network ([`Fabric`], [`MemoryListener`]) so
//! that whole systems can be tested in virtual time.

mod error;
mod info;
mod keystore;
mod ports;
mod stream;
mod tcp;
mod tls;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub use error::{DialClass, DialError};
pub use info::{CertificateInfo, hex, sha256};
pub use ports::{Ports, pass, receive};
pub use stream::{Below, LINGER, MemoryIo, Raw, Stream};
pub use tcp::{Listener, MemoryListener, SocketOptions, bind, connect, out_of_descriptors, resolve};
pub use tls::{Acceptor, ClientTls, ServerTls, TlsError};

use crate::config::{Scheme, Url};

/// A connection of a simulated network, on its way.
pub type MemoryConnect = Pin<Box<dyn Future<Output = io::Result<Box<dyn MemoryIo>>> + Send>>;

/// The seam for a simulated network's connecting side.
pub trait Fabric: Send + Sync {
    /// Connects; the error's kind decides the class (`ConnectionRefused`, `TimedOut`, `NotFound` = DNS).
    fn connect(&self, url: &Url) -> MemoryConnect;
}

/// Makes connections; a clone costs a few reference counts.
#[derive(Clone)]
pub struct Dialer {
    way: Way,
    tls: ClientTls,
}

#[derive(Clone)]
enum Way {
    Tcp(SocketOptions),
    Memory(Arc<dyn Fabric>),
}

impl Dialer {
    /// Over TCP.
    #[must_use]
    pub fn new(tls: ClientTls, options: SocketOptions) -> Self {
        let way = Way::Tcp(options);
        Self { way, tls }
    }

    /// Over a simulated network; TLS runs on top of it all the same.
    #[must_use]
    pub fn over(fabric: Arc<dyn Fabric>, tls: ClientTls) -> Self {
        let way = Way::Memory(fabric);
        Self { way, tls }
    }

    /// What `ssl://` connections trust; replaceable at run time.
    #[must_use]
    pub fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Resolves, connects, and shakes hands where the URL says `ssl`. Cancel safe: dropping the future
    /// closes what was opened.
    ///
    /// # Errors
    /// With the class for counters and one line for people.
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
        match &self.way {
            Way::Tcp(options) => connect(url, options, connect_timeout).await.map(Raw::Tcp),
            Way::Memory(fabric) => match timeout(connect_timeout, fabric.connect(url)).await {
                Ok(Ok(io)) => Ok(Raw::Memory(io)),
                Ok(Err(e)) => {
                    let class = match e.kind() {
                        io::ErrorKind::NotFound => DialClass::Dns,
                        _ => DialClass::of(&e),
                    };
                    Err(DialError::new(class, format!("cannot connect to {url}: {e}")))
                }
                Err(_) => {
                    let text = format!("cannot connect to {url}: no answer within {connect_timeout:.1?}");
                    Err(DialError::new(DialClass::Timeout, text))
                }
            },
        }
    }
}
