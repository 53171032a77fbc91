//! Replies: one per request, in order, without an id.

use std::fmt;

use super::{put_length, take_i32};

/// First byte: logout or publish was accepted.
pub const OK: u8 = 0;
/// First byte: a Java exception.
pub const ERROR: u8 = 1;
/// First byte: login was accepted, a session id follows.
pub const LOGIN_OK: u8 = 2;

/// The package all exception classes live in.
const PACKAGE: &str = "org.wso2.carbon.databridge.commons.exception.";

/// The session is unknown or expired: the agent logs in again at once and sends the batch once more.
/// Weir also replies with it to a publish that is to be sent again.
pub const SESSION_TIMEOUT: &str = "org.wso2.carbon.databridge.commons.exception.SessionTimeoutException";
/// The agent drops the batch.
pub const UNDEFINED_EVENT_TYPE: &str =
    "org.wso2.carbon.databridge.commons.exception.UndefinedEventTypeException";
/// The login failed.
pub const AUTHENTICATION: &str = "org.wso2.carbon.databridge.commons.exception.AuthenticationException";

/// The agent gives up the connections to this endpoint, its login's too, connects again about 10 ms later and sends
/// the batch again: elsewhere, if a load balancer decides so. The agents of 6.1 never publish again.
pub const TRANSPORT: &str = "org.wso2.carbon.databridge.commons.exception.TransportException";

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Logout or publish was accepted.
    Ok,
    /// Login was accepted.
    LoginOk {
        /// Session id; a Traffic Manager uses a 36-character UUID.
        session: &'a [u8],
    },
    /// A Java exception.
    Error {
        /// Class name with its package.
        class: &'a str,
        /// Message, possibly cut: see [`Reply::decode`].
        message: String,
    },
}

/// Bytes that are not a reply: the connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// First byte other than 0, 1, 2.
    UnknownType(u8),
    /// A length negative or over [`TEXT_MAX_BYTES`].
    Length,
    /// The class name is not UTF-8.
    NotUtf8,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::UnknownType(byte) => write!(f, "unknown reply type 0x{byte:02x}"),
            ReplyError::Length => f.write_str("a length in the reply is negative or too large"),
            ReplyError::NotUtf8 => f.write_str("the exception class is not UTF-8"),
        }
    }
}

/// Longest session id, class name or message that is accepted.
pub const TEXT_MAX_BYTES: usize = 64 * 1024;

impl<'a> Reply<'a> {
    /// Reads the reply at the front of `buffer`: `None` while it is incomplete, else the reply and its
    /// length.
    ///
    /// The lengths of an error count Java characters while its bytes are UTF-8, so a message that is not
    /// ASCII comes out cut and its length is too short: after an error the connection must be given up.
    ///
    /// # Errors
    /// [`ReplyError`] when the bytes cannot be a reply.
    pub fn decode(buffer: &'a [u8]) -> Result<Option<(Self, usize)>, ReplyError> {
        let Some((&kind, rest)) = buffer.split_first() else {
            return Ok(None);
        };
        match kind {
            OK => Ok(Some((Reply::Ok, 1))),
            LOGIN_OK => {
                let Some((length, rest)) = take_i32(rest) else {
                    return Ok(None);
                };
                let length = text_length(length)?;
                let Some(session) = rest.get(..length) else {
                    return Ok(None);
                };
                Ok(Some((Reply::LoginOk { session }, length.saturating_add(5))))
            }
            ERROR => {
                let Some((class, rest)) = take_i32(rest) else {
                    return Ok(None);
                };
                let Some((message, rest)) = take_i32(rest) else {
                    return Ok(None);
                };
                let (class_length, message_length) = (text_length(class)?, text_length(message)?);
                let Some((class, rest)) = rest.split_at_checked(class_length) else {
                    return Ok(None);
                };
                let Some(message) = rest.get(..message_length) else {
                    return Ok(None);
                };
                let class = std::str::from_utf8(class).map_err(|_| ReplyError::NotUtf8)?;
                let message = String::from_utf8_lossy(message).into_owned();
                let length = class_length.saturating_add(message_length).saturating_add(9);
                Ok(Some((Reply::Error { class, message }, length)))
            }
            other => Err(ReplyError::UnknownType(other)),
        }
    }

    /// Appends the reply. Lengths of an error are written as the agent reads them: in characters.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Ok => out.push(OK),
            Reply::LoginOk { session } => {
                out.push(LOGIN_OK);
                put_length(out, session.len());
                out.extend_from_slice(session);
            }
            Reply::Error { class, message } => {
                out.push(ERROR);
                put_length(out, class.encode_utf16().count());
                put_length(out, message.encode_utf16().count());
                out.extend_from_slice(class.as_bytes());
                out.extend_from_slice(message.as_bytes());
            }
        }
    }
}

fn text_length(length: i32) -> Result<usize, ReplyError> {
    usize::try_from(length)
        .ok()
        .filter(|&l| l <= TEXT_MAX_BYTES)
        .ok_or(ReplyError::Length)
}

/// The class name without WSO2's package, for logs and labels.
#[must_use]
pub fn short_class(class: &str) -> &str {
    class.strip_prefix(PACKAGE).unwrap_or(class)
}

#[cfg(test)]
#[allow(clippy::as_conversions, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(class in "[a-zA-Z.]{0,60}", message in "[ -~]{0,60}", session in prop::collection::vec(any::<u8>(), 0..50)) {
            for reply in [Reply::Ok, Reply::LoginOk { session: &session }, Reply::Error { class: &class, message }] {
                let mut bytes = Vec::new();
                reply.encode(&mut bytes);
                for cut in 0..bytes.len() {
                    prop_assert_eq!(Reply::decode(&bytes[..cut]), Ok(None));
                }
                prop_assert_eq!(Reply::decode(&bytes), Ok(Some((reply, bytes.len()))));
            }
        }

        #[test]
        fn any_bytes_are_a_reply_or_its_beginning_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            match Reply::decode(&bytes) {
                Ok(Some((_, length))) => prop_assert!(length <= bytes.len()),
                Ok(None) => prop_assert!(matches!(bytes.first(), None | Some(&ERROR | &LOGIN_OK))),
                Err(ReplyError::UnknownType(kind)) => prop_assert!(kind > LOGIN_OK),
                Err(_) => prop_assert!(bytes.len() > 4),
            }
        }
    }

    #[test]
    fn a_message_beyond_ascii_still_yields_its_class() {
        let mut bytes = Vec::new();
        Reply::Error {
            class: SESSION_TIMEOUT,
            message: "séance expirée".into(),
        }
        .encode(&mut bytes);
        let (reply, length) = Reply::decode(&bytes).unwrap().unwrap();
        assert!(matches!(
            reply,
            Reply::Error {
                class: SESSION_TIMEOUT,
                ..
            }
        ));
        assert_eq!(
            length,
            bytes.len() - 2,
            "the two bytes more than characters stay behind"
        );
    }

    #[test]
    fn lengths_are_checked_before_the_bytes_arrive() {
        assert_eq!(
            Reply::decode(&[2, 0x7f, 0xff, 0xff, 0xff]),
            Err(ReplyError::Length)
        );
        assert_eq!(
            Reply::decode(&[1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            Err(ReplyError::Length)
        );
        assert_eq!(Reply::decode(&[7]), Err(ReplyError::UnknownType(7)));
        assert_eq!(short_class(SESSION_TIMEOUT), "SessionTimeoutException");
    }
}
