//! RabbitMQ from Debian's package, and lapin as a client.
//!
//! Each test starts nodes of its own on free ports, with its own name, cookie, data and epmd in a directory
//! that is removed, one test at a time. Without RabbitMQ they say so and pass.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapin::message::DeliveryResult;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::time::{Instant, sleep};
use weir::decisions::frame::HEADER_0_9_1;

use super::support::*;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
const BOOT: Duration = Duration::from_secs(90);
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A turn to run nodes, or `None` with the reason printed.
pub(crate) async fn turn() -> Option<MutexGuard<'static, ()>> {
    if !Path::new(SERVER).exists() {
        println!("SKIPPED: {SERVER} is missing; apt-get install rabbitmq-server");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().await)
}

/// A node that can be killed and started again on its data.
pub(crate) struct Rabbit {
    dir: TempDir,
    epmd: Child,
    node: Option<Child>,
    epmd_port: u16,
    dist_port: u16,
    pub(crate) addr: SocketAddr,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Rabbit {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// One that offers heartbeat 0, as Andes does.
    pub(crate) async fn without_heartbeat() -> Self {
        Self::with("heartbeat = 0\n").await
    }

    async fn with(more: &str) -> Self {
        let dir = TempDir::with_prefix("weir-rabbit-").unwrap();
        let (port, epmd_port, dist_port) = (free_port(), free_port(), free_port());
        let conf =
            format!("listeners.tcp.1 = 127.0.0.1:{port}\nframe_max = 65535\nloopback_users = none\n{more}");
        std::fs::write(dir.path().join("rabbitmq.conf"), conf).unwrap();
        std::fs::write(dir.path().join("env.conf"), "").unwrap();
        std::fs::write(dir.path().join("plugins"), "[].").unwrap();
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut rabbit = Self {
            dir,
            epmd,
            node: None,
            epmd_port,
            dist_port,
            addr,
        };
        rabbit.start().await;
        rabbit
    }

    /// Starts the node and waits until it greets.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        self.greeted().await;
    }

    pub(crate) fn spawn(&mut self) {
        let at = |name: &str| -> PathBuf { self.dir.path().join(name) };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(at("out"))
            .unwrap();
        let node = Command::new(SERVER)
            .env("HOME", self.dir.path())
            .env("RABBITMQ_NODENAME", format!("weir{}@localhost", self.addr.port()))
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", at("env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        self.node = Some(node);
    }

    /// Waits for the first Start, by asking without a pause of note.
    pub(crate) async fn greeted(&self) -> Instant {
        let began = Instant::now();
        loop {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(self.addr).await {
                use tokio::io::AsyncWriteExt;
                if stream.write_all(&HEADER_0_9_1).await.is_ok() && stream.read_u8().await.is_ok() {
                    return Instant::now();
                }
            }
            if began.elapsed() > BOOT {
                let out = std::fs::read_to_string(self.dir.path().join("out"));
                panic!("RabbitMQ does not come up: {out:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, to the node and whatever it started.
    pub(crate) fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            let group = format!("-{}", node.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = node.wait();
        }
    }

    pub(crate) fn uri(addr: SocketAddr) -> String {
        format!("amqp://guest:guest@{addr}/%2f")
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

pub(crate) async fn connect(addr: SocketAddr) -> lapin::Result<Connection> {
    Connection::connect(&Rabbit::uri(addr), ConnectionProperties::default()).await
}

/// Subscribes to a queue and hands over what comes; the connection lives as long as the result.
pub(crate) struct Subscriber {
    pub(crate) connection: Connection,
    _channel: Channel,
    pub(crate) inbox: mpsc::Receiver<Vec<u8>>,
}

pub(crate) async fn subscribe(addr: SocketAddr, queue: &str) -> lapin::Result<Subscriber> {
    let connection = connect(addr).await?;
    let channel = connection.create_channel().await?;
    channel
        .queue_declare(
            queue.into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel
        .basic_consume(queue.into(), "weir".into(), options, FieldTable::default())
        .await?;
    let (tx, inbox) = mpsc::channel(1000);
    consumer.set_delegate(move |delivery: DeliveryResult| {
        let tx = tx.clone();
        async move {
            if let Ok(Some(delivery)) = delivery {
                let _ = tx.send(delivery.data).await;
            }
        }
    });
    Ok(Subscriber {
        connection,
        _channel: channel,
        inbox,
    })
}

pub(crate) async fn publish(channel: &Channel, queue: &str, data: &[u8]) {
    let options = BasicPublishOptions::default();
    let sent = channel
        .basic_publish("".into(), queue.into(), options, data, BasicProperties::default())
        .await;
    sent.unwrap().await.unwrap();
}

impl Subscriber {
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        soon("a delivery", self.inbox.recv())
            .await
            .expect("still subscribed")
    }

    /// Waits until the client has noticed that its connection is gone.
    pub(crate) async fn lost(&self) {
        soon("the loss", async {
            while self.connection.status().connected() {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}
