//! `[link]`: how links to Traffic Managers behave. Also heartbeats, which the return leg has as well.

use std::time::Duration;

use super::ingress::UPSTREAM_MAX_BYTES;
use super::kinds::{DAY, HOUR, Kind, MILLISECOND, SECOND, count, is_none, number, size, time};
use super::problem::Bad;
use super::references::Scalar;
use super::section::{Given, Section};
use super::settings::{Field, settings};

settings! {
    /// Links to Traffic Managers.
    pub struct Link("link.") {
        "connect_timeout" connect_timeout: Duration = deadline(), or "5s", NextConnection,
            "Deadline of a connection, name resolution included.";
        "tls_timeout" tls_timeout: Duration = deadline(), or "5s", NextConnection,
            "Deadline of its TLS handshake.";
        "login_timeout" login_timeout: Duration = deadline(), or "10s", NextConnection,
            "Deadline of the reply to the login.";
        "reply_timeout" reply_timeout: Duration = deadline(), or "30s", Now,
            "Deadline of the reply to the oldest frame in flight.";
        "backoff_min" backoff_min: Duration = time(MILLISECOND, HOUR), or "100ms", Now,
            "First wait before a new connection; doubles, with jitter.";
        "backoff_max" backoff_max: Duration = time(MILLISECOND, HOUR), or "30s", Now,
            "Longest such wait, jitter included. 1s after a connection that was refused or closed; after a wrong password 10s, doubling to 5 minutes.";
        "linger" linger: Duration = time(Duration::ZERO, SECOND), or "10ms", Now,
            "How long a busy link gathers events before it sends, at most; 0 = it never waits. An idle link sends at once.";
        "batch_max_bytes" batch_max_bytes: usize = size(1 << 10, UPSTREAM_MAX_BYTES)
            .because("a Traffic Manager answers ok to a frame of 10 MB and drops it"), or "128KiB", Now,
            "Largest frame weir builds; a larger event travels alone. Traffic Managers drop frames of 10 MB.";
        "window_frames" window_frames: usize = count(1, 10_000), or 32, Now,
            "Frames in flight; at most these are sent twice when a connection breaks.";
        "heartbeat" heartbeat: Option<Heartbeat> = LinkHeartbeat, or { delay = 60, timeout_factor = 2.0 }, Now,
            "Heartbeat on a link that is silent for `delay`, in seconds or as \"60s\"; without a reply for delay x timeout_factor the connection is dead.";
        "failback_after" failback_after: Duration = time(Duration::ZERO, DAY), or "10s", Now,
            "Failover: how long the first Traffic Manager must be healthy before it is used again.";
    }
}

/// Heartbeat in the words of WSO2's broker setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heartbeat {
    /// Silence before a heartbeat is sent.
    pub delay: Duration,
    /// Dead after `delay * timeout_factor` without any byte.
    pub timeout_factor: f64,
}

impl Heartbeat {
    /// How long without a byte before the peer counts as dead.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.delay.mul_f64(self.timeout_factor)
    }
}

/// `[link]`.
pub(super) fn link(s: &Section<'_>) -> Option<Link> {
    let link = Link::read(s, None)?;
    s.finish();
    if s.sound(&["backoff_min", "backoff_max"]) && link.backoff_min > link.backoff_max {
        match s.has("backoff_min") {
            true => s.problem("backoff_min", "is longer than backoff_max", "write a shorter one"),
            false => s.problem("backoff_max", "is shorter than backoff_min", "write a longer one"),
        }
    }
    Some(link)
}

fn deadline() -> Kind<Duration> {
    time(10 * MILLISECOND, 600 * SECOND)
}

/// `{ delay = 60, timeout_factor = 2.0 }` or `"off"`.
struct LinkHeartbeat;

impl Field for LinkHeartbeat {
    type Value = Option<Heartbeat>;

    fn read(&self, s: &Section<'_>, key: &'static str) -> Option<Option<Heartbeat>> {
        heartbeat(s, key, 60 * SECOND, MILLISECOND)
    }

    fn form(&self) -> String {
        "delay: 1 to 65535 (seconds) or 10ms to 65535s; timeout_factor: 1.5 to 100; or `\"off\"`".into()
    }
}

/// The same for the return leg: whole seconds, as AMQP has it, and never off.
pub(super) struct AmqpHeartbeat;

impl Field for AmqpHeartbeat {
    type Value = Heartbeat;

    fn read(&self, s: &Section<'_>, key: &'static str) -> Option<Heartbeat> {
        let given = heartbeat(s, key, 30 * SECOND, SECOND)?;
        if given.is_none() {
            let hint = "write { delay = 30, timeout_factor = 2.0 }";
            s.problem(key, "cannot be off: it is what keeps this leg alive", hint);
        }
        given
    }

    fn form(&self) -> String {
        "delay: 1 to 65535 (whole seconds); timeout_factor: 1.5 to 100".into()
    }
}

/// Delays are multiples of `unit`. `None`: missing, or wrong (noted).
fn heartbeat(
    s: &Section<'_>,
    key: &'static str,
    delay: Duration,
    unit: Duration,
) -> Option<Option<Heartbeat>> {
    if s.value(key)?.as_table().is_none() {
        let off = s.maybe(key, |given| match is_none(given) {
            true => Ok(None),
            false => Err(Bad::new(
                format!("{} is not a heartbeat", given.quote()),
                "write { delay = 60, timeout_factor = 2.0 }, or \"off\"",
            )),
        });
        return off;
    }
    let table = s.section(key);
    let factor = table.maybe("timeout_factor", |given| number(given, 1.5, 100.0));
    let given = table.maybe("delay", |given| heartbeat_delay(given, unit));
    table.finish();
    Some(Some(Heartbeat {
        delay: given.unwrap_or(delay),
        timeout_factor: factor.unwrap_or(2.0),
    }))
}

fn heartbeat_delay(given: &Given, unit: Duration) -> Result<Duration, Bad> {
    let hint = match unit == SECOND {
        true => "write whole seconds from 1 to 65535, as 30 or \"30s\"",
        false => "write seconds from 1 to 65535, as 60, or a duration from \"10ms\" to \"65535s\"",
    };
    let bad = |what: &str| Bad::new(format!("{} {what}", given.quote()), hint);
    let delay = match &given.scalar {
        // WSO2's setting has no unit: seconds.
        Scalar::Integer(n @ 1..=65_535) => Duration::from_secs(n.unsigned_abs()),
        Scalar::Integer(_) => return Err(bad("is not a delay")),
        _ => {
            let range = time(unit.max(10 * MILLISECOND), 65_535 * SECOND);
            range.parse(given).map_err(|bad| Bad::new(bad.message, hint))?
        }
    };
    match delay.as_nanos().is_multiple_of(unit.as_nanos()) {
        true => Ok(delay),
        false => Err(bad("is not in whole seconds")),
    }
}
