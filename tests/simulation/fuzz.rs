//! Whatever comes from outside, through the code that meets it: conversations of gateways with a whole worker over a
//! simulated network (cut into pieces, in virtual time), Traffic Managers that answer anything, damaged keystores.
//!
//! The same doors are open to cargo-fuzz in `fuzz/`. What a fuzzer finds becomes a named test here.

mod conversation;
mod outside;
mod silence;

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::time::sleep;
use weir::config::{Scheme, Url};
use weir::ingress::Hashing;
use weir::ingress::token::Tokens;
use weir::metrics::Metrics;
use weir::net::{ClientTls, Dialer};
use weir::worker::{Parts, Worker};
use weir_lab::network::Network;
use weir_lab::{Events, Judge, Oracle, Sink, SinkOptions, Sizes};

use crate::support::{Plan, config, toml, url_group};

const NOW_MS: i64 = 1_700_000_000_000;
const WEIR: u16 = 9000;
const TM: u16 = 9611;

/// In virtual time.
fn simulated<F: Future>(work: F) -> F::Output {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap()
        .block_on(work)
}

/// A worker between port 9000 and a Traffic Manager, all in one thread.
struct World {
    network: Network,
    judge: Judge,
    sink: Sink,
    worker: Rc<Worker>,
}

impl World {
    fn new(seed: u64, plan: &Plan) -> Self {
        let network = Network::seeded(seed);
        let judge = Judge::new(Oracle::new(Events::new(Sizes::Typical, 0), &["one"], false));
        let sink = Sink::start(SinkOptions {
            data: network.opener(TM),
            ..SinkOptions::local().judged_by(&judge, 0)
        })
        .unwrap();
        let config = config(&toml(
            plan,
            &url_group("one", "failover", &format!("\"tcp://tm:{TM}\"")),
        ));
        let metrics = Metrics::new();
        let worker = Worker::start(Parts {
            config: Arc::new(config),
            tcp: Some(network.listen(WEIR).unwrap()),
            tls: None,
            dialer: dialer(&network),
            tokens: Arc::new(Tokens::new(Some("the secret of this test")).unwrap()),
            hashing: Hashing::default(),
            observers: Rc::new(move |group, endpoint| metrics.link(group, endpoint)),
            unix_ms: || NOW_MS,
            seed,
            lifecycle: weir::lifecycle::Lifecycle::new(),
        });
        Self {
            network,
            judge,
            sink,
            worker,
        }
    }

    /// Until nothing is queued or in flight.
    async fn rest(&self) -> weir::status::Snapshot {
        for _ in 0..600_000 {
            let snapshot = self.worker.snapshot();
            let e = snapshot.groups[0].events;
            assert!(e.balanced(), "{e:?}");
            if e.queued + e.inflight == 0 {
                return snapshot;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("never at rest: {:#?}", self.worker.snapshot());
    }
}

fn dialer(network: &Network) -> Dialer {
    Dialer::over(Arc::new(network.clone()), ClientTls::trusting_nobody().unwrap())
}

fn weir_url() -> Url {
    Url {
        scheme: Scheme::Tcp,
        host: "weir".into(),
        port: WEIR,
    }
}
