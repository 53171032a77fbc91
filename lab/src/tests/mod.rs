//! The laboratory tests itself: an honest run is found honest, every planted lie is found.

mod commands;
mod events;
mod faults;
mod lies;
mod networks;
mod runs;
mod sim;
mod simulated;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use weir::config::{Scheme, Url};
use weir::net::{ClientTls, Dialer, SocketOptions};

use super::*;

fn dialer() -> Dialer {
    Dialer::new(ClientTls::trusting_nobody().unwrap(), SocketOptions::default())
}

fn tcp_url(address: SocketAddr) -> Url {
    Url {
        scheme: Scheme::Tcp,
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn judge(groups: &[&str]) -> Judge {
    Judge::new(Oracle::new(
        Events::new(Sizes::Typical, 1_700_000_000_000),
        groups,
        true,
    ))
}

fn sink(judge: &Judge) -> Sink {
    Sink::start(SinkOptions::local().judged_by(judge, 0)).unwrap()
}

/// A load of `count` events over one connection.
fn load(judge: &Judge, address: SocketAddr, count: u64) -> LoadOptions {
    LoadOptions {
        count: Some(count),
        retry_delay: Duration::from_millis(5),
        ..LoadOptions::new(dialer(), tcp_url(address)).judged_by(judge)
    }
}

/// A test that can hang fails instead.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("20 s are over")
}
