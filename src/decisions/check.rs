//! `weir check --connect`: one broker, step by step, without logging in.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::brokers::{Answer, CONNECT_TIMEOUT, TLS_TIMEOUT, ask_for_start};
use super::frame::HEADER_0_9_1;
use crate::config::{Scheme, Url};
use crate::net::{CertificateInfo, Dialer, Stream};

/// How long the connection of a check may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A broker that answered the protocol header of AMQP 0-9-1.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What it answered.
    pub answer: Greeting,
    /// Time for name resolution and TCP connect.
    pub connect: Duration,
    /// Time for the TLS handshake, `None` in clear.
    pub tls: Option<Duration>,
    /// From the protocol header to its answer.
    pub answered: Duration,
    /// The certificate it showed, `None` in clear.
    pub certificate: Option<CertificateInfo>,
    /// `TLSv1.3` or `TLSv1.2`, `None` in clear.
    pub tls_version: Option<&'static str>,
}

/// The answer to a protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Start: gateways will be served.
    Start {
        /// `version-major` of Start.
        major: u8,
        /// `version-minor` of Start.
        minor: u8,
    },
    /// A protocol header instead: it wants this version, and WSO2's gateways (0-9-1) will not be served.
    OtherVersion([u8; 4]),
}

/// The step at which a check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Name resolution and TCP connect.
    Connect,
    /// TLS handshake.
    Tls,
    /// Protocol header and Start.
    Amqp,
}

/// A broker that is no use, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckError {
    /// Where it failed.
    pub step: Step,
    /// One of [`super::BROKER_FAILURES`].
    pub class: &'static str,
    /// One line: what happened and, where weir knows, what mends it.
    pub message: String,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for CheckError {}

/// Connects to a broker as a session would, waits for Start, and closes. No credentials are sent.
///
/// # Errors
/// The first step that failed. It ends by itself after 11 s at most.
pub async fn check(dialer: &Dialer, url: &Url) -> Result<Checked, CheckError> {
    let failed = |step| {
        move |e: crate::net::DialError| CheckError {
            step,
            class: e.class.as_str(),
            message: e.message,
        }
    };
    let began = Instant::now();
    let raw = dialer
        .dial_raw(url, CONNECT_TIMEOUT)
        .await
        .map_err(failed(Step::Connect))?;
    let connect = began.elapsed();
    let began = Instant::now();
    let (stream, tls) = match url.scheme {
        Scheme::Tcp => (Stream::Plain(raw), None),
        Scheme::Ssl => {
            let shaken = dialer
                .tls()
                .handshake(url, raw, TLS_TIMEOUT)
                .await
                .map_err(failed(Step::Tls))?;
            (shaken, Some(began.elapsed()))
        }
    };
    let (certificate, tls_version) = (stream.peer_certificate(), stream.tls_version());
    let began = Instant::now();
    let answered = ask_for_start(stream, url, &HEADER_0_9_1).await;
    let answered = answered.map_err(|r| CheckError {
        step: Step::Amqp,
        class: r.class,
        message: r.message,
    })?;
    let took = began.elapsed();
    let answer = match (answered.answer, &answered.first[..]) {
        // Frame header 7, class and method 4, then version-major and version-minor.
        (Answer::Start, [_, _, _, _, _, _, _, _, _, _, _, major, minor, ..]) => Greeting::Start {
            major: *major,
            minor: *minor,
        },
        (_, [_, _, _, _, a, b, c, d, ..]) => Greeting::OtherVersion([*a, *b, *c, *d]),
        _ => Greeting::Start { major: 0, minor: 9 },
    };
    let _ = timeout(CLOSE_TIMEOUT, answered.stream.close()).await;
    Ok(Checked {
        answer,
        connect,
        tls,
        answered: took,
        certificate,
        tls_version,
    })
}
