//! A report as text: problems, the fan-out, aligned tables with the reasons under the rows that failed.

use std::fmt::Write;

use super::report::{Outcome, Report, Row, Section, Step};
use super::{Certificate, Connect};
use crate::output::{one_line, table};

/// Problems and warnings, as they go to stderr.
pub(super) fn complaints(report: &Report) -> String {
    let mut out = String::new();
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    if !report.valid {
        let _ = writeln!(out, "{}", report.words.concat());
    }
    out
}

/// The fan-out, and what was tried.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    for line in report.words.iter().filter(|_| report.valid) {
        let _ = writeln!(out, "{}", one_line(line));
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
            "\nTo accept these certificates, confirm them with the operators of those servers, and add this to weir.toml. \
             With pins every ssl:// server needs one, so add the pins of servers that could not be reached now:\n"
        );
        for line in &connect.paste {
            let _ = writeln!(out, "{}", one_line(line));
        }
    }
    let all = connect.sections.iter().flat_map(|section| &section.rows);
    let failed = all.filter(|row| !row.ok).count();
    let _ = match failed {
        0 => writeln!(out, "\nEverything works."),
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
    let mut aligned = table(&lines).into_iter();
    let _ = writeln!(out, "  {}", aligned.next().unwrap_or_default());
    for (line, row) in aligned.zip(&section.rows) {
        let _ = writeln!(out, "  {line}");
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
            let _ = writeln!(out, "      {}: {}", step.step, one_line(why));
        }
    }
    for note in &row.notes {
        let _ = writeln!(out, "      note: {}", one_line(note));
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
    for line in table(&lines) {
        let _ = writeln!(out, "  {line}");
    }
}
