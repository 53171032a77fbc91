//! What a broker says of itself in Start, for `weir check --connect`: who it is, and how one may log in.

use std::fmt;
use std::time::Duration;

use bytes::Buf;
use tokio::time::{Instant, timeout};

use super::brokers::{Answer, ask_for_start};
use super::frame::HEADER_0_9_1;
use crate::config::Url;
use crate::net::Stream;

/// How long the connection of a check may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Method payload of Start begins behind 7 bytes of frame header and 4 of class and method.
const ARGUMENTS_AT: usize = 11;

/// The answer to a protocol header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// Start: gateways will be served.
    Start(Start),
    /// A protocol header instead: it wants this version, and WSO2's gateways (0-9-1) will not be served.
    OtherVersion([u8; 4]),
}

/// The arguments of Start (AMQP 0-9-1, 1.4.2.1). The broker's own words: whoever shows them makes them harmless.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// `version-major` and `version-minor`; 0-9-1 says 0 and 9.
    pub version: (u8, u8),
    /// `product` of the server-properties, such as `RabbitMQ`.
    pub product: Option<String>,
    /// `version` of the server-properties.
    pub product_version: Option<String>,
    /// Ways to log in, such as `PLAIN AMQPLAIN`.
    pub mechanisms: String,
}

/// A broker that is no use, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreetError {
    /// One of [`super::BROKER_FAILURES`].
    pub class: &'static str,
    /// One line: what happened.
    pub message: String,
}

impl fmt::Display for GreetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for GreetError {}

/// Sends the protocol header of AMQP 0-9-1 as a session would, waits for the answer, and closes. No credentials are
/// sent. With the answer: the time from header to answer.
///
/// # Errors
/// No answer within 3 s, or none of an AMQP broker.
pub async fn greet(stream: Stream, url: &Url) -> Result<(Greeting, Duration), GreetError> {
    let began = Instant::now();
    let answered = ask_for_start(stream, url, &HEADER_0_9_1).await;
    let answered = answered.map_err(|refusal| GreetError {
        class: refusal.class,
        message: refusal.message,
    })?;
    let took = began.elapsed();
    let greeting = match (answered.answer, answered.first.get(4..8)) {
        (Answer::OtherVersion, Some(&[a, b, c, d])) => Greeting::OtherVersion([a, b, c, d]),
        _ => Greeting::Start(Start::read(
            answered.first.get(ARGUMENTS_AT..).unwrap_or_default(),
        )),
    };
    // Whether the broker says goodbye in time changes nothing.
    let _ = timeout(CLOSE_TIMEOUT, answered.stream.close()).await;
    Ok((greeting, took))
}

impl Start {
    /// PURE: as much as can be read of the arguments.
    fn read(mut arguments: &[u8]) -> Start {
        let mut start = Start::default();
        // What cannot be read ends the reading, and what was read stays.
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

/// What a length of four bytes announces.
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
    fn product_version_and_mechanisms_are_read_past_values_of_every_kind() {
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

    proptest! {
        #[test]
        fn a_start_that_is_cut_or_spoilt_is_read_as_far_as_it_goes(cut in 0_usize..200, at in 0_usize..200, octet: u8) {
            let mut bytes = arguments();
            bytes.truncate(cut);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = octet;
            }
            let _ = Start::read(&bytes);
        }
    }
}
