//! The weir binary: parse arguments, run, map the result to an exit code.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, LocalOptions};
use weir::app::{self, Files};
use weir::cli::{self, Cli, Command, ConfigArgs, RunArgs};
use weir::{check, demo};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Check(args) => {
            let (connect, json) = (args.connect, args.json);
            check::run(&files(&args.config), check::Options { connect, json })
        }
        Command::Demo(args) => demo::run(&args),
        Command::Load(args) => lab(weir::lab::load::run(args)),
        Command::Sink(args) => lab(weir::lab::sink::run(args)),
        Command::Soak(args) => lab(weir::lab::soak::run(args)),
        Command::Admin(command) => weir::admin::client::run(&command),
        Command::Completions { shell } => print(cli::completions(shell, &mut io::stdout())),
        Command::Man => print(cli::man(&mut io::stdout())),
        Command::HelpAll => print(cli::help_all(&mut io::stdout())),
    }
}

fn run(args: &RunArgs) -> ExitCode {
    let (level, format) = (args.log_level.clone(), args.log_format);
    app::run(&files(&args.config), &move |config| {
        if let Some(level) = &level {
            config.log.level.clone_from(level);
        }
        if let Some(format) = format {
            config.log.format = format.into();
        }
    })
}

/// Runs a command of the laboratory on this thread.
fn lab<R>(command: impl Future<Output = Result<R, String>>) -> ExitCode {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let ended = runtime
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(command));
    match ended {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn files(args: &ConfigArgs) -> Files {
    Files {
        weir_toml: args.file().map(Into::into),
        deployment_toml: args.deployment_toml.clone(),
        sys: args.sys.iter().cloned().collect(),
        secrets_dir: args.secrets_dir.clone(),
    }
}

fn print(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
