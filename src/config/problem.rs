//! What is wrong with a configuration: every problem with its place, and how all of them are shown.
//!
//! A problem quotes the line of the file it is about; values of secrets are blacked out of the text before
//! anything is quoted from it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::{Serialize, Serializer};

use crate::output::steers;

/// Bytes of one of the files that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Index into the files of the run.
    pub(super) file: usize,
    /// Byte range in its text.
    pub(super) span: Range<usize>,
}

/// Why a value will not do, before it is known where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Bad {
    /// A complaint with advice.
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named on the command line; empty when there was none.
    #[serde(serialize_with = "as_shown")]
    pub file: PathBuf,
    /// Line, from 1; 0 = the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 = the file as a whole.
    pub column: usize,
    /// Full path of the key, as `link.backoff_min`; empty for errors of syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where to draw the marks.
    #[serde(skip)]
    pub(super) place: Option<Place>,
}

/// Paths need not be UTF-8.
fn as_shown<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// A thing worth saying that does not keep weir from starting.
pub type Warning = Problem;

impl fmt::Display for Problem {
    /// One line: `weir.toml:3:9: link.linger: message (hint)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file != Path::new("") {
            write!(f, "{}:", self.file.display())?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.title())?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl Problem {
    /// A problem with a key that stands in no file.
    #[must_use]
    pub fn about(key: &str, message: String) -> Self {
        let key = key.to_owned();
        Self {
            key,
            ..Self::of_file(Path::new(""), message, None)
        }
    }

    /// A problem about a file as a whole.
    pub(super) fn of_file(path: &Path, message: String, hint: Option<String>) -> Self {
        Self {
            file: path.to_path_buf(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            hint,
            place: None,
        }
    }

    /// A file that is not UTF-8.
    pub(super) fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Self {
        let bytes = error.as_bytes();
        let at = error.utf8_error().valid_up_to();
        let before = std::str::from_utf8(bytes.get(..at).unwrap_or_default()).unwrap_or_default();
        let (line, column) = line_and_column(before, at);
        let bad = bytes.get(at).copied().unwrap_or_default();
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        let hint = match utf16 {
            true => "it looks like UTF-16: save it as UTF-8",
            false => "save the file as UTF-8",
        };
        let message = format!("not UTF-8: byte {bad:#04x} at byte {}", at + 1);
        Self {
            line,
            column,
            ..Self::of_file(path, message, Some(hint.to_owned()))
        }
    }

    fn title(&self) -> String {
        if self.key.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.key, self.message)
        }
    }
}

/// The text of a file as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// As given on the command line.
    pub(super) path: PathBuf,
    /// Secrets blacked out, byte for byte.
    pub(super) text: String,
}

/// Every problem of a configuration, in the order of the files and lines. `Display` is the long form, without
/// colours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    pub(super) problems: Vec<Problem>,
    pub(super) files: Vec<Shown>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Problems {
    /// The problems one by one, for machines.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.problems
    }

    /// The long form: each problem with its line of the file; `color` for terminals.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for problem in &self.problems {
            out.push_str(&self.render_one(&renderer, problem));
            out.push_str("\n\n");
        }
        let count = self.problems.len();
        let s = if count == 1 { "" } else { "s" };
        out.push_str(&format!("{count} problem{s} in the configuration"));
        out
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let path = problem.file.display().to_string();
        let title = Level::ERROR.primary_title(problem.title());
        let help = problem.hint.as_ref().map(|hint| Level::HELP.message(hint));
        let shown = problem
            .place
            .as_ref()
            .and_then(|p| Some((self.files.get(p.file)?, p.span.clone())));
        let group = match shown {
            Some((shown, span)) if problem.line > 0 => {
                let mark = AnnotationKind::Primary.span(first_line(&shown.text, span));
                title.element(Snippet::source(&shown.text).path(path).annotation(mark))
            }
            _ if path.is_empty() => title.elements(Vec::<Origin<'_>>::new()),
            _ if problem.line > 0 => {
                title.element(Origin::path(path).line(problem.line).char_column(problem.column))
            }
            _ => title.element(Origin::path(path)),
        };
        renderer.render(&[group.elements(help)])
    }
}

/// Line and column (in characters), both from 1, of a byte of `text`.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Whether a key of this name holds what must not be shown. Misspelt ones count as well.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let known = ["password", "secret", "token", "passwd", "passphrase"];
    known
        .iter()
        .any(|word| key.contains(word) || strsim::damerau_levenshtein(&key, word) <= 2)
}

/// `text` as it may be shown: the bytes of `spans` blacked out, and nothing in it that steers a terminal. Byte for
/// byte, and line breaks stay, so places stay true.
pub(super) fn black_out(text: &str, spans: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        if let Some(secret) = bytes.get_mut(span.clone()) {
            let quotes = |b: &u8| matches!(b, b'"' | b'\'' | b'\n' | b'\r');
            secret.iter_mut().filter(|b| !quotes(b)).for_each(|b| *b = b'*');
        }
    }
    let black = String::from_utf8(bytes).unwrap_or_default();
    let mut out = String::with_capacity(black.len());
    let mut chars = black.chars().peekable();
    while let Some(c) = chars.next() {
        let line_break = c == '\n' || (c == '\r' && chars.peek() == Some(&'\n'));
        if steers(c) && !line_break && c != '\t' {
            out.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

/// Ranges that may hold secrets in a text that could not be parsed: everything after the `=` on a line that
/// names one or holds a URL with a login in it, and everything to the end when a string of several lines begins where
/// one is named.
pub(super) fn suspects(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let secret = line.split('=').any(|part| {
            part.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(names_a_secret)
        });
        if secret || (line.contains("://") && line.contains('@')) {
            let from = start + line.find('=').map_or(0, |equals| equals + 1);
            let many_lines = line.contains("\"\"\"") || line.contains("'''") || line.contains('[');
            let to = if secret && many_lines {
                text.len()
            } else {
                start + line.len()
            };
            spans.push(from..to);
        }
        start += line.len();
    }
    spans
}

/// The part of a span on its first line, at least one character wide where there is one.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let line_end = text
        .get(start..)
        .and_then(|rest| rest.find(['\n', '\r']))
        .map_or(text.len(), |n| start + n);
    let end = span.end.clamp(start, line_end);
    if end == start {
        let one = text.get(start..).and_then(|rest| rest.chars().next());
        let wide = one.filter(|_| start < line_end).map_or(0, char::len_utf8);
        return start..start + wide;
    }
    start..end
}
