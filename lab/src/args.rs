//! The arguments of `weir-lab load`, `weir-lab sink` and `weir-lab soak`, and how they become options.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use weir::config::{Scheme, Tls, Trust, Url, Verify};
use weir::net::ClientTls;
use weir::output::{self, Failure};

use super::event::Sizes;
use super::insecure::accept_any_certificate;
use super::load::Version;

/// How a report is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on standard output; nothing else goes there.
    Json,
}

impl ReportFormat {
    /// Prints what a command has to report.
    ///
    /// # Errors
    /// Stdout is closed or full.
    pub(super) fn print(self, report: &(impl fmt::Display + Serialize)) -> Result<(), Failure> {
        output::print(&match self {
            ReportFormat::Text => format!("{report}\n"),
            ReportFormat::Json => serde_json::to_string(report).map_err(|e| e.to_string())? + "\n",
        })
    }
}

/// `weir-lab load`: many gateways at once, each as WSO2's agent.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Where events go: tcp://host:port or ssl://host:port
    #[arg(long, value_parser = url, default_value = "tcp://127.0.0.1:9611")]
    pub target: Url,
    /// Where the login goes. When not given: with a tcp:// target ssl:// at its port + 100, as WSO2's agent does; with an
    /// ssl:// target the target itself
    #[arg(long, value_parser = url)]
    pub auth: Option<Url>,
    /// User
    #[arg(long, default_value = "admin")]
    pub user: String,
    /// Password
    #[arg(
        long,
        env = "WEIR_LOAD_PASSWORD",
        hide_env_values = true,
        default_value = "admin"
    )]
    pub password: String,
    /// Publish as WSO2's agent of this version does, each connection a gateway with a queue of its own, and count
    /// what the agent refuses; without it, a friendly publisher that tries again at once
    #[arg(long, value_enum, conflicts_with_all = ["events_per_frame", "window"])]
    pub agent: Option<Version>,
    /// Gateway connections; with --agent, gateways
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Events in a frame
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub events_per_frame: u64,
    /// Frames in flight on a connection; WSO2's agent has 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub window: u64,
    /// Events per second over all connections; 0 = as fast as replies come
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// How long, e.g. 10s; until Ctrl-C when neither this nor --count is given
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Stop after so many events, or when none was answered within --reply-timeout
    #[arg(long)]
    pub count: Option<u64>,
    /// Length of an event in bytes; a mix of 448 to 760, 604 on average, when not given
    #[arg(long)]
    pub event_bytes: Option<usize>,
    /// Date events in microseconds, by when they are written (with --agent: published): for `weir-lab sink --delivery-times`
    #[arg(long)]
    pub stamp: bool,
    /// Give up waiting for a reply after this long
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub reply_timeout: Duration,
    /// PEM file with the certificates to trust; the system's when not given
    #[arg(long, conflicts_with = "pin")]
    pub ca: Option<PathBuf>,
    /// SHA-256 of the server's certificate, hexadecimal
    #[arg(long, value_parser = pin)]
    pub pin: Option<[u8; 32]>,
    /// Accept any certificate; for test installations
    #[arg(long, conflicts_with_all = ["ca", "pin"])]
    pub insecure: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub report: ReportFormat,
}

/// `weir-lab sink`: a stand-in Traffic Manager.
#[derive(Debug, Clone, Args)]
pub struct SinkArgs {
    /// Data port
    #[arg(long, default_value = "127.0.0.1:9611")]
    pub listen: SocketAddr,
    /// Login port with TLS and a self-signed certificate; logins are served on the data port, too
    #[arg(long)]
    pub auth_listen: Option<SocketAddr>,
    /// User
    #[arg(long, default_value = "admin")]
    pub user: String,
    /// Password
    #[arg(
        long,
        env = "WEIR_SINK_PASSWORD",
        hide_env_values = true,
        default_value = "admin"
    )]
    pub password: String,
    /// Connections served at a time on each port, as the real receiver's threads
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// What a publish frame costs the thread of its connection, e.g. 15us
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub frame_cost: Duration,
    /// Replies leave this much later
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub delay: Duration,
    /// Read but never answer publishes
    #[arg(long)]
    pub stall: bool,
    /// Report how long events took, by what `weir-lab load --stamp` of the same machine wrote into them
    #[arg(long)]
    pub delivery_times: bool,
    /// How long; until SIGINT or SIGTERM when not given
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub report: ReportFormat,
}

/// `weir-lab soak`: load and trouble for a long time.
#[derive(Debug, Clone, Args)]
pub struct SoakArgs {
    /// How long, e.g. 10m or 12h
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m")]
    pub duration: Duration,
    /// Gateways, each as WSO2's agent 5.4
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Events per second over all gateways; 0 = as fast as replies come
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Chooses what goes wrong and when; the report names it
    #[arg(long)]
    pub seed: Option<u64>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    pub report: ReportFormat,
}

impl LoadArgs {
    pub(super) fn sizes(&self) -> Sizes {
        self.event_bytes.map_or(Sizes::Typical, Sizes::Fixed)
    }

    /// Where the login goes.
    pub(super) fn login_url(&self) -> Result<Url, String> {
        match (&self.auth, self.target.scheme) {
            (Some(auth), _) => Ok(auth.clone()),
            (None, Scheme::Ssl) => Ok(self.target.clone()),
            (None, Scheme::Tcp) => {
                let port = self.target.port.checked_add(100);
                Ok(Url {
                    scheme: Scheme::Ssl,
                    host: self.target.host.clone(),
                    port: port.ok_or(
                        "the login port (the port of --target + 100) is not a port: name it with --auth",
                    )?,
                })
            }
        }
    }

    /// What to do about a failed login whose URL was not given.
    pub(super) fn advice(&self, error: &str) -> String {
        match (&self.auth, self.login_url()) {
            (None, Ok(url)) if url != self.target && error.contains(&url.to_string()) => format!(
                " (logins go to {url}, as WSO2's agent sends them: --auth names another URL; --ca, --pin or --insecure say \
                 which certificate to accept)"
            ),
            _ => String::new(),
        }
    }

    /// What TLS trusts. Certificates are only read when there is a TLS URL.
    pub(super) fn client_tls(&self) -> Result<ClientTls, String> {
        let ssl = [&self.target, &self.login_url()?]
            .iter()
            .any(|url| url.scheme == Scheme::Ssl);
        let (trust, verify) = match (&self.ca, self.pin) {
            (Some(ca), _) => (Trust::Pem(ca.clone()), Verify::Full),
            (None, Some(pin)) => (Trust::System, Verify::Pin(vec![pin])),
            (None, None) => (Trust::System, Verify::Full),
        };
        if !ssl {
            return ClientTls::trusting_nobody().map_err(|e| e.to_string());
        }
        if self.insecure {
            return accept_any_certificate().map_err(|e| e.to_string());
        }
        let tls = Tls {
            identity: None,
            trust,
            verify,
        };
        ClientTls::load(&tls).map_err(|e| e.to_string())
    }
}

/// Reads `tcp://host:port` or `ssl://host:port`.
///
/// # Errors
/// What is wrong, for people.
pub fn url(text: &str) -> Result<Url, String> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or("expected tcp://host:port or ssl://host:port")?;
    let scheme = match scheme {
        "tcp" => Scheme::Tcp,
        "ssl" => Scheme::Ssl,
        other => return Err(format!("unknown scheme {other}; expected tcp or ssl")),
    };
    let (host, port) = rest.rsplit_once(':').ok_or("the port is missing")?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0);
    match port {
        Some(port) if !host.is_empty() => Ok(Url {
            scheme,
            host: host.into(),
            port,
        }),
        Some(_) => Err("the host is missing".into()),
        None => Err("the port is not a number from 1 to 65535".into()),
    }
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let byte = |i: usize| {
        digits
            .get(2 * i..2 * i + 2)
            .and_then(|d| u8::from_str_radix(d, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes
        .filter(|_| digits.len() == 64)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected 64 hexadecimal digits".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    enum Cli {
        Load(LoadArgs),
        Sink(SinkArgs),
    }

    #[test]
    fn the_commands_read_their_arguments() {
        let cli = Cli::parse_from([
            "weir",
            "load",
            "--target",
            "ssl://[::1]:9711",
            "--rate",
            "5000",
            "--duration",
            "10s",
        ]);
        let Cli::Load(load) = cli else { panic!() };
        assert_eq!(load.target.to_string(), "ssl://[::1]:9711");
        assert_eq!(load.duration, Some(Duration::from_secs(10)));
        let Cli::Sink(sink) = Cli::parse_from(["weir", "sink", "--frame-cost", "15us", "--report", "json"])
        else {
            panic!()
        };
        assert_eq!(sink.frame_cost, Duration::from_micros(15));
        assert_eq!(sink.report, ReportFormat::Json);
    }

    #[test]
    fn a_load_logs_in_as_the_agent_does_unless_it_is_told_otherwise() {
        let login = |arguments: &[&str]| {
            let Cli::Load(load) = Cli::parse_from([&["weir", "load"], arguments].concat()) else {
                panic!()
            };
            load.login_url().map(|url| url.to_string())
        };
        let agent = login(&["--target", "tcp://[::1]:9611"]);
        assert_eq!(agent.unwrap(), "ssl://[::1]:9711");
        let tls = login(&["--target", "ssl://weir:9711"]);
        assert_eq!(tls.unwrap(), "ssl://weir:9711");
        let told = login(&["--target", "tcp://weir:9611", "--auth", "tcp://weir:9611"]);
        assert_eq!(told.unwrap(), "tcp://weir:9611");
        assert!(
            login(&["--target", "tcp://weir:65500"])
                .unwrap_err()
                .contains("--auth")
        );
    }

    #[test]
    fn what_is_not_a_url_or_pin_is_refused() {
        for bad in [
            "host:1",
            "http://h:1",
            "tcp://h",
            "tcp://:1",
            "tcp://h:0",
            "tcp://h:99999",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert!(pin(&"ab".repeat(32)).is_ok());
        assert!(pin(&"ab:".repeat(32)).is_ok());
        assert!(pin(&"xy".repeat(32)).is_err());
        assert!(pin("ab").is_err());
    }
}
