//! Files → [`Config`]: reads every table in turn, and returns the whole, or every problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::document::{Document, Syntax, TEXT_MAX_BYTES};
use super::file::read_file;
use super::problem::{Bad, Place, Problem, Problems, Warning, line_and_column};
use super::queue::{Settings, group, queue};
use super::section::Section;
use super::throttling::{self, Found, Throttling};
use super::{Config, Group, Secret, admin, auth, checks, decisions, ingress, link, tls, unquoted};

/// Errors of syntax shown for one file; those after the first are often its echo.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Everything a configuration is made of, already read; no clock, process or network behind it. (References to
/// files are followed while parsing.)
#[derive(Clone, Default)]
pub struct Source {
    /// Path (for messages) and text of weir.toml.
    pub weir_toml: Option<(PathBuf, String)>,
    /// Path and text of a gateway's deployment.toml, of which two tables are read.
    pub deployment_toml: Option<(PathBuf, String)>,
    /// What `$sys{}` refers to.
    pub sys: BTreeMap<String, String>,
    /// Where `$secret{}` looks.
    pub secrets_dir: Option<PathBuf>,
    /// What `$env{}` refers to.
    pub env: BTreeMap<String, String>,
}

/// Names only: texts and variables hold passwords.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("weir_toml", &self.weir_toml.as_ref().map(|(path, _)| path))
            .field(
                "deployment_toml",
                &self.deployment_toml.as_ref().map(|(path, _)| path),
            )
            .field("sys", &self.sys.keys())
            .field("secrets_dir", &self.secrets_dir)
            .finish_non_exhaustive()
    }
}

/// Reads the files and takes over the environment of the process (variables that are UTF-8).
///
/// # Errors
/// Names each file that cannot be read.
pub fn load(
    weir_toml: Option<&Path>,
    deployment_toml: Option<&Path>,
    sys: BTreeMap<String, String>,
    secrets_dir: Option<PathBuf>,
) -> Result<Source, Problems> {
    let mut problems = Vec::new();
    let mut read = |path: Option<&Path>| {
        let path = path?;
        let problem = match read_file(path, TEXT_MAX_BYTES as u64).map(String::from_utf8) {
            Ok(Ok(text)) => return Some((path.to_path_buf(), text)),
            Ok(Err(e)) => Problem::not_utf8(path, &e),
            Err(e) => {
                let hint = "name an existing file that weir may read".to_owned();
                Problem::of_file(path, format!("cannot read the file: {e}"), Some(hint))
            }
        };
        problems.push(problem);
        None
    };
    let source = Source {
        weir_toml: read(weir_toml),
        deployment_toml: read(deployment_toml),
        sys,
        secrets_dir,
        env: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    };
    let files = Vec::new();
    if problems.is_empty() {
        Ok(source)
    } else {
        Err(Problems { problems, files })
    }
}

/// What is wrong, or worth a warning, about single keys though every text is sound: something that a key names, or a
/// limit of the host. Each with the full path of the key, the message and a hint.
#[must_use]
pub fn complain(source: &Source, about: &[(&str, String, Option<String>)]) -> Problems {
    let texts = source.weir_toml.iter().chain(&source.deployment_toml);
    let files: Vec<_> = texts.map(|(path, text)| Document::parse(path, text).0).collect();
    let context = Context::new(source, &files);
    for (key, message, hint) in about {
        let (message, hint) = (message.clone(), hint.clone());
        context.problem(context.place(key).as_ref(), key, Bad { message, hint });
    }
    context.finish(&[]).0.unwrap_or_default()
}

/// Turns the texts into a valid configuration and what is worth a warning.
///
/// # Errors
/// Every problem there is, with its place, at once.
pub fn parse(source: &Source) -> Result<(Config, Vec<Warning>), Problems> {
    let texts = source.weir_toml.iter().chain(&source.deployment_toml);
    let (files, syntax): (Vec<_>, Vec<_>) = texts.map(|(path, text)| Document::parse(path, text)).unzip();
    let context = Context::new(source, &files);
    for (file, errors) in syntax.iter().enumerate() {
        note_syntax(&context, file, errors);
    }
    let broken: Vec<bool> = syntax.iter().map(|errors| !errors.is_empty()).collect();
    // Keys of a file that is only partly understood would give false alarms.
    let config = match broken.contains(&true) {
        true => None,
        false => read(&context),
    };
    match (context.finish(&broken), config) {
        ((None, warnings), Some(config)) => Ok((config, warnings)),
        ((problems, _), _) => Err(problems.unwrap_or_default()),
    }
}

/// One syntax error causes others: one for each line, and only the first few.
fn note_syntax(context: &Context<'_>, file: usize, errors: &[Syntax]) {
    let text = context.files.get(file).map_or("", |document| document.text);
    let mut lines = BTreeSet::new();
    for Syntax { span, message } in errors {
        let (line, _) = line_and_column(text, span.start);
        if lines.len() < SYNTAX_ERRORS_MAX && lines.insert(line) {
            let (span, bad) = match unquoted::find(text, span, message) {
                Some(found) => (found.span, Bad::new("a string must be in quotes", found.hint)),
                None => (
                    span.clone(),
                    Bad {
                        message: message.clone(),
                        hint: None,
                    },
                ),
            };
            context.problem(Some(&Place { file, span }), "", bad);
        }
    }
}

/// Reads all tables. The result is only valid where no problem was noted.
fn read(context: &Context<'_>) -> Option<Config> {
    let weir = context.source.weir_toml.as_ref().map(|_| 0);
    let deployment = context
        .source
        .deployment_toml
        .as_ref()
        .map(|_| context.files.len() - 1);
    let top = Section::top(context, weir);
    let Throttling {
        groups: found,
        credentials,
        section,
    } = throttling(context, &top, deployment);
    let table = top.section("queue");
    let base = queue(&table, None)?;
    table.finish();
    let groups = groups(&top, &found, credentials.as_ref(), &base)?;
    let config = Config::read(
        &top,
        None,
        ingress::ingress(&top.section("listen"))?,
        auth::auth(&top.section("auth"), credentials.as_ref())?,
        tls::tls(&top.section("tls"))?,
        link::link(&top.section("link"))?,
        groups,
        admin::admin(&top.section("admin")),
        decisions::decisions(&top.section("decisions"), &section),
        admin::log(&top.section("log"))?,
    )?;
    top.finish();
    checks::groups(context, &found);
    checks::limits(context, &config);
    checks::addresses(context, &config, &found);
    checks::logins(context, &config);
    checks::drain(context, &config);
    Some(config)
}

/// `[apim.throttling]` of weir.toml, or else of the gateway's own file.
fn throttling<'a>(context: &'a Context<'a>, top: &Section<'a>, deployment: Option<usize>) -> Throttling<'a> {
    let own = throttling::read(top, true);
    let gateways = deployment.map(|file| throttling::read(&Section::top(context, Some(file)), false));
    let note = |place: Option<Place>, message: &str, hint: &str| {
        context.problem(place.as_ref(), "apim.throttling", Bad::new(message, hint));
    };
    match gateways {
        Some(gateways) if !own.section.exists() => {
            if !gateways.section.exists() {
                note(
                    gateways.section.file_place(),
                    "there is no [apim.throttling] in this file",
                    "name the deployment.toml of a gateway, or put the table into weir.toml",
                );
            }
            return gateways;
        }
        Some(_) => note(
            own.section.place.clone(),
            "is in both weir.toml and the deployment.toml",
            "remove it here, or leave out --deployment-toml",
        ),
        None if !own.section.exists() => note(
            top.file_place(),
            "is missing: weir does not know where to deliver",
            "paste [apim.throttling] of the gateway's deployment.toml, or name that file with --deployment-toml",
        ),
        None => {}
    }
    own
}

/// The groups with the settings of each.
fn groups(
    top: &Section<'_>,
    found: &[Found],
    credentials: Option<&(String, Secret)>,
    base: &Settings,
) -> Option<Vec<Group>> {
    let names: BTreeSet<&str> = found.iter().map(|group| group.name.as_str()).collect();
    let mut settings = BTreeMap::new();
    for (name, section) in top.section("group").sections() {
        if !names.contains(name) {
            let known = names.iter().copied().collect::<Vec<_>>().join(", ");
            let hint = match known.as_str() {
                "" => "there are no groups".to_owned(),
                known => format!("the groups are {known}"),
            };
            let bad = Bad::new("there is no group of that name", hint);
            top.context.problem(section.place.as_ref(), &section.path, bad);
        }
        settings.insert(name, group(&section, base)?);
    }
    let join = |group: &Found| {
        let (queue, login) = match settings.get(group.name.as_str()) {
            Some((queue, keys)) => (queue, keys.username.clone().zip(keys.password.clone())),
            None => (base, None),
        };
        let (username, password) = login.or_else(|| credentials.cloned())?;
        Some(Group {
            name: group.name.clone(),
            policy: group.policy,
            endpoints: group
                .endpoints
                .iter()
                .map(|(endpoint, _)| endpoint.clone())
                .collect(),
            username,
            password,
            queue: queue.queue(),
        })
    };
    Some(found.iter().filter_map(join).collect())
}
