//! A part of weir that panics where no hook ends the process: weir stops, and is never ready again.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use metrics::{Histogram, HistogramFn};
use weir::ingress::token::Tokens;
use weir::lifecycle::{Lifecycle, Phase};
use weir::metrics::LinkObservers;
use weir::net::{Listener, SocketOptions};
use weir::worker::{Parts, Worker};
use weir_lab::{Load, LoadOptions, Sink, SinkOptions};

use crate::support::faults::eventually;
use crate::support::{Plan, config, dialer, story, toml, url, url_group};

/// A histogram that the link records into, once for each frame.
struct Panics;

impl HistogramFn for Panics {
    fn record(&self, _: f64) {
        panic!("injected");
    }
}

#[test]
fn a_link_that_panics_stops_its_weir() {
    story(async {
        let sink = Sink::start(SinkOptions::local()).unwrap();
        let block = url_group("one", "failover", &format!("\"tcp://{}\"", sink.data_address()));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let life = Lifecycle::new();
        life.ready();
        let _worker = Worker::start(Parts {
            config: Arc::new(config(&toml(&Plan::default(), &block))),
            tcp: Some(Listener::from_std(socket, SocketOptions::default()).unwrap()),
            tls: None,
            dialer: dialer(),
            tokens: Arc::new(Tokens::new(Some("the secret of this test")).unwrap()),
            hashing: weir::ingress::Hashing::default(),
            observers: Rc::new(|_, _| LinkObservers {
                frame_events: Histogram::from_arc(Arc::new(Panics)),
                ..LinkObservers::none()
            }),
            unix_ms: || 1_800_000_000_000,
            seed: 1,
            lifecycle: life.clone(),
        });
        let _load = Load::start(LoadOptions {
            connections: 1,
            ..LoadOptions::new(dialer(), url(address))
        });
        eventually("weir stops", || life.phase() == Phase::Stopped).await;
        assert!(life.has_failed() && life.stop_token().is_cancelled());
    });
}
