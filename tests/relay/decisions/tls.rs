//! TLS on either side alone.

use std::time::Duration;

use tokio::net::TcpListener;
use weir::config::{Decisions, Scheme, Tls, Trust, Url, Verify};
use weir::decisions::frame::HEADER_0_9_1;
use weir::net::{Acceptor, ClientTls, Dialer, ServerTls, SocketOptions, Stream};

use super::support::*;

fn settings(verify: Verify) -> Tls {
    Tls {
        identity: None,
        trust: Trust::System,
        verify,
    }
}

/// A self-signed server and a client that pins its certificate.
fn server_and_client() -> (ServerTls, ClientTls) {
    let server = ServerTls::load(&settings(Verify::Full)).unwrap();
    let pin = Verify::Pin(vec![server.certificate().sha256]);
    (server, ClientTls::load(&settings(pin)).unwrap())
}

fn ssl(port: u16) -> Url {
    Url {
        scheme: Scheme::Ssl,
        host: "127.0.0.1".into(),
        port,
    }
}

/// A weir with a TLS port.
fn listening_with_tls(mut config: Decisions, server: &ServerTls) -> Weir {
    config.listen_tls = Some("127.0.0.1:0".parse().unwrap());
    Weir::with(
        config,
        ClientTls::trusting_nobody().unwrap(),
        Some(Acceptor::new(server, true)),
    )
}

const T: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_gateway_over_tls_gets_1_2_although_it_offers_1_3_and_reaches_a_plain_broker() {
    let (server, client) = server_and_client();
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.listen = None;
    let weir = listening_with_tls(config, &server);
    let (None, Some(addr)) = weir.handle.local_addrs() else {
        panic!()
    };
    let stream = Dialer::new(client, SocketOptions::default())
        .dial(&ssl(addr.port()), T, T)
        .await
        .unwrap();
    assert_eq!(stream.tls_version(), Some("TLSv1.2"));
    let mut gateway = Wire { stream };
    let (_, mut broker) = tokio::join!(gateway.open_as_gateway(0), stub.open());
    let frame = body(65_534, 4);
    broker.send(&frame).await;
    gateway.expect(&frame).await;
    gateway.send(&frame).await;
    broker.expect(&frame).await;
    drop(broker);
    assert!(gateway.closed().await, "close_notify and FIN");
}

#[tokio::test]
async fn over_tls_nothing_stays_behind_when_a_gateway_reads_late() {
    let (server, client) = server_and_client();
    let stub = StubBroker::new().await;
    let weir = listening_with_tls(config(&[stub.addr()]), &server);
    let port = weir.handle.local_addrs().1.unwrap().port();
    let stream = Dialer::new(client, SocketOptions::default())
        .dial(&ssl(port), T, T)
        .await
        .unwrap();
    let mut gateway = Wire { stream };
    let (_, mut broker) = tokio::join!(gateway.open_as_gateway(0), stub.open());
    let frames = 300;
    let sender = tokio::spawn(async move {
        for n in 0..frames {
            broker.send(&body(60_000, u8::try_from(n % 251).unwrap())).await;
        }
        broker
    });
    weir.until("a pause", |s| s.broker.paused_nanos_total > 0).await;
    for n in 0..frames {
        gateway
            .expect(&body(60_000, u8::try_from(n % 251).unwrap()))
            .await;
    }
    soon("the sender", sender).await.unwrap();
}

#[tokio::test]
async fn a_plain_gateway_reaches_a_broker_over_verified_tls() {
    let (server, client) = server_and_client();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker_url = ssl(listener.local_addr().unwrap().port());
    let mut config = config(&[]);
    config.brokers = vec![broker_url.clone()];
    let weir = Weir::with(config, client.clone(), None);
    let acceptor = Acceptor::new(&server, false);
    let accept = async || -> Wire<Stream> {
        let (tcp, _) = soon("a connection", listener.accept()).await.unwrap();
        Wire {
            stream: acceptor.handshake(Box::new(tcp), T).await.unwrap(),
        }
    };
    let (mut gateway, mut broker) = tokio::join!(Wire::gateway(weir.addr(), 0), async {
        let mut wire = accept().await;
        wire.serve_handshake(0).await;
        wire
    });
    let frame = body(65_534, 4);
    broker.send(&frame).await;
    gateway.expect(&frame).await;
}

#[tokio::test]
async fn a_broker_whose_certificate_is_not_trusted_gets_no_password() {
    let (server, _) = server_and_client();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker_url = ssl(listener.local_addr().unwrap().port());
    let mut config = config(&[]);
    config.brokers = vec![broker_url.clone()];
    config.hold = Duration::ZERO;
    let weir = Weir::new(config);
    let acceptor = Acceptor::new(&server, false);
    let refused = async || {
        let (tcp, _) = soon("a connection", listener.accept()).await.unwrap();
        assert!(acceptor.handshake(Box::new(tcp), T).await.is_err());
    };
    let mut gateway = Wire::connect(weir.addr()).await;
    gateway.send(&HEADER_0_9_1).await;
    refused().await;
    assert!(gateway.closed().await, "a hold of zero: every broker once");
    let status = weir
        .until("the end", |s| s.handshake_failures_total[4] == 1)
        .await;
    assert_eq!(
        status.brokers[0].failures_total[3], 1,
        "tls: {:?}",
        status.brokers[0].reason
    );
}

#[tokio::test]
async fn plain_bytes_on_the_tls_port_and_tls_on_the_plain_port_affect_no_other_connection() {
    let (server, client) = server_and_client();
    let stub = StubBroker::new().await;
    let weir = listening_with_tls(config(&[stub.addr()]), &server);
    let mut plain = Wire::connect(weir.handle.local_addrs().1.unwrap()).await;
    plain.send(&HEADER_0_9_1).await;
    plain.closed().await;
    weir.until("tls failure", |s| s.handshake_failures_total[0] == 1)
        .await;
    let dialer = Dialer::new(client, SocketOptions::default());
    assert!(dialer.dial(&ssl(weir.addr().port()), T, T).await.is_err());
    weir.until("not amqp", |s| s.handshake_failures_total[1] == 1)
        .await;
    let (_gateway, _broker) = tokio::join!(Wire::gateway(weir.addr(), 0), stub.open());
}

#[tokio::test]
async fn the_limit_of_connections_holds_for_both_ports_together() {
    let (server, _) = server_and_client();
    let stub = StubBroker::new().await;
    let mut config = config(&[stub.addr()]);
    config.listen_tls = Some("127.0.0.1:0".parse().unwrap());
    config.connections_max = 1;
    let weir = Weir::with(
        config,
        ClientTls::trusting_nobody().unwrap(),
        Some(Acceptor::new(&server, true)),
    );
    let (Some(tcp), Some(tls)) = weir.handle.local_addrs() else {
        panic!()
    };
    // Both ports wait for a gateway when the two come.
    tokio::task::yield_now().await;
    let mut first = Wire::connect(tcp).await;
    let mut second = Wire::connect(tls).await;
    assert!(first.silent_for(Duration::from_millis(300)).await);
    assert_eq!(weir.handle.status().accepted_total, 1, "one place");
    drop(first);
    weir.until("the other one", |s| s.accepted_total == 2).await;
    assert!(second.silent_for(Duration::from_millis(10)).await);
}
