//! What the admin port says, as text for people.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

/// Makes text from elsewhere harmless for a terminal: newlines stay, other control characters become `?`.
pub(super) fn safe(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { '?' } else { c })
        .collect()
}

/// The answer of /status.
pub(super) fn status(v: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "weir {}  {}  up {}  configuration of {}",
        text(&v["version"]),
        text(&v["phase"]),
        age_ms(v["uptime_seconds"].as_f64().unwrap_or(0.0) * 1e3),
        text(&v["config_loaded_at"])
    );
    if v["last_reload"]["successful"] == false {
        let _ = writeln!(out, "reload refused at {}:", text(&v["last_reload"]["at"]));
        bullets(&mut out, &v["last_reload"]["problems"]);
    }
    if let Some(warnings) = v["warnings"].as_array().filter(|w| !w.is_empty()) {
        let s = if warnings.len() == 1 { "" } else { "s" };
        let _ = writeln!(out, "{} warning{s}:", warnings.len());
        bullets(&mut out, &v["warnings"]);
    }
    let i = &v["ingress"];
    let _ = writeln!(
        out,
        "gateways: {} connections on tcp, {} on tls, {} waiting for room; {} events taken, {} logins failed\n",
        text(&i["connections_tcp"]),
        text(&i["connections_tls"]),
        text(&i["blocked_now"]),
        text(&i["events_ok_total"]),
        text(&i["logins_failed_total"])
    );
    out.push_str(&groups(v));
    out.push('\n');
    out.push_str(&endpoints(v));
    safe(&out)
}

fn groups(v: &Value) -> String {
    let head = "GROUP POLICY STATE ACCEPTED DELIVERED REJECTED DROPPED QUEUED INFLIGHT FULL OLDEST";
    let mut rows = vec![head.split(' ').map(str::to_owned).collect()];
    for g in list(&v["groups"]) {
        let e = &g["events"];
        let dropped: u64 = e["dropped"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, n)| n.as_u64())
            .sum();
        let overflow = g["overflow"].as_str().unwrap_or("?");
        let state = match (g["available"] == true, overflow) {
            (true, "open") => "available".to_owned(),
            (true, overflow) => overflow.to_owned(),
            (false, "open") => "unavailable".to_owned(),
            (false, overflow) => format!("unavailable, {overflow}"),
        };
        rows.push(vec![
            text(&g["name"]),
            text(&g["policy"]),
            state,
            text(&e["accepted"]),
            text(&e["delivered"]),
            text(&e["rejected"]),
            dropped.to_string(),
            text(&e["queued"]),
            text(&e["inflight"]),
            fullness(g),
            age_ms(g["oldest_queued_ms"].as_f64().unwrap_or(0.0)),
        ]);
    }
    table(&rows)
}

fn endpoints(v: &Value) -> String {
    let head = "GROUP ENDPOINT STATE FOR DELIVERED UNANSWERED FAILURES WHY";
    let mut rows = vec![head.split(' ').map(str::to_owned).collect()];
    for g in list(&v["groups"]) {
        for e in list(&g["endpoints"]) {
            let failures = e["failures_total"].as_object().into_iter().flatten();
            let failures: Vec<_> = failures
                .filter(|(_, n)| n.as_u64() != Some(0))
                .map(|(class, n)| format!("{class} {n}"))
                .collect();
            rows.push(vec![
                text(&g["name"]),
                text(&e["name"]),
                text(&e["state"]),
                age_ms(e["since_ms"].as_f64().unwrap_or(0.0)),
                text(&e["delivered_events_total"]),
                text(&e["inflight_frames"]),
                if failures.is_empty() {
                    "-".into()
                } else {
                    failures.join(", ")
                },
                why(e),
            ]);
        }
    }
    table(&rows)
}

/// Why an endpoint is not up, and how long it is left alone where that is long.
fn why(e: &Value) -> String {
    let why = e["reason"].as_str().unwrap_or_default().replace('\n', " ");
    match e["again_in_ms"].as_f64() {
        Some(ms) if ms >= 1000.0 => format!("{why}; next attempt in {}", age_ms(ms)),
        _ => why,
    }
}

/// The answer of POST /reload.
pub(super) fn reload(v: &Value) -> String {
    if let Some(message) = v["message"].as_str() {
        return safe(&format!("{message}\n"));
    }
    let mut out = String::new();
    if list(&v["changes"]).is_empty() {
        out.push_str(match list(&v["needs_restart"]).is_empty() {
            true => "reloaded, files it names too; no setting has changed\n",
            false => "reloaded; nothing of what changed can be in force now\n",
        });
    } else {
        out.push_str("reloaded:\n");
        bullets(&mut out, &v["changes"]);
    }
    if !list(&v["needs_restart"]).is_empty() {
        out.push_str("after a restart only:\n");
        bullets(&mut out, &v["needs_restart"]);
    }
    safe(&out)
}

/// The answer of /drain.
pub(super) fn phase(v: &Value) -> String {
    let remaining = v["drain_remaining_seconds"].as_f64();
    let deadline = remaining
        .map(|s| format!(", {} left", age_ms(s * 1e3)))
        .unwrap_or_default();
    safe(&format!("{}{deadline}\n", text(&v["phase"])))
}

/// An answer other than 2xx.
pub(super) fn refusal(status: u16, body: &str) -> String {
    let v: Value = serde_json::from_str(body).unwrap_or_default();
    let mut out = match v["error"].as_str() {
        Some(error) => format!("{error}\n"),
        None => format!("the admin port answered {status}: {}\n", body.trim()),
    };
    bullets(&mut out, &v["problems"]);
    out
}

fn bullets(out: &mut String, lines: &Value) {
    for line in list(lines) {
        let _ = writeln!(out, "  - {}", text(line).replace('\n', "\n    "));
    }
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// The fuller of bytes and events, in per cent.
fn fullness(g: &Value) -> String {
    let number = |v: &Value| v.as_f64().unwrap_or(0.0);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let events = number(&g["events"]["queued"]) + number(&g["events"]["inflight"]);
    let full = share(number(&g["held_bytes"]), number(&g["held_bytes_max"]))
        .max(share(events, number(&g["held_events_max"])));
    format!("{:.0}%", full * 100.0)
}

/// `850ms`, `12s`, `3h 4m`: the two largest units.
fn age_ms(ms: f64) -> String {
    if ms < 1000.0 {
        return format!("{ms:.0}ms");
    }
    let whole =
        humantime::format_duration(Duration::from_secs((ms / 1e3).clamp(0.0, 1e12) as u64)).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Columns as wide as their widest cell; the last one as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|t| t.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
