//! The return leg as part of a whole weir: configured by text, counted in /metrics. How it behaves by itself
//! is shown in tests/relay/decisions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use weir::net::{ClientTls, Dialer, SocketOptions};
use weir_lab::decisions::{Book, Broker, Tally, Verdict, subscribe};
use weir_lab::thread::until;

use crate::support::{self, Bed, Plan, scrape, story};

const HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Connection.Start 0-9: no properties, PLAIN, en_US.
fn start_frame() -> Vec<u8> {
    let mut payload = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 0];
    for text in ["PLAIN", "en_US"] {
        payload.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(text.as_bytes());
    }
    let mut frame = vec![1, 0, 0];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&payload);
    frame.push(0xce);
    frame
}

/// A broker that greets everybody, probes included, and then reads until they go.
fn broker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut header = [0; 8];
                stream.read_exact(&mut header).unwrap();
                assert_eq!(header, HEADER);
                stream.write_all(&start_frame()).unwrap();
                let _ = stream.read(&mut header);
            });
        }
    });
    address
}

fn gateway(weir: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(weir).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(HEADER).unwrap();
    stream
}

#[test]
fn a_gateway_finds_a_broker_through_weir_and_prometheus_sees_it() {
    story(async {
        let tables = format!(
            "[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://{}\"]\n",
            broker()
        );
        let bed = Bed::start(Plan {
            tables,
            ..Plan::groups(&["one"])
        })
        .await;
        let mut gateway = gateway(bed.weir.addresses().decisions.unwrap());
        let mut greeting = vec![0; start_frame().len()];
        gateway.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, start_frame());
        let scrape = scrape(bed.weir.addresses().admin.unwrap());
        assert!(
            scrape
                .iter()
                .any(|(s, v)| s.starts_with("weir_decisions_") && *v > 0.0),
            "{scrape:?}"
        );
    });
}

#[test]
fn a_reload_brings_another_broker_while_a_gateway_is_held() {
    story(async {
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tables = format!("[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://{dead}\"]\n");
        let bed = Bed::start(Plan {
            tables,
            ..Plan::groups(&["one"])
        })
        .await;
        let mut gateway = gateway(bed.weir.addresses().decisions.unwrap());
        let mut new = bed.config.clone();
        let live = broker();
        if let Some(decisions) = &mut new.decisions {
            decisions.brokers = vec![support::url(live)];
        }
        let report = bed.weir.apply(new, Vec::new()).await.unwrap();
        assert_eq!(report.needs_restart, Vec::<String>::new());
        let mut greeting = vec![0; start_frame().len()];
        gateway.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, start_frame());
    });
}

/// A whole weir, the stand-in broker behind it, and a gateway that subscribes in front of it.
struct Stream {
    bed: Bed,
    book: Book,
    broker: Broker,
    gateway: tokio::task::JoinHandle<()>,
}

impl Stream {
    async fn flowing(more: &str) -> Self {
        let book = Book::open();
        let broker = Broker::start(&book, Duration::from_millis(2)).unwrap();
        let tables = format!(
            "[decisions]\nlisten = \"127.0.0.1:0\"\nendpoints = [\"tcp://{}\"]\n{more}",
            broker.address()
        );
        let bed = Bed::start(Plan {
            tables,
            ..Plan::groups(&["one"])
        })
        .await;
        let dialer = Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default());
        let weir = support::url(bed.weir.addresses().decisions.unwrap());
        let stream = Self {
            gateway: tokio::spawn(subscribe(dialer, weir, book.clone())),
            bed,
            book,
            broker,
        };
        stream.until("decisions", |tally| tally.delivered() > 20).await;
        stream
    }

    async fn until(&self, what: &str, is: impl Fn(&Tally) -> bool) {
        let seen = until(what, Duration::from_secs(20), || is(&self.book.tally())).await;
        seen.unwrap();
    }

    /// Away for so long, and a moment after.
    async fn restart(&self, away: Duration) {
        self.broker.stop().await;
        tokio::time::sleep(away).await;
        self.broker.restart().await;
    }

    async fn verdict(self) -> Verdict {
        self.broker.stop_publishing();
        self.until("the last decision", Tally::at_rest).await;
        let relayed = self.bed.weir.decisions().unwrap().deliveries_total;
        let verdict = self.book.tally().verdict(Some(relayed));
        self.gateway.abort();
        verdict
    }
}

#[test]
fn a_stream_of_decisions_survives_restarts_of_the_broker_and_loses_nothing_that_was_sent() {
    story(async {
        let stream = Stream::flowing("").await;
        for away in [0, 400, 1_200] {
            let before = stream.book.tally().delivered();
            stream.restart(Duration::from_millis(away)).await;
            stream.until("the gateway", Tally::is_back).await;
            stream
                .until("more decisions", |tally| tally.delivered() > before + 20)
                .await;
        }
        let verdict = stream.verdict().await;
        println!("{verdict}");
        assert_eq!(verdict.violations(), Vec::<String>::new());
        assert_eq!(verdict.attempts_max, 1, "each was held");
    });
}

#[test]
fn without_a_hold_the_judge_finds_the_gateway_asleep() {
    story(async {
        let stream = Stream::flowing("hold = \"0s\"\n").await;
        // Longer than the client's quick retries take; then it sleeps for 20 s.
        stream.restart(Duration::from_secs(2)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!stream.book.tally().is_back());
        let verdict = stream.verdict().await;
        let violations = verdict.violations().join("; ");
        assert!(
            violations.contains("never subscribed again"),
            "{verdict}\n{violations}"
        );
    });
}
