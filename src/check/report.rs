//! What a check found, in a form that is printed as text and as JSON alike.
//!
//! Whatever is tried over the network is a [`Section`] of [`Row`]s of [`Step`]s: another kind of thing to try is
//! one more section.

use std::io::{self, IsTerminal};

use serde::Serialize;
use serde_json::Value;

use super::Connect;
use super::explain::explain;
use super::fanout::fan_out;
use crate::config::{Config, Problem, Problems, Warning};
use crate::output;

/// The whole result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether weir would start with this configuration, as far as files can tell.
    pub valid: bool,
    /// 0 success, 1 something could not be reached or verified, 2 invalid.
    pub exit_code: u8,
    /// Every problem; empty when valid.
    pub problems: Vec<Problem>,
    /// Valid, and probably not meant.
    pub warnings: Vec<Warning>,
    /// What the configuration means; `None` when it is invalid.
    pub fan_out: Option<Value>,
    /// What was tried over the network; `None` when it was not asked for, or the configuration is invalid.
    pub connect: Option<Connect>,
    /// The problems, or what the configuration means, for people.
    #[serde(skip)]
    pub(super) words: Vec<String>,
}

impl Report {
    pub(super) fn invalid(problems: &Problems, warnings: Vec<Warning>) -> Self {
        Self {
            valid: false,
            exit_code: output::MISCONFIGURED,
            problems: problems.list().to_vec(),
            warnings,
            fan_out: None,
            connect: None,
            words: vec![problems.render(io::stderr().is_terminal())],
        }
    }

    pub(super) fn valid(warnings: Vec<Warning>, config: &Config, connect: Option<Connect>) -> Self {
        let failed = connect.as_ref().is_some_and(|connect| !connect.ok());
        let words = explain(config);
        Self {
            valid: true,
            exit_code: if failed { output::FAILED } else { 0 },
            problems: Vec::new(),
            warnings,
            fan_out: Some(fan_out(config, &words)),
            connect,
            words,
        }
    }
}

/// Things of one kind that were tried; all rows have the same steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// What they are, for people.
    pub title: &'static str,
    /// One for each thing.
    pub rows: Vec<Row>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The url group it belongs to.
    pub group: Option<String>,
    /// What it is called in the configuration.
    pub name: String,
    /// Whether no step failed.
    pub ok: bool,
    /// In the order they build on each other.
    pub steps: Vec<Step>,
    /// From a request to its answer, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// What is worth knowing though nothing failed.
    pub notes: Vec<String>,
}

impl Row {
    pub(super) fn new(group: Option<&str>, name: &str, steps: Vec<Step>) -> Self {
        Self {
            group: group.map(str::to_owned),
            name: name.to_owned(),
            ok: steps.iter().all(|step| step.outcome != Outcome::Failed),
            steps,
            round_trip_ms: None,
            notes: Vec::new(),
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It works.
    Ok,
    /// It does not.
    Failed,
    /// It was not tried: there is nothing to do, or what it builds on failed.
    Skipped,
}

/// One step of a [`Row`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Head of its column.
    pub step: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// A word or two: what was found, or the class of the failure.
    pub found: String,
    /// A failure in one line: what happened, and what mends it where weir can know that.
    pub why: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: Option<f64>,
}

impl Step {
    pub(super) fn ok(step: &'static str, found: impl Into<String>) -> Self {
        Self {
            step,
            outcome: Outcome::Ok,
            found: found.into(),
            why: None,
            took_ms: None,
        }
    }

    pub(super) fn skipped(step: &'static str, found: &str) -> Self {
        Self {
            outcome: Outcome::Skipped,
            ..Self::ok(step, found)
        }
    }

    pub(super) fn failed(step: &'static str, class: &str, why: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Failed,
            why: Some(why.into()),
            ..Self::ok(step, class)
        }
    }

    pub(super) fn took(mut self, time: std::time::Duration) -> Self {
        self.took_ms = Some(milliseconds(time));
        self
    }
}

/// To the hundredth.
pub(super) fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
