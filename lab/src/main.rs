//! The binary of the laboratory.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};
use weir::app::{self, Files};
use weir::config::LogFormat;
use weir::output::Failure;
use weir_lab::args::{LoadArgs, SinkArgs, SoakArgs};
use weir_lab::demo::{self, DemoArgs};
use weir_lab::{load, sink, soak};

/// Weir's laboratory: what its tests trust, as commands.
#[derive(Parser)]
#[command(name = "weir-lab", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// See it work: gateways, weir, Traffic Managers and a broker in one process, with failures and a verdict
    #[command(
        after_help = "Examples:\n  weir-lab demo\n  weir-lab demo --duration 60s --gateways 64 --rate 20000\n\nExit code 1 if any event or decision was lost"
    )]
    Demo(DemoArgs),
    /// Generate load: publish as many gateways do, to a weir or a Traffic Manager
    #[command(
        after_help = "Example:\n  weir-lab load --target tcp://weir:9611 --auth ssl://weir:9711 --ca weir.pem --duration 10s"
    )]
    Load(LoadArgs),
    /// Run a stand-in Traffic Manager that counts what it receives
    #[command(after_help = "Example:\n  weir-lab sink --listen 127.0.0.1:9611 --auth-listen 127.0.0.1:9711")]
    Sink(SinkArgs),
    /// Run weir under load and failures for a long time, and judge it
    ///
    /// Starts a weir with stand-in gateways and Traffic Managers, and breaks their network in every way, one at a time. Fails if
    /// an event is lost that weir has not counted, or if memory, descriptors or threads have grown.
    #[command(after_help = "Example:\n  weir-lab soak --duration 10m")]
    Soak(SoakArgs),
    /// The weir of a soak: as `weir run --log-format json`
    #[command(hide = true)]
    Weir { config: PathBuf },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Load(args) => run(load::run(args)),
        Command::Sink(args) => run(sink::run(args)),
        Command::Soak(args) => run(soak::run(args)),
        Command::Weir { config } => {
            let files = Files {
                weir_toml: Some(config),
                ..Files::default()
            };
            app::run(&files, &|config| config.log.format = LogFormat::Json)
        }
    }
}

/// Runs a command on this thread.
fn run<R>(command: impl Future<Output = Result<R, Failure>>) -> ExitCode {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let ended = runtime
        .map_err(|e| Failure::Said(e.to_string()))
        .and_then(|runtime| runtime.block_on(command));
    match ended {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.end()),
    }
}
