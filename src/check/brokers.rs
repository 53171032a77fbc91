//! One broker of the return leg, step by step: names, TCP, TLS, protocol header. No password is sent.
//!
//! Deadlines are those of the return leg itself.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::certificates::Shown;
use super::dial::{Deadlines, listed, open};
use super::report::{Row, Section, Step, milliseconds};
use crate::config::{Decisions, Url};
use crate::decisions::{BrokerError, CONNECT_TIMEOUT, Greeting, Start, TLS_TIMEOUT, greet};
use crate::net::{Dialer, resolve};

/// Every broker, tried at once, in the order of the configuration; and the certificate that each showed.
pub(super) async fn section(decisions: &Decisions, dialer: &Dialer) -> (Section, Vec<Option<Shown>>) {
    let mut tasks = JoinSet::new();
    for (place, url) in decisions.brokers.iter().cloned().enumerate() {
        let dialer = dialer.clone();
        tasks.spawn(async move { (place, probe(&dialer, &url).await) });
    }
    let mut probes = tasks.join_all().await;
    probes.sort_by_key(|(place, _)| *place);
    let (rows, shown) = probes.into_iter().map(|(_, probe)| probe).unzip();
    let section = Section {
        title: "Brokers of throttle decisions",
        rows,
    };
    (section, shown)
}

async fn probe(dialer: &Dialer, url: &Url) -> (Row, Option<Shown>) {
    let began = Instant::now();
    let found = resolve(url, CONNECT_TIMEOUT).await;
    let took = began.elapsed();
    let has_address = found.is_ok();
    let dns = match found {
        Ok(addresses) => Step::ok("dns", listed(addresses.into_iter())),
        Err(e) => Step::failed("dns", e.class.as_str(), e.message),
    };
    let within = Deadlines {
        connect: CONNECT_TIMEOUT,
        tls: TLS_TIMEOUT,
    };
    let side = open(dialer, url, ["tcp", "tls"], has_address, within).await;
    let greeted = match side.stream {
        Some(stream) => Some(greet(stream, url).await),
        None => None,
    };
    let (amqp, round_trip) = match greeted {
        None => (Step::skipped("amqp", "-"), None),
        Some(Ok((greeting, took))) => (answered(&greeting, url).took(took), Some(took)),
        Some(Err(e)) => (refused(&e), None),
    };
    let steps = vec![dns.took(took), side.tcp, side.tls, amqp];
    let mut row = Row::new(None, &url.to_string(), steps);
    row.round_trip_ms = round_trip.map(milliseconds);
    (row, side.shown)
}

fn answered(greeting: &Greeting, url: &Url) -> Step {
    match greeting {
        Greeting::Start(start) => Step::ok("amqp", named(start)),
        Greeting::OtherVersion([class, instance, major, minor]) => Step::failed(
            "amqp",
            "version",
            format!(
                "{url} is a broker, but not one for gateways: it requires AMQP {class} {instance} {major} {minor}, and they \
                 speak 0-9-1 (0 0 9 1)"
            ),
        ),
    }
}

/// `RabbitMQ 3.10.8 (PLAIN AMQPLAIN)`; a broker that does not say its name is called by its version of AMQP.
fn named(start: &Start) -> String {
    let (major, minor) = start.version;
    let who = match (&start.product, &start.product_version) {
        (Some(product), Some(version)) => format!("{product} {version}"),
        (Some(product), None) => product.clone(),
        (None, _) => format!("AMQP {major}-{minor}"),
    };
    format!("{who} ({})", start.mechanisms)
}

fn refused(e: &BrokerError) -> Step {
    let advice = match e.class {
        "mute" => " (it may still be starting)",
        "closed" | "protocol" => " (a Traffic Manager's broker listens on 5672, with TLS on 8672)",
        _ => "",
    };
    Step::failed("amqp", e.class, format!("{}{advice}", e.message))
}
