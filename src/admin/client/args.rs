//! Arguments of the commands that talk to a running weir.

use std::convert::Infallible;

use clap::{Args, Subcommand};

use crate::config::Secret;

/// Where weir's admin port is, and who asks.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The admin port of the weir to talk to
    #[arg(
        long,
        value_name = "URL",
        env = "WEIR_ADMIN",
        default_value = "http://127.0.0.1:9619"
    )]
    pub admin: String,
    /// Its admin.token; better given by the variable than on the command line, which others can read
    #[arg(long, value_name = "TOKEN", env = "WEIR_ADMIN_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,
}

/// What a running weir can be asked.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Show a running weir: groups, endpoints, queues, and why something is not up
    Status(StatusArgs),
    /// Let a running weir read its configuration again
    ///
    /// All of the new configuration comes in force, or none of it; then every problem is listed and the exit
    /// code is 2.
    Reload(ReloadArgs),
    /// Take a running weir out of service, or put it back
    ///
    /// It is no longer ready, accepts no new connections, and delivers what it has.
    Drain(DrainArgs),
    /// Switch a Traffic Manager of a running weir on or off
    ///
    /// The switch lasts until it is turned back or weir restarts, and has nothing to do with health.
    #[command(after_help = "Example:\n  weir endpoint disable group1 tm1.example:9611")]
    Endpoint(EndpointArgs),
    /// Show or change the log level of a running weir
    #[command(
        after_help = "Examples:\n  weir log-level\n  weir log-level debug\n  weir log-level weir::egress=debug,info"
    )]
    LogLevel(LogLevelArgs),
}

/// Arguments of `weir status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    /// Which weir.
    pub admin: AdminArgs,
    /// Print the JSON of /status instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `weir reload`.
#[derive(Debug, Clone, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    /// Which weir.
    pub admin: AdminArgs,
}

/// Arguments of `weir drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    /// Which weir.
    pub admin: AdminArgs,
    /// Take the drain back: serve again
    #[arg(long)]
    pub undo: bool,
}

/// Arguments of `weir endpoint`.
#[derive(Debug, Clone, Args)]
pub struct EndpointArgs {
    /// On or off.
    #[command(subcommand)]
    pub switch: Switch,
}

/// On or off.
#[derive(Debug, Clone, Subcommand)]
pub enum Switch {
    /// Use the endpoint again
    Enable(WhichEndpoint),
    /// Send it nothing more; what it has not answered goes to another endpoint of its group, or waits
    Disable(WhichEndpoint),
}

/// An endpoint of a group.
#[derive(Debug, Clone, Args)]
pub struct WhichEndpoint {
    /// Name of the group, as `weir status` shows it
    pub group: String,
    /// Name of the endpoint: host:port
    pub endpoint: String,
    #[command(flatten)]
    /// Which weir.
    pub admin: AdminArgs,
}

/// Arguments of `weir log-level`.
#[derive(Debug, Clone, Args)]
pub struct LogLevelArgs {
    /// The level to set; without it the one in force is shown
    pub level: Option<String>,
    #[command(flatten)]
    /// Which weir.
    pub admin: AdminArgs,
}

fn secret(text: &str) -> Result<Secret, Infallible> {
    // A mounted file that became a variable ends with a line break, as the file behind admin.token may.
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_behind_a_token_is_no_part_of_it() {
        for given in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            assert_eq!(secret(given).unwrap().expose(), "s3cret");
        }
    }
}
