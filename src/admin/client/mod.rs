//! The commands that talk to the admin port of a running weir and print its answers.
//!
//! Exit codes: 0 done; 1 weir was not reached, or could not do it; 2 it refused the request (no such
//! endpoint, an invalid configuration, no token); 141 stdout was closed.

pub mod args;
pub mod http;
mod tables;
pub mod tap;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use crate::output;
use args::{AdminArgs, AdminCommand, Switch};
use http::{Reply, Target};

/// From the connect to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The same of a reload, to which weir answers after eight seconds at the latest.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long `weir upgrade` waits: somewhat longer than `weir supervise` waits for a new process.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(65);

/// How often it asks which process answers.
const UPGRADE_INTERVAL: Duration = Duration::from_millis(200);

/// Performs `command`: results go to stdout, problems to stderr.
#[must_use]
pub fn run(command: &AdminCommand) -> ExitCode {
    let outcome = match command {
        AdminCommand::Tap(args) => block_on(tap::run(args, &mut io::stdout(), &mut io::stderr())),
        _ => perform(command).and_then(|text| output::print(&text).map_err(|e| unwritten(&e))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            if !problem.message.is_empty() {
                output::note(format_args!("weir: {}", problem.message.trim_end()));
            }
            ExitCode::from(problem.code)
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// What happened and what to do, without control characters. Empty: stdout was closed, so nothing is said.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| failed(&e.to_string(), 1))?.block_on(work)
}

/// Performs `command` and returns what to print.
///
/// # Errors
///
/// A [`Problem`] for stderr.
pub fn perform(command: &AdminCommand) -> Result<String, Problem> {
    block_on(answer(command))
}

async fn answer(command: &AdminCommand) -> Result<String, Problem> {
    match command {
        AdminCommand::Status { admin, json } => {
            let reply = call(admin, "GET", "/status", "").await?;
            if *json {
                return Ok(reply.body);
            }
            Ok(tables::status(&parse(&reply.body)?))
        }
        AdminCommand::Reload { admin } => {
            let reply = call_within(RELOAD_TIMEOUT, admin, "POST", "/reload", "").await?;
            Ok(tables::reload(&parse(&reply.body)?))
        }
        AdminCommand::Drain { admin, undo } => {
            let method = if *undo { "DELETE" } else { "POST" };
            let reply = call(admin, method, "/drain", "").await?;
            Ok(tables::phase(&parse(&reply.body)?))
        }
        AdminCommand::Upgrade { admin } => upgrade(admin).await,
        AdminCommand::Endpoint { switch } => {
            let (switch, which) = match switch {
                Switch::Enable(which) => ("enable", which),
                Switch::Disable(which) => ("disable", which),
            };
            let (group, endpoint) = (http::segment(&which.group), http::segment(&which.endpoint));
            let path = format!("/endpoints/{group}/{endpoint}/{switch}");
            call(&which.admin, "POST", &path, "").await?;
            Ok(tables::safe(&format!(
                "{switch}d {} of group {}\n",
                which.endpoint, which.group
            )))
        }
        AdminCommand::Tap(args) => {
            let mut lines = Vec::new();
            tap::run(args, &mut lines, &mut io::sink()).await?;
            Ok(String::from_utf8_lossy(&lines).into_owned())
        }
        AdminCommand::LogLevel { level, admin } => {
            let reply = match level {
                Some(level) => call(admin, "PUT", "/log-level", level).await?,
                None => call(admin, "GET", "/log-level", "").await?,
            };
            Ok(tables::safe(&reply.body))
        }
    }
}

/// Asks for a successor, and waits until it answers instead of the old process.
async fn upgrade(admin: &AdminArgs) -> Result<String, Problem> {
    let deadline = Instant::now() + UPGRADE_TIMEOUT;
    let old = parse(&call(admin, "POST", "/upgrade", "").await?.body)?;
    loop {
        sleep(UPGRADE_INTERVAL).await;
        // The old process may cut a connection as it ends, and only the new one knows a new token.
        let seen = call(admin, "GET", "/status", "").await;
        let seen = seen.and_then(|reply| parse(&reply.body));
        match seen {
            Ok(new) if new["pid"] != old["pid"] => return Ok(tables::upgraded(&old, &new)),
            Ok(same) => {
                if let Some(why) = same["upgrade_refused"].as_str() {
                    return Err(failed(&format!("the old weir stays: {why}"), 1));
                }
                if Instant::now() >= deadline {
                    let text = "no other process answers yet; see the log of `weir supervise`";
                    return Err(failed(text, 1));
                }
            }
            Err(problem) if Instant::now() >= deadline => return Err(problem),
            Err(_) => {}
        }
    }
}

async fn call(admin: &AdminArgs, method: &str, path: &str, body: &str) -> Result<Reply, Problem> {
    call_within(TIMEOUT, admin, method, path, body).await
}

async fn call_within(
    timeout: Duration,
    admin: &AdminArgs,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Reply, Problem> {
    let target = Target::parse(&admin.admin).map_err(|e| failed(&e, 2))?;
    let reply = http::call(&target, admin.token.as_ref(), method, path, body, timeout).await;
    let reply = reply.map_err(|e| unreached(admin, &e))?;
    match reply.status {
        200..=299 => Ok(reply),
        status => Err(refused(status, &reply.body)),
    }
}

fn failed(message: &str, code: u8) -> Problem {
    Problem {
        message: tables::safe(message),
        code,
    }
}

fn unwritten(failure: &output::Failure) -> Problem {
    let message = match failure.is_closed() {
        true => String::new(),
        false => failure.to_string(),
    };
    failed(&message, failure.code())
}

fn unreached(admin: &AdminArgs, e: &io::Error) -> Problem {
    let advice = "is weir running, and is this its admin.listen? (--admin URL or WEIR_ADMIN)";
    let message = format!("cannot reach the admin port at {}: {e}; {advice}", admin.admin);
    failed(&message, 1)
}

fn refused(status: u16, body: &str) -> Problem {
    let code = if matches!(status, 500.. | 409) { 1 } else { 2 };
    failed(&tables::refusal(status, body), code)
}

fn parse(body: &str) -> Result<Value, Problem> {
    serde_json::from_str(body).map_err(|e| Problem {
        message: format!("the admin port did not answer in JSON ({e}); is it weir's?"),
        code: 1,
    })
}
