//! References inside string values: `$ref{table.key}` `$env{NAME}` `$sys{property}` `$secret{alias}` `$file{/path}`.
//!
//! They are resolved on parsed values, never on the text of the file, so what they bring in cannot become
//! syntax; and what `$env`, `$sys`, `$secret` and `$file` bring in is not searched for references again.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::document::{Document, kind};
use super::file::read_file;
use super::parse::Source;
use super::problem::Bad;

/// Longest value a reference may bring in or grow to.
const VALUE_MAX_BYTES: usize = 64 << 10;
/// References followed for one value; stops a file in which every key names the next one twice.
const STEPS_MAX: usize = 200;

const KINDS: [&str; 5] = ["ref", "env", "sys", "secret", "file"];

/// A value with its references resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
}

impl Scalar {
    /// A single value of a file, references not yet resolved; `None` where it is no single value.
    pub(super) fn of(value: &DeValue<'_>) -> Option<Self> {
        Some(match value {
            DeValue::String(text) => Scalar::Text(text.to_string()),
            DeValue::Integer(n) => {
                // Beyond 64 bits: the nearest, so that it is out of every range.
                let nearest = if n.as_str().starts_with('-') {
                    i64::MIN
                } else {
                    i64::MAX
                };
                Scalar::Integer(i64::from_str_radix(n.as_str(), n.radix()).unwrap_or(nearest))
            }
            DeValue::Float(n) => Scalar::Float(n.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(b) => Scalar::Boolean(*b),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => return None,
        })
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => f.write_str(text),
            Scalar::Integer(n) => write!(f, "{n}"),
            Scalar::Float(n) => write!(f, "{n:?}"),
            Scalar::Boolean(b) => write!(f, "{b}"),
        }
    }
}

/// Every path that a `$file{}` of the texts names, whether or not it can be read, in order and each once.
#[must_use]
pub fn files_referred_to(source: &Source) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (path, text) in source.weir_toml.iter().chain(&source.deployment_toml) {
        let (document, _) = Document::parse(path, text);
        document
            .root
            .iter()
            .for_each(|(_, node)| collect_files(node.get_ref(), &mut found));
    }
    found.sort();
    found.dedup();
    found
}

fn collect_files(value: &DeValue<'_>, found: &mut Vec<PathBuf>) {
    match value {
        DeValue::String(text) => found.extend(pieces(text).iter().filter_map(|piece| match piece {
            Piece::Reference {
                kind: "file",
                argument,
            } => Some(PathBuf::from(argument)),
            _ => None,
        })),
        DeValue::Array(items) => items.iter().for_each(|item| collect_files(item.get_ref(), found)),
        DeValue::Table(table) => table
            .iter()
            .for_each(|(_, node)| collect_files(node.get_ref(), found)),
        _ => {}
    }
}

/// Whether the text holds something for [`resolve`].
pub(super) fn has_reference(text: &str) -> bool {
    pieces(text).iter().any(|p| !matches!(p, Piece::Literal(_)))
}

/// Whether the text is made of references alone, so that showing it gives nothing away.
pub(super) fn is_nothing_but(text: &str) -> bool {
    let harmless = |piece: &Piece<'_>| matches!(piece, Piece::Reference { .. } | Piece::Carbon(_));
    pieces(text).iter().all(harmless)
}

/// Resolves every reference in `text`; `root` is the file it stands in. A text that is one `$ref{}` and nothing
/// else takes over the other value with its type.
pub(super) fn resolve(text: &str, root: &DeTable<'_>, source: &Source) -> Result<Scalar, Vec<Bad>> {
    let mut walk = Walk {
        root,
        source,
        steps: 0,
        bad: Vec::new(),
    };
    let value = walk.expand(text, &mut Vec::new());
    walk.bad.is_empty().then_some(value).ok_or(walk.bad)
}

struct Walk<'a> {
    root: &'a DeTable<'a>,
    source: &'a Source,
    steps: usize,
    bad: Vec<Bad>,
}

/// A part of a text.
pub(super) enum Piece<'t> {
    /// As it stands.
    Literal(&'t str),
    /// `$kind{argument}`.
    Reference {
        kind: &'t str,
        argument: &'t str,
    },
    /// `${inside}`.
    Carbon(&'t str),
    Misspelt(&'t str, &'static str),
    Unclosed(&'t str),
}

impl Walk<'_> {
    fn expand(&mut self, text: &str, chain: &mut Vec<String>) -> Scalar {
        let pieces = pieces(text);
        if let [
            Piece::Reference {
                kind: "ref",
                argument,
            },
        ] = pieces.as_slice()
        {
            return self.referred(argument, chain);
        }
        let mut out = String::new();
        for piece in pieces {
            if out.len() > VALUE_MAX_BYTES || self.steps > STEPS_MAX {
                self.complain(
                    "grows without end through its references",
                    "set it to a plain value",
                );
                break;
            }
            match piece {
                Piece::Literal(literal) => out.push_str(literal),
                Piece::Reference { kind, argument } => {
                    out.push_str(&self.one(kind, argument, chain).to_string());
                }
                // What stands inside is not shown: the text may be a password. The name of a variable is none.
                Piece::Carbon(inside) => {
                    let hint = match self.source.env.contains_key(inside) {
                        true => format!("write $env{{{inside}}} for the environment variable"),
                        false => "write the value itself, or $env{NAME}, $sys{property}, $secret{alias}, $file{/path}"
                            .to_owned(),
                    };
                    self.complain(
                        "${…} is resolved by WSO2 Carbon at run time, weir cannot know its value",
                        hint,
                    );
                }
                Piece::Misspelt(kind, near) => {
                    self.complain(
                        format!("${kind}{{}} is not a reference"),
                        format!("did you mean ${near}{{…}}?"),
                    );
                }
                Piece::Unclosed(kind) => {
                    self.complain(format!("${kind}{{ is never closed"), "add the closing brace");
                }
            }
        }
        Scalar::Text(out)
    }

    fn one(&mut self, kind: &str, argument: &str, chain: &mut Vec<String>) -> Scalar {
        self.steps += 1;
        let found = match kind {
            "ref" => return self.referred(argument, chain),
            "env" => self.source.env.get(argument).cloned().ok_or_else(|| {
                Bad::new(
                    format!("the environment variable {argument} is not set"),
                    format!("set {argument} before weir starts, or write the value here"),
                )
            }),
            "sys" => self.source.sys.get(argument).cloned().ok_or_else(|| {
                Bad::new(
                    format!("the property {argument} is not set"),
                    format!("start weir with --sys {argument}=VALUE"),
                )
            }),
            "secret" => secret(self.source.secrets_dir.as_deref(), argument),
            _ => file(Path::new(argument)),
        };
        Scalar::Text(found.unwrap_or_else(|bad| {
            self.bad.push(bad);
            String::new()
        }))
    }

    /// The value of another key of the same file, its own references resolved.
    fn referred(&mut self, path: &str, chain: &mut Vec<String>) -> Scalar {
        let nothing = Scalar::Text(String::new());
        self.steps += 1;
        if chain.iter().any(|link| link == path) || chain.len() > STEPS_MAX {
            chain.push(path.to_owned());
            let round = chain.join("} → $ref{");
            self.complain(
                format!("refers to itself: $ref{{{round}}}"),
                "give one of them a value",
            );
            chain.pop();
            return nothing;
        }
        let mut keys = path.split('.').map(str::trim);
        let first = keys.next().and_then(|key| self.root.get(key));
        let found = keys.try_fold(first, |node, key| Some(node?.get_ref().as_table()?.get(key)));
        let Some(value) = found.flatten().map(|node| node.get_ref()) else {
            self.complain(
                format!("$ref{{{path}}}: there is no such key in this file"),
                "name a key by its full path, as $ref{super_admin.password}",
            );
            return nothing;
        };
        match Scalar::of(value) {
            Some(Scalar::Text(text)) => {
                chain.push(path.to_owned());
                let value = self.expand(&text, chain);
                chain.pop();
                value
            }
            Some(scalar) => scalar,
            None => {
                let message = format!("$ref{{{path}}} is {}", kind(value));
                self.complain(message, "refer to a string or a number");
                nothing
            }
        }
    }

    fn complain(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        let bad = Bad::new(message, hint);
        if !self.bad.contains(&bad) {
            self.bad.push(bad);
        }
    }
}

/// Cuts a text at its references. `$word{` of a word that is far from every kind is literal text.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut literal = 0;
    let mut at = 0;
    while let Some(dollar) = text.get(at..).and_then(|rest| rest.find('$')).map(|n| at + n) {
        at = dollar + 1;
        let rest = text.get(at..).unwrap_or("");
        let word: &str = rest
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or("");
        let Some(inside) = rest.get(word.len()..).and_then(|r| r.strip_prefix('{')) else {
            continue;
        };
        let argument = inside.split_once('}').map(|(argument, _)| argument);
        let piece = match (near(word), argument) {
            (None, _) => continue,
            (Some(_), None) => Piece::Unclosed(word),
            (Some(""), Some(inside)) => Piece::Carbon(inside),
            (Some(kind), Some(argument)) if kind == word => Piece::Reference { kind, argument },
            (Some(kind), Some(_)) => Piece::Misspelt(word, kind),
        };
        if literal < dollar {
            pieces.push(Piece::Literal(text.get(literal..dollar).unwrap_or("")));
        }
        at += word.len() + 1 + argument.map_or(inside.len(), |a| a.len() + 1);
        literal = at;
        pieces.push(piece);
    }
    if literal < text.len() || pieces.is_empty() {
        pieces.push(Piece::Literal(text.get(literal..).unwrap_or("")));
    }
    pieces
}

/// The name of a variable as a shell writes it, `$HOME`, where it is no reference and so taken as it stands.
pub(super) fn shell_variable(text: &str) -> Option<&str> {
    let literals = pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Literal(literal) => Some(literal),
        _ => None,
    });
    literals
        .flat_map(|literal| literal.split('$').skip(1))
        .find_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = rest.get(..end.unwrap_or(rest.len()))?;
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                .then_some(name)
        })
}

/// The kind of reference a word is, or was meant to be; `""` is Carbon's `${}`.
fn near(word: &str) -> Option<&'static str> {
    if word.is_empty() {
        return Some("");
    }
    let lower = word.to_lowercase();
    let distance = |kind: &&str| strsim::damerau_levenshtein(kind, &lower);
    KINDS
        .into_iter()
        .min_by_key(|kind| distance(kind))
        .filter(|kind| distance(kind) <= 1)
}

fn secret(dir: Option<&Path>, alias: &str) -> Result<String, Bad> {
    let Some(dir) = dir else {
        let message = format!("$secret{{{alias}}}: there is no directory of secrets");
        return Err(Bad::new(
            message,
            "start weir with --secrets-dir DIR, one file per alias",
        ));
    };
    if alias.is_empty() || alias.starts_with('.') || alias.contains(['/', '\\', '\0']) {
        let message = format!("$secret{{{}}}: not the name of a file", alias.escape_debug());
        return Err(Bad::new(
            message,
            "an alias is one file name in the directory of secrets",
        ));
    }
    file(&dir.join(alias))
}

/// A whole file without the line break at its end.
fn file(path: &Path) -> Result<String, Bad> {
    let shown = path.display().to_string().escape_debug().to_string();
    let bytes = read_file(path, VALUE_MAX_BYTES as u64).map_err(|e| match e.kind() {
        ErrorKind::InvalidInput => Bad::new(
            format!("{shown} is not a regular file"),
            "name a file that holds the value",
        ),
        ErrorKind::FileTooLarge => Bad::new(
            format!("{shown} is larger than 64 KiB"),
            "name a file that holds just the value",
        ),
        _ => Bad::new(
            format!("cannot read {shown}: {e}"),
            "name a file that is there and that weir may read",
        ),
    })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Bad::new(
            format!("{shown} is not UTF-8 (at byte {})", at + 1),
            "name a file that holds text",
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
