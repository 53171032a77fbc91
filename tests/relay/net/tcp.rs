//! Plain TCP through the network room: how connections begin, and how the two ways to end them look to
//! the peer.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::config::{Scheme, Url};
use weir::net::{ClientTls, DialClass, Dialer, Listener, SocketOptions, Stream, bind};

const SOON: Duration = Duration::from_secs(10);

fn url(addr: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Tcp,
        host: addr.ip().to_string(),
        port: addr.port(),
    }
}

fn dialer() -> Dialer {
    Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default())
}

fn listener() -> Listener {
    let std = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    Listener::from_std(std, SocketOptions::default()).unwrap()
}

async fn pair() -> (Stream, Stream) {
    let mut listener = listener();
    let url = url(listener.local_addr().unwrap());
    let dialer = dialer();
    let (client, server) = tokio::join!(dialer.dial(&url, SOON, SOON), listener.accept());
    (client.unwrap(), Stream::Plain(server.unwrap().0))
}

#[tokio::test]
async fn an_abort_is_a_reset_at_the_peer_and_a_close_is_the_end_of_the_stream() {
    timeout(SOON, async {
        let (mut client, server) = pair().await;
        server.abort();
        let e = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset);

        let (mut client, server) = pair().await;
        let seen = async {
            let n = client.read(&mut [0; 1]).await.unwrap();
            drop(client);
            n
        };
        let (n, closed) = tokio::join!(seen, server.close());
        closed.unwrap();
        assert_eq!(n, 0);

        let (mut client, server) = pair().await;
        drop(server);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "a drop is a close");
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_abort_does_not_deliver_what_was_written_but_not_sent() {
    timeout(SOON, async {
        let (mut client, mut server) = pair().await;
        let chunk = vec![7; 64 << 10];
        while let Ok(written) = timeout(Duration::from_millis(200), server.write(&chunk)).await {
            written.unwrap();
        }
        server.abort();
        let mut sink = Vec::new();
        let e = client.read_to_end(&mut sink).await.unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn both_sides_get_the_socket_options() {
    let (client, server) = pair().await;
    for stream in [&client, &server] {
        let Stream::Plain(raw) = stream else {
            panic!("plain TCP expected");
        };
        let tcp = (&**raw as &dyn Any).downcast_ref::<TcpStream>().unwrap();
        let socket = socket2::SockRef::from(tcp);
        assert!(tcp.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
    }
}

#[tokio::test]
async fn vectored_writes_reach_the_socket_whole() {
    let (mut client, mut server) = pair().await;
    assert!(client.is_write_vectored());
    let parts = [std::io::IoSlice::new(b"head"), std::io::IoSlice::new(b"body")];
    assert_eq!(client.write_vectored(&parts).await.unwrap(), 8);
    let mut got = [0; 8];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"headbody");
}

#[tokio::test]
async fn a_closed_port_is_refused_and_an_unknown_name_is_dns() {
    let mut gone = url(listener().local_addr().unwrap());
    let e = dialer().dial(&gone, SOON, SOON).await.unwrap_err();
    assert_eq!(e.class, DialClass::Refused, "{e}");
    assert!(e.message.contains(&gone.to_string()), "{e}");
    assert!(!e.message.contains('\n'));
    gone.host = "no-such-host.invalid".into();
    let e = dialer().dial(&gone, SOON, SOON).await.unwrap_err();
    assert_eq!(e.class, DialClass::Dns, "{e}");
    assert!(e.message.contains("no-such-host.invalid"), "{e}");
}

#[tokio::test]
async fn an_accept_queue_that_is_full_runs_into_the_connect_timeout() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.listen(0).unwrap();
    let url = url(socket.local_addr().unwrap().as_socket().unwrap());
    let mut held = Vec::new();
    let mut failed = None;
    for _ in 0..8 {
        match dialer().dial(&url, Duration::from_millis(200), SOON).await {
            Ok(stream) => held.push(stream),
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
    }
    let e = failed.expect("a backlog of 0 holds one or two connections");
    assert_eq!(e.class, DialClass::Timeout, "{e}");
}

#[tokio::test]
async fn a_name_with_a_dead_address_reaches_the_live_one() {
    // localhost is often ::1 and 127.0.0.1; only the second listens.
    let mut listener = listener();
    let mut url = url(listener.local_addr().unwrap());
    url.host = "localhost".into();
    let dialer = dialer();
    let (client, server) = tokio::join!(dialer.dial(&url, SOON, SOON), listener.accept());
    client.unwrap();
    server.unwrap();
}

#[test]
fn a_taken_port_is_an_error_that_names_the_address() {
    let first = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let addr = first.local_addr().unwrap();
    let e = bind(addr, false).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::AddrInUse);
    assert!(e.to_string().contains(&addr.to_string()), "{e}");
}

#[test]
fn listeners_may_share_a_port_when_all_ask_for_it() {
    let first = bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
    bind(first.local_addr().unwrap(), true).unwrap();
}
