//! The weir binary: parse arguments, run, map the result to an exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use weir::app::{self, Files};
use weir::check;
use weir::cli::{self, Cli, Command, ConfigArgs, RunArgs};
use weir::config::Config;
use weir::output::{self, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return help(&said),
    };
    match cli.command {
        Command::Run(args) => run(&args, app::run),
        Command::Supervise(args) => run(&args, weir::supervise::run),
        Command::Check(args) => {
            let (connect, json) = (args.connect, args.json);
            check::run(&files(&args.config), check::Options { connect, json })
        }
        Command::Admin(command) => weir::admin::client::run(&command),
        Command::Completions { shell } => print(|out| cli::completions(shell, out)),
        Command::Man => print(cli::man),
        Command::HelpAll => print(cli::help_all),
    }
}

/// What clap says instead of a command: help and version on stdout, errors on stderr.
fn help(said: &clap::Error) -> ExitCode {
    let printed = said.print().and_then(|()| io::stdout().flush());
    let code = u8::try_from(said.exit_code()).unwrap_or(output::FAILED);
    match printed.map_err(Failure::Stdout) {
        Err(failure) if !said.use_stderr() => ExitCode::from(failure.end()),
        _ => ExitCode::from(code),
    }
}

/// `weir run` or `weir supervise`, with what the command line has to say about the configuration.
type Serve = fn(&Files, &dyn Fn(&mut Config)) -> ExitCode;

fn run(args: &RunArgs, run: Serve) -> ExitCode {
    let (level, format) = (args.log_level.clone(), args.log_format);
    run(&files(&args.config), &move |config| {
        if let Some(level) = &level {
            config.log.level.clone_from(level);
        }
        if let Some(format) = format {
            config.log.format = format.into();
        }
    })
}

fn files(args: &ConfigArgs) -> Files {
    Files {
        weir_toml: args.file().map(Into::into),
        deployment_toml: args.deployment_toml.clone(),
        sys: args.sys.iter().cloned().collect(),
        secrets_dir: args.secrets_dir.clone(),
    }
}

fn print(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> ExitCode {
    let mut text = Vec::new();
    let written = write(&mut text).map_err(Failure::Stdout);
    match written.and_then(|()| output::print(&String::from_utf8_lossy(&text))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.end()),
    }
}
