//! Why a connection could not be made, in the classes that counters and log lines use.

use std::fmt;
use std::io;

use super::info::CertificateInfo;

/// The kind of failure; [`DialClass::as_str`] gives the label of `status::FAILURES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialClass {
    /// The host name has no address.
    Dns,
    /// The port answered with a reset.
    Refused,
    /// No answer in time.
    Timeout,
    /// The TLS handshake failed.
    Tls,
    /// Anything else: no route, out of descriptors, …
    Other,
}

impl DialClass {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DialClass::Dns => "dns",
            DialClass::Refused => "refused",
            DialClass::Timeout => "timeout",
            DialClass::Tls => "tls",
            DialClass::Other => "other",
        }
    }

    /// The class of an operating system error met while connecting.
    #[must_use]
    pub fn of(error: &io::Error) -> DialClass {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => DialClass::Refused,
            io::ErrorKind::TimedOut => DialClass::Timeout,
            _ => DialClass::Other,
        }
    }
}

/// A connection or a handshake that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialError {
    /// For counters, and for how long to wait before the next attempt.
    pub class: DialClass,
    /// One line: what was tried, what happened, and what fixes it where weir can know that.
    pub message: String,
    /// What the server showed, where its certificate was refused.
    pub certificate: Option<Box<CertificateInfo>>,
}

impl DialError {
    pub(super) fn new(class: DialClass, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class,
            message,
            certificate: None,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.as_str(), self.message)
    }
}

impl std::error::Error for DialError {}
