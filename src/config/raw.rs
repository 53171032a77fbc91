//! Reading tables: each read names a key, its default and what is a valid value; what is wrong is noted with
//! its place and the default stands in, so that one run finds every problem.
//!
//! The keys that are read are the keys that exist: [`Section::finish`] refuses all others, with the nearest
//! known one as advice.

use std::cell::RefCell;
use std::path::Path;

use super::document::{Document, Entry, Node, Value};
use super::parse::Source;
use super::problem::{Bad, Place, Problem, Problems, Shown, Warning, black_out, line_and_column, suspects};
use super::references::{self, Scalar};

/// Everything one run reads and finds.
pub(super) struct Context<'a> {
    /// What references refer to.
    pub(super) source: &'a Source,
    /// The files of this run.
    pub(super) files: &'a [Document],
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    /// Values not to be shown besides those of keys that name a secret.
    hidden: RefCell<Vec<Place>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(source: &'a Source, files: &'a [Document]) -> Self {
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

    /// Notes a warning.
    pub(super) fn warning(&self, place: Option<&Place>, key: &str, message: &str, hint: &str) {
        self.warnings
            .borrow_mut()
            .push(self.at(place, key, Bad::new(message, hint)));
    }

    /// Keeps the value at a place out of everything that is shown.
    pub(super) fn hide(&self, place: &Place) {
        self.hidden.borrow_mut().push(place.clone());
    }

    /// The place of a key of weir.toml, or of the nearest table above it; `None` when nothing of it stands there.
    pub(super) fn place(&self, path: &[&str]) -> Option<Place> {
        self.source.weir_toml.as_ref()?;
        self.files.first()?.place(0, path)
    }

    /// Whether a key stands in weir.toml.
    pub(super) fn stands(&self, path: &[&str]) -> bool {
        let root = self
            .source
            .weir_toml
            .as_ref()
            .and_then(|_| self.files.first())
            .map(|d| &d.root);
        path.iter()
            .try_fold(root, |node, key| node?.entry(key).map(|e| Some(&e.node)))
            .is_some_and(|n| n.is_some())
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
                spans.extend(suspects(&document.text));
            }
            Shown {
                path: document.path.clone(),
                text: black_out(&document.text, &spans),
            }
        });
        let files = files.collect();
        (Some(Problems { problems, files }), warnings)
    }

    fn at(&self, place: Option<&Place>, key: &str, bad: Bad) -> Problem {
        let document = place.and_then(|p| self.files.get(p.file));
        let path = document
            .or(self.files.first())
            .map_or(Path::new(""), |d| d.path.as_path());
        let (line, column) = match (document, place) {
            (Some(document), Some(place)) => line_and_column(&document.text, place.span.start),
            _ => (0, 0),
        };
        Problem {
            file: path.to_path_buf(),
            line,
            column,
            key: key.to_owned(),
            message: bad.message,
            hint: bad.hint,
            place: place.cloned(),
        }
    }
}

/// A value as it was given.
pub(super) struct Given {
    /// Its value, references resolved.
    pub(super) scalar: Scalar,
    /// Where it stands.
    pub(super) place: Place,
    /// Full path of its key.
    pub(super) key: String,
    /// It came, at least in part, through a reference: it may be a secret and is never quoted.
    pub(super) referred: bool,
}

impl Given {
    /// The value for a message.
    pub(super) fn quote(&self) -> String {
        match &self.scalar {
            _ if self.referred => "what the reference brings in".into(),
            Scalar::Text(text) => format!("{text:?}"),
            Scalar::Integer(n) => n.to_string(),
            Scalar::Float(n) => n.to_string(),
            Scalar::Boolean(b) => b.to_string(),
        }
    }

    /// A string; numbers are text only where a reference brought them in.
    pub(super) fn text(&self) -> Result<String, Bad> {
        match &self.scalar {
            Scalar::Text(text) => Ok(text.clone()),
            Scalar::Integer(n) if self.referred => Ok(n.to_string()),
            _ => Err(Bad::new("must be a string", "put it in quotes")),
        }
    }
}

/// One table, or the absence of one.
pub(super) struct Section<'a> {
    /// Where problems go.
    pub(super) context: &'a Context<'a>,
    /// Full path of this table, `""` for the top level.
    pub(super) path: String,
    file: usize,
    root: Option<&'a Node>,
    node: Option<&'a Node>,
    place: Option<Place>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The top level of a file; an empty table when there is no such file.
    pub(super) fn top(context: &'a Context<'a>, file: Option<usize>) -> Self {
        let document = file.and_then(|file| context.files.get(file));
        Self {
            context,
            path: String::new(),
            file: file.unwrap_or(0),
            root: document.map(|d| &d.root),
            node: document.map(|d| &d.root),
            place: None,
            known: RefCell::default(),
        }
    }

    /// Whether this table stands in the file.
    pub(super) fn exists(&self) -> bool {
        self.node.is_some()
    }

    /// Whether a key of it does.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// The place of the beginning of the file.
    pub(super) fn file_place(&self) -> Option<Place> {
        self.root.map(|_| self.at(0..0))
    }

    /// Whether a key is there and is an array without items.
    pub(super) fn is_empty_array(&self, key: &'static str) -> bool {
        self.entry(key)
            .is_some_and(|e| matches!(&e.node.value, Value::Array(items) if items.is_empty()))
    }

    /// Whether a key is there and is a table.
    pub(super) fn is_table(&self, key: &'static str) -> bool {
        self.entry(key)
            .is_some_and(|entry| matches!(entry.node.value, Value::Table(_)))
    }

    /// The place of a key, else of the table.
    pub(super) fn place(&self, key: &'static str) -> Option<Place> {
        match self.entry(key) {
            Some(entry) => Some(self.at(match entry.node.value {
                Value::Table(_) | Value::Array(_) => entry.key_span.clone(),
                _ => entry.node.span.clone(),
            })),
            None => self.place.clone(),
        }
    }

    /// The place of the table's own name.
    pub(super) fn own_place(&self) -> Option<Place> {
        self.place.clone()
    }

    /// The place of a key whose name only the file knows.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.node?.entry(key).map(|entry| self.at(entry.key_span.clone()))
    }

    /// Notes a problem with a key.
    pub(super) fn problem(&self, key: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        self.context
            .problem(self.place(key).as_ref(), &self.key(key), Bad::new(message, hint));
    }

    /// Notes a warning about a key.
    pub(super) fn warning(&self, key: &'static str, message: &str, hint: &str) {
        self.context
            .warning(self.place(key).as_ref(), &self.key(key), message, hint);
    }

    /// A table inside this one, empty when it is missing.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let entry = self.entry(key);
        self.inner(key, entry)
    }

    /// The tables inside this one whatever their names, for `[group.NAME]`.
    pub(super) fn sections(&self) -> Vec<(&'a str, Section<'a>)> {
        self.entries()
            .iter()
            .map(|e| (e.key.as_str(), self.inner(&e.key, Some(e))))
            .collect()
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(entry) = self.entry(key) else {
            return Vec::new();
        };
        let items = match &entry.node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        let mut sections = Vec::new();
        for (index, node) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.key(key));
            if matches!(node.value, Value::Table(_)) && matches!(entry.node.value, Value::Array(_)) {
                sections.push(self.of(path, node, self.at(node.span.clone())));
            } else {
                let message = format!("must be an array of tables, not {}", node.kind());
                let hint = format!("write [[{}]]", self.key(key));
                self.context
                    .problem(Some(&self.at(node.span.clone())), &path, Bad::new(message, hint));
            }
        }
        sections
    }

    /// A single value, references resolved; `None` when missing, or when it could not be had (noted).
    pub(super) fn given(&self, key: &'static str) -> Option<Given> {
        let entry = self.entry(key)?;
        self.resolve(&entry.node, self.key(key))
    }

    /// Every value of the table, whatever the keys' names.
    pub(super) fn all_given(&self) -> Vec<(&'a str, Given)> {
        let resolve = |e: &'a Entry| Some((e.key.as_str(), self.resolve(&e.node, self.key(&e.key))?));
        self.entries().iter().filter_map(resolve).collect()
    }

    /// The values of an array, `None` when missing.
    pub(super) fn array(&self, key: &'static str) -> Option<Vec<Given>> {
        let entry = self.entry(key)?;
        let Value::Array(items) = &entry.node.value else {
            let message = format!("must be an array, not {}", entry.node.kind());
            self.problem(key, message, "put it in brackets: [\"…\"]");
            return Some(Vec::new());
        };
        let resolve = |(index, node)| self.resolve(node, format!("{}[{index}]", self.key(key)));
        Some(items.iter().enumerate().filter_map(resolve).collect())
    }

    /// Reads a value with `parse`; the default stands in where it is missing or wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl Fn(&Given) -> Result<T, Bad>,
    ) -> T {
        self.maybe(key, parse).unwrap_or(default)
    }

    /// Reads a value that has no default.
    pub(super) fn maybe<T>(&self, key: &'static str, parse: impl Fn(&Given) -> Result<T, Bad>) -> Option<T> {
        let given = self.given(key)?;
        match parse(&given) {
            Ok(value) => Some(value),
            Err(bad) => {
                self.context.problem(Some(&given.place), &given.key, bad);
                None
            }
        }
    }

    /// Refuses every key that was not read.
    pub(super) fn finish(&self) {
        for entry in self.unread() {
            let place = self.at(entry.key_span.clone());
            // It may be a misspelt password.
            self.hide(&entry.node);
            let hint = match self.nearest(&entry.key, 0.7) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.borrow().join(", ")),
            };
            let bad = Bad::new("no such key", hint);
            self.context.problem(Some(&place), &self.key(&entry.key), bad);
        }
    }

    /// Lets keys that were not read pass, for tables of WSO2's; warns where one is nearly a key that counts.
    pub(super) fn finish_leniently(&self) {
        for entry in self.unread() {
            if let Some(near) = self.nearest(&entry.key, 0.88) {
                let place = self.at(entry.key_span.clone());
                let hint = format!("did you mean `{near}`?");
                self.context.warning(
                    Some(&place),
                    &self.key(&entry.key),
                    "unknown here, ignored",
                    &hint,
                );
            }
        }
    }

    fn unread(&self) -> impl Iterator<Item = &'a Entry> {
        let known = self.known.borrow().clone();
        self.entries()
            .iter()
            .filter(move |e| !known.contains(&e.key.as_str()))
    }

    fn nearest(&self, key: &str, at_least: f64) -> Option<&'static str> {
        let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(known, key);
        let known = self.known.borrow();
        let nearest = known
            .iter()
            .copied()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        nearest.filter(|near| likeness(near) >= at_least)
    }

    fn resolve(&self, node: &'a Node, key: String) -> Option<Given> {
        let place = self.at(node.span.clone());
        let (scalar, referred) = match &node.value {
            Value::Integer(n) => (Scalar::Integer(*n), false),
            Value::Float(n) => (Scalar::Float(*n), false),
            Value::Boolean(b) => (Scalar::Boolean(*b), false),
            Value::Text(text) if references::has_reference(text) => {
                match references::resolve(text, self.root?, self.context.source) {
                    Ok(scalar) => (scalar, true),
                    Err(all) => {
                        all.into_iter()
                            .for_each(|bad| self.context.problem(Some(&place), &key, bad));
                        return None;
                    }
                }
            }
            Value::Text(text) => (Scalar::Text(text.clone()), false),
            Value::Datetime | Value::Array(_) | Value::Table(_) => {
                let bad = Bad::new(
                    format!("must be a single value, not {}", node.kind()),
                    "see config/weir.toml",
                );
                self.context.problem(Some(&place), &key, bad);
                return None;
            }
        };
        Some(Given {
            scalar,
            place,
            key,
            referred,
        })
    }

    fn hide(&self, node: &Node) {
        match &node.value {
            Value::Array(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Table(entries) => entries.iter().for_each(|e| self.hide(&e.node)),
            _ => self.context.hide(&self.at(node.span.clone())),
        }
    }

    fn inner(&self, key: &str, entry: Option<&'a Entry>) -> Section<'a> {
        let path = self.key(key);
        match entry {
            Some(entry) if matches!(entry.node.value, Value::Table(_)) => {
                self.of(path, &entry.node, self.at(entry.key_span.clone()))
            }
            Some(entry) => {
                let place = self.at(entry.key_span.clone());
                let bad = Bad::new(
                    format!("must be a table, not {}", entry.node.kind()),
                    format!("write [{path}], its keys below it"),
                );
                self.hide(&entry.node);
                self.context.problem(Some(&place), &path, bad);
                self.absent(path)
            }
            None => self.absent(path),
        }
    }

    fn of(&self, path: String, node: &'a Node, place: Place) -> Section<'a> {
        Section {
            context: self.context,
            path,
            file: self.file,
            root: self.root,
            node: Some(node),
            place: Some(place),
            known: RefCell::default(),
        }
    }

    fn absent(&self, path: String) -> Section<'a> {
        Section {
            context: self.context,
            path,
            file: self.file,
            root: self.root,
            node: None,
            place: self.place.clone(),
            known: RefCell::default(),
        }
    }

    fn entry(&self, key: &'static str) -> Option<&'a Entry> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.node?.entry(key)
    }

    fn entries(&self) -> &'a [Entry] {
        match self.node.map(|n| &n.value) {
            Some(Value::Table(entries)) => entries,
            _ => &[],
        }
    }

    fn at(&self, span: std::ops::Range<usize>) -> Place {
        Place {
            file: self.file,
            span,
        }
    }

    /// Full path of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        let bare = key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            && !key.is_empty();
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        }
    }
}
