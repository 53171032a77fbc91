//! Against RabbitMQ (Debian: rabbitmq-server), with lapin as the gateway's client.
//!
//! Each test starts nodes of its own on free ports, with its own name, cookie, data and epmd in a directory
//! that is removed, one test at a time. Without RabbitMQ they say so and pass.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use lapin::message::DeliveryResult;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::time::{Instant, sleep};
use weir::decisions::frame::{HEADER_0_9_1, HEARTBEAT};

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

    fn spawn(&mut self) {
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
    async fn greeted(&self) -> Instant {
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

/// A client that says nothing by itself, logged in at RabbitMQ, with this heartbeat in its Tune-Ok.
async fn raw_client(addr: SocketAddr, heartbeat: u16) -> Wire {
    let mut wire = Wire::connect(addr).await;
    wire.send(&HEADER_0_9_1).await;
    wire.frame().await;
    let start_ok = connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties: FieldTable::default(),
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
    });
    wire.send(&encode(&AMQPFrame::Method(0, AMQPClass::Connection(start_ok))))
        .await;
    wire.frame().await;
    wire.send(&tune_ok(heartbeat)).await;
    let open = connection::AMQPMethod::Open(connection::Open {
        virtual_host: "/".into(),
    });
    wire.send(&encode(&AMQPFrame::Method(0, AMQPClass::Connection(open))))
        .await;
    assert_eq!(
        wire.frame_past_heartbeats().await.0[7..11],
        [0, 10, 0, 41],
        "Open-Ok"
    );
    wire
}

/// Waits until no frame came for a moment; how many heartbeats came until the end, if it ended.
async fn lives_for(wire: &mut Wire, time: Duration) -> bool {
    let mut scrap = [0; 256];
    let end = Instant::now() + time;
    loop {
        match tokio::time::timeout_at(end, wire.stream.read(&mut scrap)).await {
            Err(_) => return true,
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) => return false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_and_lapin_consume_publish_and_stay_through_silence() {
    let Some(_turn) = turn().await else { return };
    let rabbit = Rabbit::new().await;
    let mut config = config(&[rabbit.addr]);
    config.heartbeat = beat(1, 4.0);
    config.client_heartbeat = beat(0, 2.0);
    let weir = Weir::new(config);

    let mut subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    let publisher = connect(weir.addr()).await.unwrap();
    let channel = publisher.create_channel().await.unwrap();
    for n in 0..50_u8 {
        publish(&channel, "decisions", &[n; 300]).await;
        assert_eq!(subscriber.next().await, [n; 300]);
    }
    // Frames of 65,535 bytes: RabbitMQ's frame_max here.
    let large: Vec<u8> = (0..400_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for _ in 0..5 {
        publish(&channel, "decisions", &large).await;
        assert!(subscriber.next().await == large);
    }
    assert_eq!(weir.handle.status().deliveries_total, 55);

    // Silence. RabbitMQ was told 1 s and resets a client that does not keep to it …
    let mut direct = raw_client(rabbit.addr, 1).await;
    assert!(
        !lives_for(&mut direct, Duration::from_secs(10)).await,
        "the witness: RabbitMQ does check"
    );
    // … while clients that promised nothing live behind weir, which keeps the promise for them.
    let mut quiet = raw_client(weir.addr(), 0).await;
    assert!(lives_for(&mut quiet, Duration::from_secs(10)).await);
    publish(&channel, "decisions", b"after the silence").await;
    assert_eq!(subscriber.next().await, b"after the silence");
    let status = weir.handle.status();
    assert!(status.broker.heartbeats_sent_total >= 30, "{status:?}");
    assert!(status.broker.heartbeats_received_total >= 20, "{status:?}");
    assert_eq!(
        (status.client.heartbeats_sent_total, status.broker.dead_total),
        (0, 0)
    );

    publisher.close(200, "bye".into()).await.unwrap();
    subscriber.connection.close(200, "bye".into()).await.unwrap();
    drop(quiet);
    weir.until("nobody", |s| s.client.connections == [0; 6]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_waits_for_a_consumer_that_does_not_read_and_loses_nothing() {
    let Some(_turn) = turn().await else { return };
    let rabbit = Rabbit::new().await;
    let mut config = config(&[rabbit.addr]);
    config.heartbeat = beat(2, 3.0);
    let weir = Weir::new(config);
    let mut consumer = raw_client(weir.addr(), 0).await;
    let on_channel = |class| encode(&AMQPFrame::Method(1, class));
    consumer
        .send(&on_channel(AMQPClass::Channel(channel::AMQPMethod::Open(
            channel::Open {},
        ))))
        .await;
    consumer.frame().await;
    let declare = queue::Declare {
        queue: "slow".into(),
        ..queue::Declare::default()
    };
    consumer
        .send(&on_channel(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))))
        .await;
    consumer.frame().await;
    let consume = basic::Consume {
        queue: "slow".into(),
        no_ack: true,
        ..basic::Consume::default()
    };
    consumer
        .send(&on_channel(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))))
        .await;
    consumer.frame().await;

    let publisher = connect(rabbit.addr).await.unwrap();
    let channel = publisher.create_channel().await.unwrap();
    let messages: u32 = 400;
    for n in 0..messages {
        publish(&channel, "slow", &vec![u8::try_from(n % 251).unwrap(); 60_000]).await;
    }
    weir.until("a pause", |s| s.broker.paused_nanos_total > 8_000_000_000)
        .await;
    let held_back = weir.handle.status();
    assert!(
        held_back.deliveries_total < u64::from(messages),
        "24 MB cannot all be under way"
    );
    // The consumer wakes up: method, header and body of each message, in order.
    for n in 0..messages {
        assert_eq!(consumer.frame_past_heartbeats().await.0[7..11], [0, 60, 0, 60]);
        consumer.frame_past_heartbeats().await;
        let body = consumer.frame_past_heartbeats().await.0;
        assert_eq!((body.len(), body[7]), (60_008, u8::try_from(n % 251).unwrap()));
    }
    let status = weir.handle.status();
    assert_eq!(
        (status.deliveries_total, status.broker.dead_total),
        (u64::from(messages), 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_and_back_after_18_s_is_resubscribed_at_once_by_a_held_client() {
    let Some(_turn) = turn().await else { return };
    let began = Instant::now();
    let mut rabbit = Rabbit::new().await;
    let boot = began.elapsed();
    let weir = Weir::new(config(&[rabbit.addr]));
    let subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    rabbit.kill();
    let killed = Instant::now();
    // The client loses its connection, comes back at once, and is held.
    subscriber.lost().await;
    drop(subscriber);
    let addr = weir.addr();
    let again = tokio::spawn(async move {
        let subscriber = subscribe(addr, "decisions").await;
        (subscriber, Instant::now())
    });
    weir.until("held", |s| s.client.connections[1] == 1).await;
    tokio::time::sleep_until(killed + Duration::from_secs(18).saturating_sub(boot)).await;
    rabbit.spawn();
    let back = rabbit.greeted().await;
    let (subscriber, at) = soon("the subscription", again).await.unwrap();
    let mut subscriber = subscriber.expect("the held attempt itself succeeds: no exception at the client");
    println!(
        "broker away for {:.1} s; resubscribed {:.0} ms after its first Start, in the same attempt",
        (back - killed).as_secs_f64(),
        at.saturating_duration_since(back).as_secs_f64() * 1000.0
    );
    assert!(at.saturating_duration_since(back) < Duration::from_secs(3));
    let publisher = connect(weir.addr()).await.unwrap();
    publish(
        &publisher.create_channel().await.unwrap(),
        "decisions",
        b"blocked=true",
    )
    .await;
    assert_eq!(subscriber.next().await, b"blocked=true");
    let status = weir.handle.status();
    assert_eq!(status.holds_total, 1);
    assert!(status.hold_nanos_total > 10_000_000_000, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_broker_is_killed_its_gateway_is_given_the_second_one() {
    let Some(_turn) = turn().await else { return };
    let (mut first, second) = tokio::join!(Rabbit::new(), Rabbit::new());
    let weir = Weir::new(config(&[first.addr, second.addr]));
    let subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    assert_eq!(weir.handle.status().brokers[0].connections, 1);
    first.kill();
    subscriber.lost().await;
    let lost = Instant::now();
    let mut subscriber = subscribe(weir.addr(), "decisions").await.unwrap();
    println!(
        "on the second broker {:.0} ms after the loss",
        lost.elapsed().as_secs_f64() * 1000.0
    );
    let publisher = connect(second.addr).await.unwrap();
    publish(
        &publisher.create_channel().await.unwrap(),
        "decisions",
        b"from the second",
    )
    .await;
    assert_eq!(subscriber.next().await, b"from the second");
    let status = weir.handle.status();
    assert_eq!(
        (status.brokers[0].failovers_total, status.brokers[1].connections),
        (1, 1)
    );
    assert_eq!(status.holds_total, 0);
}

#[test]
fn the_heartbeat_of_the_oracle_is_weirs() {
    assert_eq!(encode(&AMQPFrame::Heartbeat), HEARTBEAT);
}
