//! `weir check`: is this configuration valid, what does it mean, and (with `--connect`) does it work from here?
//!
//! [`check`] makes a [`Report`]: problems, or the fan-out as facts ([`fanout`]) and sentences ([`explain`]), and what was tried over
//! the network ([`connect`]): Traffic Managers ([`probe`]), brokers of the return leg ([`brokers`]), and what weir needs on this host
//! ([`host`]). A report has its exit code, and is printed as text ([`text`]) or JSON. It never holds a secret.

mod brokers;
mod certificates;
mod connect;
mod dial;
mod explain;
mod fanout;
mod host;
mod own_sessions;
mod probe;
mod report;
mod session;
mod text;

use std::process::ExitCode;

use crate::admin::read_definitions;
use crate::app::Files;
use crate::config::{Config, Warning};
use crate::net::{ClientTls, ServerTls, TlsError};
use crate::output::{self, Failure};

pub use certificates::Certificate;
pub use connect::Connect;
pub use report::{Outcome, Report, Row, Section, Step};

/// How `weir check` was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Also try every endpoint.
    pub connect: bool,
    /// JSON instead of text.
    pub json: bool,
}

/// Checks and prints: the result on stdout, problems and warnings on stderr (with JSON all of it on stdout).
///
/// The exit code: 0 all fine, 1 something could not be reached or verified (or the result not written), 2 invalid.
#[must_use]
pub fn run(files: &Files, options: Options) -> ExitCode {
    let report = check(files, options.connect);
    ExitCode::from(match print(&report, options) {
        // A reader that went away (`weir check | head`) changes nothing about the result.
        Err(failure) if !failure.is_closed() => report.exit_code.max(failure.end()),
        _ => report.exit_code,
    })
}

fn print(report: &Report, options: Options) -> Result<(), Failure> {
    if options.json {
        let json = serde_json::to_string_pretty(report).map_err(|e| e.to_string())?;
        return output::print(&format!("{json}\n"));
    }
    let complaints = text::complaints(report);
    if let Some(complaints) = complaints.strip_suffix('\n') {
        output::note(complaints);
    }
    output::print(&text::text(report))
}

/// Reads the configuration and every file it names; with `connect` also tries everything it points to, which
/// takes at most the sum of the deadlines in `[link]` and a few seconds.
#[must_use]
pub fn check(files: &Files, connect: bool) -> Report {
    let (config, mut warnings) = match files.load() {
        Ok(loaded) => loaded,
        Err(problems) => return Report::invalid(&problems, Vec::new()),
    };
    warnings.extend(streams(&config));
    let keys = match Keys::load(&config) {
        Ok(keys) => keys,
        Err(errors) => return Report::invalid(&files.locate_all(&errors), warnings),
    };
    warnings.extend(keys.not_yet_valid());
    let connect = connect.then(|| connect::connect(&config, &keys));
    Report::valid(warnings, &config, connect)
}

/// A file of stream definitions that no tap could use. Weir runs without it.
fn streams(config: &Config) -> Option<Warning> {
    let path = config.admin.as_ref()?.tap_streams.as_ref()?;
    let error = read_definitions(path).err()?;
    Some(Warning::about("admin.tap_streams", error))
}

/// What the files behind `[tls]` hold: as `weir run` would read them.
struct Keys {
    client: ClientTls,
    /// `None`: no TLS listener, and weir would not look.
    server: Option<ServerTls>,
}

impl Keys {
    fn load(config: &Config) -> Result<Self, Vec<TlsError>> {
        let wanted = config.ingress.tls.is_some()
            || config
                .decisions
                .as_ref()
                .is_some_and(|decisions| decisions.listen_tls.is_some());
        let client = ClientTls::load(&config.tls);
        let server = wanted.then(|| ServerTls::load(&config.tls)).transpose();
        match (client, server) {
            (Ok(client), Ok(server)) => Ok(Self { client, server }),
            (client, server) => Err([client.err(), server.err()].into_iter().flatten().collect()),
        }
    }

    /// Certificates of which the first day is still to come.
    fn not_yet_valid(&self) -> impl Iterator<Item = Warning> {
        let own = self.server.as_ref().and_then(ServerTls::not_yet_valid);
        let trusted = self.client.not_yet_valid();
        let trusted = trusted.into_iter().map(|line| Warning::about("tls.trust", line));
        own.map(|line| Warning::about("tls", line))
            .into_iter()
            .chain(trusted)
    }
}
