//! `[queue]`, `[group.NAME]` and `[link]`: how events wait and how they travel to the Traffic Managers.

use std::time::Duration;

use super::gateway_side::UPSTREAM_MAX_BYTES;
use super::problem::Bad;
use super::raw::Section;
use super::values::{self, count, duration, duration_or_never, is_never, number, size, word};
use super::{Heartbeat, Link, Queue, Secret, Shed};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Block,
    Shed,
}

/// A queue's settings before `overflow` is folded into `block_timeout`.
#[derive(Debug, Clone)]
pub(super) struct QueueSettings {
    overflow: Overflow,
    queue: Queue,
}

impl Default for QueueSettings {
    fn default() -> Self {
        let queue = Queue {
            events_max: 1_000_000,
            bytes_max: 256 << 20,
            block_timeout: Some(SECOND),
            shed: Shed::Oldest,
            unavailable_after: Some(5 * SECOND),
            max_age: None,
            max_age_streams: std::collections::BTreeMap::new(),
        };
        Self {
            overflow: Overflow::Block,
            queue,
        }
    }
}

impl QueueSettings {
    /// The valid form.
    pub(super) fn into_queue(self) -> Queue {
        match self.overflow {
            Overflow::Block => self.queue,
            Overflow::Shed => Queue {
                block_timeout: Some(Duration::ZERO),
                ..self.queue
            },
        }
    }
}

/// The keys of `[queue]`, read from that table or from a `[group.NAME]`, over `base`.
pub(super) fn queue(s: &Section<'_>, base: &QueueSettings) -> QueueSettings {
    let old = &base.queue;
    let overflow = s.read("overflow", base.overflow, |g| {
        word(g, &[("block", Overflow::Block), ("shed", Overflow::Shed)])
    });
    let mut queue = Queue {
        events_max: s.read("max_events", old.events_max, |g| count(g, 1, 1_000_000_000)),
        bytes_max: s.read("max_bytes", old.bytes_max, |g| size(g, 64 << 10, 1 << 40)),
        block_timeout: s.read("block_timeout", old.block_timeout, |g| {
            duration_or_never(g, Duration::ZERO)
        }),
        shed: s.read("shed", old.shed, |g| {
            word(g, &[("oldest", Shed::Oldest), ("newest", Shed::Newest)])
        }),
        unavailable_after: s.read("unavailable_after", old.unavailable_after, |g| {
            duration_or_never(g, Duration::ZERO)
        }),
        max_age: s.read("max_age", old.max_age, |g| duration_or_never(g, MILLISECOND)),
        max_age_streams: old.max_age_streams.clone(),
    };
    for (stream, given) in s.section("max_age_streams").all_given() {
        if !stream
            .rsplit_once(':')
            .is_some_and(|(name, version)| !name.is_empty() && !version.is_empty())
        {
            let hint = "write it as on the wire, as \"org.wso2.throttle.request.stream:1.0.0\"";
            s.context.problem(
                Some(&given.place),
                &given.key,
                Bad::new("the key is not a stream id", hint),
            );
        }
        match duration_or_never(&given, MILLISECOND) {
            Ok(age) => drop(queue.max_age_streams.insert(stream.to_owned(), age)),
            Err(bad) => s.context.problem(Some(&given.place), &given.key, bad),
        }
    }
    if overflow == Overflow::Shed && s.has("block_timeout") {
        s.warning(
            "block_timeout",
            "has no effect with overflow = \"shed\"",
            "remove it, or write overflow = \"block\"",
        );
    }
    QueueSettings { overflow, queue }
}

/// `[group.NAME]`: any key of `[queue]`, and credentials of its own.
pub(super) fn group(
    s: &Section<'_>,
    base: &QueueSettings,
) -> (QueueSettings, Option<String>, Option<Secret>) {
    let settings = queue(s, base);
    let username = s.maybe("username", values::text);
    let password = s.maybe("password", values::secret);
    s.finish();
    if s.has("username") != s.has("password") {
        s.problem(
            "username",
            "username and password go together",
            "set both, or neither",
        );
    }
    (settings, username, password)
}

/// `[link]`.
pub(super) fn link(s: &Section<'_>) -> Link {
    let deadline = |key, default| s.read(key, default, |g| duration(g, 10 * MILLISECOND, 600 * SECOND));
    let link = Link {
        connect_timeout: deadline("connect_timeout", 5 * SECOND),
        tls_timeout: deadline("tls_timeout", 5 * SECOND),
        login_timeout: deadline("login_timeout", 10 * SECOND),
        reply_timeout: deadline("reply_timeout", 30 * SECOND),
        backoff_min: s.read("backoff_min", 100 * MILLISECOND, |g| {
            duration(g, MILLISECOND, 3600 * SECOND)
        }),
        backoff_max: s.read("backoff_max", 30 * SECOND, |g| {
            duration(g, MILLISECOND, 3600 * SECOND)
        }),
        linger: s.read("linger", 10 * MILLISECOND, |g| {
            duration(g, Duration::ZERO, SECOND)
        }),
        batch_max_bytes: s.read("batch_max_bytes", 128 << 10, |g| {
            size(g, 1 << 10, UPSTREAM_MAX_BYTES).map_err(|bad| Bad {
                hint: bad.hint.map(|hint| {
                    format!("{hint}: a Traffic Manager answers ok to a frame of 10 MB and drops it")
                }),
                ..bad
            })
        }),
        window_frames: s.read("window_frames", 32, |g| count(g, 1, 10_000)),
        heartbeat: heartbeat(s, "heartbeat", Some(beat(60)), MILLISECOND),
        failback_after: s.read("failback_after", 10 * SECOND, |g| {
            duration(g, Duration::ZERO, DAY)
        }),
    };
    s.finish();
    if s.sound(&["backoff_min", "backoff_max"]) && link.backoff_min > link.backoff_max {
        match s.has("backoff_min") {
            true => s.problem("backoff_min", "is longer than backoff_max", "write a shorter one"),
            false => s.problem("backoff_max", "is shorter than backoff_min", "write a longer one"),
        }
    }
    link
}

/// WSO2's factor with a delay in seconds.
pub(super) fn beat(delay_seconds: u64) -> Heartbeat {
    Heartbeat {
        delay: Duration::from_secs(delay_seconds),
        timeout_factor: 2.0,
    }
}

/// `{ delay = 60, timeout_factor = 2.0 }`, or `"off"`; delays are multiples of `unit`.
pub(super) fn heartbeat(
    s: &Section<'_>,
    key: &'static str,
    default: Option<Heartbeat>,
    unit: Duration,
) -> Option<Heartbeat> {
    if s.has(key) && !s.is_table(key) {
        let off = s.maybe(key, |g| match is_never(g) {
            true => Ok(()),
            false => Err(Bad::new(
                format!("{} is not a heartbeat", g.quote()),
                "write { delay = 60, timeout_factor = 2.0 }, or \"off\"",
            )),
        });
        return if off.is_some() { None } else { default };
    }
    let table = s.section(key);
    let base = default.unwrap_or_else(|| beat(60));
    let beat = Heartbeat {
        delay: table.read("delay", base.delay, |g| {
            let (least, longest) = (unit.max(10 * MILLISECOND), 65_535 * SECOND);
            let hint = match unit == SECOND {
                true => "write whole seconds from 1 to 65535, as 30 or \"30s\"",
                false => "write seconds from 1 to 65535, as 60, or a duration from \"10ms\" to \"65535s\"",
            };
            let delay = match &g.scalar {
                // WSO2's word has no unit: seconds.
                super::references::Scalar::Integer(n) => {
                    let seconds = u64::try_from(*n).ok().filter(|n| (1..=65_535).contains(n));
                    let bad = || Bad::new(format!("{} is not a delay", g.quote()), hint);
                    Duration::from_secs(seconds.ok_or_else(bad)?)
                }
                _ => duration(g, least, longest).map_err(|bad| Bad::new(bad.message, hint))?,
            };
            match delay.as_nanos().is_multiple_of(unit.as_nanos()) {
                true => Ok(delay),
                false => Err(Bad::new(format!("{} is not in whole seconds", g.quote()), hint)),
            }
        }),
        timeout_factor: table.read("timeout_factor", base.timeout_factor, |g| number(g, 1.5, 100.0)),
    };
    table.finish();
    Some(beat)
}
