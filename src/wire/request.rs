//! Requests: from gateways to weir, and from weir to Traffic Managers.

use std::fmt;

use super::events::Events;
use super::{put_length, take_i32};

/// First byte of a login frame.
pub const LOGIN: u8 = 0;
/// First byte of a logout frame.
pub const LOGOUT: u8 = 1;
/// First byte of a publish frame.
pub const PUBLISH: u8 = 2;
/// `type u8` and `length i32`.
pub const HEADER_BYTES: usize = 5;

/// One request, borrowed from the connection's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// User and password; weir takes UTF-8, the agent sends ASCII.
    Login {
        /// User name.
        user: &'a str,
        /// Password.
        password: &'a str,
    },
    /// End of a session.
    Logout {
        /// Session id.
        session: &'a [u8],
    },
    /// Events.
    Publish {
        /// Session id, from a login on any connection.
        session: &'a [u8],
        /// The events, checked.
        events: Events<'a>,
    },
}

/// Why the body of a correctly framed request is malformed. It gets a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The body ends before a length.
    BodyTooShort,
    /// A session, user or password length is negative.
    NegativeLength,
    /// A session, user or password runs past the body.
    LengthPastBody,
    /// Bytes after the last field.
    BytesLeftOver,
    /// User or password is not UTF-8.
    NotUtf8,
    /// User or password is empty, or longer than [`CREDENTIAL_MAX_BYTES`].
    CredentialLength,
    /// The event count is negative.
    NegativeCount,
    /// The event count is larger than the bytes can hold.
    CountOverBytes,
    /// An event length is negative.
    NegativeEventLength,
    /// An event runs past the end of the body.
    EventPastEnd,
    /// An event is larger than the limit.
    EventTooLarge,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::BodyTooShort => "the body ends before a length",
            Malformed::NegativeLength => "a length is negative",
            Malformed::LengthPastBody => "a field runs past the body",
            Malformed::BytesLeftOver => "bytes are left over after the last field",
            Malformed::NotUtf8 => "user or password is not UTF-8",
            Malformed::CredentialLength => "user or password is empty or too long",
            Malformed::NegativeCount => "the event count is negative",
            Malformed::CountOverBytes => "the event count is larger than the body holds",
            Malformed::NegativeEventLength => "an event length is negative",
            Malformed::EventPastEnd => "an event runs past the body",
            Malformed::EventTooLarge => "an event is larger than event_max_bytes",
        })
    }
}

/// Longest user or password that is accepted.
const CREDENTIAL_MAX_BYTES: usize = 1024;

/// Two lengths and what they measure: the body of a login.
pub(super) fn login(body: &[u8]) -> Result<Request<'_>, Malformed> {
    let (user, rest) = take_i32(body).ok_or(Malformed::BodyTooShort)?;
    let (password, rest) = take_i32(rest).ok_or(Malformed::BodyTooShort)?;
    let user = credentials(user, password, rest.len())?;
    let (user, password) = rest.split_at_checked(user).ok_or(Malformed::LengthPastBody)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8);
    Ok(Request::Login {
        user: text(user)?,
        password: text(password)?,
    })
}

/// The length of the user name, if both lengths are valid and `left` is their sum.
fn credentials(user: i32, password: i32, left: usize) -> Result<usize, Malformed> {
    let user = fits(user, left)?;
    let left = left.saturating_sub(user);
    let password = fits(password, left)?;
    if password < left {
        return Err(Malformed::BytesLeftOver);
    }
    let valid = |bytes: usize| (1..=CREDENTIAL_MAX_BYTES).contains(&bytes);
    if !valid(user) || !valid(password) {
        return Err(Malformed::CredentialLength);
    }
    Ok(user)
}

/// The body of a logout.
pub(super) fn logout(body: &[u8]) -> Result<Request<'_>, Malformed> {
    let (length, rest) = take_i32(body).ok_or(Malformed::BodyTooShort)?;
    let (session, rest) = field(length, rest)?;
    if rest.is_empty() {
        Ok(Request::Logout { session })
    } else {
        Err(Malformed::BytesLeftOver)
    }
}

/// The body of a publish.
pub(super) fn publish(body: &[u8], event_max_bytes: usize) -> Result<Request<'_>, Malformed> {
    let (length, rest) = take_i32(body).ok_or(Malformed::BodyTooShort)?;
    let (session, rest) = field(length, rest)?;
    let (count, events) = take_i32(rest).ok_or(Malformed::BodyTooShort)?;
    Ok(Request::Publish {
        session,
        events: Events::check(events, count, event_max_bytes)?,
    })
}

fn field(length: i32, rest: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let length = fits(length, rest.len())?;
    rest.split_at_checked(length).ok_or(Malformed::LengthPastBody)
}

/// A length of a field that fits in what is left of the body.
fn fits(length: i32, left: usize) -> Result<usize, Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed::NegativeLength)?;
    if length > left {
        return Err(Malformed::LengthPastBody);
    }
    Ok(length)
}

/// What the first bytes of a frame show while the rest is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front<'a> {
    /// Nothing is wrong so far.
    Open,
    /// The body is malformed, whatever follows.
    Malformed(u8, Malformed),
    /// A logout of this session; of an id that is too long, one byte more than the longest allowed.
    Logout(&'a [u8]),
    /// A publish with this session; of an id that is too long, one byte more than the longest allowed.
    Publish(&'a [u8]),
}

/// Examines the front of a frame whose header [`Decoder::decode`](super::Decoder::decode) has accepted.
#[must_use]
pub fn front(buffer: &[u8], session_max_bytes: usize) -> Front<'_> {
    examine(buffer, session_max_bytes).unwrap_or(Front::Open)
}

/// `None` while too few bytes are there.
fn examine(buffer: &[u8], session_max_bytes: usize) -> Option<Front<'_>> {
    let (&kind, rest) = buffer.split_first()?;
    let (length, rest) = take_i32(rest)?;
    let length = usize::try_from(length).ok()?;
    let body = rest.get(..length).unwrap_or(rest);
    let (first, body) = take_i32(body)?;
    if kind == LOGIN {
        let (password, _) = take_i32(body)?;
        let malformed = credentials(first, password, length.saturating_sub(8)).err()?;
        return Some(Front::Malformed(kind, malformed));
    }
    let left = length.saturating_sub(4);
    let bytes = match fits(first, left) {
        Ok(bytes) if kind == LOGOUT && bytes < left => {
            return Some(Front::Malformed(kind, Malformed::BytesLeftOver));
        }
        Ok(bytes) => bytes,
        Err(malformed) => return Some(Front::Malformed(kind, malformed)),
    };
    let session = body.get(..bytes.min(session_max_bytes.saturating_add(1)))?;
    Some(match kind {
        LOGOUT => Front::Logout(session),
        _ => Front::Publish(session),
    })
}

/// Appends a login frame.
pub fn encode_login(out: &mut Vec<u8>, user: &str, password: &str) {
    out.push(LOGIN);
    put_length(out, [4, 4, user.len(), password.len()].iter().sum());
    put_length(out, user.len());
    put_length(out, password.len());
    out.extend_from_slice(user.as_bytes());
    out.extend_from_slice(password.as_bytes());
}

/// Appends a logout frame.
pub fn encode_logout(out: &mut Vec<u8>, session: &[u8]) {
    out.push(LOGOUT);
    put_length(out, [4, session.len()].iter().sum());
    put_length(out, session.len());
    out.extend_from_slice(session);
}

/// Appends everything of a publish frame in front of its events; `events` events of `bytes` bytes
/// in all (prefixes included) must follow.
pub fn encode_publish_header(out: &mut Vec<u8>, session: &[u8], events: usize, bytes: usize) {
    out.push(PUBLISH);
    put_length(out, [4, session.len(), 4, bytes].iter().sum());
    put_length(out, session.len());
    out.extend_from_slice(session);
    put_length(out, events);
}
