//! A gateway told byte by byte, a healthy load beside it, and what the process weighs.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use weir::config::{Scheme, Tls, Trust, Url, Verify};
use weir::net::{ClientTls, Dialer, ServerTls, SocketOptions, Stream};
use weir::wire::request::{encode_login, encode_logout};
use weir_lab::gateway::{Answer, frame, next_answer};
use weir_lab::load::{TwinOptions, Version};
use weir_lab::{Load, LoadOptions, LoadReport};

use super::pieces::Pieces;
use super::{Bed, noticed_nothing};

/// Longer than anything that is going to happen takes on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Connections that the healthy gateways of [`Bed::healthy`] keep.
pub const HEALTHY: u64 = 8;

/// One connection to weir, by hand: for bytes that no agent sends, and for what each single answer is.
pub struct Peer {
    pub stream: Stream,
    /// This side's address, as weir's log names it.
    pub address: SocketAddr,
    input: Vec<u8>,
}

impl Peer {
    /// On the plain port.
    pub async fn tcp(bed: &Bed) -> Self {
        let tcp = TcpStream::connect(bed.weir.addresses().tcp.unwrap())
            .await
            .unwrap();
        Self::over(tcp)
    }

    /// On the plain port of a weir that resets it at once; the reset may come before the connection is used.
    pub async fn is_reset(bed: &Bed) -> bool {
        match TcpStream::connect(bed.weir.addresses().tcp.unwrap()).await {
            Ok(tcp) => Self::over(tcp).end().await == RESET,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// On the plain port, from another address of this machine.
    pub async fn tcp_from(bed: &Bed, address: [u8; 4]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((address, 0))).unwrap();
        Self::over(socket.connect(bed.weir.addresses().tcp.unwrap()).await.unwrap())
    }

    /// On the plain port, with a receive buffer of a few KB.
    pub async fn narrow(bed: &Bed) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(bed.weir.addresses().tcp.unwrap()).await.unwrap())
    }

    /// On the TLS port, before any handshake.
    pub async fn below_tls(bed: &Bed) -> Self {
        let tcp = TcpStream::connect(bed.weir.addresses().tls.unwrap())
            .await
            .unwrap();
        Self::over(tcp)
    }

    /// On the TLS port.
    pub async fn tls(bed: &Bed) -> Self {
        Self::below_tls(bed).await.with_tls(bed).await
    }

    /// After the handshake.
    pub async fn with_tls(self, bed: &Bed) -> Self {
        let Stream::Plain(raw) = self.stream else {
            unreachable!()
        };
        let stream = client_tls(bed).handshake(&tls_url(bed), raw, SOON).await.unwrap();
        Self { stream, ..self }
    }

    /// With Nagle's algorithm, which the agent leaves on, and every frame in several writes.
    pub fn in_pieces(self) -> Self {
        let Stream::Plain(raw) = self.stream else {
            unreachable!()
        };
        let tcp: Box<dyn Any> = raw;
        let tcp = *tcp.downcast::<TcpStream>().unwrap();
        tcp.set_nodelay(false).unwrap();
        Self {
            stream: Stream::Plain(Box::new(Pieces(tcp))),
            ..self
        }
    }

    /// Sends frames in turn, each after the answer to the last, which is what it must be: the median time to an answer.
    pub async fn median(&mut self, frames: &[Vec<u8>], is_right: impl Fn(&Answer) -> bool) -> Duration {
        let mut times = Vec::new();
        for frame in frames {
            let begin = Instant::now();
            let answer = self.ask(frame).await;
            assert!(is_right(&answer), "{answer:?}");
            times.push(begin.elapsed());
        }
        times.sort();
        times[times.len() / 2]
    }

    pub fn over(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        Self {
            address: tcp.local_addr().unwrap(),
            stream: Stream::Plain(Box::new(tcp)),
            input: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next reply, or how the connection ended instead.
    pub async fn answer(&mut self) -> Answer {
        self.answer_within(SOON).await
    }

    pub async fn answer_within(&mut self, limit: Duration) -> Answer {
        timeout(limit, next_answer(&mut self.stream, &mut self.input))
            .await
            .unwrap_or(Answer::Nothing)
    }

    /// Sends bytes and waits for one reply.
    pub async fn ask(&mut self, bytes: &[u8]) -> Answer {
        match self.send(bytes).await {
            Ok(()) => self.answer().await,
            Err(e) => Answer::Reset(e.kind()),
        }
    }

    /// The session of a login that succeeds.
    pub async fn login(&mut self) -> Vec<u8> {
        match self.ask(&login("admin", "admin")).await {
            Answer::Session(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// How the connection ends; replies that come before are thrown away.
    pub async fn end(&mut self) -> Answer {
        loop {
            let answer = self.answer().await;
            if matches!(answer, Answer::Fin | Answer::Reset(_) | Answer::Nothing) {
                return answer;
            }
        }
    }

    /// Bytes that have come beyond the replies that were asked for.
    pub fn ahead(&self) -> &[u8] {
        &self.input
    }

    pub fn abort(self) {
        self.stream.abort();
    }

    pub async fn close(mut self) {
        // The peer may have been faster.
        let _ = self.stream.shutdown().await;
    }
}

pub const RESET: Answer = Answer::Reset(io::ErrorKind::ConnectionReset);

pub fn login(user: &str, password: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode_login(&mut out, user, password);
    out
}

pub fn logout(session: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_logout(&mut out, session);
    out
}

/// An error answer's class, without its package, and its message.
pub fn error(answer: &Answer) -> (&str, &str) {
    match answer {
        Answer::Error { class, message } => (weir::wire::reply::short_class(class), message),
        other => panic!("{other:?}"),
    }
}

pub fn tls_url(bed: &Bed) -> Url {
    Url {
        scheme: Scheme::Ssl,
        host: "localhost".into(),
        port: bed.weir.addresses().tls.unwrap().port(),
    }
}

/// Trusts weir's certificate and no other.
pub fn client_tls(bed: &Bed) -> ClientTls {
    let certificate = ServerTls::load(&bed.config.tls).unwrap().certificate().sha256;
    let tls = Tls {
        identity: None,
        trust: Trust::System,
        verify: Verify::Pin(vec![certificate]),
    };
    ClientTls::load(&tls).unwrap()
}

impl Bed {
    /// Makes connections to both of weir's ports.
    pub fn tls_dialer(&self) -> Dialer {
        Dialer::new(client_tls(self), SocketOptions::default())
    }

    /// The next `count` events of scripted connection `origin` as a frame, known to the oracle.
    pub fn issue(&self, session: &[u8], origin: u32, first: u64, count: u64) -> Vec<u8> {
        let at = self.judge.now();
        let mut oracle = self.judge.oracle();
        oracle.issue(origin, first, count, at);
        frame(session, oracle.events(), origin, first, count)
    }

    /// The oracle hears that they were answered ok.
    pub fn acked(&self, origin: u32, first: u64, count: u64) {
        self.judge.oracle().ack(origin, first, count);
    }

    /// Four gateways in good health, to run beside what is wrong. Each keeps two connections, as some sites let it: one
    /// that publishes, and one on which it has logged in.
    pub async fn healthy(&self) -> Load {
        let before = self.snapshot().await.ingress;
        let hours = Duration::from_secs(15 * 3600);
        let load = Load::start(LoadOptions {
            connections: 4,
            rate: Some(400.0),
            agent: Some(TwinOptions::new(Version::V5_4).closing_idle(hours, hours)),
            ..self.agents()
        });
        self.until("the healthy gateways are on their way", |s| {
            // Their first probes have gone.
            load.counts().connections == HEALTHY + 4
                && s.groups.iter().all(|g| g.events.delivered > 0)
                && s.ingress.connections_tcp == HEALTHY
                && s.ingress.closed_by_peer_total >= before.closed_by_peer_total + 4
        })
        .await;
        load
    }

    /// The healthy gateways have noticed nothing, and the oracle agrees.
    pub async fn unharmed(&self, load: Load, witness: (&str, u64)) -> LoadReport {
        load.stop();
        let report = load.finish().await;
        noticed_nothing(&report);
        let slowest = report.latency.quantile(1000);
        assert!(slowest < Duration::from_secs(2), "an event took {slowest:?}");
        let verdict = self.verdict().await.witness(witness.0, witness.1);
        assert!(verdict.ok(), "{verdict}");
        for group in &verdict.groups {
            assert_eq!(group.missing.count, 0, "{verdict}");
        }
        report
    }
}

/// A line of /proc/self/status, in bytes.
pub fn weight(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    let kib = line.trim_start_matches(':').trim_end_matches("kB").trim();
    kib.parse::<u64>().unwrap() * 1024
}
