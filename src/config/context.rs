//! What one run reads and finds: the files, and every problem and warning with its place.

use std::cell::RefCell;
use std::path::Path;

use crate::output::one_line;

use super::document::{Document, span};
use super::parse::Source;
use super::problem::{Bad, Place, Problem, Problems, Shown, Warning, black_out, line_and_column, suspects};

/// Everything one run reads and finds.
pub(super) struct Context<'a> {
    /// What references refer to.
    pub(super) source: &'a Source,
    /// The files of this run.
    pub(super) files: &'a [Document<'a>],
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    /// Values not to be shown besides those of keys that name a secret.
    hidden: RefCell<Vec<Place>>,
}

impl<'a> Context<'a> {
    /// Nothing found yet.
    pub(super) fn new(source: &'a Source, files: &'a [Document<'a>]) -> Self {
        Self {
            source,
            files,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            hidden: RefCell::default(),
        }
    }

    /// Notes a problem; `place` of `None` means the configuration as a whole.
    pub(super) fn problem(&self, place: Option<&Place>, key: &str, bad: Bad) {
        self.problems.borrow_mut().push(self.at(place, key, bad));
    }

    /// Whether a key already has a problem, so that rules between keys can spare their echo.
    pub(super) fn noted(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|problem| problem.key == key)
    }

    /// Notes a warning.
    pub(super) fn warning(&self, place: Option<&Place>, key: &str, message: &str, hint: &str) {
        let warning = self.at(place, key, Bad::new(message, hint));
        let mut warnings = self.warnings.borrow_mut();
        // A value may be read more than once.
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Keeps the value at a place out of everything that is shown.
    pub(super) fn hide(&self, place: &Place) {
        self.hidden.borrow_mut().push(place.clone());
    }

    /// The place of a key of weir.toml, or of the nearest table above it; `None` when nothing of it stands there.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        let (entries, _) = self.weir_toml()?.entries(key);
        entries.last().map(|entry| Place {
            file: 0,
            span: span(*entry),
        })
    }

    /// Whether a key stands in weir.toml.
    pub(super) fn stands(&self, key: &str) -> bool {
        self.weir_toml().is_some_and(|document| document.entries(key).1)
    }

    fn weir_toml(&self) -> Option<&Document<'a>> {
        self.source.weir_toml.as_ref().and(self.files.first())
    }

    /// All that was found. `broken`: files with errors of syntax, where keys could not tell secrets from the rest.
    pub(super) fn finish(self, broken: &[bool]) -> (Option<Problems>, Vec<Warning>) {
        let mut problems = self.problems.into_inner();
        let mut warnings = self.warnings.into_inner();
        let order = |p: &Problem| {
            p.place
                .as_ref()
                .map_or((usize::MAX, 0), |p| (p.file, p.span.start))
        };
        problems.sort_by_key(order);
        warnings.sort_by_key(order);
        if problems.is_empty() {
            return (None, warnings);
        }
        let hidden = self.hidden.into_inner();
        let files = self.files.iter().enumerate().map(|(index, document)| {
            let mut spans = document.secrets();
            spans.extend(hidden.iter().filter(|p| p.file == index).map(|p| p.span.clone()));
            if broken.get(index).copied().unwrap_or(false) {
                spans.extend(suspects(document.text));
            }
            Shown {
                path: document.path.to_path_buf(),
                text: black_out(document.text, &spans),
            }
        });
        let files = files.collect();
        (Some(Problems { problems, files }), warnings)
    }

    fn at(&self, place: Option<&Place>, key: &str, bad: Bad) -> Problem {
        let document = place.and_then(|p| self.files.get(p.file));
        let path = document.or(self.files.first()).map_or(Path::new(""), |d| d.path);
        let (line, column) = match (document, place) {
            (Some(document), Some(place)) => line_and_column(document.text, place.span.start),
            _ => (0, 0),
        };
        Problem {
            file: path.to_path_buf(),
            line,
            column,
            key: one_line(key),
            message: one_line(&bad.message),
            hint: bad.hint.as_deref().map(one_line),
            place: place.cloned(),
        }
    }
}
