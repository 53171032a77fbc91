//! Gateways and brokers that a test plays by hand, frame by frame, and a weir between them.
//!
//! The broker's side is a stub of Andes' front end: it does what RabbitMQ refuses to do (offers heartbeat 0,
//! sends Channel.Flow, exceeds frame_max by seven bytes).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use weir::config::{Decisions, Heartbeat, Policy, Scheme, Url};
use weir::decisions::frame::{HEADER_0_9_1, HEARTBEAT};
use weir::decisions::{DecisionsHandle, IDLE_PROBE, Network, Status, start};
use weir::lifecycle::Lifecycle;
use weir::net::{Acceptor, ClientTls, Ports};

pub(crate) use super::frames::*;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Weir {
    pub(crate) handle: DecisionsHandle,
    pub(crate) life: Lifecycle,
    pub(crate) config: Decisions,
}

/// Heartbeats too slow to be seen unless a test asks for others.
pub(crate) fn config(brokers: &[SocketAddr]) -> Decisions {
    let slow = Heartbeat {
        delay: Duration::from_secs(30),
        timeout_factor: 2.0,
    };
    Decisions {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        listen_tls: None,
        brokers: brokers.iter().map(|addr| url(*addr)).collect(),
        policy: Policy::Failover,
        heartbeat: slow,
        client_heartbeat: slow,
        hold: Duration::from_secs(28),
        failback_after: None,
        connections_max: 10_000,
    }
}

pub(crate) fn beat(delay_seconds: u64, timeout_factor: f64) -> Heartbeat {
    Heartbeat {
        delay: Duration::from_secs(delay_seconds),
        timeout_factor,
    }
}

pub(crate) fn url(addr: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Tcp,
        host: addr.ip().to_string(),
        port: addr.port(),
    }
}

/// An address nobody listens on, and nobody else is given while the socket lives.
pub(crate) fn reserved() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// A gateway that is connected to the second of two brokers, with failback after a second.
pub(crate) struct OnSecond {
    pub(crate) weir: Weir,
    pub(crate) gateway: Wire,
    pub(crate) broker: Wire,
    pub(crate) second: StubBroker,
    /// Where the first broker may be started.
    pub(crate) first: SocketAddr,
    pub(crate) reserved: socket2::Socket,
}

impl OnSecond {
    pub(crate) async fn new() -> Self {
        let (reserved, first) = reserved();
        let second = StubBroker::new().await;
        let mut config = config(&[first, second.addr()]);
        config.failback_after = Some(Duration::from_secs(1));
        let weir = Weir::new(config);
        let (gateway, broker) = tokio::join!(Wire::gateway(weir.addr(), 0), second.open());
        Self {
            weir,
            gateway,
            broker,
            second,
            first,
            reserved,
        }
    }
}

impl Weir {
    /// Brokers are left alone until a gateway connects, so that a test can play them connection by connection.
    pub(crate) fn new(config: Decisions) -> Self {
        Self::with(config, ClientTls::trusting_nobody().unwrap(), None)
    }

    pub(crate) fn with(config: Decisions, tls: ClientTls, acceptor: Option<Acceptor>) -> Self {
        Self::start(config, tls, acceptor, None)
    }

    /// One that probes its brokers also while nobody is connected.
    pub(crate) fn watching(config: Decisions) -> Self {
        let tls = ClientTls::trusting_nobody().unwrap();
        Self::start(config, tls, None, Some(IDLE_PROBE))
    }

    fn start(
        config: Decisions,
        tls: ClientTls,
        acceptor: Option<Acceptor>,
        idle_probe: Option<Duration>,
    ) -> Self {
        let life = Lifecycle::new();
        life.ready();
        let network = Network {
            tls,
            acceptor,
            idle_probe,
            ports: Ports::default(),
        };
        let handle = start(config.clone(), network, &life).unwrap();
        Self { handle, life, config }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.handle.local_addrs().0.unwrap()
    }

    /// Waits until the status is as wished.
    pub(crate) async fn until(&self, what: &str, wish: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let status = self.handle.status();
            if wish(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "never came: {what}; {status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Now open, by state, as `STATES` has them.
    pub(crate) fn client_connections(&self) -> [u64; 6] {
        self.handle.status().client.connections
    }
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"))
}

/// One end of a connection, whole frames at a time.
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
}

pub(crate) struct StubBroker {
    listener: TcpListener,
}

impl StubBroker {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    pub(crate) async fn at(addr: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(addr).unwrap();
        Self {
            listener: socket.listen(64).unwrap(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) = soon("a connection to the broker", self.listener.accept())
            .await
            .unwrap();
        Wire { stream }
    }

    /// Accepts and goes through the handshake as Andes does: frame_max 65,535, heartbeat 0. A probe, which leaves
    /// after Start, is served on the way.
    pub(crate) async fn open(&self) -> Wire {
        loop {
            let mut wire = self.accept().await;
            assert_eq!(wire.exactly(8).await, HEADER_0_9_1);
            wire.send(&start_frame()).await;
            let mut first = [0];
            if let Ok(0) | Err(_) = soon("Start-Ok or an end", wire.stream.peek(&mut first)).await {
                continue;
            }
            wire.finish_handshake(0).await;
            return wire;
        }
    }

    /// Answers every connection with Start, one after the other, and nothing more.
    pub(crate) async fn answer_start(&self) {
        loop {
            let mut wire = self.accept().await;
            wire.exactly(8).await;
            wire.send(&start_frame()).await;
            wire.closed().await;
        }
    }

    /// Serves the handshake on every connection, for ever; connections stay open and silent. A check, which
    /// leaves after Start, is no trouble.
    pub(crate) async fn serve_handshakes(self) {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            tokio::spawn(serve_handshake_and_stay(stream));
        }
    }

    /// Passes every connection on to another address, for ever.
    pub(crate) async fn pass_on_to(self, addr: SocketAddr) {
        loop {
            let (mut from, _) = self.listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(addr).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    }
}

async fn serve_handshake_and_stay(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 8]).await?;
    stream.write_all(&start_frame()).await?;
    stream.read_exact(&mut vec![0; start_ok_frame().len()]).await?;
    stream.write_all(&tune(0)).await?;
    let mut scrap = [0; 1024];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}

impl Wire {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = soon("a connection", TcpStream::connect(addr)).await.unwrap();
        Self { stream }
    }

    /// A gateway through its whole handshake; chooses `heartbeat`.
    pub(crate) async fn gateway(addr: SocketAddr, heartbeat: u16) -> Self {
        let mut wire = Self::connect(addr).await;
        wire.open_as_gateway(heartbeat).await;
        wire
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon("a write", self.stream.write_all(bytes)).await.unwrap();
        soon("a flush", self.stream.flush()).await.unwrap();
    }

    /// As [`Wire::send`], where the other end may have gone.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("a write", self.stream.write_all(bytes)).await
    }

    pub(crate) async fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        soon("bytes", self.stream.read_exact(&mut buffer)).await.unwrap();
        buffer
    }

    /// The next frame, heartbeats included.
    pub(crate) async fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.exactly(7).await;
        let size = u32::from_be_bytes(frame[3..7].try_into().unwrap()) as usize;
        frame.extend(self.exactly(size + 1).await);
        assert_eq!(frame.last(), Some(&0xCE));
        frame
    }

    pub(crate) async fn expect(&mut self, frame: &[u8]) {
        let got = self.frame().await;
        assert!(
            got == frame,
            "{} bytes {:02x?} …",
            got.len(),
            &got[..got.len().min(24)]
        );
    }

    /// The next frame that is not a heartbeat, and how many heartbeats came before it.
    pub(crate) async fn frame_past_heartbeats(&mut self) -> (Vec<u8>, usize) {
        let mut beats = 0;
        loop {
            let frame = self.frame().await;
            if frame != HEARTBEAT {
                return (frame, beats);
            }
            beats += 1;
        }
    }

    /// How the other end closed: true = properly (FIN), false = by reset.
    pub(crate) async fn closed(&mut self) -> bool {
        let mut scrap = [0; 4096];
        loop {
            match soon("the end of a connection", self.stream.read(&mut scrap)).await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    pub(crate) async fn silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.stream.read_u8()).await.is_err()
    }

    /// The broker's part of the handshake; returns the Tune-Ok it was sent.
    pub(crate) async fn serve_handshake(&mut self, heartbeat: u16) -> Vec<u8> {
        assert_eq!(self.exactly(8).await, HEADER_0_9_1);
        self.send(&start_frame()).await;
        self.finish_handshake(heartbeat).await
    }

    async fn finish_handshake(&mut self, heartbeat: u16) -> Vec<u8> {
        let start_ok = self.frame().await;
        assert_eq!(start_ok[7..11], [0, 10, 0, 11]);
        self.send(&tune(heartbeat)).await;
        let tune_ok = self.frame().await;
        assert_eq!(tune_ok[7..11], [0, 10, 0, 31]);
        tune_ok
    }

    /// The gateway's part; returns the Tune it was sent.
    pub(crate) async fn open_as_gateway(&mut self, heartbeat: u16) -> Vec<u8> {
        self.send(&HEADER_0_9_1).await;
        self.expect(&start_frame()).await;
        self.send(&start_ok_frame()).await;
        let tune = self.frame().await;
        assert_eq!(tune[7..11], [0, 10, 0, 30]);
        self.send(&tune_ok(heartbeat)).await;
        tune
    }
}
