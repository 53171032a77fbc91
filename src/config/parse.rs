//! Files → [`Config`]: reads them, walks every table in turn, and hands back the whole or every problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checks;
use super::context::Context;
use super::decisions::decisions;
use super::delivery::{self, QueueSettings};
use super::document::{Document, Syntax, TEXT_MAX_BYTES};
use super::file::read_file;
use super::gateway_side::{admin, auth, listen, log};
use super::problem::{Bad, Place, Problems, Warning, line_and_column};
use super::raw::Section;
use super::throttling::{self, Throttling};
use super::tls::tls;
use super::unquoted;
use super::url_groups::Found;
use super::values::{count, duration, flag, word};
use super::{Ack, Config, Group};

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
        match read_file(path, TEXT_MAX_BYTES as u64) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Some((path.to_path_buf(), text)),
                Err(e) => {
                    problems.push(Problems::not_utf8(path, &e));
                    None
                }
            },
            Err(e) => {
                let hint = "name an existing file that weir may read".to_owned();
                problems.push(Problems::of_file(
                    path,
                    format!("cannot read the file: {e}"),
                    Some(hint),
                ));
                None
            }
        }
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
    if problems.is_empty() {
        Ok(source)
    } else {
        let files = Vec::new();
        Err(Problems { problems, files })
    }
}

/// What is wrong, or worth a warning, about single keys though every text is sound: something that a key names, or a
/// limit of the host. Each with the full path of the key, the message and a hint.
#[must_use]
pub fn complain(source: &Source, about: &[(&str, String, Option<String>)]) -> Problems {
    let texts = [&source.weir_toml, &source.deployment_toml];
    let documents = texts.into_iter().flatten();
    let files: Vec<Document> = documents
        .map(|(path, text)| Document::parse(path.clone(), text.clone()).0)
        .collect();
    let context = Context::new(source, &files);
    for (key, message, hint) in about {
        let path: Vec<&str> = key.split('.').collect();
        let bad = Bad {
            message: message.clone(),
            hint: hint.clone(),
        };
        context.problem(context.place(&path).as_ref(), key, bad);
    }
    context.finish(&[]).0.unwrap_or_else(|| Problems {
        problems: Vec::new(),
        files: Vec::new(),
    })
}

/// Turns the texts into a valid configuration and what is worth a warning.
///
/// # Errors
/// Every problem there is, with its place, at once.
pub fn parse(source: &Source) -> Result<(Config, Vec<Warning>), Problems> {
    let mut files = Vec::new();
    let mut syntax = Vec::new();
    let mut add = |text: &Option<(PathBuf, String)>| {
        let (path, text) = text.clone()?;
        let (document, errors) = Document::parse(path, text);
        files.push(document);
        syntax.push(errors);
        Some(files.len() - 1)
    };
    let weir = add(&source.weir_toml);
    let deployment = add(&source.deployment_toml);
    let context = Context::new(source, &files);
    for (file, errors) in syntax.iter().enumerate() {
        note_syntax(&context, file, errors);
    }
    let broken: Vec<bool> = syntax.iter().map(|errors| !errors.is_empty()).collect();
    // What stands in a half-understood file would give false alarms.
    let config = if broken.contains(&true) {
        None
    } else {
        Some(read(&context, weir, deployment))
    };
    match (context.finish(&broken), config) {
        ((None, warnings), Some(config)) => Ok((config, warnings)),
        ((Some(problems), _), _) => Err(problems),
        ((None, _), None) => Err(Problems {
            problems: Vec::new(),
            files: Vec::new(),
        }),
    }
}

/// Errors of syntax breed: one for each line, and only the first few.
fn note_syntax(context: &Context<'_>, file: usize, errors: &[Syntax]) {
    let text = context
        .files
        .get(file)
        .map_or("", |document| document.text.as_str());
    let mut lines = BTreeSet::new();
    for error in errors {
        let (line, _) = line_and_column(text, error.span.start);
        if lines.len() < SYNTAX_ERRORS_MAX && lines.insert(line) {
            let (span, bad) = match unquoted::find(text, &error.span, &error.message) {
                Some(found) => (found.span, Bad::new("a string must be in quotes", found.hint)),
                None => (
                    error.span.clone(),
                    Bad {
                        message: error.message.clone(),
                        hint: None,
                    },
                ),
            };
            context.problem(Some(&Place { file, span }), "", bad);
        }
    }
}

/// Reads all tables. The result is only valid where no problem was noted.
fn read(context: &Context<'_>, weir: Option<usize>, deployment: Option<usize>) -> Config {
    let top = Section::top(context, weir);
    let Throttling {
        groups: found,
        credentials,
        section: throttling,
    } = throttling(context, &top, deployment);

    let queue = top.section("queue");
    let settings = delivery::queue(&queue, &QueueSettings::default());
    queue.finish();
    let groups = groups(&top, &found, credentials.as_ref(), &settings);

    let ingress = listen(&top.section("listen"));
    let auth = auth(&top.section("auth"), credentials.as_ref());
    let config = Config {
        workers: top.read("workers", 1, |g| count(g, 1, 256)),
        ack: top.read("ack", Ack::Accepted, |g| {
            word(g, &[("accepted", Ack::Accepted), ("delivered", Ack::Delivered)])
        }),
        drain_timeout: top.read("drain_timeout", Duration::from_secs(20), |g| {
            duration(g, Duration::ZERO, Duration::from_secs(3600))
        }),
        drain_notice: top.read("drain_notice", Duration::from_secs(5), |g| {
            duration(g, Duration::ZERO, Duration::from_secs(3600))
        }),
        drain_sends_away: top.read("drain_sends_away", true, flag),
        tls: tls(&top.section("tls")),
        link: delivery::link(&top.section("link")),
        admin: admin(&top.section("admin")),
        decisions: decisions(&top.section("decisions"), &throttling),
        log: log(&top.section("log")),
        ingress,
        auth,
        groups,
    };
    top.finish();
    checks::groups(context, &found);
    checks::limits(context, &config);
    checks::addresses(context, &config, &found);
    checks::logins(context, &config);
    checks::drain(context, &config);
    config
}

/// `[apim.throttling]` of weir.toml, or else of the gateway's own file.
fn throttling<'a>(context: &'a Context<'a>, top: &Section<'a>, deployment: Option<usize>) -> Throttling<'a> {
    let own = throttling::read(top, true);
    let gateways = deployment.map(|file| throttling::read(&Section::top(context, Some(file)), false));
    match gateways {
        Some(gateways) if !own.section.exists() => {
            if !gateways.section.exists() {
                let bad = Bad::new(
                    "there is no [apim.throttling] in this file",
                    "name the deployment.toml of a gateway, or put the table into weir.toml",
                );
                context.problem(gateways.section.file_place().as_ref(), "apim.throttling", bad);
            }
            gateways
        }
        Some(_) => {
            let bad = Bad::new(
                "is in both weir.toml and the deployment.toml",
                "remove it here, or leave out --deployment-toml",
            );
            context.problem(own.section.own_place().as_ref(), "apim.throttling", bad);
            own
        }
        None => {
            if !own.section.exists() {
                let bad = Bad::new(
                    "is missing: weir does not know where to deliver",
                    "paste [apim.throttling] of the gateway's deployment.toml, or name that file with --deployment-toml",
                );
                context.problem(top.file_place().as_ref(), "apim.throttling", bad);
            }
            own
        }
    }
}

/// Joins what was found with the settings of each group.
fn groups(
    top: &Section<'_>,
    found: &[Found],
    credentials: Option<&(String, super::Secret)>,
    base: &QueueSettings,
) -> Vec<Group> {
    let mut overrides = BTreeMap::new();
    let names: BTreeSet<&str> = found.iter().map(|group| group.name.as_str()).collect();
    let table = top.section("group");
    for (name, section) in table.sections() {
        let settings = delivery::group(&section, base);
        if !names.contains(name) {
            let known = names.iter().copied().collect::<Vec<_>>().join(", ");
            let hint = match known.as_str() {
                "" => "there are no groups".to_owned(),
                known => format!("the groups are {known}"),
            };
            let place = table.place_of(name);
            top.context.problem(
                place.as_ref(),
                &section.path,
                Bad::new("there is no group of that name", hint),
            );
        }
        overrides.insert(name, settings);
    }
    let join = |group: &Found| {
        let (queue, username, password) = match overrides.get(group.name.as_str()) {
            Some((queue, username, password)) => (queue, username.clone(), password.clone()),
            None => (base, None, None),
        };
        Some(Group {
            name: group.name.clone(),
            policy: group.policy,
            endpoints: group.endpoints.clone(),
            username: username.or_else(|| credentials.map(|c| c.0.clone()))?,
            password: password.or_else(|| credentials.map(|c| c.1.clone()))?,
            queue: queue.clone().into_queue(),
        })
    };
    found.iter().filter_map(join).collect()
}
