//! Asking a broker for its Start: for a connection, for a probe, and for `weir check --connect`.
//!
//! A broker has answered when its Start is there. One that accepts connections and sends nothing (a Traffic Manager
//! that is starting, or hangs) counts as failed, like one that refuses.

use std::fmt;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::frame::{self, HEADER_0_9_1, HEADER_BYTES, Kind, Protocol, Scan};
use crate::config::Url;
use crate::net::{Dialer, Stream};

/// Deadline of name resolution and TCP connect to a broker.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Deadline of the TLS handshake with a broker.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline of Start, from the moment the protocol header was sent.
const START_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the connection of a check may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// So many bytes are shown of an answer that is not AMQP.
const SHOWN_BYTES: usize = 16;
/// The arguments of Start begin behind 7 bytes of frame header and 4 of class and method.
const ARGUMENTS_AT: usize = 11;

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

/// A broker that did not answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerError {
    /// One of [`super::BROKER_FAILURES`].
    pub class: &'static str,
    /// One line: what happened.
    pub message: String,
}

impl BrokerError {
    fn new(class: &'static str, message: String) -> Self {
        Self { class, message }
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for BrokerError {}

/// Connects to a broker, sends the client's protocol header, and waits for the answer.
pub(super) async fn connect(
    dialer: &Dialer,
    url: &Url,
    header: &[u8; HEADER_BYTES],
) -> Result<Answered, BrokerError> {
    let dialed = dialer.dial(url, CONNECT_TIMEOUT, TLS_TIMEOUT).await;
    let stream = dialed.map_err(|e| BrokerError::new(e.class.as_str(), e.message))?;
    ask_for_start(stream, url, header).await
}

/// The second half of [`connect`], over a connection that is established.
async fn ask_for_start(
    mut stream: Stream,
    url: &Url,
    header: &[u8; HEADER_BYTES],
) -> Result<Answered, BrokerError> {
    let mut first = BytesMut::new();
    match timeout(START_TIMEOUT, exchange(&mut stream, header, &mut first)).await {
        Ok(Ok(answer)) => Ok(Answered {
            stream,
            first,
            answer,
        }),
        Ok(Err(error)) => Err(BrokerError::new(error.class, format!("{url}: {}", error.message))),
        Err(_) => Err(BrokerError::new(
            "mute",
            format!("{url} accepts connections and does not answer within {START_TIMEOUT:.1?}"),
        )),
    }
}

async fn exchange(
    stream: &mut Stream,
    header: &[u8; HEADER_BYTES],
    first: &mut BytesMut,
) -> Result<Answer, BrokerError> {
    let failed = |e: std::io::Error| BrokerError::new("closed", format!("before its Start: {e}"));
    stream.write_all(header).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    loop {
        if stream.read_buf(first).await.map_err(failed)? == 0 {
            return Err(BrokerError::new("closed", "closed before its Start".into()));
        }
        if let Some(answer) = classify(header, first)? {
            return Ok(answer);
        }
    }
}

/// PURE: what the first bytes of a broker mean; `None` = too few to tell.
fn classify(header: &[u8; HEADER_BYTES], first: &[u8]) -> Result<Option<Answer>, BrokerError> {
    let Some(Protocol::Framed(version)) = Protocol::of(header) else {
        return Ok(Some(Answer::Start));
    };
    let error = |what: &str| Err(BrokerError::new("protocol", format!("is no AMQP broker: {what}")));
    if first.starts_with(b"A") {
        return match first.first_chunk::<HEADER_BYTES>().map(Protocol::of) {
            None => Ok(None),
            Some(Some(_)) => Ok(Some(Answer::OtherVersion)),
            Some(None) => error("its answer is not a protocol header"),
        };
    }
    // A TLS record (RFC 8446, 5.1): alert or handshake, version 3.x.
    if let [21 | 22, 3, ..] = first {
        return error("it answers with TLS, so its URL needs ssl://");
    }
    match frame::scan(first) {
        Ok(Scan::Partial(_)) => Ok(None),
        Ok(Scan::Whole(frame)) if frame.kind(version) == Kind::Start => Ok(Some(Answer::Start)),
        Ok(Scan::Whole(_)) => error("its first frame is not Start"),
        Err(_) => {
            let shown = first.get(..SHOWN_BYTES).unwrap_or(first);
            error(&format!("its answer begins with \"{}\"", shown.escape_ascii()))
        }
    }
}

/// What a check learns of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// Start: gateways will be served.
    Start(Start),
    /// A protocol header instead: it wants this version, and WSO2's gateways (0-9-1) will not be served.
    OtherVersion([u8; 4]),
}

/// The arguments of Start (AMQP 0-9-1, 1.4.2.1), unsanitised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// `version-major` and `version-minor`; 0 and 9 for 0-9-1.
    pub version: (u8, u8),
    /// `product` of the server-properties, such as `RabbitMQ`.
    pub product: Option<String>,
    /// `version` of the server-properties.
    pub product_version: Option<String>,
    /// Ways to log in, such as `PLAIN AMQPLAIN`.
    pub mechanisms: String,
}

/// Sends the protocol header of AMQP 0-9-1 as a connection would, waits for the answer, and closes. No credentials are
/// sent. Also returns the time from header to answer.
///
/// # Errors
/// No answer within 3 s, or none of an AMQP broker.
pub async fn greet(stream: Stream, url: &Url) -> Result<(Greeting, Duration), BrokerError> {
    let began = Instant::now();
    let answered = ask_for_start(stream, url, &HEADER_0_9_1).await?;
    let took = began.elapsed();
    let greeting = match (answered.answer, answered.first.get(4..8)) {
        (Answer::OtherVersion, Some(&[a, b, c, d])) => Greeting::OtherVersion([a, b, c, d]),
        _ => Greeting::Start(Start::read(
            answered.first.get(ARGUMENTS_AT..).unwrap_or_default(),
        )),
    };
    // Whether the broker closes in time changes nothing.
    let _ = timeout(CLOSE_TIMEOUT, answered.stream.close()).await;
    Ok((greeting, took))
}

impl Start {
    /// PURE: as much as can be read of the arguments.
    fn read(mut arguments: &[u8]) -> Start {
        let mut start = Start::default();
        // `None` at the first value that cannot be read; the values before it stay.
        let _ = start.fill(&mut arguments);
        start
    }

    fn fill(&mut self, arguments: &mut &[u8]) -> Option<()> {
        self.version = (arguments.try_get_u8().ok()?, arguments.try_get_u8().ok()?);
        let mut properties = long(arguments)?;
        self.mechanisms = text(long(arguments)?);
        while !properties.is_empty() {
            let name_bytes = usize::from(properties.try_get_u8().ok()?);
            let name = take(&mut properties, name_bytes)?;
            let value = value(&mut properties)?;
            match name {
                b"product" => self.product = value.map(text),
                b"version" => self.product_version = value.map(text),
                _ => {}
            }
        }
        Some(())
    }
}

/// A value of a field table, when it is a string; the sizes of the others are those of Qpid and RabbitMQ.
fn value<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let fixed = match bytes.try_get_u8().ok()? {
        b'S' => return long(bytes).map(Some),
        b'F' | b'A' | b'x' | b'c' | b'C' => return long(bytes).map(|_| None),
        b'V' => 0,
        b't' | b'b' | b'B' | b'k' => 1,
        b's' | b'u' | b'U' | b'K' => 2,
        b'i' | b'I' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        _ => return None,
    };
    take(bytes, fixed).map(|_| None)
}

/// A string or table behind its length of four bytes.
fn long<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    take(bytes, length)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
    use amq_protocol::protocol::{AMQPClass, connection};
    use amq_protocol::types::{AMQPValue, FieldTable};
    use proptest::prelude::*;

    use super::*;

    fn arguments() -> Vec<u8> {
        let mut nested = FieldTable::default();
        nested.insert("publisher_confirms".into(), AMQPValue::Boolean(true));
        nested.insert("product".into(), AMQPValue::LongString("not this".into()));
        let mut properties = FieldTable::default();
        properties.insert("capabilities".into(), AMQPValue::FieldTable(nested));
        properties.insert("a".into(), AMQPValue::Boolean(true));
        properties.insert("b".into(), AMQPValue::ShortInt(1));
        properties.insert("c".into(), AMQPValue::LongInt(1));
        properties.insert("d".into(), AMQPValue::LongLongInt(1));
        properties.insert("e".into(), AMQPValue::Timestamp(1));
        properties.insert("f".into(), AMQPValue::Void);
        properties.insert("product".into(), AMQPValue::LongString("RabbitMQ".into()));
        properties.insert("version".into(), AMQPValue::LongString("3.10.8".into()));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: "PLAIN AMQPLAIN".into(),
            locales: "en_US".into(),
        };
        let frame = AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Start(start)));
        let bytes = gen_frame(&frame)(WriteContext::from(Vec::new()))
            .unwrap()
            .into_inner()
            .0;
        bytes[ARGUMENTS_AT..].to_vec()
    }

    #[test]
    fn start_is_read_past_values_of_every_kind() {
        assert_eq!(
            Start::read(&arguments()),
            Start {
                version: (0, 9),
                product: Some("RabbitMQ".into()),
                product_version: Some("3.10.8".into()),
                mechanisms: "PLAIN AMQPLAIN".into(),
            }
        );
    }

    #[test]
    fn answers_are_classified_at_every_length() {
        let start = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 10, 0xCE];
        for cut in 0..start.len() {
            assert_eq!(classify(&HEADER_0_9_1, &start[..cut]).unwrap(), None);
            assert_eq!(
                classify(b"AMQP\x01\x01\x00\x0A", &start[..cut]).unwrap(),
                Some(Answer::Start),
                "0-10"
            );
        }
        assert_eq!(classify(&HEADER_0_9_1, &start).unwrap(), Some(Answer::Start));
        for cut in 0..8 {
            assert_eq!(
                classify(&HEADER_0_9_1, &b"AMQP\x01\x01\x00\x0A"[..cut]).unwrap(),
                None
            );
        }
        assert_eq!(
            classify(&HEADER_0_9_1, b"AMQP\x01\x01\x00\x0A").unwrap(),
            Some(Answer::OtherVersion)
        );
        for wrong in [
            &b"APACHE!!"[..],
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\x15\x03\x03\0\x02\x02\x46",
            &[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 30, 0xCE],
        ] {
            assert_eq!(
                classify(&HEADER_0_9_1, wrong).unwrap_err().class,
                "protocol",
                "{wrong:?}"
            );
        }
        let message = |first| classify(&HEADER_0_9_1, first).unwrap_err().message;
        assert!(message(b"\x15\x03\x03\0\x02\x02\x46").contains("ssl://"));
        assert!(message(b"HTTP/1.1 \x1b[2J").contains("\"HTTP/1.1 \\x1b[2J\""));
    }

    proptest! {
        #[test]
        fn a_truncated_start_is_read_up_to_the_cut(cut in any::<prop::sample::Index>()) {
            let (bytes, whole) = (arguments(), Start::read(&arguments()));
            let start = Start::read(&bytes[..cut.index(bytes.len())]);
            prop_assert!(start.version == whole.version || start == Start::default());
            prop_assert!(start.mechanisms.is_empty() || start.mechanisms == whole.mechanisms);
            prop_assert!(start.product.is_none() || start.product == whole.product);
            prop_assert!(start.product_version.is_none() || start.product_version == whole.product_version);
            // The properties come before the mechanisms, and are read once both are there.
            prop_assert!(start.product.is_none() || !start.mechanisms.is_empty());
        }

        #[test]
        fn random_bytes_behind_the_version_leave_it_readable(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let start = Start::read(&[&[0, 9], &noise[..]].concat());
            prop_assert_eq!(start.version, (0, 9));
            prop_assert!(start.mechanisms.len() <= 3 * noise.len());
        }
    }
}
