//! `weir tap`: prints passing events as they arrive.

use std::io::{self, Write};

use serde_json::Value;

use super::args::TapArgs;
use super::http::{self, Target};
use super::{Problem, TIMEOUT, failed, refused, tables, unreached, unwritten};
use crate::output::print_to;

/// Writes events to `out` and counts to `notes`, until weir ends the tap or `out` is closed.
///
/// # Errors
///
/// A [`Problem`] for stderr.
pub async fn run(args: &TapArgs, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Problem> {
    let target = Target::parse(&args.admin.admin).map_err(|e| failed(&e, 2))?;
    let options = serde_json::to_string(&args.options).map_err(|e| failed(&e.to_string(), 1))?;
    let mut answer = http::open(&target, args.admin.token.as_ref(), "/tap", &options, TIMEOUT)
        .await
        .map_err(|e| unreached(&args.admin, &e))?;
    if !(200..=299).contains(&answer.status) {
        // What cannot be read is left out of the message.
        let body = answer.line().await.ok().flatten().unwrap_or_default();
        return Err(refused(answer.status, &body));
    }
    let mut skipped = 0;
    loop {
        let line = match answer.line().await {
            Ok(Some(line)) if line.ends_with('\n') => tables::safe(&line),
            _ => return Err(failed("the connection to weir was lost", 1)),
        };
        if !line.starts_with(r#"{"tap":"#) {
            print_to(out, &line).map_err(|e| unwritten(&e))?;
            continue;
        }
        let report: Value = serde_json::from_str(&line).unwrap_or_default();
        let report = &report["tap"];
        let ended = report["ended"].as_str();
        let now_skipped = report["skipped"].as_u64().unwrap_or(0);
        if ended.is_some() || now_skipped > skipped {
            skipped = now_skipped;
            // A closed stderr does not end the tap.
            let _: io::Result<()> = writeln!(notes, "{}", sentence(report));
        }
        if ended.is_some() {
            return Ok(());
        }
    }
}

fn sentence(report: &Value) -> String {
    let ended = match report["ended"].as_str() {
        Some(why) => format!("; ended: {why}"),
        None => String::new(),
    };
    format!(
        "weir tap: {} events seen, {} shown, {} filtered out, {} skipped{ended}",
        report["seen"], report["shown"], report["filtered"], report["skipped"]
    )
}
