//! The command line: commands, arguments and their help.

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
Weir is a relay between WSO2 API Manager gateways and Traffic Managers. Gateways publish throttling events to \
it as if it were a Traffic Manager; it delivers every event to every url group, and a group that is slow or away \
does not hold up the others.";

const AFTER: &str = "\
First steps:
  weir check --config weir.toml             check a configuration, and explain what it means
  weir check --config weir.toml --connect   also connect to every Traffic Manager and broker
  weir run --config weir.toml               run the relay
  weir status                               show the weir that runs on this host

Environment (an argument wins over its variable):
  WEIR_CONFIG, WEIR_DEPLOYMENT_TOML, WEIR_SECRETS_DIR   where the configuration comes from
  WEIR_LOG_LEVEL, WEIR_LOG_FORMAT                       override [log] of the configuration
  WEIR_ADMIN, WEIR_ADMIN_TOKEN                          which running weir to talk to

Signals to `weir run`:
  SIGTERM, SIGINT   drain, then exit; a second one exits at once
  SIGHUP            reload the configuration

Exit codes:
  0   success; for `weir run`: everything accepted was delivered
  1   something failed at run time, or events were lost
  2   the arguments or the configuration are wrong; nothing was done
  134 a defect ended weir at once (SIGABRT): the log says where
  141 the reader of stdout went away";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay in the foreground
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Run the relay in a child process, and restart it when it dies: for containers
    ///
    /// The ports stay open meanwhile, so no gateway is refused. SIGTERM, SIGINT and SIGHUP are passed on. SIGUSR2 upgrades:
    /// it starts the program that is now at the path of this one; when that is ready, the old process drains and exits.
    #[command(after_long_help = SUPERVISE_EXAMPLES)]
    Supervise(RunArgs),
    /// Check a configuration, and explain what it means
    ///
    /// Lists every problem with line and key, or explains where events go: which groups, which Traffic Managers, in which
    /// order. Changes nothing. With --connect it also logs in to every Traffic Manager, sends a heartbeat and logs out, and
    /// opens a connection to every broker of the return leg.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Commands for a running weir.
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
  weir upgrade     the same as SIGUSR2

Exit codes: those of `weir run`; 128 + the signal if one ended it";

const CHECK_EXAMPLES: &str = "\
Examples:
  weir check --config weir.toml
  weir check --config weir.toml --connect
  weir check --deployment-toml deployment.toml --json

Exit codes: 0 valid (and reachable), 1 something could not be reached or verified, 2 invalid";

/// Where the configuration comes from.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The configuration [default: weir.toml, unless --deployment-toml is given]
    #[arg(long, short, value_name = "FILE", env = "WEIR_CONFIG")]
    pub config: Option<PathBuf>,
    /// A gateway's deployment.toml, of which [apim.throttling] and its credentials are read
    #[arg(long, value_name = "FILE", env = "WEIR_DEPLOYMENT_TOML")]
    pub deployment_toml: Option<PathBuf>,
    /// Value of $sys{KEY} in the configuration; may be repeated
    #[arg(long = "sys", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sys: Vec<(String, String)>,
    /// Directory with a file for each $secret{ALIAS} in the configuration
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,
}

impl ConfigArgs {
    /// The file to read, if any: `weir.toml` by default.
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
    /// Log level: info, or per module: weir::egress=debug,info; overrides log.level
    #[arg(long, value_name = "LEVEL", env = "WEIR_LOG_LEVEL", value_parser = log_level)]
    pub log_level: Option<String>,
    /// Log format; overrides log.format
    #[arg(long, value_name = "FORMAT", env = "WEIR_LOG_FORMAT")]
    pub log_format: Option<LogFormatArg>,
}

/// Arguments of `weir check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Also connect to every endpoint (DNS, TCP, TLS, login, heartbeat), and check that weir's ports are free
    #[arg(long)]
    pub connect: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    /// Lines of text, for people
    Text,
    /// One JSON object per line, for collectors
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
        _ => Err("not KEY=VALUE".into()),
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

/// The commands without subcommands, except `help`.
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
