//! The same TLS over a simulated network, in virtual time.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use weir::config::{Url, Verify};
use weir::net::{Acceptor, Connect, Connecting, DialClass, Dialer, Raw, Socket};
use weir_lab::network::connected;

use crate::support::certificates::{SOON, client, echo, echo_back, leaf, self_signed, server_tls, url};

/// A simulated network of one host that hands the far ends to the test.
struct Wire(Mutex<Vec<DuplexStream>>);

impl Connect for Wire {
    fn connect<'a>(&'a self, url: &'a Url, within: Duration) -> Connecting<'a> {
        Box::pin(connected(url, within, async move {
            if url.host == "mute" {
                std::future::pending().await
            }
            let (near, far) = tokio::io::duplex(1 << 16);
            self.0.lock().unwrap().push(far);
            Ok(Box::new(Duplex(near)) as Raw)
        }))
    }
}

struct Duplex(DuplexStream);

impl Duplex {
    fn io(self: Pin<&mut Self>) -> Pin<&mut DuplexStream> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl Socket for Duplex {
    fn reset_on_close(&mut self) {}

    fn abort(self: Box<Self>) {}
}

impl AsyncRead for Duplex {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn tls_runs_over_a_simulated_network_and_its_clock() {
    let made = self_signed(leaf(&["tm"]));
    let wire = Arc::new(Wire(Mutex::default()));
    let dialer = Dialer::over(
        Arc::clone(&wire) as Arc<dyn Connect>,
        client(&[&made], Verify::Full),
    );
    let addr: SocketAddr = "127.0.0.1:9711".parse().unwrap();
    let acceptor = Acceptor::new(&server_tls(&made), false);
    let serve = async {
        let far = loop {
            if let Some(far) = wire.0.lock().unwrap().pop() {
                break far;
            }
            tokio::task::yield_now().await;
        };
        acceptor.handshake(Box::new(Duplex(far)), SOON).await.unwrap()
    };
    let tm = url("tm", addr);
    let (client, server) = tokio::join!(dialer.dial(&tm, SOON, SOON), serve);
    let mut client = client.unwrap();
    let (_, mut server) = tokio::join!(echo(&mut client), echo_back(server));
    client.abort();
    assert!(server.read(&mut [0; 1]).await.is_err());

    let started = tokio::time::Instant::now();
    let e = dialer
        .dial(&url("mute", addr), Duration::from_secs(3), SOON)
        .await
        .unwrap_err();
    assert_eq!(e.class, DialClass::Timeout, "{e}");
    assert_eq!(started.elapsed(), Duration::from_secs(3), "virtual time");
    // Nobody shakes hands: the TLS deadline counts from the connection on.
    let e = dialer.dial(&tm, SOON, Duration::from_secs(4)).await.unwrap_err();
    assert_eq!(e.class, DialClass::Timeout, "{e}");
    assert_eq!(started.elapsed(), Duration::from_secs(7), "virtual time");
}
