//! The return leg's part: a broker that publishes decisions, a gateway that subscribes through weir, and the outage
//! between them.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir::app::Weir;
use weir::config::Scheme;
use weir::net::{ClientTls, Dialer, SocketOptions};

use super::DemoArgs;
use super::script::{PATIENCE, Witnesses};
use super::setup::url;
use crate::decisions::{Book, Broker, Tally, Verdict, subscribe};
use crate::thread::{Running, spawn, until};

/// Between two decisions.
const PACE: Duration = Duration::from_millis(20);
/// No outage is longer: below weir's hold of 28 s.
const OUTAGE_MAX: Duration = Duration::from_secs(18);

/// Broker and gateway.
pub(super) struct Leg {
    pub(super) book: Book,
    broker: Broker,
    _broker: Running<()>,
    gateway: Option<Running<()>>,
}

impl Leg {
    /// The broker; the gateway comes when weir has a port.
    pub(super) fn open() -> Result<Self, String> {
        let book = Book::open();
        let (ready, known) = mpsc::sync_channel(1);
        let of_broker = book.clone();
        let running = spawn("broker", move |stop| async move {
            // The other end waits for it below.
            let _ = ready.send(Broker::start(&of_broker, PACE));
            let _ = stop.await;
        });
        let running = running.map_err(|e| e.to_string())?;
        let broker = known.recv().map_err(|_| "the broker has failed")?;
        Ok(Self {
            book,
            broker: broker.map_err(|e| format!("the broker cannot listen: {e}"))?,
            _broker: running,
            gateway: None,
        })
    }

    /// Where the broker listens.
    pub(super) fn broker_url(&self) -> String {
        format!("tcp://{}", self.broker.address())
    }

    /// A gateway subscribes at weir, and again whenever its connection ends.
    pub(super) fn subscribe(&mut self, weir: SocketAddr) -> Result<(), String> {
        let tls = ClientTls::trusting_nobody().map_err(|e| e.to_string())?;
        let dialer = Dialer::new(tls, SocketOptions::default());
        let subscriber = subscribe(dialer, url(Scheme::Tcp, weir), self.book.clone());
        let running = spawn("subscriber", move |stop| async move {
            // Biased for want of a reason to choose: neither ends twice.
            tokio::select! {
                biased;
                _ = stop => {}
                () = subscriber => {}
            }
        });
        self.gateway = Some(running.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Stops the broker and starts it again; returns when the gateway is subscribed again.
    pub(super) async fn play(
        &self,
        args: &DemoArgs,
        weir: &Weir,
        say: &impl Fn(&str),
        start: Instant,
    ) -> Witnesses {
        sleep_until(start + args.duration * 4 / 12).await;
        let before = self.sees("a decision", |tally| tally.delivered() > 0).await;
        say("the broker of decisions is stopped; weir holds the gateway that reconnects");
        let stopped = Instant::now();
        self.broker.stop().await;
        let holds = || weir.decisions().map_or(0, |status| status.holds_total);
        let held = until("a hold", PATIENCE, || holds() > 0).await;
        sleep_until((start + args.duration * 7 / 12).min(stopped + OUTAGE_MAX)).await;
        self.broker.restart().await;
        say("the broker lives again");
        let back = self.sees("the gateway", Tally::is_back).await;
        say("the gateway is subscribed again");
        vec![
            ("decisions delivered before the broker was stopped", before),
            ("gateway held while no broker answered", u64::from(held.is_ok())),
            ("gateway subscribed again", back),
        ]
    }

    /// No more decisions; waits for those under way, and judges.
    pub(super) async fn finish(&self, weir: &Weir) -> Verdict {
        self.broker.stop_publishing();
        self.sees("the last decision", Tally::at_rest).await;
        let relayed = weir.decisions().map_or(0, |status| status.deliveries_total);
        self.book.tally().verdict(Some(relayed))
    }

    /// Heartbeats of weir's that the broker has received.
    pub(super) fn heartbeats(&self) -> u64 {
        self.broker.heartbeats()
    }

    /// 1 when the book says so in time.
    async fn sees(&self, what: &str, is: impl Fn(&Tally) -> bool) -> u64 {
        let seen = until(what, PATIENCE, || is(&self.book.tally())).await;
        u64::from(seen.is_ok())
    }
}
