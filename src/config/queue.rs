//! `[queue]` and `[group.NAME]`: how events wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Secret;
use super::kinds::{MILLISECOND, count, secret, size, text, time_from, word};
use super::problem::Bad;
use super::section::Section;
use super::settings::{Field as _, settings};

settings! {
    /// Limits of one group's queue, and what it does when it is full.
    pub struct Queue("queue.") {
        "max_events" events_max: usize = count(1, 1_000_000_000), or 1_000_000, Now,
            "Events a group may hold, queued and in flight.";
        "max_bytes" bytes_max: usize = size(64 << 10, 1 << 40), or "256MiB", Now,
            "The same in bytes; groups share the bytes of an event.";
        "block_timeout" block_timeout: Option<Duration> = time_from(Duration::ZERO).or("never"), or "1s", Now,
            "How long a full queue makes gateways wait, per incident; \"never\" = until it has capacity again. Zero with overflow = \"shed\".";
        "shed" shed: Shed = word(&[("oldest", Shed::Oldest), ("newest", Shed::Newest)]), or "oldest", Now,
            "Which events a shedding queue drops.";
        "unavailable_after" unavailable_after: Option<Duration> = time_from(Duration::ZERO).or("never"), or "5s", Now,
            "A group without a usable link for this long no longer makes gateways wait; \"never\" = it does.";
        "max_age" max_age: Option<Duration> = time_from(MILLISECOND).or("off"), or "off", Now,
            "Older events are dropped instead of being sent.";
    }
    documented {
        "overflow" = "`\"block\"`, `\"shed\"`", or "block", Now,
            "When the queue is full: \"block\" = gateways wait for block_timeout, then the queue sheds; \"shed\" = it sheds at once.";
        "max_age_streams" = "table: stream id = duration", eg { "org.wso2.throttle.request.stream:1.0.0" = "30s" }, Now,
            "max_age by stream id; wins over max_age.";
    }
    and {
        /// `max_age` by stream id (wins over `max_age`); `None` = off for that stream.
        max_age_streams: BTreeMap<String, Option<Duration>>,
    }
}

settings! {
    /// The keys of `[group.NAME]` besides those of `[queue]`.
    pub(super) struct GroupKeys("group.NAME.") {
        "username" username: Option<String> = text(), eg "other", Now,
            "Credentials of this group's Traffic Managers, where they differ from those of [apim.throttling]; set both or neither.";
        "password" password: Option<Secret> = secret(), eg "$env{OTHER_PASSWORD}", Now,
            "Goes with username.";
    }
}

/// Which events a shedding queue drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// From the front of the queue.
    Oldest,
    /// The ones that arrive.
    Newest,
}

/// A queue's settings, before it is known that `overflow = "shed"` wins over `block_timeout`.
#[derive(Clone)]
pub(super) struct Settings {
    queue: Queue,
    sheds: bool,
}

impl Settings {
    pub(super) fn queue(&self) -> Queue {
        let mut queue = self.queue.clone();
        if self.sheds {
            queue.block_timeout = Some(Duration::ZERO);
        }
        queue
    }
}

/// The keys of `[queue]`, read from that table, or from a `[group.NAME]` over `base`.
pub(super) fn queue(s: &Section<'_>, base: Option<&Settings>) -> Option<Settings> {
    let mut streams = base
        .map(|base| base.queue.max_age_streams.clone())
        .unwrap_or_default();
    for (stream, given) in s.section("max_age_streams").all_given() {
        if !stream
            .rsplit_once(':')
            .is_some_and(|(name, version)| !name.is_empty() && !version.is_empty())
        {
            let hint = "write it as on the wire, as \"org.wso2.throttle.request.stream:1.0.0\"";
            s.refuse(&given, Bad::new("the key is not a stream id", hint));
        }
        let age = s.accept(&given, time_from(MILLISECOND).or("never").parse(&given));
        streams.extend(age.map(|age| (stream.to_owned(), age)));
    }
    let queue = Queue::read(s, base.map(|base| &base.queue), streams)?;
    let sheds = word(&[("block", false), ("shed", true)]).read(s, "overflow");
    let sheds = sheds.unwrap_or(base.is_some_and(|base| base.sheds));
    if sheds && s.has("block_timeout") {
        let hint = "remove it, or write overflow = \"block\"";
        s.warning("block_timeout", "has no effect with overflow = \"shed\"", hint);
    }
    Some(Settings { queue, sheds })
}

/// `[group.NAME]`: any key of `[queue]`, and credentials of its own.
pub(super) fn group(s: &Section<'_>, base: &Settings) -> Option<(Settings, GroupKeys)> {
    let (queue, keys) = (queue(s, Some(base))?, GroupKeys::read(s, None)?);
    s.finish();
    if s.has("username") != s.has("password") {
        s.problem(
            "username",
            "username and password go together",
            "set both, or neither",
        );
    }
    Some((queue, keys))
}
