//! TLS between weir and weir: handshakes that succeed and fail, the ways a connection ends, and
//! certificates swapped at run time.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir::config::Verify;
use weir::net::{Acceptor, ClientTls, DialClass, DialError, Dialer, Stream};

use crate::support::certificates::{SOON, client, dial, echo, echo_back, leaf, self_signed, server_tls, url};

/// Dials an acceptor over loopback; both ends, or both failures.
async fn meet(
    acceptor: &Acceptor,
    client: ClientTls,
) -> (Result<Stream, DialError>, Result<Stream, DialError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.handshake(Box::new(tcp), SOON).await
    };
    timeout(SOON, async {
        tokio::join!(dial(client, "localhost", addr), serve)
    })
    .await
    .unwrap()
}

async fn pair(max_version_1_2: bool) -> (Stream, Stream) {
    let made = self_signed(leaf(&["localhost"]));
    let acceptor = Acceptor::new(&server_tls(&made), max_version_1_2);
    let (client, server) = meet(&acceptor, client(&[&made], Verify::Full)).await;
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn bytes_flow_both_ways_in_tls_1_3_and_in_a_listener_capped_at_1_2() {
    for (cap, version) in [(false, "TLSv1.3"), (true, "TLSv1.2")] {
        let (mut client, server) = pair(cap).await;
        assert_eq!(client.tls_version(), Some(version));
        assert_eq!(server.tls_version(), Some(version));
        assert!(client.is_tls() && server.is_tls() && client.is_write_vectored());
        assert_eq!(client.peer_certificate().unwrap().sans, ["localhost"]);
        assert_eq!(server.peer_certificate(), None);
        let (_, mut server) = tokio::join!(echo(&mut client), echo_back(server));
        tokio::join!(echo(&mut server), echo_back(client));
    }
}

#[tokio::test]
async fn a_megabyte_in_vectored_writes_arrives_whole() {
    let (mut client, mut server) = pair(false).await;
    let send = async {
        let chunk = [5; 1000];
        let mut sent = 0;
        while sent < 1_000_000 {
            let parts = [std::io::IoSlice::new(&chunk), std::io::IoSlice::new(&chunk)];
            sent += client.write_vectored(&parts).await.unwrap();
        }
        client.close().await.unwrap();
        sent
    };
    let receive = async {
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        server.close().await.unwrap();
        got.len()
    };
    let (sent, got) = timeout(SOON, async { tokio::join!(send, receive) })
        .await
        .unwrap();
    assert_eq!(got, sent);
}

#[tokio::test]
async fn an_abort_is_a_reset_a_close_is_a_clean_end_and_a_drop_is_an_end_without_close_notify() {
    let (mut client, server) = pair(false).await;
    server.abort();
    assert_eq!(
        client.read(&mut [0; 1]).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );

    let (mut client, server) = pair(false).await;
    let seen = async {
        let n = client.read(&mut [0; 1]).await.unwrap();
        drop(client);
        n
    };
    let (n, closed) = tokio::join!(seen, server.close());
    closed.unwrap();
    assert_eq!(n, 0);

    let (mut client, server) = pair(false).await;
    drop(server);
    assert_eq!(
        client.read(&mut [0; 1]).await.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn a_gateway_that_does_not_trust_weir_is_reported_as_such() {
    let made = self_signed(leaf(&["localhost"]));
    let acceptor = Acceptor::new(&server_tls(&made), false);
    let (_, server) = meet(&acceptor, ClientTls::trusting_nobody().unwrap()).await;
    let e = server.unwrap_err();
    assert_eq!(e.class, DialClass::Tls);
    assert!(e.message.contains("does not trust weir's certificate"), "{e}");
}

#[tokio::test]
async fn without_trusted_certificates_the_error_names_the_pin() {
    let made = self_signed(leaf(&["localhost"]));
    let acceptor = Acceptor::new(&server_tls(&made), false);
    let (client, _) = meet(&acceptor, ClientTls::trusting_nobody().unwrap()).await;
    let e = client.unwrap_err();
    assert!(e.message.contains(&weir::net::hex(&made.pin())), "{e}");
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_handshakes_in_every_clone() {
    let (old, new) = (
        self_signed(leaf(&["localhost"])),
        self_signed(leaf(&["localhost"])),
    );
    let acceptor = Acceptor::new(&server_tls(&old), false);
    let clone = acceptor.clone();
    let trust = client(&[&old], Verify::Full);
    let (before, server) = meet(&clone, trust.clone()).await;
    let mut before = before.unwrap();

    acceptor.replace(&server_tls(&new));
    let (refused, _) = meet(&clone, trust.clone()).await;
    assert_eq!(
        refused.unwrap_err().class,
        DialClass::Tls,
        "no session of the old certificate is resumed"
    );

    trust.clone().replace(&client(&[&new], Verify::Full));
    let (after, _) = meet(&clone, trust).await;
    assert_eq!(after.unwrap().peer_certificate().unwrap().sha256, new.pin());

    tokio::join!(echo(&mut before), echo_back(server.unwrap()));
}

/// A client of weir's acceptor that sends these bytes and then waits.
async fn greet(hello: &[u8], within: Duration) -> DialError {
    let acceptor = Acceptor::new(&server_tls(&self_signed(leaf(&["localhost"]))), false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (raw, _) = listener.accept().await.unwrap();
    tcp.write_all(hello).await.unwrap();
    timeout(SOON, acceptor.handshake(Box::new(raw), within))
        .await
        .unwrap()
        .unwrap_err()
}

#[tokio::test]
async fn plain_bytes_on_the_tls_port_are_a_tls_failure_that_says_so() {
    // A publish frame's first bytes: type 2, length.
    let e = greet(&[2, 0, 0, 0, 64, 0, 0, 0, 36, b'x'], SOON).await;
    assert_eq!(e.class, DialClass::Tls);
    assert!(e.message.contains("does not speak TLS"), "{e}");
}

#[tokio::test]
async fn a_truncated_hello_and_silence_run_out_of_time() {
    for hello in [&[22, 3, 1, 2, 0, 1, 0, 1][..], &[]] {
        let e = greet(hello, Duration::from_millis(100)).await;
        assert_eq!(e.class, DialClass::Timeout, "{e}");
    }
}

/// Dials a server that sends these bytes and then waits, or closes.
async fn answer(bytes: &'static [u8], close: bool, within: Duration) -> DialError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        assert_ne!(tcp.read(&mut [0; 4096]).await.unwrap(), 0, "the hello");
        tcp.write_all(bytes).await.unwrap();
        if !close {
            // Until the client hangs up.
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        }
    };
    let dialer = Dialer::new(
        ClientTls::trusting_nobody().unwrap(),
        weir::net::SocketOptions::default(),
    );
    let url = url("127.0.0.1", addr);
    let (dialled, ()) = timeout(SOON, async {
        tokio::join!(dialer.dial(&url, SOON, within), serve)
    })
    .await
    .unwrap();
    dialled.unwrap_err()
}

#[tokio::test]
async fn ssl_towards_a_plain_port_says_so() {
    let e = answer(&[0, 0, 0, 0, 0, 0, 0, 0], false, SOON).await;
    assert_eq!(e.class, DialClass::Tls);
    assert!(e.message.contains("needs tcp://"), "{e}");
    let e = answer(&[], true, SOON).await;
    assert_eq!(e.class, DialClass::Tls);
    assert!(
        e.message.contains("closed the connection during the handshake"),
        "{e}"
    );
    let e = answer(&[], false, Duration::from_millis(100)).await;
    assert_eq!(e.class, DialClass::Timeout, "{e}");
}
