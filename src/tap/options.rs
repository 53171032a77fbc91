//! The options of a tap: the body of `POST /tap`, and the arguments of `weir tap`.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::event::{Decoded, Value};

/// Events that a worker copies in a second when a filter needs to see what is in them.
pub const COPIED_PER_SECOND: u32 = 2000;

/// By default: all events, at most 100 a second, masked, until the caller disconnects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Args)]
#[serde(default, deny_unknown_fields)]
pub struct TapOptions {
    /// Only this stream: its id, or its name without the version
    #[arg(long, value_name = "ID")]
    pub stream: Option<String>,
    /// Only events of the API with this name or context
    #[arg(long, value_name = "NAME")]
    pub api: Option<String>,
    /// Only events of the application with this id
    #[arg(long, value_name = "ID")]
    pub application: Option<String>,
    /// Take only every N-th event
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: u64,
    /// Show at most N events a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
    /// Show masked fields too; needs admin.tap = "full"
    #[arg(long)]
    pub unmask: bool,
    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time, as 30s or 5m
    #[arg(long = "duration", value_name = "TIME", value_parser = milliseconds)]
    pub duration_ms: Option<u64>,
}

fn milliseconds(text: &str) -> Result<u64, humantime::DurationError> {
    humantime::parse_duration(text).map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            stream: None,
            api: None,
            application: None,
            sample: 1,
            rate: 100,
            unmask: false,
            count: None,
            duration_ms: None,
        }
    }
}

impl TapOptions {
    /// Reads a body; an empty one means the defaults.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let options: Self = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if !(1..=COPIED_PER_SECOND).contains(&options.rate) {
            return Err(format!("rate must be between 1 and {COPIED_PER_SECOND}"));
        }
        if options.sample == 0 || options.count == Some(0) {
            return Err("sample and count must be at least 1".into());
        }
        Ok(options)
    }

    /// The most events that each worker copies in a second.
    #[must_use]
    pub fn copied_per_second(&self) -> u32 {
        match (&self.api, &self.application) {
            (None, None) => self.rate,
            _ => COPIED_PER_SECOND,
        }
    }

    /// Whether an event is of the API and the application asked for.
    #[must_use]
    pub fn matches(&self, event: &Decoded<'_>) -> bool {
        let has = |wanted: &Option<String>, names: &[&str]| {
            wanted.as_ref().is_none_or(|wanted| {
                event.attributes().any(|(attribute, value)| {
                    names.contains(&attribute.name.as_str())
                        && matches!(value, Value::Text(text) if text == wanted.as_str())
                })
            })
        };
        has(&self.api, &["apiName", "apiContext"]) && has(&self.application, &["appId", "applicationId"])
    }
}
