//! A report as text: problems, the fan-out, aligned tables with the reasons under the rows that failed.

use std::fmt::Write;

use super::report::{Outcome, Report, Row, Section, Step};
use super::{Certificate, Connect};

/// Problems and warnings, as they go to stderr.
pub(super) fn complaints(report: &Report) -> String {
    let mut out = String::new();
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    if !report.problems.is_empty() {
        let _ = writeln!(out, "{}", report.problems_shown);
    }
    out
}

/// All the rest.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    if let Some(fan_out) = &report.fan_out {
        for line in &fan_out.words {
            let _ = writeln!(out, "{}", clean(line));
        }
    }
    if let Some(connect) = &report.connect {
        tried(&mut out, connect);
    }
    out
}

fn tried(out: &mut String, connect: &Connect) {
    for section in &connect.sections {
        let _ = writeln!(out, "\n{}", section.title);
        rows(out, section);
    }
    if !connect.certificates.is_empty() {
        let _ = writeln!(out, "\nCertificates");
        certificates(out, &connect.certificates);
    }
    if !connect.paste.is_empty() {
        let _ = writeln!(
            out,
            "\nTo accept these certificates as they are, ask whoever runs those servers whether they are theirs, and put \
             this into weir.toml. A pin counts for every ssl:// URL, so a server that could not be reached now needs its \
             pin added later:\n"
        );
        for line in &connect.paste {
            let _ = writeln!(out, "{}", clean(line));
        }
    }
    let all = connect.sections.iter().flat_map(|section| &section.rows);
    let failed = all.filter(|row| !row.ok).count();
    let _ = match failed {
        0 => writeln!(out, "\nEverything that was tried works."),
        1 => writeln!(out, "\n1 of the rows above FAILED."),
        n => writeln!(out, "\n{n} of the rows above FAILED."),
    };
}

fn rows(out: &mut String, section: &Section) {
    let grouped = section.rows.iter().any(|row| row.group.is_some());
    let timed = section.rows.iter().any(|row| row.round_trip_ms.is_some());
    let mut head: Vec<String> = Vec::new();
    head.extend(grouped.then(|| "group".into()));
    head.push("name".into());
    let steps = section.rows.first().map_or(&[][..], |row| &row.steps);
    head.extend(steps.iter().map(|step| step.step.to_owned()));
    head.extend(timed.then(|| "round trip".into()));
    let mut lines = vec![head];
    for row in &section.rows {
        let mut line: Vec<String> = Vec::new();
        line.extend(grouped.then(|| row.group.clone().unwrap_or_default()));
        line.push(row.name.clone());
        line.extend(row.steps.iter().map(cell));
        let round_trip = || row.round_trip_ms.map_or("-".into(), |ms| format!("{ms} ms"));
        line.extend(timed.then(round_trip));
        lines.push(line);
    }
    let mut aligned = align(&lines).into_iter();
    let _ = writeln!(out, "{}", aligned.next().unwrap_or_default());
    for (line, row) in aligned.zip(&section.rows) {
        let _ = writeln!(out, "{line}");
        reasons(out, row);
    }
}

fn cell(step: &Step) -> String {
    match step.outcome {
        Outcome::Failed => format!("FAILED: {}", step.found),
        Outcome::Ok | Outcome::Skipped => step.found.clone(),
    }
}

fn reasons(out: &mut String, row: &Row) {
    for step in &row.steps {
        if let Some(why) = &step.why {
            let _ = writeln!(out, "      {}: {}", step.step, clean(why));
        }
    }
    for note in &row.notes {
        let _ = writeln!(out, "      note: {}", clean(note));
    }
}

fn certificates(out: &mut String, list: &[Certificate]) {
    let head = ["subject", "names", "valid until", "days left", "shown by"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for certificate in list {
        let names = match certificate.names.as_slice() {
            [] => "-".to_owned(),
            names => names.join(" "),
        };
        let refused = if certificate.accepted { "" } else { " (refused)" };
        lines.push(vec![
            certificate.subject.clone(),
            names,
            certificate.valid_until.clone(),
            match &certificate.not_yet_valid {
                Some(early) => early.clone(),
                None => certificate.days_left.to_string(),
            },
            format!("{}{refused}", certificate.shown_by.join(" ")),
        ]);
    }
    for line in align(&lines) {
        let _ = writeln!(out, "{line}");
    }
}

/// Two spaces in front and between, columns as wide as their widest cell.
fn align(lines: &[Vec<String>]) -> Vec<String> {
    let lines: Vec<Vec<String>> = lines
        .iter()
        .map(|line| line.iter().map(|cell| clean(cell)).collect())
        .collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let aligned = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths);
        let text: String = cells.map(|(cell, width)| format!("  {cell:<width$}")).collect();
        text.trim_end().to_owned()
    });
    aligned.collect()
}

/// Certificates and error messages are written by others: nothing of them may steer a terminal.
fn clean(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}
