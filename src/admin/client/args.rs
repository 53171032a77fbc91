//! Arguments of the commands that talk to a running weir.

use std::convert::Infallible;

use clap::{Args, Subcommand};

use crate::config::Secret;
use crate::tap::TapOptions;

/// Where weir's admin port is, and the token for it.
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
    /// Its admin.token; prefer the variable, other users can read command lines
    #[arg(long, value_name = "TOKEN", env = "WEIR_ADMIN_TOKEN", hide_env_values = true, value_parser = secret)]
    pub token: Option<Secret>,
}

/// Commands to a running weir.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Show a running weir: groups, endpoints, queues, and why something is not up
    Status {
        /// Which weir.
        #[command(flatten)]
        admin: AdminArgs,
        /// Print the JSON of /status instead of tables
        #[arg(long)]
        json: bool,
    },
    /// Make a running weir read its configuration again
    ///
    /// The new configuration takes effect as a whole or not at all; then every problem is listed and the exit code is 2.
    Reload {
        /// Which weir.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Take a running weir out of service, or put it back
    ///
    /// It is no longer ready, sends gateways away, and delivers what it has.
    Drain {
        /// Which weir.
        #[command(flatten)]
        admin: AdminArgs,
        /// Take the drain back: serve again
        #[arg(long)]
        undo: bool,
    },
    /// Replace a running weir by the program that its path names now
    ///
    /// For a weir under `weir supervise`. Starts the new process and waits until it answers; the old one then drains and
    /// ends. If the new process does not get ready, the old one stays, and the exit code is 1.
    Upgrade {
        /// Which weir.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Switch a Traffic Manager of a running weir on or off
    ///
    /// Lasts until it is switched back or weir restarts, and is independent of health.
    #[command(after_help = "Example:\n  weir endpoint disable group1 tm1.example:9611")]
    Endpoint {
        /// On or off.
        #[command(subcommand)]
        switch: Switch,
    },
    /// Watch the events that pass a running weir, as lines of JSON
    ///
    /// What may identify a person is masked; equal values get equal marks, such as ~3f9a1c07be. Weir and its gateways
    /// never wait for this command: events are skipped instead, and counted at the end.
    #[command(after_help = TAP_EXAMPLES)]
    Tap(TapArgs),
    /// Show or change the log level of a running weir
    #[command(
        after_help = "Examples:\n  weir log-level\n  weir log-level debug\n  weir log-level weir::egress=debug,info"
    )]
    LogLevel {
        /// The level to set; shows the current level if omitted
        level: Option<String>,
        /// Which weir.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

const TAP_EXAMPLES: &str = "\
Examples:
  weir tap
  weir tap --api PizzaAPI --count 10
  weir tap --stream org.wso2.blocking.request.stream --duration 5m
  weir tap --sample 100 | jq -r .payload.apiName

Events go to standard output, counts to standard error. Streams other than the throttle stream are decoded if \
admin.tap_streams names a file with their definitions.

Exit codes: 0 ended by --count, --duration or a drain; 1 weir was not reached, or the connection was lost; 2 weir \
refused (no token, admin.tap)";

/// Arguments of `weir tap`.
#[derive(Debug, Clone, Args)]
pub struct TapArgs {
    /// What to show.
    #[command(flatten)]
    pub options: TapOptions,
    /// Which weir.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// On or off.
#[derive(Debug, Clone, Subcommand)]
pub enum Switch {
    /// Use the endpoint again
    Enable(WhichEndpoint),
    /// Send it nothing more; unanswered events go to another endpoint of its group, or wait
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

fn secret(text: &str) -> Result<Secret, Infallible> {
    // A variable that was made from a file may end with a line break, as the file behind admin.token may.
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_after_a_token_are_ignored() {
        for given in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            assert_eq!(secret(given).unwrap().expose(), "s3cret");
        }
    }
}
