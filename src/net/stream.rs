//! One connection, plain or TLS, over a [`Socket`].
//!
//! [`Stream`] adds no buffer and no lock to the path of a byte. A TLS stream may hold ciphertext back after a write:
//! `flush` after it.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::info::CertificateInfo;

/// How long [`Stream::close`] waits for the peer's end.
pub const LINGER: Duration = Duration::from_secs(1);

/// A connected byte stream below TLS: TCP, or what another [`Connect`](super::Connect) or [`Accept`](super::Accept) makes.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Any {
    /// From now on every end of the connection is a reset, also when the process is killed: the kernel
    /// closes the socket then.
    fn reset_on_close(&mut self);

    /// Ends the connection with a reset: nothing more is sent, and the peer's next call fails.
    fn abort(self: Box<Self>);

    /// Acknowledges at once what was read. One call holds only until weir writes again: the kernel then delays
    /// acknowledgements as before.
    fn quick_ack(&self) {}
}

/// What carries the bytes, below TLS.
pub type Raw = Box<dyn Socket>;

impl Socket for TcpStream {
    fn reset_on_close(&mut self) {
        // Refused only for a socket that is already dead.
        let _ = self.set_zero_linger();
    }

    fn abort(mut self: Box<Self>) {
        // The drop closes.
        self.reset_on_close();
    }

    fn quick_ack(&self) {
        // Without it the peer waits a little longer.
        #[cfg(target_os = "linux")]
        let _ = self.set_quickack(true);
    }
}

/// A connection ready for the protocol.
///
/// Dropping it closes it the ordinary way (FIN; Linux turns that into a reset when received bytes were
/// left unread). TLS sends its close_notify only in [`Stream::close`] and `shutdown`.
pub enum Stream {
    /// In clear.
    Plain(Raw),
    /// After a TLS handshake, either side.
    Tls(Box<tokio_rustls::TlsStream<Below>>),
}

/// What is below TLS.
pub struct Below {
    raw: Raw,
    /// Bytes came, and no plaintext since.
    is_mid_record: bool,
}

impl Below {
    pub(super) fn new(raw: Raw) -> Self {
        let is_mid_record = false;
        Self { raw, is_mid_record }
    }
}

impl Stream {
    /// Ends the connection with a TCP reset: no FIN, no close_notify.
    pub fn abort(self) {
        match self {
            Stream::Plain(raw) => raw.abort(),
            Stream::Tls(tls) => match *tls {
                tokio_rustls::TlsStream::Client(s) => s.into_inner().0.raw.abort(),
                tokio_rustls::TlsStream::Server(s) => s.into_inner().0.raw.abort(),
            },
        }
    }

    /// To be called when there is nothing left to read, with whether that is inside a message: then, or inside a
    /// TLS record, what was read is acknowledged at once. A peer with Nagle's algorithm holds the rest back until
    /// it is, and the kernel would wait up to 40 ms for an answer to acknowledge along with.
    pub fn wait_for_rest(&mut self, is_mid_message: bool) {
        match self {
            Stream::Plain(raw) if is_mid_message => raw.quick_ack(),
            Stream::Plain(_) => {}
            Stream::Tls(tls) => {
                let below = tls.get_mut().0;
                if std::mem::take(&mut below.is_mid_record) || is_mid_message {
                    below.raw.quick_ack();
                }
            }
        }
    }

    /// Flushes, says goodbye (TLS: close_notify), sends FIN, and waits for the peer's end, for at most
    /// [`LINGER`].
    ///
    /// What arrives meanwhile is thrown away. Without that wait Linux resets a connection that is closed
    /// with received bytes unread, and the reset can overtake what was written: a TLS 1.3 client always has
    /// such bytes, the session tickets. A peer that does not read may deny the flush for ever: give it a
    /// deadline.
    ///
    /// # Errors
    /// The peer was gone before everything was handed to the kernel.
    pub async fn close(mut self) -> io::Result<()> {
        self.shutdown().await?;
        let mut waste = [0; 1024];
        let end = async { while let Ok(1..) = self.read(&mut waste).await {} };
        // Over either way: whether the peer said goodbye in time makes no difference to what was sent.
        let _ = timeout(LINGER, end).await;
        Ok(())
    }

    /// Whether bytes are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// The certificate the peer presented; `None` in clear, and on the server side (weir asks no
    /// client for one).
    #[must_use]
    pub fn peer_certificate(&self) -> Option<CertificateInfo> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls
                .get_ref()
                .1
                .peer_certificates()?
                .first()
                .map(CertificateInfo::of),
        }
    }

    /// `TLSv1.3` or `TLSv1.2`; `None` in clear.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'static str> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => match tls.get_ref().1.protocol_version() {
                Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
                _ => Some("TLSv1.2"),
            },
        }
    }
}

impl AsyncRead for Below {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let below = self.get_mut();
        let read = Pin::new(&mut below.raw).poll_read(cx, buf);
        below.is_mid_record |= read.is_ready();
        read
    }
}

impl AsyncWrite for Below {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().raw).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.raw.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().raw).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Tls(io) => {
                let read = Pin::new(&mut **io).poll_read(cx, buf);
                if read.is_ready() {
                    io.get_mut().0.is_mid_record = false;
                }
                read
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Stream::Tls(io) => Pin::new(&mut **io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Stream::Tls(io) => Pin::new(&mut **io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(io) => io.is_write_vectored(),
            Stream::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_flush(cx),
            Stream::Tls(io) => Pin::new(&mut **io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Stream::Tls(io) => Pin::new(&mut **io).poll_shutdown(cx),
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_tls() {
            "Stream(tls)"
        } else {
            "Stream(plain)"
        })
    }
}
