//! The admin port's answers as text.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use crate::output;

/// Escapes control characters of foreign text; newlines stay.
pub(super) fn safe(text: &str) -> String {
    text.split('\n')
        .map(output::one_line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The answer to GET /status.
pub(super) fn status(v: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "weir {}  {}  up {}  configuration of {}",
        text(&v["version"]),
        drain(v),
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
        "gateways: {} connections on tcp, {} on tls, {} waiting for capacity; {} sent away; {} events taken, {} logins failed\n",
        text(&i["connections_tcp"]),
        text(&i["connections_tls"]),
        text(&i["blocked_now"]),
        text(&i["publishes_sent_away_total"]),
        text(&i["events_ok_total"]),
        text(&i["logins_failed_total"])
    );
    out.push_str(&groups(v));
    out.push('\n');
    out.push_str(&endpoints(v));
    if v["decisions"].is_object() {
        out.push('\n');
        out.push_str(&decisions(&v["decisions"]));
    }
    if v["drain_stage"].is_string() {
        out.push('\n');
        out.push_str(&gateways(&v["gateways"]));
    }
    safe(&out)
}

/// The addresses that are still connected during a drain.
fn gateways(v: &Value) -> String {
    if list(&v["list"]).is_empty() {
        return "no gateway is connected\n".into();
    }
    let rows = list(&v["list"]).iter().map(|g| {
        let keys = ["address", "connections", "sent_away", "publishing", "idle"];
        keys.map(|key| text(&g[key])).to_vec()
    });
    let mut out = table("GATEWAY CONNECTIONS SENT_AWAY PUBLISHING IDLE", rows);
    if let Some(more) = v["more"].as_u64().filter(|more| *more > 0) {
        let _ = writeln!(out, "and {more} more addresses with fewer connections");
    }
    out
}

fn groups(v: &Value) -> String {
    let rows = list(&v["groups"]).iter().map(|g| {
        let e = &g["events"];
        let dropped = e["dropped"].as_object().into_iter().flatten();
        let dropped: u64 = dropped.filter_map(|(_, n)| n.as_u64()).sum();
        let overflow = g["overflow"].as_str().unwrap_or("?");
        let state = match (g["available"] == true, overflow) {
            (true, "open") => "available".to_owned(),
            (true, overflow) => overflow.to_owned(),
            (false, "open") => "unavailable".to_owned(),
            (false, overflow) => format!("unavailable, {overflow}"),
        };
        vec![
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
            // An older version of weir has only the queued one.
            age(g.get("oldest_undelivered_ms").unwrap_or(&g["oldest_queued_ms"])),
        ]
    });
    table(
        "GROUP POLICY STATE ACCEPTED DELIVERED REJECTED DROPPED QUEUED INFLIGHT FULL OLDEST",
        rows,
    )
}

fn endpoints(v: &Value) -> String {
    let groups = list(&v["groups"]).iter();
    let rows = groups.flat_map(|g| list(&g["endpoints"]).iter().map(move |e| (g, e)));
    let rows = rows.map(|(g, e)| {
        vec![
            text(&g["name"]),
            text(&e["name"]),
            endpoint_state(e, &v["config"]["late_after_ms"]),
            age(&e["since_ms"]),
            text(&e["delivered_events_total"]),
            text(&e["inflight_frames"]),
            failures(&e["failures_total"]),
            why(e),
        ]
    });
    table("GROUP ENDPOINT STATE FOR DELIVERED UNANSWERED FAILURES WHY", rows)
}

/// Why an endpoint is not up, and when the next attempt is due.
fn why(e: &Value) -> String {
    let why = e["reason"].as_str().unwrap_or_default();
    match e["again_in_ms"].as_f64() {
        Some(ms) if ms >= 1000.0 => format!("{why}; next attempt in {}", age_ms(ms)),
        _ => why.to_owned(),
    }
}

/// The state, and whether the endpoint answers.
fn endpoint_state(e: &Value, late_after_ms: &Value) -> String {
    let state = text(&e["state"]);
    let owed = &e["oldest_inflight_ms"];
    let is_late = state == "up"
        && (owed.as_u64())
            .zip(late_after_ms.as_u64())
            .is_some_and(|(owed, late)| owed >= late);
    if is_late {
        format!("up, not answering for {}", age(owed))
    } else if e["logging_in"] == true {
        "up, logging in again".to_owned()
    } else {
        state
    }
}

/// The return leg.
fn decisions(d: &Value) -> String {
    let connections = |state: &str| text(&d["client"]["connections"][state]);
    let mut out = format!(
        "return leg: {} gateway connections open, {} held",
        connections("open"),
        connections("held")
    );
    if d["held_ms_max"].is_number() {
        let _ = write!(out, " (for {})", age(&d["held_ms_max"]));
    }
    let _ = writeln!(
        out,
        "; {} decisions delivered, {} holds, {} failbacks",
        text(&d["deliveries_total"]),
        text(&d["holds_total"]),
        text(&d["failbacks_total"])
    );
    if d["refusing"] == true {
        out.push_str("gateways are refused until a broker answers\n");
    }
    for l in list(&d["leaving"]) {
        let to = l["to"].as_str().map(|to| format!(" for {to}"));
        let _ = writeln!(
            out,
            "{} to leave {}{} ({}), asked {} ago",
            text(&l["sessions"]),
            text(&l["from"]),
            to.unwrap_or_default(),
            text(&l["reason"]),
            age(&l["waiting_ms_max"])
        );
    }
    out.push('\n');
    let rows = list(&d["brokers"]).iter().map(|b| {
        let state = match b["up"].as_bool() {
            Some(true) => "up",
            Some(false) => "down",
            None => "not tried",
        };
        vec![
            text(&b["name"]),
            state.to_owned(),
            b["since_ms"].as_f64().map_or_else(|| "-".to_owned(), age_ms),
            text(&b["connections"]),
            text(&b["failovers_total"]),
            failures(&b["failures_total"]),
            b["reason"].as_str().unwrap_or_default().to_owned(),
        ]
    });
    out + &table("BROKER STATE FOR GATEWAYS PASSED_OVER FAILURES WHY", rows)
}

/// `refused 3, timeout 1`, or a dash.
fn failures(counts: &Value) -> String {
    let counts = counts.as_object().into_iter().flatten();
    let some: Vec<_> = counts
        .filter(|(_, n)| n.as_u64() != Some(0))
        .map(|(class, n)| format!("{class} {n}"))
        .collect();
    if some.is_empty() {
        "-".into()
    } else {
        some.join(", ")
    }
}

/// The answer to POST /reload.
pub(super) fn reload(v: &Value) -> String {
    if let Some(message) = v["message"].as_str() {
        return safe(&format!("{message}\n"));
    }
    let mut out = String::new();
    if list(&v["changes"]).is_empty() {
        out.push_str(match list(&v["needs_restart"]).is_empty() {
            true => "reloaded: no changes\n",
            false => "reloaded: no changes without a restart\n",
        });
    } else {
        out.push_str("reloaded:\n");
        bullets(&mut out, &v["changes"]);
    }
    if !list(&v["needs_restart"]).is_empty() {
        out.push_str("these take effect after a restart:\n");
        bullets(&mut out, &v["needs_restart"]);
    }
    safe(&out)
}

/// The answer to /drain.
pub(super) fn phase(v: &Value) -> String {
    safe(&format!("{}\n", drain(v)))
}

/// The phase; in a drain also its stage and the time left.
fn drain(v: &Value) -> String {
    let mut out = text(&v["phase"]);
    if let Some(stage) = v["drain_stage"].as_str() {
        let _ = write!(out, ": {stage}");
    }
    if let Some(seconds) = v["drain_remaining_seconds"].as_f64() {
        let _ = write!(out, ", {} left", age_ms(seconds * 1e3));
    }
    out
}

/// The process before an upgrade and the one after it.
pub(super) fn upgraded(old: &Value, new: &Value) -> String {
    let who = |v: &Value| format!("version {}, pid {}", text(&v["version"]), text(&v["pid"]));
    safe(&format!("upgraded: {} -> {}\n", who(old), who(new)))
}

/// An answer with another status than 2xx.
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

/// The larger share of bytes and events, in per cent.
fn fullness(g: &Value) -> String {
    let number = |v: &Value| v.as_f64().unwrap_or(0.0);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let events = number(&g["events"]["queued"]) + number(&g["events"]["inflight"]);
    let full = share(number(&g["held_bytes"]), number(&g["held_bytes_max"]))
        .max(share(events, number(&g["held_events_max"])));
    format!("{:.0}%", full * 100.0)
}

fn age(ms: &Value) -> String {
    age_ms(ms.as_f64().unwrap_or(0.0))
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

/// A heading for each column, and rows.
fn table(heading: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading = heading.split(' ').map(str::to_owned).collect();
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    output::table(&rows).join("\n") + "\n"
}
