//! TCP: listen, accept, resolve and connect, and the socket options both sides get.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{DialClass, DialError};
use super::stream::Raw;
use super::{Connect, Connecting};
use crate::config::Url;

/// Connections the kernel keeps ready until they are accepted.
const BACKLOG: i32 = 1024;

/// Options set on every connection, accepted or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// TCP_NODELAY: a small segment does not wait for the acknowledgement of the one before.
    pub nodelay: bool,
    /// Silence before the kernel probes the peer.
    pub keepalive_idle: Duration,
    /// Between probes.
    pub keepalive_interval: Duration,
    /// Unanswered probes until the connection is dead.
    pub keepalive_retries: u32,
    /// TCP_USER_TIMEOUT: sent bytes unacknowledged for this long end the connection; `None` = the
    /// kernel's 15 minutes. Linux counts a closed receive window too: a peer that acknowledges but does
    /// not read for this long is dead as well, so keep it above every time a peer may pause.
    pub user_timeout: Option<Duration>,
}

impl Default for SocketOptions {
    /// No delay; keepalive after 30 s, every 10 s, three times; user timeout 60 s.
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive_idle: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_retries: 3,
            user_timeout: Some(Duration::from_secs(60)),
        }
    }
}

impl SocketOptions {
    /// Sets them on a connection.
    ///
    /// # Errors
    /// The kernel refused one.
    pub fn apply(&self, tcp: &TcpStream) -> io::Result<()> {
        tcp.set_nodelay(self.nodelay)?;
        let socket = SockRef::from(tcp);
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_retries);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.user_timeout)?;
        Ok(())
    }
}

/// Opens a listening socket: non-blocking, SO_REUSEADDR, backlog 1024.
///
/// With `reuse_port` several sockets of one user may share the address and the kernel spreads connections over
/// them; without it a second listener on the address is an error.
///
/// # Errors
/// Names the address and, where it is known, what to do.
pub fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        if reuse_port {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    open().map(Into::into).map_err(|e| {
        let advice = match e.kind() {
            io::ErrorKind::AddrInUse => {
                "; another program listens there (a WSO2 server on this host uses 9611 and 9711 itself): \
                 stop it or choose another port"
            }
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            io::ErrorKind::AddrNotAvailable => "; this host has no such address",
            _ => "",
        };
        io::Error::new(e.kind(), format!("cannot listen on {addr}: {e}{advice}"))
    })
}

/// Takes connections.
pub trait Accept: Send {
    /// The address it listens on, with the port the kernel chose where 0 was asked for.
    ///
    /// # Errors
    /// The kernel does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection, its options set, and the peer's address.
    ///
    /// # Errors
    /// Of one connection (aborted before it was accepted: accept again) or of the process
    /// ([`out_of_descriptors`]: pause).
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Raw, SocketAddr)>>;

    /// What connections get that are accepted from now on.
    fn set_options(&mut self, options: SocketOptions);
}

/// Where connections come from.
pub struct Listener(Box<dyn Accept>);

impl Listener {
    /// Connections of another kind than TCP.
    #[must_use]
    pub fn new(accept: impl Accept + 'static) -> Listener {
        Listener(Box::new(accept))
    }

    /// Hands a socket of [`bind`] to the runtime of the current thread.
    ///
    /// # Errors
    /// The socket could not be registered.
    pub fn from_std(listener: std::net::TcpListener, options: SocketOptions) -> io::Result<Listener> {
        let listener = TcpListener::from_std(listener)?;
        Ok(Listener::new(TcpAccept { listener, options }))
    }

    /// As [`Accept::local_addr`].
    ///
    /// # Errors
    /// As [`Accept::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// As [`Accept::poll_accept`].
    ///
    /// # Errors
    /// As [`Accept::poll_accept`].
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Raw, SocketAddr)>> {
        self.0.poll_accept(cx)
    }

    /// [`Listener::poll_accept`] as a future; cancel safe.
    ///
    /// # Errors
    /// As [`Listener::poll_accept`].
    pub async fn accept(&mut self) -> io::Result<(Raw, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`Accept::set_options`].
    pub fn set_options(&mut self, options: SocketOptions) {
        self.0.set_options(options);
    }
}

struct TcpAccept {
    listener: TcpListener,
    options: SocketOptions,
}

impl Accept for TcpAccept {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Raw, SocketAddr)>> {
        let (tcp, peer) = ready!(self.listener.poll_accept(cx))?;
        // A connection without keepalive is still a connection; one that is already dead says so at its first read.
        if let Err(error) = self.options.apply(&tcp) {
            tracing::debug!(%peer, %error, "socket options refused");
        }
        Poll::Ready(Ok((Box::new(tcp), peer)))
    }

    fn set_options(&mut self, options: SocketOptions) {
        self.options = options;
    }
}

/// Whether an accept or connect failed for want of descriptors or memory of the process or system:
/// trying again at once cannot help.
#[must_use]
pub fn out_of_descriptors(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

impl Connect for SocketOptions {
    fn connect<'a>(&'a self, url: &'a Url, within: Duration) -> Connecting<'a> {
        Box::pin(async move { Ok(Box::new(connect(url, self, within).await?) as Raw) })
    }
}

/// Resolves the host and connects to the first of its addresses that answers, one after the other; the
/// time that is left is shared evenly by the addresses that are left, so one black hole cannot use it up.
///
/// # Errors
/// No address, or what each address answered; the class is that of the first.
pub async fn connect(url: &Url, options: &SocketOptions, within: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + within;
    let addresses = resolve(url, within).await?;
    let mut failures: Vec<(DialClass, String)> = Vec::new();
    for (i, addr) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(now) / left;
        match timeout_at(now + share, connect_one(*addr, options)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(e)) => failures.push((DialClass::of(&e), format!("{addr}: {e}"))),
            Err(_) => failures.push((
                DialClass::Timeout,
                format!("{addr}: no answer within {share:.1?} (down, or a firewall drops the packets)"),
            )),
        }
    }
    let class = failures.first().map_or(DialClass::Other, |(class, _)| *class);
    let all: Vec<String> = failures.into_iter().map(|(_, text)| text).collect();
    Err(DialError::new(
        class,
        format!("cannot connect to {url}: {}", all.join("; ")),
    ))
}

/// The addresses of a URL's host, each once, in the order they are tried.
///
/// # Errors
/// Class `dns`: no address, or no answer in time.
pub async fn resolve(url: &Url, within: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let host = &url.host;
    let lookup = tokio::net::lookup_host((host.as_str(), url.port));
    let mut addresses: Vec<SocketAddr> = match timeout(within, lookup).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(e)) => {
            let text = format!("cannot connect to {url}: the name {host} has no address: {e}");
            return Err(DialError::new(DialClass::Dns, text));
        }
        Err(_) => {
            let text =
                format!("cannot connect to {url}: no answer from DNS about {host} within {within:.1?}");
            return Err(DialError::new(DialClass::Dns, text));
        }
    };
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|addr| seen.insert(*addr));
    if addresses.is_empty() {
        let text = format!("cannot connect to {url}: the name {host} has no address");
        return Err(DialError::new(DialClass::Dns, text));
    }
    Ok(addresses)
}

async fn connect_one(addr: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(addr).await?;
    // Linux connects a socket to itself when the port it aims at on this host is free and happens to be
    // the local port it was given (simultaneous open): a peer that would echo everything.
    if tcp.local_addr()? == tcp.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    options.apply(&tcp)?;
    Ok(tcp)
}
