//! The commands of the binary: arguments and their help, nothing that acts on weir.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::admin::client::args::AdminCommand;
use crate::config::LogFormat;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, long_about = ABOUT, after_long_help = AFTER)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const ABOUT: &str = "\
Weir stands between WSO2 API Manager gateways and Traffic Managers. Gateways publish throttling events to \
it as if it were a Traffic Manager; it delivers every event to every url group, and keeps one group's trouble \
away from the others.";

const AFTER: &str = "\
First steps:
  weir check --config weir.toml             is this configuration valid, and what does it mean?
  weir check --config weir.toml --connect   can every Traffic Manager and broker be reached?
  weir run --config weir.toml               relay
  weir status                               how is the weir that runs on this machine?

Environment (an argument wins over its variable):
  WEIR_CONFIG, WEIR_DEPLOYMENT_TOML, WEIR_SECRETS_DIR   where the configuration comes from
  WEIR_LOG_LEVEL, WEIR_LOG_FORMAT                       win over [log] of the configuration
  WEIR_ADMIN, WEIR_ADMIN_TOKEN                          which running weir to talk to

Signals to `weir run`:
  SIGTERM, SIGINT   drain, then end; a second one ends at once
  SIGHUP            read the configuration again

Exit codes:
  0   done; for `weir run`: everything accepted was delivered
  1   something failed at run time, or something was lost
  2   the arguments or the configuration are wrong, and nothing was done
  134 weir has a defect and has ended at once (SIGABRT): the log says where
  141 nobody read stdout to its end";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay: run weir in the foreground
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Hold the ports, run weir in a process of its own, and start it again when it dies: for containers
    ///
    /// No gateway is refused meanwhile. SIGTERM, SIGINT and SIGHUP are passed on. SIGUSR2 starts what lies at the path
    /// of this program beside the process that runs; when that is ready, the old one drains and ends.
    #[command(after_long_help = SUPERVISE_EXAMPLES)]
    Supervise(RunArgs),
    /// Say whether a configuration is valid, and what it means
    ///
    /// Lists every problem with line and key, or prints the effective fan-out: which group, which Traffic
    /// Managers, in which order. Changes nothing; with --connect it logs in, publishes nothing, and logs out,
    /// and greets every broker of decisions.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// See it work: gateways, a weir, Traffic Managers and a broker in one process, trouble, and a verdict
    #[command(
        after_help = "Examples:\n  weir demo\n  weir demo --duration 60s --gateways 64 --rate 20000\n\nExit code 1 when anything was lost, events or decisions"
    )]
    Demo(crate::demo::DemoArgs),
    /// Publish as many gateways at once do, to a weir or a Traffic Manager
    #[command(
        after_help = "Example:\n  weir load --target tcp://weir:9611 --auth ssl://weir:9711 --ca weir.pem --duration 10s"
    )]
    Load(crate::lab::args::LoadArgs),
    /// Be a Traffic Manager that counts what it is sent
    #[command(after_help = "Example:\n  weir sink --listen 127.0.0.1:9611 --auth-listen 127.0.0.1:9711")]
    Sink(crate::lab::args::SinkArgs),
    /// Put a weir under load and trouble for a long time, and judge it
    ///
    /// Starts a weir of its own with stand-in gateways and Traffic Managers and a network that breaks in every
    /// way, one thing at a time. Fails when an event is missing that weir has not counted, or when memory,
    /// descriptors or threads have grown.
    #[command(after_help = "Example:\n  weir soak --duration 10m")]
    Soak(crate::lab::args::SoakArgs),
    /// Commands to a running weir.
    #[command(flatten)]
    Admin(AdminCommand),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  weir completions bash > /etc/bash_completion.d/weir")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  weir man > /usr/local/share/man/man1/weir.1")]
    Man,
    /// Print the help of every command
    HelpAll,
}

const RUN_EXAMPLES: &str = "\
Examples:
  weir run --config /etc/weir/weir.toml
  weir run --deployment-toml /opt/gateway/repository/conf/deployment.toml
  weir run --config weir.toml --sys carbon.home=/opt/apim --secrets-dir /run/secrets
  weir run --config weir.toml --log-level weir::egress=debug,info --log-format json";

const SUPERVISE_EXAMPLES: &str = "\
Examples:
  weir supervise --config /etc/weir/weir.toml
  weir upgrade     a new process beside the old one, as SIGUSR2 does

Exit codes: those of `weir run`; 128 and the number of a signal when that ended it";

const CHECK_EXAMPLES: &str = "\
Examples:
  weir check --config weir.toml
  weir check --config weir.toml --connect
  weir check --deployment-toml deployment.toml --json

Exit codes: 0 valid (and reachable), 1 something could not be reached or verified, 2 invalid";

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Weir's configuration [without it and without --deployment-toml: weir.toml]
    #[arg(long, short, value_name = "FILE", env = "WEIR_CONFIG")]
    pub config: Option<PathBuf>,
    /// A gateway's deployment.toml: the Traffic Managers are taken from its [apim.throttling], the rest of it
    /// is ignored
    #[arg(long, value_name = "FILE", env = "WEIR_DEPLOYMENT_TOML")]
    pub deployment_toml: Option<PathBuf>,
    /// What $sys{KEY} in the configuration stands for; may be given more than once
    #[arg(long = "sys", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sys: Vec<(String, String)>,
    /// Directory with a file for each alias that $secret{ALIAS} in the configuration names
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// Weir's own file, if there is to be one: `weir.toml` unless something else was said.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match (&self.config, &self.deployment_toml) {
            (Some(file), _) => Some(file),
            (None, Some(_)) => None,
            (None, None) => Some(Path::new("weir.toml")),
        }
    }
}

/// Arguments of `weir run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// info, or per module: weir::egress=debug,info; wins over log.level
    #[arg(long, value_name = "LEVEL", env = "WEIR_LOG_LEVEL", value_parser = log_level)]
    pub log_level: Option<String>,
    /// How a log line looks; wins over log.format
    #[arg(long, value_name = "FORMAT", env = "WEIR_LOG_FORMAT")]
    pub log_format: Option<LogFormatArg>,
}

/// Arguments of `weir check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Also try every endpoint (name, TCP, TLS, login, heartbeat), and whether weir's own ports are free
    #[arg(long)]
    pub connect: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    /// A line of text for people
    Text,
    /// A JSON object a line, for collectors
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => LogFormat::Text,
            LogFormatArg::Json => LogFormat::Json,
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("this is not KEY=VALUE".into()),
    }
}

fn log_level(text: &str) -> Result<String, String> {
    crate::telemetry::parse_level(text).map(|_| text.to_owned())
}

/// Writes completions for `shell`.
///
/// # Errors
///
/// The writer's.
pub fn completions(shell: clap_complete::Shell, out: &mut impl io::Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    out.write_all(&script)
}

/// Writes one manual page for all commands.
///
/// # Errors
///
/// The writer's.
pub fn man(out: &mut impl io::Write) -> io::Result<()> {
    let mut root = Cli::command();
    root.build();
    clap_mangen::Man::new(root.clone()).render(out)?;
    for command in leaves(&root) {
        let page = clap_mangen::Man::new(command);
        page.render_name_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_description_section(out)?;
        page.render_options_section(out)?;
        page.render_extra_section(out)?;
    }
    Ok(())
}

/// Writes the long help of every command, one after the other.
///
/// # Errors
///
/// The writer's.
pub fn help_all(out: &mut impl io::Write) -> io::Result<()> {
    let mut root = Cli::command();
    root.build();
    writeln!(out, "{}", root.render_long_help())?;
    for mut command in leaves(&root) {
        let name = command
            .get_bin_name()
            .unwrap_or_else(|| command.get_name())
            .to_owned();
        writeln!(out, "\n{}\n{name}\n{}\n", "─".repeat(80), "─".repeat(80))?;
        write!(out, "{}", command.render_long_help())?;
    }
    Ok(())
}

/// The commands that have no commands of their own, `help` left out.
fn leaves(command: &clap::Command) -> Vec<clap::Command> {
    let mut found = Vec::new();
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        if sub.has_subcommands() {
            found.extend(leaves(sub));
        } else {
            found.push(sub.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests;
