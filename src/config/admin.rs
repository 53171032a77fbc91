//! `[admin]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Secret;
use super::auth::{MAKE_A_SECRET, SECRET_MIN_BYTES};
use super::kinds::{Kind, address, path, secret, text, word};
use super::problem::Bad;
use super::section::{Given, Section};
use super::settings::settings;

settings! {
    /// The switch of `[admin]`.
    pub(super) struct AdminPort("admin.") {
        "listen" listen: Option<SocketAddr> = address(), or "127.0.0.1:9619", Restart,
            "Metrics, status, reload, drain; \"off\" closes it.";
    }
}

settings! {
    /// The admin HTTP port.
    pub struct Admin("admin.") {
        "token" token: Option<Secret> = secret(), eg "$file{/run/secrets/weir-admin}", Now,
            "Bearer token of calls that change state; without it they are accepted from loopback only.";
        "tap" tap: TapMode = word(TAP), or "masked", Now,
            "What `weir tap` may show to callers who may change state: \"masked\" = nothing that names a person, \"full\" = everything on request, \"off\" = nothing.";
        "tap_streams" tap_streams: Option<PathBuf> = path(), eg "/etc/weir/streams.json", Now,
            "JSON file with the definitions of streams other than the throttle stream, for `weir tap`; read by each tap.";
    }
    and {
        /// Address; loopback by default.
        listen: SocketAddr,
    }
}

settings! {
    /// Logging.
    pub struct Log("log.") {
        "level" level: String = Kind::new("levels", level), or "info", Now,
            "off, error, warn, info, debug or trace; per module: \"weir::egress=debug,info\".";
        "format" format: LogFormat = word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]), or "text", Restart,
            "\"text\" for people, \"json\" for collectors.";
    }
}

const TAP: &[(&str, TapMode)] = &[
    ("off", TapMode::Off),
    ("masked", TapMode::Masked),
    ("full", TapMode::Full),
];

/// How much of passing events may be shown to callers who may change state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapMode {
    /// Nothing.
    Off,
    /// All but what may name a person.
    Masked,
    /// Everything, on request.
    Full,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[admin]`; `None` = off.
pub(super) fn admin(s: &Section<'_>) -> Option<Admin> {
    let port = AdminPort::read(s, None)?;
    // Its keys are checked even where the port is off.
    let off = SocketAddr::from(([0; 4], 0));
    let admin = Admin::read(s, None, port.listen.unwrap_or(off))?;
    s.finish();
    let listen = port.listen?;
    if admin.token.is_none() && !listen.ip().is_loopback() {
        s.warning(
            "listen",
            "anyone who reaches this address can read metrics and status; calls that change state are accepted from loopback only",
            "set admin.token, or listen on 127.0.0.1",
        );
    }
    if admin
        .token
        .as_ref()
        .is_some_and(|token| token.expose().len() < SECRET_MIN_BYTES)
    {
        s.warning(
            "token",
            "is shorter than 16 bytes: it can be guessed",
            MAKE_A_SECRET,
        );
    }
    Some(admin)
}

/// `[log]`.
pub(super) fn log(s: &Section<'_>) -> Option<Log> {
    let log = Log::read(s, None);
    s.finish();
    log
}

fn level(given: &Given) -> Result<String, Bad> {
    let hint = "write off, error, warn, info, debug or trace; per module: \"weir::egress=debug,info\"";
    let value = text().parse(given)?;
    match value.split(',').all(is_directive) {
        true => Ok(value),
        false => Err(Bad::new(format!("{} is not a log level", given.quote()), hint)),
    }
}

/// Stricter than the log's own parser, which takes a misspelt level for the name of a module.
fn is_directive(directive: &str) -> bool {
    let (module, level) = match directive.split_once('=') {
        Some((module, level)) => (Some(module.trim()), level.trim()),
        None => (None, directive.trim()),
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let module_ok = module.is_none_or(|module| !module.is_empty() && module.chars().all(sound));
    let words = ["off", "error", "warn", "info", "debug", "trace"];
    module_ok && words.iter().any(|word| level.eq_ignore_ascii_case(word))
}
