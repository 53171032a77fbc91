//! A broker that greets, written without a line of weir's own, and notes what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::tm::acceptor;
use crate::support::certificates::Made;

/// What it answers to a protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// Start, as RabbitMQ words it.
    Start,
    /// The header of 0-10.
    OtherVersion,
    /// It is a web server.
    Http,
    /// Nothing.
    Nothing,
    /// It closes.
    Goodbye,
}

pub(crate) struct Broker {
    pub(crate) at: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    _stop: oneshot::Sender<()>,
}

impl Broker {
    /// In clear, or with this certificate.
    pub(crate) fn start(says: Says, certificate: Option<&Made>) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, address) = std::sync::mpsc::sync_channel(1);
        let (tls, noted) = (certificate.map(acceptor), Arc::clone(&heard));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(async move {
                    while let Ok((tcp, _)) = listener.accept().await {
                        let (tls, noted) = (tls.clone(), Arc::clone(&noted));
                        tokio::spawn(async move {
                            match tls {
                                None => serve(tcp, says, &noted).await,
                                Some(tls) => serve(tls.accept(tcp).await?, says, &noted).await,
                            }
                        });
                    }
                });
                let _ = stopped.await;
            });
        });
        Self {
            at: address.recv().unwrap(),
            heard,
            _stop: stop,
        }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.at.port())
    }

    /// What every connection so far has sent, to its end.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        let since = tokio::time::Instant::now();
        loop {
            let heard = self.heard.lock().unwrap().clone();
            if !heard.is_empty() || since.elapsed() > super::support::SOON {
                return heard;
            }
            std::thread::yield_now();
        }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    says: Says,
    heard: &Mutex<Vec<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut all = vec![0; 8];
    stream.read_exact(&mut all).await?;
    let answer = match says {
        Says::Start => start_frame(),
        Says::OtherVersion => b"AMQP\x01\x01\x00\x0A".to_vec(),
        Says::Http => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        Says::Nothing | Says::Goodbye => Vec::new(),
    };
    stream.write_all(&answer).await?;
    stream.flush().await?;
    if says != Says::Goodbye {
        stream.read_to_end(&mut all).await?;
    }
    heard.lock().unwrap().push(all);
    stream.shutdown().await
}

fn start_frame() -> Vec<u8> {
    let mut properties = FieldTable::default();
    properties.insert("copyright".into(), AMQPValue::LongString("whoever".into()));
    properties.insert("product".into(), AMQPValue::LongString("RabbitMQ".into()));
    properties.insert("version".into(), AMQPValue::LongString("3.10.8".into()));
    let start = connection::AMQPMethod::Start(connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: properties,
        mechanisms: "PLAIN AMQPLAIN".into(),
        locales: "en_US".into(),
    });
    gen_frame(&AMQPFrame::Method(0, AMQPClass::Connection(start)))(WriteContext::from(Vec::new()))
        .unwrap()
        .into_inner()
        .0
}
