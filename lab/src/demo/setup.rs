//! Who takes part: four Traffic Managers in two groups on a thread of their own, a weir on its threads,
//! gateways on another, and the return leg's broker and gateway.

use std::net::SocketAddr;
use std::sync::mpsc;

use weir::app::Weir;
use weir::config::{Log, LogFormat, Scheme, Source, Tls, Trust, Url, Verify, parse};
use weir::net::{Acceptor, Dialer, ServerTls};
use weir::telemetry;

use super::DemoArgs;
use super::leg::Leg;
use crate::insecure::accept_any_certificate;
use crate::load::{TwinOptions, Version};
use crate::sink::tcp;
use crate::thread::{Running, spawn};
use crate::{Events, Judge, Load, LoadOptions, LoadReport, Oracle, Sink, SinkOptions, Sizes};

/// Name, policy and size of each group.
pub(super) const GROUPS: [(&str, &str, usize); 2] =
    [("shared", "loadbalance", 2), ("standby", "failover", 2)];

/// Everything that runs in the demo.
pub(super) struct Setup {
    /// First, because fields are dropped in order: publishes in progress still get their replies.
    gateways: Option<Running<LoadReport>>,
    pub(super) judge: Judge,
    /// By group, then by endpoint.
    pub(super) managers: Vec<Vec<Sink>>,
    pub(super) weir: Weir,
    pub(super) leg: Leg,
    _managers: Running<()>,
}

impl Setup {
    /// Traffic Managers and weir; the gateways come last.
    pub(super) fn assemble(args: &DemoArgs) -> Result<Self, String> {
        let names = GROUPS.map(|(name, _, _)| name);
        let judge = Judge::new(Oracle::new(Events::new(Sizes::Typical, now_ms()), &names, true));
        let identity = Tls {
            identity: None,
            trust: Trust::System,
            verify: Verify::Full,
        };
        let certificate = ServerTls::load(&identity).map_err(|e| e.to_string())?;
        let pin = certificate.certificate().pin();
        let (managers, running) = managers(&judge, &certificate)?;
        let leg = Leg::open()?;
        let weir = weir(&toml(&managers, &leg.broker_url(), &pin, args))?;
        Ok(Self {
            judge,
            managers,
            weir,
            leg,
            gateways: None,
            _managers: running,
        })
    }

    /// Gateways log in over TLS and begin to publish, one subscribes to decisions.
    pub(super) fn open_gateways(&mut self, args: &DemoArgs) -> Result<(), String> {
        let at = self.weir.addresses();
        let (Some(data), Some(auth)) = (at.tcp, at.tls) else {
            return Err("weir has no ports".into());
        };
        let tls = accept_any_certificate().map_err(|e| e.to_string())?;
        let dialer = Dialer::new(tls, TwinOptions::sockets());
        let rate = Some(args.rate).filter(|rate| *rate > 0.0);
        let mut agent = TwinOptions {
            batch_size: usize::try_from(args.events_per_frame).unwrap_or(1),
            ..TwinOptions::new(Version::V5_4)
        };
        if rate.is_none() {
            // What is queued at the end is still delivered; keep that short.
            agent.queue_size = 2 * agent.batch_size;
        }
        let options = LoadOptions {
            auth: Some(url(Scheme::Ssl, auth)),
            connections: args.gateways,
            rate,
            agent: Some(agent),
            ..LoadOptions::new(dialer, url(Scheme::Tcp, data)).judged_by(&self.judge)
        };
        let running = spawn("gateways", move |stop| async move {
            let load = Load::start(options);
            // Asked to stop, or dropped.
            let _ = stop.await;
            load.stop();
            load.finish().await
        });
        self.gateways = Some(running.map_err(|e| e.to_string())?);
        self.leg
            .subscribe(at.decisions.ok_or("weir has no port for decisions")?)?;
        Ok(())
    }

    /// No new events; waits for the answers to those under way.
    pub(super) fn close_gateways(&mut self) -> Option<LoadReport> {
        self.gateways.take()?.stop()
    }
}

type Managers = Vec<Vec<Sink>>;

fn managers(judge: &Judge, certificate: &ServerTls) -> Result<(Managers, Running<()>), String> {
    let (ready, known) = mpsc::sync_channel(1);
    let (judge, certificate) = (judge.clone(), certificate.clone());
    let running = spawn("managers", move |stop| async move {
        let start = |group: usize| {
            let local = SinkOptions::local().judged_by(&judge, group);
            let auth = tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
            Sink::start(SinkOptions {
                auth: Some((auth, Acceptor::new(&certificate, false))),
                ..local
            })
        };
        let all = GROUPS.iter().enumerate();
        let sinks = all
            .map(|(i, (_, _, size))| (0..*size).map(|_| start(i)).collect())
            .collect();
        // The other end waits for it below.
        let _ = ready.send(sinks);
        let _ = stop.await;
    });
    let running = running.map_err(|e| e.to_string())?;
    let sinks: Result<Managers, std::io::Error> =
        known.recv().map_err(|_| "the Traffic Managers have failed")?;
    Ok((
        sinks.map_err(|e| format!("a Traffic Manager cannot listen: {e}"))?,
        running,
    ))
}

/// A weir configured as users configure theirs: by text.
fn weir(text: &str) -> Result<Weir, String> {
    let source = Source {
        weir_toml: Some(("demo.toml".into(), text.to_owned())),
        ..Source::default()
    };
    let (config, _) = parse(&source).map_err(|problems| problems.to_string())?;
    let log = Log {
        level: "error".into(),
        format: LogFormat::Text,
    };
    let (_, log) = telemetry::build(&log, std::io::sink)?;
    Weir::start(config, Vec::new(), log).map_err(|e| e.to_string())
}

fn toml(managers: &[Vec<Sink>], broker: &str, pin: &str, args: &DemoArgs) -> String {
    let mut groups = String::new();
    for ((name, policy, _), sinks) in GROUPS.iter().zip(managers) {
        let list = |urls: Vec<String>| urls.join(", ");
        let data = list(
            sinks
                .iter()
                .map(|s| format!("\"tcp://{}\"", s.data_address()))
                .collect(),
        );
        let auth = list(
            sinks
                .iter()
                .filter_map(Sink::auth_address)
                .map(|a| format!("\"ssl://{a}\""))
                .collect(),
        );
        groups += &format!(
            "[[apim.throttling.url_group]]\nname = \"{name}\"\ntype = \"{policy}\"\n\
             traffic_manager_urls = [{data}]\ntraffic_manager_auth_urls = [{auth}]\n\n"
        );
    }
    // A gateway publishes on one, logs in on another and probes with a third.
    let connections = 3 * args.gateways + 100;
    let beat = "{ delay = 2, timeout_factor = 2.0 }";
    format!(
        "[apim.throttling]\nusername = \"admin\"\npassword = \"admin\"\n\
         throttle_decision_endpoints = [\"{broker}\"]\n\n{groups}\
         [listen]\ntcp = \"127.0.0.1:0\"\ntls = \"127.0.0.1:0\"\nmax_connections = {connections}\n\n\
         [link]\nfailback_after = \"1s\"\n\n[tls]\nverify = \"pin\"\npins = [\"{pin}\"]\n\n\
         [decisions]\nlisten = \"127.0.0.1:0\"\nheartbeat = {beat}\nclient_heartbeat = {beat}\n\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n"
    )
}

pub(super) fn url(scheme: Scheme, address: SocketAddr) -> Url {
    Url {
        scheme,
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}
