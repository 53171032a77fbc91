//! A Traffic Manager that speaks just enough, written without a line of weir's own, and notes what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::support::certificates::Made;

pub(crate) const PASSWORD: &str = "correct-horse-battery";
const SESSION: &[u8; 36] = b"0b7d2f1e-6c1f-4d0e-9a55-b1f6f1f00b42";

/// What it does not answer, or answers badly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mute {
    #[default]
    Nothing,
    Login,
    Publish,
    Logout,
    /// Publishes of its own session are answered as if it had expired.
    Session,
}

/// What it saw, in the words of the protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) logins: usize,
    pub(crate) logouts: usize,
    pub(crate) empty_publishes: usize,
    /// Anything else, or a session that is not its own.
    pub(crate) wrong: usize,
    /// Connections ended in good order.
    pub(crate) ends: usize,
    /// Connections that were reset.
    pub(crate) resets: usize,
}

pub(crate) struct Tm {
    pub(crate) data: SocketAddr,
    pub(crate) auth: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Tm {
    /// Logins by TLS, events in clear.
    pub(crate) fn start(certificate: &Made, mute: Mute) -> Self {
        Self::with(certificate, mute, false)
    }

    /// Both by TLS.
    pub(crate) fn all_tls(certificate: &Made) -> Self {
        Self::with(certificate, Mute::Nothing, true)
    }

    fn with(certificate: &Made, mute: Mute, data_tls: bool) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = oneshot::channel();
        let (ready, addresses) = std::sync::mpsc::sync_channel(1);
        let (acceptor, noted) = (acceptor(certificate), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let data = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let auth = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready
                    .send((data.local_addr().unwrap(), auth.local_addr().unwrap()))
                    .unwrap();
                let data_tls = data_tls.then(|| acceptor.clone());
                tokio::spawn(listen(data, data_tls, mute, Arc::clone(&noted)));
                tokio::spawn(listen(auth, Some(acceptor), mute, noted));
                let _ = stopped.await;
            });
        });
        let (data, auth) = addresses.recv().unwrap();
        Self {
            data,
            auth,
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// One url group of it alone, by the name `host`.
    pub(crate) fn group(&self, host: &str, data_scheme: &str) -> String {
        format!(
            "[[apim.throttling.url_group]]\ntraffic_manager_urls = [\"{data_scheme}://{host}:{}\"]\n\
             traffic_manager_auth_urls = [\"ssl://{host}:{}\"]\n",
            self.data.port(),
            self.auth.port()
        )
    }

    /// What it has seen once both connections of a check are over.
    pub(crate) fn seen(&self) -> Seen {
        let since = tokio::time::Instant::now();
        loop {
            let seen = self.seen.lock().unwrap().clone();
            if seen.ends + seen.resets >= 2 || since.elapsed() > super::support::SOON {
                return seen;
            }
            std::thread::yield_now();
        }
    }

    /// Ends it; returns when its ports are closed.
    pub(crate) fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Tm {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn acceptor(certificate: &Made) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider
        .key_provider
        .load_private_key(certificate.private_key())
        .unwrap();
    let key = CertifiedKey::new(vec![certificate.der.clone()], key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    TlsAcceptor::from(Arc::new(config))
}

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, mute: Mute, seen: Arc<Mutex<Seen>>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let ended = match tls {
                None => serve(tcp, mute, &seen).await,
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => serve(stream, mute, &seen).await,
                    Err(e) => Err(e),
                },
            };
            let mut seen = seen.lock().unwrap();
            match ended {
                Ok(()) => seen.ends += 1,
                Err(_) => seen.resets += 1,
            }
        });
    }
}

/// Until the end of the stream.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mute: Mute,
    seen: &Mutex<Seen>,
) -> std::io::Result<()> {
    loop {
        let mut kind = [0];
        if stream.read(&mut kind).await? == 0 {
            return stream.shutdown().await;
        }
        let length = stream.read_u32().await?;
        let mut body = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut body).await?;
        let answer = answer(kind[0], &body, mute, &mut seen.lock().unwrap());
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

fn answer(kind: u8, body: &[u8], mute: Mute, seen: &mut Seen) -> Vec<u8> {
    let session = [&36_u32.to_be_bytes()[..], SESSION].concat();
    let empty_publish = [&session[..], &[0; 4]].concat();
    match kind {
        0 => {
            seen.logins += 1;
            let good = format!("\0\0\0\x05\0\0\0\x15admin{PASSWORD}");
            match body == good.as_bytes() {
                _ if mute == Mute::Login => Vec::new(),
                true => [&[2][..], &session].concat(),
                false => exception("AuthenticationException", "wrong userName or password"),
            }
        }
        1 if body == session => {
            seen.logouts += 1;
            vec![0; usize::from(mute != Mute::Logout)]
        }
        2 if body == empty_publish => {
            seen.empty_publishes += 1;
            match mute {
                Mute::Publish => Vec::new(),
                Mute::Session => exception("SessionTimeoutException", "expired"),
                _ => vec![0],
            }
        }
        _ => {
            seen.wrong += 1;
            Vec::new()
        }
    }
}

fn exception(class: &str, message: &str) -> Vec<u8> {
    let class = format!("org.wso2.carbon.databridge.commons.exception.{class}");
    let length = |text: &str| u32::try_from(text.len()).unwrap().to_be_bytes();
    let lengths = [length(&class), length(message)].concat();
    [&[1][..], &lengths, class.as_bytes(), message.as_bytes()].concat()
}
