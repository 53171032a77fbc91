//! `weir tap`: asks for passing events and passes them on as they come.

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;

use super::args::TapArgs;
use super::http::{self, Target};
use super::{Problem, failed, refused, tables, unreached, unwritten};
use crate::output::print_to;
use crate::tap::Wish;

/// Longest line taken; an event of the longest copy is shorter, however much of it has to be escaped.
const LINE_MAX_BYTES: u64 = 1 << 20;

/// Longest answer of a refusal that is read.
const REFUSAL_MAX_BYTES: u64 = 64 * 1024;

/// Writes events to `out` and what was counted to `notes`, until weir ends it or nobody reads `out` any more.
///
/// # Errors
///
/// A [`Problem`] for stderr.
pub fn run(args: &TapArgs, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Problem> {
    let target = Target::parse(&args.admin.admin).map_err(|e| failed(&e, 2))?;
    let wish = serde_json::to_string(&wish(args)).map_err(|e| failed(&e.to_string(), 1))?;
    let mut answer = http::open(&target, args.admin.token.as_ref(), "/tap", &wish)
        .map_err(|e| unreached(&args.admin, &e))?;
    if !(200..=299).contains(&answer.status) {
        let mut body = String::new();
        // What cannot be read is left out of the message.
        let _ = answer.body.take(REFUSAL_MAX_BYTES).read_to_string(&mut body);
        return Err(refused(answer.status, &body));
    }
    let mut skipped = 0;
    loop {
        let mut line = Vec::new();
        let read = (&mut answer.body)
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line);
        if read.is_err() || !line.ends_with(b"\n") {
            return Err(failed("weir went away, or its connection did", 1));
        }
        let line = tables::safe(&String::from_utf8_lossy(&line));
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
            // Notes that nobody reads are no reason to end.
            let _: io::Result<()> = writeln!(notes, "{}", sentence(report));
        }
        if ended.is_some() {
            return Ok(());
        }
    }
}

fn wish(args: &TapArgs) -> Wish {
    let duration_ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    Wish {
        stream: args.stream.clone(),
        api: args.api.clone(),
        application: args.application.clone(),
        sample: args.sample,
        rate: args.rate,
        unmask: args.unmask,
        count: args.count,
        duration_ms: args.duration.map(duration_ms),
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
