//! Which broker a gateway gets, and whether it answers.
//!
//! A broker has answered when its Start is there: one that accepts connections and says nothing (a Traffic
//! Manager that is starting, or hangs) is passed over like one that refuses.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::frame::{self, HEADER_BYTES, Kind, Protocol, Scan};
use crate::config::{Policy, Url};
use crate::net::{Dialer, Stream};

/// Deadline of name resolution and TCP connect to a broker.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Deadline of the TLS handshake with a broker.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline of Start, from the moment the protocol header was sent.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// Of an answer that is not AMQP so many bytes are shown.
const SHOWN_BYTES: usize = 16;
/// So long after a failure a broker is tried behind the others, so that a dead broker costs no gateway its
/// timeout. Longer than the time between two probes of it, so that it ends with the first probe that is answered.
const SHUNNED: Duration = Duration::from_secs(15);
/// A proof that a broker answers is good for this long.
const FRESH: Duration = Duration::from_secs(1);

/// The memory behind the choice: what tries and probes found.
#[derive(Debug, Default)]
pub(super) struct Brokers {
    turn: AtomicUsize,
    found: Mutex<HashMap<String, Found>>,
}

/// What was found at a broker when it was last tried or probed.
#[derive(Debug, Clone, Copy)]
struct Found {
    at: Instant,
    /// Whether it answered; if not, the class of the failure.
    answer: Result<Answer, &'static str>,
    /// Since when, and when last, it has answered probes with Start, without a failure in between.
    proven: Option<(Instant, Instant)>,
}

/// A broker that answered, and the bytes it answered with.
pub(super) struct Answered {
    pub(super) stream: Stream,
    pub(super) first: BytesMut,
    pub(super) answer: Answer,
}

/// What kind of answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Start (or, where the framing is not known, anything): go on.
    Start,
    /// A protocol header: it does not speak this version, and closes (AMQP 0-9-1, 4.2.2).
    OtherVersion,
}

/// Why a broker is no use now.
#[derive(Debug)]
pub(super) struct Refusal {
    /// One of [`super::status::BROKER_FAILURES`].
    pub(super) class: &'static str,
    /// One line for people.
    pub(super) message: String,
}

impl Brokers {
    /// The brokers in the order to try them.
    pub(super) fn order(&self, brokers: &[Url], policy: Policy, now: Instant) -> Vec<Url> {
        let turn = match policy {
            Policy::Failover => 0,
            Policy::Loadbalance => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let found = self.lock();
        order(brokers, turn, |url| {
            let last = found.get(&url.to_string());
            last.is_some_and(|last| last.answer.is_err() && now < last.at + SHUNNED)
        })
    }

    /// Remembers how a session's try ended.
    pub(super) fn tried(&self, url: &Url, answer: Result<Answer, &'static str>, now: Instant) {
        self.remember(url, answer, now, |proven| proven);
    }

    /// Remembers how a probe ended.
    pub(super) fn probed(&self, url: &Url, answer: Result<Answer, &'static str>, now: Instant) {
        self.remember(url, answer, now, |proven| match answer {
            Ok(Answer::Start) => Some((proven.map_or(now, |(since, _)| since), now)),
            _ => None,
        });
    }

    fn remember(
        &self,
        url: &Url,
        answer: Result<Answer, &'static str>,
        now: Instant,
        prove: impl FnOnce(Option<(Instant, Instant)>) -> Option<(Instant, Instant)>,
    ) {
        let mut found = self.lock();
        let before = found.get(&url.to_string()).and_then(|last| last.proven);
        let proven = prove(before.filter(|_| answer.is_ok()));
        let last = Found {
            at: now,
            answer,
            proven,
        };
        found.insert(url.to_string(), last);
    }

    /// How the last try or probe of a broker ended.
    pub(super) fn last(&self, name: &str) -> Option<Result<Answer, &'static str>> {
        self.lock().get(name).map(|last| last.answer)
    }

    /// Until when a broker that has answered every probe for `after` may be relied upon; `None` = it has not.
    pub(super) fn proven_until(&self, name: &str, after: Duration, now: Instant) -> Option<Instant> {
        let (since, at) = self.lock().get(name)?.proven?;
        (now >= since + after).then(|| at + FRESH)
    }

    /// Forgets the brokers that are not among these.
    pub(super) fn keep(&self, names: &[String]) {
        self.lock().retain(|name, _| names.contains(name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// From the `turn`-th on, round; those that failed just now behind the others.
fn order(brokers: &[Url], turn: usize, shunned: impl Fn(&Url) -> bool) -> Vec<Url> {
    let start = turn.checked_rem(brokers.len()).unwrap_or_default();
    let mut order: Vec<Url> = brokers
        .iter()
        .cycle()
        .skip(start)
        .take(brokers.len())
        .cloned()
        .collect();
    // Stable: among equals the order stays.
    order.sort_by_key(|url| shunned(url));
    order
}

/// Connects to a broker, sends the client's protocol header, and waits for the answer.
pub(super) async fn attempt(
    dialer: &Dialer,
    url: &Url,
    header: &[u8; HEADER_BYTES],
) -> Result<Answered, Refusal> {
    let dialed = dialer.dial(url, CONNECT_TIMEOUT, TLS_TIMEOUT).await;
    let stream = dialed.map_err(|e| Refusal {
        class: e.class.as_str(),
        message: e.message,
    })?;
    ask_for_start(stream, url, header).await
}

/// The second half of [`attempt`], over a connection that stands.
pub(super) async fn ask_for_start(
    mut stream: Stream,
    url: &Url,
    header: &[u8; HEADER_BYTES],
) -> Result<Answered, Refusal> {
    let mut first = BytesMut::new();
    match timeout(START_TIMEOUT, ask(&mut stream, header, &mut first)).await {
        Ok(Ok(answer)) => Ok(Answered {
            stream,
            first,
            answer,
        }),
        Ok(Err(refusal)) => Err(Refusal {
            message: format!("{url}: {}", refusal.message),
            ..refusal
        }),
        Err(_) => Err(Refusal {
            class: "mute",
            message: format!("{url} accepts connections and does not answer within {START_TIMEOUT:.1?}"),
        }),
    }
}

async fn ask(
    stream: &mut Stream,
    header: &[u8; HEADER_BYTES],
    first: &mut BytesMut,
) -> Result<Answer, Refusal> {
    let broke = |e: std::io::Error| Refusal {
        class: "closed",
        message: format!("before its Start: {e}"),
    };
    stream.write_all(header).await.map_err(broke)?;
    stream.flush().await.map_err(broke)?;
    loop {
        if stream.read_buf(first).await.map_err(broke)? == 0 {
            let message = "closed before its Start".into();
            return Err(Refusal {
                class: "closed",
                message,
            });
        }
        if let Some(answer) = judge(header, first)? {
            return Ok(answer);
        }
    }
}

/// PURE: what the bytes a broker began with mean; `None` = too few to tell.
fn judge(header: &[u8; HEADER_BYTES], first: &[u8]) -> Result<Option<Answer>, Refusal> {
    let Some(Protocol::Framed(version)) = Protocol::of(header) else {
        return Ok(Some(Answer::Start));
    };
    let protocol = |what: String| Refusal {
        class: "protocol",
        message: format!("is no AMQP broker: {what}"),
    };
    if first.starts_with(b"A") {
        return match first.first_chunk::<HEADER_BYTES>().map(Protocol::of) {
            None => Ok(None),
            Some(Some(_)) => Ok(Some(Answer::OtherVersion)),
            Some(None) => Err(protocol("its answer is not a protocol header".into())),
        };
    }
    // A TLS record (RFC 8446, 5.1): alert or handshake, version 3.x.
    if let [21 | 22, 3, ..] = first {
        return Err(protocol("it answers with TLS, so its URL needs ssl://".into()));
    }
    match frame::scan(first) {
        Ok(Scan::Partial(_)) => Ok(None),
        Ok(Scan::Whole(frame)) if frame.kind(version) == Kind::Start => Ok(Some(Answer::Start)),
        Ok(Scan::Whole(_)) => Err(protocol("its first frame is not Start".into())),
        Err(_) => Err(protocol(format!("its answer begins with {}", beginning(first)))),
    }
}

/// The first bytes, readable and harmless.
fn beginning(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    format!("\"{}\"", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scheme;
    use crate::decisions::frame::HEADER_0_9_1;

    fn urls(n: u16) -> Vec<Url> {
        let url = |port| Url {
            scheme: Scheme::Tcp,
            host: "tm".into(),
            port,
        };
        (1..=n).map(url).collect()
    }

    fn ports(order: &[Url]) -> Vec<u16> {
        order.iter().map(|u| u.port).collect()
    }

    #[test]
    fn failover_tries_in_order_and_round_robin_begins_one_further_each_time() {
        let (brokers, now) = (Brokers::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(ports(&brokers.order(&urls(3), Policy::Failover, now)), [1, 2, 3]);
        }
        let orders: Vec<_> = (0..4)
            .map(|_| ports(&brokers.order(&urls(3), Policy::Loadbalance, now)))
            .collect();
        assert_eq!(orders, [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
    }

    #[test]
    fn a_broker_that_failed_just_now_is_tried_last_and_not_for_long() {
        let (brokers, now) = (Brokers::default(), Instant::now());
        brokers.tried(&urls(1)[0], Err("mute"), now);
        assert_eq!(ports(&brokers.order(&urls(3), Policy::Failover, now)), [2, 3, 1]);
        assert_eq!(
            ports(&brokers.order(&urls(3), Policy::Failover, now + SHUNNED)),
            [1, 2, 3]
        );
        brokers.probed(&urls(1)[0], Ok(Answer::Start), now);
        assert_eq!(ports(&brokers.order(&urls(3), Policy::Failover, now)), [1, 2, 3]);
        brokers.probed(&urls(1)[0], Err("refused"), now);
        assert_eq!(
            ports(&brokers.order(&urls(3), Policy::Failover, now)),
            [2, 3, 1],
            "probes count as well"
        );
    }

    #[test]
    fn a_broker_is_proven_by_probes_alone_and_by_an_unbroken_row_of_them() {
        let (brokers, t) = (Brokers::default(), Instant::now());
        let (url, after) = (&urls(1)[0], FRESH * 5);
        let proven = |now| brokers.proven_until(&url.to_string(), after, now);
        brokers.tried(url, Ok(Answer::Start), t);
        assert_eq!(proven(t + after), None, "a session's try is no probe");
        brokers.probed(url, Ok(Answer::Start), t);
        brokers.probed(url, Ok(Answer::Start), t + FRESH * 3);
        assert_eq!(proven(t + FRESH * 4), None, "not for long enough");
        assert_eq!(
            proven(t + FRESH * 5),
            Some(t + FRESH * 4),
            "one second from the last answer"
        );
        brokers.tried(url, Ok(Answer::Start), t + FRESH * 5);
        assert_eq!(proven(t + FRESH * 5), Some(t + FRESH * 4));
        for broken in [Err("mute"), Ok(Answer::OtherVersion)] {
            brokers.probed(url, broken, t + FRESH * 6);
            brokers.probed(url, Ok(Answer::Start), t + FRESH * 7);
            assert_eq!(proven(t + FRESH * 8), None, "the row begins anew");
        }
        brokers.keep(&[]);
        assert_eq!(brokers.last(&url.to_string()), None);
    }

    #[test]
    fn answers_are_judged_at_every_length() {
        let start = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 10, 0xCE];
        for cut in 0..start.len() {
            assert_eq!(judge(&HEADER_0_9_1, &start[..cut]).unwrap(), None);
            assert_eq!(
                judge(b"AMQP\x01\x01\x00\x0A", &start[..cut]).unwrap(),
                Some(Answer::Start),
                "0-10"
            );
        }
        assert_eq!(judge(&HEADER_0_9_1, &start).unwrap(), Some(Answer::Start));
        for cut in 0..8 {
            assert_eq!(
                judge(&HEADER_0_9_1, &b"AMQP\x01\x01\x00\x0A"[..cut]).unwrap(),
                None
            );
        }
        assert_eq!(
            judge(&HEADER_0_9_1, b"AMQP\x01\x01\x00\x0A").unwrap(),
            Some(Answer::OtherVersion)
        );
        for wrong in [
            &b"APACHE!!"[..],
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\x15\x03\x03\0\x02\x02\x46",
            &[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 30, 0xCE],
        ] {
            assert_eq!(
                judge(&HEADER_0_9_1, wrong).unwrap_err().class,
                "protocol",
                "{wrong:?}"
            );
        }
        let said = |first| judge(&HEADER_0_9_1, first).unwrap_err().message;
        assert!(said(b"\x15\x03\x03\0\x02\x02\x46").contains("ssl://"));
        assert!(said(b"HTTP/1.1 \x1b[2J").contains("\"HTTP/1.1 \\x1b[2J\""));
    }
}
