//! A weir process between stand-in Traffic Managers and gateways of this process, judged by the oracle.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir::config::Url;
use weir_lab::{Events, Judge, LoadOptions, Oracle, Sink, SinkOptions, Sizes, Verdict};

use super::machine::own_addresses;
use super::process::{Process, Start, Stderr};
use super::{Plan, agents, dialer, toml, url, url_group};

/// One Traffic Manager a group.
pub struct Stage {
    pub judge: Judge,
    pub sinks: Vec<Sink>,
    pub weir: Process,
    pub toml: String,
}

impl Stage {
    /// Every link is up when it returns.
    pub async fn start(plan: Plan) -> Self {
        Self::start_as(plan, Start::default()).await
    }

    pub async fn start_as(plan: Plan, start: Start) -> Self {
        // A port that is the same after a restart, and known without a log.
        let (tcp, admin) = own_addresses();
        let local = IpAddr::from([127, 0, 0, 1]);
        Self::start_at(plan, start, (tcp, admin), local).await
    }

    /// Weir listens on these two; the Traffic Managers on free ports of `managers`.
    pub async fn start_at(
        plan: Plan,
        start: Start,
        (tcp, admin): (SocketAddr, SocketAddr),
        managers: IpAddr,
    ) -> Self {
        let names: Vec<&str> = plan.groups.iter().map(|g| g.0).collect();
        let events = Events::new(plan.sizes.unwrap_or(Sizes::Typical), 0);
        let judge = Judge::new(Oracle::new(events, &names, true));
        let mut sinks = Vec::new();
        let mut blocks = String::new();
        for (i, (name, policy, _)) in plan.groups.iter().enumerate() {
            let options = SinkOptions {
                data: weir_lab::sink::tcp(SocketAddr::from((managers, 0))),
                ..SinkOptions::local()
            };
            let sink = Sink::start(options.judged_by(&judge, i)).unwrap();
            blocks += &url_group(name, policy, &format!("\"tcp://{}\"", sink.data_address()));
            sinks.push(sink);
        }
        let toml = toml(&plan, &blocks)
            .replacen("127.0.0.1:0", &tcp.to_string(), 1)
            .replacen("127.0.0.1:0", &admin.to_string(), 1);
        let known = (start.stderr == Stderr::Full).then_some((tcp, admin));
        let weir = Process::start(&toml, start, known).await;
        weir.until("every link is up", super::process::Status::all_up)
            .await;
        Self {
            judge,
            sinks,
            weir,
            toml,
        }
    }

    pub fn url(&self) -> Url {
        url(self.weir.tcp)
    }

    /// Friendly publishers, judged (see [`Bed::load`](super::Bed::load)).
    pub fn load(&self) -> LoadOptions {
        LoadOptions {
            settle: Duration::from_secs(40),
            ..LoadOptions::new(dialer(), self.url()).judged_by(&self.judge)
        }
    }

    /// Gateways with WSO2's agent, judged.
    pub fn agents(&self) -> LoadOptions {
        agents(self.load())
    }

    /// Waits until weir is at rest; weir's own counts and /metrics are held against the oracle.
    pub async fn verdict(&self) -> Verdict {
        let status = self.weir.until("everything has ended", |s| s.at_rest()).await;
        let counts = status.counts();
        let scrape = super::scrape(self.weir.admin);
        for group in &counts.groups {
            for (metric, value) in [
                ("weir_events_accepted_total", group.events.accepted),
                ("weir_events_delivered_total", group.events.delivered),
            ] {
                let series = format!("{metric}{{group=\"{}\"}}", group.name);
                assert_eq!(scrape.get(&series).copied(), Some(value as f64), "{series}");
            }
        }
        self.judge.verdict(Some(&counts))
    }

    /// Everything acknowledged reached every group once, in order.
    pub async fn assert_clean(&self, acked: u64) {
        let verdict = self.verdict().await;
        assert!(verdict.ok(), "{verdict}");
        assert_eq!(verdict.acked, acked);
        for group in &verdict.groups {
            assert_eq!((group.distinct, group.copies), (acked, acked), "{verdict}");
        }
    }
}
